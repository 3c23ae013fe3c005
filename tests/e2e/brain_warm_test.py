#!/usr/bin/env python3
"""The workload that asks the model: opened when a session is made, and kept between
its turns."""
import json
import os
import sys

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


def worked():
    s = session()
    p.turn(s, DONE)
    return s


@p.test
def those_used_last_are_kept():
    several = [worked() for _ in range(4)]
    for n in 0, 2:
        p.turn(several[n], DONE, 2)
    assert [opened(s) for s in several] == [2, 1, 1, 1]


@p.test
def workload_is_open_before_the_session_says_anything():
    s = session()
    bb.wait_for("the workload", lambda: opened(s) == 1)
    assert bb.texts(p.turn(s, DONE)) == ["Done."]
    assert opened(s) == 1


@p.test
def driver_without_a_model_opens_none():
    s = p.session(p.agent(), ENVIRONMENT)
    p.turn(s, "```sh\ntrue\n```")
    n = opened(s)  # its sandbox's
    p.turn(s, "nothing to run", 2)
    assert opened(s) == n


@p.test
def session_that_has_ended_takes_no_place():
    first, _, ended = [worked() for _ in range(3)]
    p.call("POST", f"/v1/sessions/{ended}/archive")
    worked()
    p.turn(first, DONE, 2)
    assert opened(first) == 1


p.main()
