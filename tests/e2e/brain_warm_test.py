#!/usr/bin/env python3
"""The workload that asks the model: opened while a session's first message is being
stored, kept between its turns, and of no use to anybody else."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_BRAIN_OPTIONS": "--workload-cache=3"})
AGENT, ENVIRONMENT = p.agent("native"), p.environment()
DONE = "SCRIPT:" + json.dumps([{"text": "Done."}])


def session():
    return p.session(AGENT, ENVIRONMENT)


def opened(s):
    """How often the vault was asked to open a workload of the session."""
    return int(p.sql("SELECT count(*) FROM vault.audit WHERE action = "
                     f"'workload.opened' AND session_id = '{s}'"))


@p.test
def workload_is_kept_between_turns():
    s = session()
    for n in range(3):
        assert bb.texts(p.turn(s, DONE, n + 1)) == ["Done."] * (n + 1)
    assert opened(s) == 1


@p.test
def kept_stub_that_is_refused_is_asked_for_anew():
    s = session()
    with open(p.model + "/script.json", "w") as f:
        json.dump([{"text": "Done."}, {"status": 401}, {"text": "Again."}], f)
    try:
        p.turn(s, "no script")
        events = p.turn(s, "nor here", 2)
    finally:
        os.unlink(p.model + "/script.json")
    assert bb.texts(events) == ["Done.", "Again."], events
    assert opened(s) == 2


@p.test
def those_used_last_are_kept():
    several = [session() for _ in range(4)]
    for n in range(2):
        for s in several:
            p.turn(s, DONE, n + 1)
    assert [opened(s) for s in several] == [2] * 4
    p.turn(several[1], DONE, 3)
    assert opened(several[1]) == 2


@p.test
def workload_is_opened_while_the_first_message_is_stored():
    s = session()
    assert opened(s) == 0, "a session that says nothing costs nothing"
    with p.transaction("SELECT 1 FROM brain.session WHERE id = "
                       f"'{s}' FOR UPDATE"):
        sent = bb.in_background(p.send, s, DONE)
        bb.wait_for("the workload", lambda: opened(s) == 1)
    sent.join(20)
    assert bb.texts(p.idle(s)) == ["Done."]
    assert opened(s) == 1


@p.test
def driver_without_a_model_opens_none():
    s = p.session(p.agent(), ENVIRONMENT)
    p.turn(s, "```sh\ntrue\n```")
    n = opened(s)  # its sandbox's
    p.turn(s, "nothing to run", 2)
    assert opened(s) == n


@p.test
def message_of_another_tenant_opens_nothing():
    other, s = p.new_tenant("other"), session()
    p.refused(404, "POST", f"/v1/sessions/{s}/events", {"events": [
        {"type": "user.message", "content": [{"type": "text", "text": "x"}]}]},
        key=other)
    time.sleep(0.3)
    assert opened(s) == 0


@p.test
def session_that_has_ended_takes_no_place():
    first, second, ended, last = [session() for _ in range(4)]
    for s in (first, second, ended):
        p.turn(s, DONE)
    p.call("POST", f"/v1/sessions/{ended}/archive")
    p.turn(last, DONE)
    p.turn(first, DONE, 2)
    assert opened(first) == 1


p.main()
