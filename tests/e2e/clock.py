#!/usr/bin/env python3
"""The services' clock is set forward in the middle of a session (libfaketime;
the machine's own is never touched): the turn goes on, the log's times do not
run back, and the next session works. A part of `make fault`."""
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

LIB = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
if not os.environ.get("BRAINBOX_HOSTS"):
    FOLDER = tempfile.TemporaryDirectory(prefix="bbclock", dir="/tmp")
    os.chmod(FOLDER.name, 0o755)
    os.environ["BRAINBOX_CLOCK"] = FOLDER.name + "/offset"
OFFSET = os.environ["BRAINBOX_CLOCK"]


def set_forward(text):
    with open(OFFSET + ".new", "w") as f:
        f.write(text + "\n")
    os.rename(OFFSET + ".new", OFFSET)


if not os.environ.get("BRAINBOX_HOSTS"):
    set_forward("+0")
p = bb.enter(os.path.abspath(__file__), model=False, env={
    "BRAINBOX_SANITIZER_ENV": f"LD_PRELOAD={LIB} FAKETIME_NO_CACHE=1 "
    f"FAKETIME_TIMESTAMP_FILE={OFFSET} FAKETIME_DONT_FAKE_MONOTONIC=1"})


def patiently(fn):
    """Ingress keeps an assertion for 60 s by its own clock, which stays."""
    end = time.monotonic() + 75
    while True:
        try:
            return fn()
        except bb.Refused as e:
            if e.status != 401 or time.monotonic() > end:
                raise
            time.sleep(1)


@p.test
def turn_goes_on_when_the_clock_jumps():
    s = p.session()
    before = p.turn(s, "```sh\necho before\n```\n")
    p.send(s, "```sh\nsleep 2\n```\n```sh\necho after\n```\n")
    bb.wait_for("the command", lambda: sum(
        e["type"] == "agent.tool_use" for e in p.events(s)) >= 4)
    set_forward("+2h")
    events = patiently(lambda: p.idle(s, 2))
    assert bb.texts(events)[-1] == "All 2 steps succeeded.", events[-4:]
    times = [e["processed_at"] for e in events]
    assert times == sorted(times), times
    assert events[:len(before)] == before
    later = p.turn(p.session(), "```sh\necho next\n```\n")
    assert bb.result_of(later)[1]["stdout"] == "next\n"
    assert p.replay(s).returncode == 0


p.main()
