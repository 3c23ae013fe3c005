#!/usr/bin/env python3
"""The agent loop: what a user says in mid-turn, interrupts, tools that a client
runs or allows, and answers that are cut by a crash."""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__))
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}
TICKET = {"type": "custom", "name": "ticket", "description": "Opens a ticket.",
          "input_schema": {"type": "object", "properties": {
              "title": {"type": "string"}}}}
ASK = {"type": "agent_toolset_20260401",
       "default_config": {"permission_policy": {"type": "always_ask"}}}
SCAN = p.run + "/services/brain_svc"


def run(command):
    return {"name": "sandbox_execute", "arguments": {"command": command}}


def script(*answers):
    return "SCRIPT:" + json.dumps(answers)


def native(**more):
    return p.session(p.agent("native", **more))


def post(s, *events):
    return p.call("POST", f"/v1/sessions/{s}/events",
                  {"events": list(events)})["data"]


def kinds(events):
    return [e["type"] for e in events]


def of(events, kind):
    return [e for e in events if e["type"] == kind]


def seen(s, kind, n=1):
    return bb.wait_for(f"{n} {kind}", lambda: len(of(p.events(s), kind)) >= n
                       and p.events(s))


def waits(s, turns=1):
    """The events once the session waits for a client; and for which calls."""
    events = p.idle(s, turns)
    reason = events[-1]["stop_reason"]
    assert reason["type"] == "requires_action", reason
    return events, reason["event_ids"]


# ---- steering ----------------------------------------------------------------

@p.test
def message_in_mid_turn_is_read_before_the_next_model_call():
    s = native()
    before = len(p.model_requests())
    p.send(s, script({"tools": [PROVISION, run("sleep 1; echo done")]},
                     {"text": "First."}, {"text": "Both."}))
    seen(s, "agent.tool_use", 2)
    p.send(s, "And a second thing.")
    events = p.idle(s)
    asked = p.model_requests()[before:]
    assert "And a second thing." not in asked[0]["raw"]
    roles = [m["role"] for m in asked[1]["body"]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"], roles
    assert "And a second thing." in asked[1]["body"]["messages"][-1]["content"]
    assert kinds(events).count("session.status_idle") == 1


@p.test
def message_while_the_model_answers_is_answered_in_the_same_turn():
    s = native()
    before = len(p.model_requests())
    p.send(s, script({"text": "One answer.", "stall_ms": 1000},
                     {"text": "Another."}))
    bb.wait_for("the request", lambda: len(p.model_requests()) > before)
    p.send(s, "Wait, this too.")
    events = p.idle(s)
    assert bb.texts(events) == ["One answer.", "Another."]
    assert kinds(events).count("session.status_idle") == 1


# ---- interrupts ----------------------------------------------------------------

@p.test
def interrupt_stops_the_model_and_closes_what_was_seen():
    s = native()
    before = len(p.model_requests())
    p.send(s, script({"text": "Never said.", "stall_ms": 20000}))
    bb.wait_for("the request", lambda: len(p.model_requests()) > before)
    p.interrupt(s)
    events = p.idle(s, seconds=10)
    at = kinds(events).index("user.interrupt")
    assert kinds(events)[at + 1:] == ["span.model_request_end",
                                      "session.status_idle"], kinds(events)
    start = of(events, "span.model_request_start")[0]["id"]
    assert events[at + 1]["model_request_start_id"] == start
    assert events[at + 1]["is_error"] is True
    events = p.turn(s, script({"text": "Next."}), 2)
    assert bb.texts(events) == ["Next."]


@p.test
def interrupt_stops_the_command_and_those_behind_it():
    s = native()
    p.send(s, script({"tools": [PROVISION, run("sleep 60"), run("echo no")]}))
    seen(s, "agent.tool_result")
    time.sleep(0.3)
    p.interrupt(s)
    events = p.idle(s, seconds=10)
    at = kinds(events).index("user.interrupt")
    assert kinds(events)[at + 1:] == ["agent.tool_result", "agent.tool_result",
                                      "session.status_idle"], kinds(events)
    assert all(e["is_error"] for e in of(events, "agent.tool_result")[1:])
    assert "not run" in bb.result_of(events)[1]


# ---- tools that a client runs -----------------------------------------------

def brain_pid():
    return subprocess.check_output(["s6-svstat", "-o", "pid", SCAN])


@p.test
def interrupt_of_nothing_is_no_turn():
    s, pid = native(), brain_pid()
    p.interrupt(s)
    p.interrupt(s)
    events = p.turn(s, script({"text": "Still here."}))
    assert kinds(events)[:2] == ["user.interrupt", "user.interrupt"], events
    assert bb.texts(events) == ["Still here."]
    assert brain_pid() == pid


@p.test
def custom_tool_waits_for_its_client_and_goes_on_with_the_result():
    for wire in ("chat", "responses", "messages"):
        s = native(tools=[TICKET], model={"id": "test-model", "wire": wire})
        p.send(s, script({"tools": [
            {"name": "ticket", "arguments": {"title": "leak"}}, PROVISION,
            run("echo mine")]}, {"text": "Filed."}))
        events, ids = waits(s)
        call = of(events, "agent.custom_tool_use")[0]
        assert ids == [call["id"]] and call["input"] == {"title": "leak"}
        assert len(of(events, "agent.tool_result")) == 2
        assert p.call("GET", f"/v1/sessions/{s}")["status"] == "idle"
        post(s, {"type": "user.custom_tool_result", "custom_tool_use_id":
                 call["id"], "content": [{"type": "text", "text": "T-17"}]})
        events = p.idle(s, 2)
        assert bb.texts(events) == ["Filed."], kinds(events)
        assert "T-17" in p.model_requests()[-1]["raw"]
        assert events[-1]["stop_reason"]["type"] == "end_turn"


@p.test
def client_works_while_a_command_runs():
    """The order of events says that they overlapped; what the model reads is in
    the order of its calls, whoever was first."""
    for wire in ("chat", "responses", "messages"):
        s = native(tools=[TICKET], model={"id": "test-model", "wire": wire})
        p.send(s, script({"tools": [
            PROVISION, run("sleep 1; echo mine"),
            {"name": "ticket", "arguments": {"title": "leak"}}]},
            {"text": "Filed."}))
        seen(s, "agent.tool_result")
        call = of(p.events(s), "agent.custom_tool_use")[0]
        post(s, {"type": "user.custom_tool_result", "custom_tool_use_id":
                 call["id"], "content": [{"type": "text", "text": "T-17"}]})
        events = p.idle(s)
        order = [k for k in kinds(events) if k.endswith("_result")]
        assert order == ["agent.tool_result", "user.custom_tool_result",
                         "agent.tool_result"], kinds(events)
        assert kinds(events).count("session.status_idle") == 1
        assert bb.texts(events) == ["Filed."]
        raw = p.model_requests()[-1]["raw"]
        assert raw.index("mine\\\\n") < raw.index("T-17"), (wire, raw)


@p.test
def waiting_outlives_a_restart_of_the_brain():
    s = native(tools=[TICKET])
    p.send(s, script({"tools": [{"name": "ticket", "arguments": {}}]},
                     {"text": "Filed."}))
    _, ids = waits(s)
    subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r", SCAN], check=True)
    bb.wait_for("the brain", p.alive)
    post(s, {"type": "user.custom_tool_result", "custom_tool_use_id": ids[0]})
    assert bb.texts(p.idle(s, 2)) == ["Filed."]


@p.test
def interrupt_gives_up_a_call_that_waits():
    s = native(tools=[TICKET])
    p.send(s, script({"tools": [{"name": "ticket", "arguments": {}}]}))
    _, ids = waits(s)
    p.interrupt(s)
    events = p.idle(s, 2)
    assert events[-1]["stop_reason"]["type"] == "end_turn"
    assert of(events, "agent.tool_result")[0]["tool_use_id"] == ids[0]
    p.refused(400, "POST", f"/v1/sessions/{s}/events", {"events": [
        {"type": "user.custom_tool_result", "custom_tool_use_id": ids[0]}]})
    assert bb.texts(p.turn(s, script({"text": "On."}), 3)) == ["On."]


@p.test
def answers_that_nobody_asked_for_are_refused():
    s = native(tools=[TICKET, ASK])
    none = "sevt_" + "0" * 26
    for event in ({"type": "user.custom_tool_result",
                   "custom_tool_use_id": none},
                  {"type": "user.tool_confirmation", "tool_use_id": none,
                   "result": "allow"}):
        e = p.refused(400, "POST", f"/v1/sessions/{s}/events",
                      {"events": [event]})
        assert none in e["message"], e
    p.send(s, script({"tools": [{"name": "ticket", "arguments": {}}]},
                     {"text": "Filed."}))
    _, ids = waits(s)
    result = {"type": "user.custom_tool_result", "custom_tool_use_id": ids[0]}
    for bad in ([result, result],
                [{"type": "user.tool_confirmation", "tool_use_id": ids[0],
                  "result": "allow"}],
                [{**result, "custom_tool_use_id": "x"}],
                [{**result, "is_error": "yes"}],
                [{**result, "content": [{"type": "image"}]}]):
        p.refused(400, "POST", f"/v1/sessions/{s}/events", {"events": bad})
    post(s, result)
    e = p.refused(400, "POST", f"/v1/sessions/{s}/events",
                  {"events": [result]})
    assert "already" in e["message"], e
    assert bb.texts(p.idle(s, 2)) == ["Filed."]


# ---- tools that a client allows -----------------------------------------------

@p.test
def command_runs_only_when_the_client_allows_it():
    s = native(tools=[ASK])
    p.send(s, script({"tools": [PROVISION, run("echo allowed > f; cat f"),
                                run("echo denied")]}, {"text": "So be it."}))
    events, ids = waits(s)
    calls = of(events, "agent.tool_use")
    assert "evaluated_permission" not in calls[0]
    assert [c.get("evaluated_permission") for c in calls[1:]] == ["ask"] * 2
    assert ids == [c["id"] for c in calls[1:]]
    assert len(of(events, "agent.tool_result")) == 1
    post(s, {"type": "user.tool_confirmation", "tool_use_id": ids[0],
             "result": "allow"})
    events, left = waits(s, 2)
    assert left == ids[1:]
    assert bb.result_of(events)[1]["stdout"] == "allowed\n"
    post(s, {"type": "user.tool_confirmation", "tool_use_id": ids[1],
             "result": "deny", "deny_message": "not on my watch"})
    events = p.idle(s, 3)
    event, said = bb.result_of(events)
    assert event["is_error"] and "not on my watch" in said
    assert bb.texts(events) == ["So be it."]
    assert "not on my watch" in p.model_requests()[-1]["raw"]


@p.test
def runbook_asks_too():
    s = p.session(p.agent("runbook", tools=[ASK]))
    p.send(s, "```sh\necho hello\n```\n")
    _, ids = waits(s)
    post(s, {"type": "user.tool_confirmation", "tool_use_id": ids[0],
             "result": "allow"})
    events = p.idle(s, 2)
    assert bb.result_of(events)[1]["stdout"] == "hello\n"
    assert bb.texts(events) == ["The step succeeded."]


@p.test
def policies_that_are_none_are_refused():
    e = p.refused(400, "POST", "/v1/agents", {"name": "x", "tools": [
        {"type": "agent_toolset_20260401", "default_config": {
            "permission_policy": {"type": "perhaps"}}}]})
    assert "perhaps" in e["message"] and "always_ask" in e["message"]
    e = p.refused(400, "POST", f"/v1/sessions/{native()}/events", {"events": [
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_" + "0" * 26,
         "result": "maybe"}]})
    assert "allow" in e["message"]


# ---- a cut answer ----------------------------------------------------------------

@p.test
def answer_that_a_crash_cut_is_begun_again_visibly():
    s = native()
    with open(p.model + "/script.json", "w") as f:
        json.dump([{"text": "half of it and then a long silence",
                    "stall_at": 3, "stall_ms": 20000},
                   {"text": "The whole of it."}], f)
    try:
        before = len(p.model_requests())
        p.send(s, "hello")
        bb.wait_for("the request", lambda: len(p.model_requests()) > before)
        time.sleep(0.3)
        pid = int(subprocess.check_output(["s6-svstat", "-o", "pid", SCAN]))
        os.kill(pid, 9)
        bb.wait_for("the brain", p.alive)
        events = p.idle(s)
    finally:
        os.unlink(p.model + "/script.json")
    starts = of(events, "span.model_request_start")
    ends = of(events, "span.model_request_end")
    assert [e["model_request_start_id"] for e in ends] == [
        e["id"] for e in starts] and len(starts) == 2
    assert [e["is_error"] for e in ends] == [True, False]
    assert bb.texts(events) == ["The whole of it."]


# ---- a vault that is slow ----------------------------------------------------------

@p.test
def vault_that_is_slow_ends_no_turn():
    """It is given 5 s for a sandbox and 10 s for a model, and asked again."""
    book, asks = p.session(), native()
    pid = p.pid("vault_svc")
    os.kill(pid, signal.SIGSTOP)
    try:
        p.send(book, "```sh\necho a\n```")
        p.send(asks, script({"text": "Here."}))
        time.sleep(11)
    finally:
        os.kill(pid, signal.SIGCONT)
    for s, text in ((book, "The step succeeded."), (asks, "Here.")):
        events = p.idle(s)
        assert bb.texts(events) == [text], events
        assert not of(events, "session.error"), events


# ---- a sandbox that dies ----------------------------------------------------------

def pid_1_of(command):
    """The host's pid of pid 1 in the sandbox that runs the command."""
    pids = subprocess.run(["pgrep", "-f", f"^{command}$"], capture_output=True,
                          text=True).stdout.split()
    for pid in pids:
        while pid != "0":
            with open(f"/proc/{pid}/status") as f:
                fields = dict(x.rstrip("\n").split(":\t", 1) for x in f
                              if ":\t" in x)
            ids = fields["NSpid"].split()
            if len(ids) > 1 and ids[-1] == "1":
                return int(pid)
            pid = fields["PPid"].strip()
    return None


@p.test
def sandbox_that_dies_in_mid_turn_is_replaced_and_the_model_told():
    command = f"sleep {7000 + os.getpid() % 1000}"
    s = native()
    p.send(s, script({"tools": [PROVISION, run("echo kept > k"),
                                run(command)]},
                     {"tools": [run("cat k; test -e /tmp/gone")]},
                     {"text": "Carried on."}))
    pid = bb.wait_for("the command", lambda: pid_1_of(command))
    os.kill(pid, 9)
    events = p.idle(s)
    died, after = bb.result_of(events, 2), bb.result_of(events, 3)
    assert died[0]["is_error"], died
    assert "replaced" in after[1]["sandbox"], after
    assert after[1]["stdout"] == "kept\n", after
    assert "replaced" in p.model_requests()[-1]["raw"]
    assert bb.texts(events) == ["Carried on."]


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
