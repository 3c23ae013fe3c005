#!/usr/bin/env python3
"""Faults at seeded moments of a session (faults.py has the kinds). Each seed is
a session with a message, a second message that comes about when the fault does,
and a listener.

After each: the session has come to its end within 10 s. What was acknowledged is
in the log, and what the listener was told is the log: nothing lost, doubled or
out of order, no gap in seq. Each tool call has one result, and no command was run
twice: a loopback host counts, and a file in the workspace, which a second turn
reads. When no error is told, each command ran. No run is held or wanted, and of
sandboxes there are those that are ready and nobody's; the next session works. At
the end every session is replayed, and a table is printed.

  SEEDS=50 kill_test.py      seeds for each kind (2; `make fault`: 50)
  SEED=brain_svc:7           that one alone
  FAULTS="disk_full …"       these kinds alone; `clock` only by itself
  FIRST=10                   the first seed (0)
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "support")]
import bb  # noqa: E402
import faults  # noqa: E402
import prometheus  # noqa: E402

BAR_SECONDS = 10
STEPS = 4
LATE = STEPS  # the step of the second message
ONLY = os.environ.get("SEED", "").partition(":")
NAMES = [ONLY[0]] if ONLY[0] else os.environ.get("FAULTS", "").split() or [
    k for k in faults.KINDS if k != "clock"]
HAS_CLOCK = NAMES == ["clock"]


def enter():
    if not set(NAMES) <= set(faults.KINDS) or (
            "clock" in NAMES and not HAS_CLOCK):
        sys.exit(f"FAULTS: of {' '.join(faults.KINDS)}, `clock` by itself")
    env = {}
    if HAS_CLOCK and not os.environ.get("BRAINBOX_HOSTS"):
        global FOLDER
        FOLDER = tempfile.TemporaryDirectory(prefix="bbclock", dir="/tmp")
        os.chmod(FOLDER.name, 0o755)
        env = faults.clock_env(FOLDER.name)
    return bb.enter(os.path.abspath(__file__), state_mb=700, env=env)


p = enter()


def patiently(fn, seconds=40):
    """Calls fn until it is served: a restart shows as 503 or a refusal."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fn()
        except (bb.Refused, OSError, subprocess.CalledProcessError) as e:
            if isinstance(e, bb.Refused) and e.status not in (502, 503, 504):
                raise
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


# ---- what happens beside the fault -----------------------------------------------

class Listener(threading.Thread):
    """Hears the session's events, and goes on where it was when it is cut."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session, self.heard, self.is_done = session, [], False
        self.start()

    def run(self):
        last = None
        while not self.is_done:
            try:
                for at, e in p.stream(
                        self.session, last=last, timeout=5,
                        query="" if last else "?from_start=true"):
                    if at:
                        last = at
                        self.heard.append(e["id"])
                    if self.is_done:
                        return
            except Exception:
                time.sleep(0.05)

    def agrees(self, events):
        """Told all of the log, once and in its order?"""
        def check():
            return len(self.heard) >= len(events)
        try:
            bb.wait_for("the listener", check, BAR_SECONDS)
        finally:
            self.is_done = True
        return self.heard == [e["id"] for e in events]


class Late(threading.Thread):
    """Says something once more, once; `id` is set when it was acknowledged."""

    def __init__(self, session, text, after):
        super().__init__(daemon=True)
        self.session, self.text, self.after = session, text, after
        self.id = None
        self.start()

    def run(self):
        time.sleep(self.after)
        try:
            self.id = p.send(self.session, self.text, timeout=20)
        except Exception:
            pass  # nobody said that it was taken


def command(kind, session, k):
    """Long enough that most faults come while one runs."""
    ran = f"echo {k} >>/workspace/ran && sleep 0.1"
    if kind == "clock":  # sandboxes keep the machine's: no certificate fits
        return ran
    if kind == "disk_full":
        ran += f" && head -c 1000000 /dev/zero >/workspace/big-{k}"
    return (f"{ran} && curl -sS --fail --retry 0 -m 20 -X POST "
            f"https://api.demo.test/v1/count/{session}-{k} && sleep 0.05")


def block(text):
    return f"```sh\n{text}\n```\n"


def messages(kind, session, rand):
    """What the user says: a runbook, or a script for the model; and later."""
    commands = [command(kind, session, k) for k in range(STEPS)]
    if not kind.startswith("model_"):
        return "".join(map(block, commands)), block(command(
            kind, session, LATE))
    answers = [{"tools": [{"name": "sandbox_provision",
                           "arguments": {"task_description": "x"}}]}]
    answers += [{"text": "next", "tools": [
        {"name": "sandbox_execute", "arguments": {"command": c}}]}
        for c in commands]
    answers.append({"text": f"All {STEPS} steps succeeded."})
    faults.spoil(kind, answers, rand)
    return "SCRIPT:" + json.dumps(answers), "and this"


# ---- what is looked at afterwards ------------------------------------------------

def has_ended(session):
    """By the database, since the way through ingress may be the fault."""
    try:
        return p.sql("SELECT r.owner IS NULL AND NOT r.is_wanted AND (SELECT type "
                     "FROM brain.event e WHERE e.session_id = r.session_id ORDER "
                     "BY seq DESC LIMIT 1) = 'session.status_idle' FROM brain.run"
                     f" r WHERE r.session_id = '{session}'") == "t"
    except subprocess.CalledProcessError:
        return False


def check_seq(session):
    n, first, last, following, ids = map(int, p.sql(
        "SELECT count(*), min(e.seq), max(e.seq), max(s.next_seq), "
        "count(DISTINCT e.id) FROM brain.session s JOIN brain.event e "
        f"ON e.session_id = s.id WHERE s.id = '{session}'").split("|"))
    assert first == 1 and n == last == following - 1 == ids, (
        "a gap, or a doubled event", n, first, last, following, ids)


def check_calls(events):
    calls = [e["id"] for e in events if e["type"] == "agent.tool_use"]
    results = [e["tool_use_id"] for e in events
               if e["type"] == "agent.tool_result"]
    assert sorted(calls) == sorted(results), (
        "calls and results", calls, results)


def counts(session):
    """How often each step ran, as the loopback host saw it."""
    paths = [r["path"] for r in p.requests()]
    return [paths.count(f"/v1/count/{session}-{k}") for k in range(LATE + 1)]


def check_effects(session, events, late):
    """No step ran twice; without an error that is told, each ran."""
    is_told = any(e["type"] == "session.error" or e.get("is_error")
                  for e in events)
    is_model = not any("```" in t for t in bb.texts(events, "user.message"))
    wanted = range(LATE + (late.id is not None and not is_model))
    ended = sum(e["type"] == "session.status_idle" for e in events)
    say = "cat /workspace/ran || true"
    p.send(session, block(say) if not is_model else "SCRIPT:" + json.dumps(
        [{"tools": [{"name": "sandbox_provision", "arguments":
                     {"task_description": "x"}},
                    {"name": "sandbox_execute",
                     "arguments": {"command": say}}]}, {"text": "read"}]))
    lines = bb.result_of(p.idle(session, ended + 1))[1]["stdout"].split()
    seen = [("in its workspace",
             [lines.count(str(k)) for k in range(LATE + 1)])]
    if not HAS_CLOCK:
        seen.append(("at the host", counts(session)))
    for where, n in seen:
        assert max(n) <= 1, f"a command ran twice, {where}: {n}"
        assert is_told or all(n[k] == 1 for k in wanted), (
            f"a command did not run, {where}: {n}")
    return not is_told


def nothing_is_left():
    """No run is held or wanted, no sandbox is any session's."""
    def check():
        held = p.sql("SELECT count(*) FROM brain.run WHERE owner IS NOT NULL "
                     "OR is_wanted")
        with p.open("GET", "/platform/v1/metrics/sandbox") as answer:
            seen = prometheus.parse(answer.read().decode())
        live = seen["brainbox_sandbox_live"][()]
        ready = seen["brainbox_sandbox_ready"][()]
        check.saw = held, live, ready, len(faults.sandbox_groups(p))
        return held == "0" and live == 0 and check.saw[3] == ready
    try:
        bb.wait_for("", lambda: patiently(check), BAR_SECONDS)
    except AssertionError:
        raise AssertionError("left over: runs held, sandboxes in use, ready, "
                             "and groups of sandboxes: %s %g %g %d"
                             % check.saw) from None


def fault_once(kind, seed):
    """(did it go on as if nothing were, seconds from the fault to the end)"""
    rand = faults.chance(kind, seed)
    moment, after = rand.uniform(0, 0.9), rand.uniform(0, 1.2)
    faults.BEFORE.get(kind, faults.nothing)(p)
    session = patiently(lambda: p.session(
        NATIVE if kind.startswith("model_") else AGENT, ENVIRONMENT))
    listener = Listener(session)
    text, more = messages(kind, session, rand)
    sent = patiently(lambda: p.send(session, text))
    late = Late(session, more, after)
    time.sleep(moment)
    faults.KINDS[kind](p, rand)
    began = time.monotonic()
    try:
        bb.wait_for(f"the end of {session}",
                    lambda: not late.is_alive() and has_ended(session), 60)
        took = time.monotonic() - began
    finally:
        faults.AFTER.get(kind, faults.nothing)(p)
    events = patiently(lambda: p.events(session))
    ids = [e["id"] for e in events]
    assert sent in ids and (late.id is None or late.id in ids), (
        "an acknowledged event is lost")
    patiently(lambda: check_seq(session))
    check_calls(events)
    assert listener.agrees(events), (
        "the listener heard", listener.heard, "of", ids)
    is_whole = patiently(lambda: check_effects(session, events, late))
    check = patiently(lambda: p.session(AGENT, ENVIRONMENT))
    patiently(lambda: p.send(check, block("echo next")))
    assert bb.result_of(p.idle(check))[1]["stdout"] == "next\n"
    nothing_is_left()
    assert took <= BAR_SECONDS, f"the end came after {took:.1f} s"
    return is_whole, took


def run(kind, seed):
    """The row of the table, after what it says is printed."""
    start = time.monotonic()
    row = {"kind": kind, "seed": seed, "ok": False}
    try:
        row["whole"], row["took"] = fault_once(kind, seed)
        row["ok"] = True
        print(f"ok      {kind}:{seed} "
              f"{'whole' if row['whole'] else 'an error was told'}, end after "
              f"{row['took']:.1f} s ({time.monotonic() - start:.1f} s)",
              flush=True)
    except Exception as e:
        print(f"FAILED  SEED={kind}:{seed} at {time.strftime('%H:%M:%S')}: "
              f"{type(e).__name__}: {e}", flush=True)
    return row


def replay():
    """Every session, as a row that the table leaves out."""
    try:
        print(f"ok      {p.replay_all()} sessions replay to their logs")
        return {"kind": "replay", "seed": 0, "ok": True}
    except AssertionError as e:
        print(f"FAILED  replay: {e}")
        return {"kind": "replay", "seed": 0, "ok": False}


def show(rows):
    if os.environ.get("ROWS"):
        with open(os.environ["ROWS"], "w") as f:
            json.dump(rows, f)
    else:
        faults.table(rows)


def main():
    global AGENT, NATIVE, ENVIRONMENT
    # What a fault holds still goes on before this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    AGENT, NATIVE, ENVIRONMENT = p.agent(), p.agent("native"), p.environment()
    first = int(os.environ.get("FIRST", "0"))
    seeds = range(first, first + int(os.environ.get("SEEDS", "2")))
    rows = []
    try:
        for kind in NAMES:
            for seed in [int(ONLY[2])] if ONLY[0] else seeds:
                rows.append(run(kind, seed))
        rows.append(replay())
    finally:  # a signal, too
        show(rows)
    passed = sum(r["ok"] for r in rows)
    failed = len(rows) - passed
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
