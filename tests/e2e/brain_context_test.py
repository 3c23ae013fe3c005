#!/usr/bin/env python3
"""Long conversations: they are summed up before the model's window is full, and
only what is needed of their log is read."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_LOG_LEVEL": "debug", "BRAINBOX_BRAIN_OPTIONS":
    "--context-tokens=4000 --compact-percent=50 --compact-keep-tokens=500"})
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}
COMPACTED = "agent.thread_context_compacted"


def run(command):
    return {"name": "sandbox_execute", "arguments": {"command": command}}


def native(wire="chat"):
    return p.session(p.agent("native", model={"id": "test-model",
                                              "wire": wire}))


def of(events, kind):
    return [e for e in events if e["type"] == kind]


def loaded(session):
    """How many events each run of the session read at its beginning."""
    with open(p.state + "/log/brain_svc/current") as f:
        lines = [json.loads(x) for x in f if '"run.loaded"' in x]
    return [x["events"] for x in lines if x["session"] == session]


def results_follow_their_calls(body):
    """Of a chat or messages request: no call is parted from its result."""
    calls, results = [], []
    for m in body["messages"]:
        calls += [c["id"] for c in m.get("tool_calls") or []]
        results += [m["tool_call_id"]] if m["role"] == "tool" else []
        for b in m["content"] if isinstance(m["content"], list) else []:
            calls += [b["id"]] if b["type"] == "tool_use" else []
            results += [b["tool_use_id"]] if b["type"] == "tool_result" else []
    return calls == results


@p.test
def conversation_is_summed_up_before_the_window_is_full():
    for wire in ("chat", "messages"):
        s = native(wire)
        before = len(p.model_requests())
        for i in range(6):
            events = p.turn(s, f"Message {i}. " + "x" * 1200 + "SCRIPT:"
                            + json.dumps([{"text": f"Answer {i}. " + "y" * 900,
                                           "usage": {"input": 0,
                                                     "output": 0}}]), i + 1)
        assert not of(events, "session.error"), events
        marks = of(events, COMPACTED)
        assert marks and "SUMMARY of" in marks[0]["content"][0]["text"]
        raws = [r["raw"] for r in p.model_requests()[before:]]
        assert all(len(r) < 13000 for r in raws), [len(r) for r in raws]
        assert "SUMMARY of" in raws[-1] and "Message 0." not in raws[-1]
        assert "Message 5." in raws[-1] and "Answer 4." in raws[-1]
        assert bb.texts(events)[-1].startswith("Answer 5.")


@p.test
def one_long_turn_is_summed_up_too_and_keeps_pairs_whole():
    for wire in ("chat", "messages"):
        s = native(wire)
        before = len(p.model_requests())
        command = "head -c 1500 /dev/zero | tr '\\\\0' z"
        with open(p.model + "/script.json", "w") as f:
            json.dump([{"tools": [PROVISION, run(command)]}], f)
        try:
            p.send(s, "Go on for ever.")
            bb.wait_for("compactions", lambda: len(
                of(p.events(s), COMPACTED)) >= 3, 60)
            p.interrupt(s)
            events = p.idle(s)
        finally:
            os.unlink(p.model + "/script.json")
        asked = p.model_requests()[before:]
        assert all(results_follow_their_calls(r["body"]) for r in asked)
        spans = of(events, "span.model_request_start")
        cuts = [e["brainbox.cut_seq"] for e in spans if "brainbox.cut_seq" in e]
        assert cuts == sorted(set(cuts)) and len(cuts) >= 3, cuts
        # What follows a summary begins with it, byte for byte, until the next.
        mark = of(events, COMPACTED)[0]["content"][0]["text"].split("\n")[1].split(" Odd")[0]
        first = next(r["raw"] for r in asked if mark in r["raw"])
        at = first.index(mark) + len(mark)
        later = [r["raw"] for r in asked if mark in r["raw"]]
        assert len(later) > 1 and all(r[:at] == first[:at] for r in later)


@p.test
def summary_outlives_a_restart_and_the_log_is_read_in_part():
    s = native()
    scan = p.run + "/services/brain_svc"
    for i in range(8):
        events = p.turn(s, f"Message {i}. " + "x" * 1500 + "SCRIPT:"
                        + json.dumps([{"text": f"Answer {i}.", "usage": {
                            "input": 0, "output": 0}}]), i + 1)
    assert of(events, COMPACTED)
    subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r", scan], check=True)
    bb.wait_for("the brain", p.alive)
    events = p.turn(s, 'SCRIPT:[{"text": "Still here."}]', 9)
    assert bb.texts(events)[-1] == "Still here."
    raw = p.model_requests()[-1]["raw"]
    assert "SUMMARY of" in raw and "Message 0." not in raw
    assert max(loaded(s)) < len(events) - 20, (loaded(s), len(events))


@p.test
def turn_of_a_runbook_reads_its_own_events_only():
    s = p.session(p.agent("runbook"))
    for i in range(5):
        p.turn(s, "Nothing to run.", i + 1)
    assert loaded(s) == [1] * 5, loaded(s)


@p.test
def summary_that_does_not_come_ends_the_turn_visibly():
    s = native()
    p.turn(s, "NO SUMMARY" + "x" * 9000 + 'SCRIPT:[{"text": "Read."}]')
    events = p.turn(s, "And now?", 2)
    error = of(events, "session.error")[-1]["error"]
    assert error["type"] == "compaction_limit_reached_error", error
    assert len(of(events, "span.model_request_end")) == 2


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
