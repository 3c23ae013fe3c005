#!/usr/bin/env python3
"""Budgets: each limit stops a session before it is passed, a soft one asks
first, and what was used outlives a crash."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_BRAIN_OPTIONS": "--budget-output-tokens=100"})
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}
SCAN = p.run + "/services/brain_svc"


def limits(**more):
    return {"type": "limit", "brainbox.limits": more}


def session(budget, harness="native"):
    return p.session(p.agent(harness), budget=budget)


def said(*answers):
    return "SCRIPT:" + json.dumps(answers)


def used(**more):
    return {"text": "So much.", "usage": {"input": 0, "output": 0, **more}}


def reached(events):
    reason = events[-1]["stop_reason"]
    assert reason["type"] == "budget_reached", reason
    return reason["brainbox.limit"], reason["brainbox.kind"]


def asked():
    return len(p.model_requests())


@p.test
def call_that_may_pass_the_limit_is_not_made():
    s = session(limits(tokens={"hard": 1000}))
    events = p.turn(s, said(used(input=850, output=100)))
    assert events[-1]["stop_reason"]["type"] == "end_turn"
    before = asked()
    events = p.turn(s, "more", 2)
    assert reached(events) == ("tokens", "hard") and asked() == before
    events = p.turn(s, "please", 3)
    assert reached(events) == ("tokens", "hard") and asked() == before
    p.call("POST", f"/v1/sessions/{s}", {"budget": limits(
        tokens={"hard": 100000})})
    events = p.turn(s, said({"text": "Thanks."}), 4)
    assert bb.texts(events)[-1] == "Thanks."
    assert events[-1]["stop_reason"]["type"] == "end_turn"


@p.test
def soft_limit_asks_once_and_a_message_is_leave():
    s = session(limits(tokens={"soft": 1000, "hard": 100000}))
    p.turn(s, said(used(input=950)))
    before = asked()
    events = p.turn(s, said({"text": "On it."}), 2)
    assert reached(events) == ("tokens", "soft") and asked() == before
    subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r", SCAN], check=True)
    bb.wait_for("the brain", p.alive)
    events = p.turn(s, "Go on.", 3)
    assert bb.texts(events)[-1] == "On it.", events[-3:]
    assert events[-1]["stop_reason"]["type"] == "end_turn"
    events = p.turn(s, said({"text": "And on."}), 4)
    assert bb.texts(events)[-1] == "And on."


@p.test
def money_is_counted_and_what_has_no_price_is_too_dear():
    s = session({"type": "limit", "max_list_cost": {
        "amount": "100", "currency": "USD"}})
    events = p.turn(s, said({"text": "Cheap.", "cost": "0.99"}))
    assert events[-1]["stop_reason"]["type"] == "end_turn"
    got = p.call("GET", f"/v1/sessions/{s}")
    assert got["usage"]["list_cost"] == {"amount": "99", "currency": "USD"}
    assert got["budget"]["max_list_cost"]["amount"] == "100"
    p.turn(s, said({"text": "Dear.", "cost": "0.02"}), 2)
    before = asked()
    assert reached(p.turn(s, "more", 3)) == ("cost_nano_usd", "hard")
    s = session({"type": "limit", "max_list_cost": {
        "amount": "100", "currency": "USD"}})
    p.turn(s, said({"text": "For how much?"}))
    before = asked()
    assert reached(p.turn(s, "more", 2)) == ("cost_nano_usd", "hard")
    assert asked() == before


@p.test
def steps_end_a_model_that_calls_tools_for_ever():
    s = session(limits(steps={"hard": 5}))
    events = p.turn(s, said({"tools": [PROVISION]}))
    assert reached(events) == ("steps", "hard")
    kinds = [e["type"] for e in events]
    assert kinds.count("agent.tool_use") \
        + kinds.count("span.model_request_start") <= 6, kinds
    assert p.call("GET", f"/v1/sessions/{s}")["usage"]["brainbox.steps"] <= 6


@p.test
def commands_are_cut_to_the_sandbox_seconds_that_are_left():
    s = session(limits(sandbox_seconds={"hard": 1}), "runbook")
    events = p.turn(s, "```sh\nsleep 30\n```\n```sh\necho never\n```\n")
    assert bb.result_of(events)[1]["outcome"] == "timed_out"
    used_s = p.call("GET", f"/v1/sessions/{s}")["usage"][
        "brainbox.sandbox_seconds"]
    assert 0.9 < used_s < 10, used_s
    events = p.turn(s, "```sh\necho never\n```\n", 2)
    assert reached(events) == ("sandbox_seconds", "hard")
    assert "never\\n" not in json.dumps([e for e in events if e["type"]
                                        == "agent.tool_result"])


@p.test
def active_time_ends_a_turn_in_the_middle():
    s = session(limits(active_seconds={"hard": 1}), "runbook")
    events = p.turn(s, "```sh\nsleep 30\n```\n")
    assert reached(events) == ("active_seconds", "hard")
    assert bb.result_of(events)[0]["is_error"]
    assert reached(p.turn(s, "```sh\necho x\n```\n", 2)) == (
        "active_seconds", "hard")


@p.test
def budgets_that_are_none_are_refused_by_name():
    a, e = p.agent(), p.environment()
    for bad, word in (({"type": "wish"}, "limit"),
                      (limits(miles={"hard": 1}), "miles"),
                      (limits(steps={"hard": -1}), "hard")):
        error = p.refused(400, "POST", "/v1/sessions", {
            "agent": a, "environment_id": e, "budget": bad})
        assert word in error["message"], error


# ---- the kill switch ---------------------------------------------------------

def busy():
    s = p.session(p.agent("runbook"))
    p.send(s, "```sh\nsleep 60\n```\n")
    bb.wait_for("the command", lambda: any(
        e["type"] == "agent.tool_use" and e["name"] == "sandbox_execute"
        for e in p.events(s)))
    return s


def stopped(s):
    events = p.idle(s, seconds=10)
    error = [e for e in events if e["type"] == "session.error"][-1]["error"]
    assert "(stopped)" in error["message"], error
    assert "/platform/v1/stops" in error["message"], error
    e = p.refused(400, "POST", f"/v1/sessions/{s}/events", {"events": [
        {"type": "user.message", "content": [{"type": "text", "text": "x"}]}]})
    assert "stopped" in e["message"], e


def goes_on(s):
    events = p.turn(s, "```sh\necho on\n```\n", 2)
    assert bb.result_of(events)[1]["stdout"] == "on\n"


@p.test
def switch_stops_one_session_at_once():
    one, other = busy(), busy()
    got = p.call("POST", "/platform/v1/stops", {"session_id": one,
                                                "reason": "runs wild"})
    assert (got["scope"], got["session_id"]) == ("session", one)
    stopped(one)
    assert p.call("GET", f"/v1/sessions/{other}")["status"] == "running"
    assert [x["reason"] for x in p.call("GET", "/platform/v1/stops")["data"]] \
        == ["runs wild"]
    p.interrupt(other)
    p.idle(other)
    p.call("POST", "/platform/v1/stops/resume", {"session_id": one})
    goes_on(one)
    p.refused(404, "POST", "/platform/v1/stops/resume", {"session_id": one})
    p.refused(404, "POST", "/platform/v1/stops", {
        "session_id": "sesn_" + "0" * 26, "reason": "x"})


@p.test
def switch_stops_a_tenant_and_needs_the_scope():
    key = p.call("POST", "/platform/v1/keys", {
        "name": "w", "scopes": ["read", "write"]})["secret"]
    e = p.refused(403, "POST", "/platform/v1/stops", {"reason": "x"}, key=key)
    assert "admin" in e["message"], e
    p.refused(400, "POST", "/platform/v1/stops", {})
    s = busy()
    assert p.call("POST", "/platform/v1/stops",
                  {"reason": "all hands"})["scope"] == "tenant"
    stopped(s)
    p.call("POST", "/platform/v1/stops/resume", {})
    goes_on(s)


@p.test
def root_stops_everything_and_a_restart_does_not_undo_it():
    def root(*words):
        subprocess.run([p.bin + "/brain_svc", *words,
                        f"--database=host={p.run}/pg dbname=brainbox "
                        "user=brain_run", "--user=brainbox-brain"],
                       check=True)
    s = busy()
    root("stop-all", "fire in the house")
    stopped(s)
    subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r", SCAN], check=True)
    bb.wait_for("the brain", p.alive)
    assert p.call("GET", "/platform/v1/stops")["data"][0]["scope"] == "all"
    stopped(s)
    root("resume-all")
    goes_on(s)


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
