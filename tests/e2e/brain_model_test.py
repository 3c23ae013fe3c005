#!/usr/bin/env python3
"""The model client: three wires, what is sent again, who is asked next, what
it cost, and the limits on silence and length."""
import base64
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

PRICES = "/tmp/bbprices." + str(os.getppid() if os.environ.get(
    "BRAINBOX_HOSTS") else os.getpid())
if not os.environ.get("BRAINBOX_HOSTS"):
    with open(PRICES, "w") as f:
        f.write("# USD for a million tokens\ntest-model 3 15 0.3 3.75\n")
    import atexit
    atexit.register(os.unlink, PRICES)
p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_HARNESS": "native", "BRAINBOX_BRAIN_OPTIONS":
    "--model-first-token-seconds=1 --model-idle-seconds=1 "
    f"--model-answer-bytes=65536 --model-prices={PRICES} "
    "'--model-fallbacks=messages,second-model responses,third-model'"})
WIRES = {"chat": "/v1/chat/completions", "responses": "/v1/responses",
         "messages": "/v1/messages"}
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}


def run(command):
    return {"name": "sandbox_execute", "arguments": {"command": command}}


def session(wire="chat", **more):
    return p.session(p.agent("native", model={
        "id": "test-model", "wire": wire}, **more))


def turn(script, wire="chat", **more):
    s = session(wire, **more)
    before = len(p.model_requests())
    events = p.turn(s, "SCRIPT:" + json.dumps(script))
    return s, events, p.model_requests()[before:]


def ends(events):
    return [e for e in events if e["type"] == "span.model_request_end"]


def error(events):
    return [e for e in events if e["type"] == "session.error"][-1]["error"]


@p.test
def each_wire_carries_a_whole_turn_with_tools():
    for wire, path in WIRES.items():
        _, events, asked = turn([
            {"text": "Two things.", "tools": [PROVISION, run("echo one"),
                                              run("echo two; exit 3")]},
            {"text": "Done."}], wire, system="Be brief.")
        assert {r["path"] for r in asked} == {path}, asked
        assert [bb.result_of(events, i)[1].get("stdout") for i in range(3)] \
            == [None, "one\n", "two\n"], wire
        assert bb.texts(events) == ["Two things.", "Done."]
        assert len(asked) == 2 and len(ends(events)) == 2
        kinds = [e["type"] for e in events]
        assert kinds.count("agent.tool_use") == 3
        said = json.dumps(asked[1]["body"])
        assert "one\\\\n" in said and "Be brief." in said, said


@p.test
def images_and_documents_reach_the_model_over_each_wire():
    data = base64.b64encode(os.urandom(90_000)).decode()
    content = [
        {"type": "text", "text": 'SCRIPT:[{"text": "I see."}]'},
        {"type": "image", "source": {"type": "base64", "data": data,
                                     "media_type": "image/png"}},
        {"type": "document", "title": "plan.pdf", "source": {
            "type": "base64", "data": "JVBERg==",
            "media_type": "application/pdf"}}]
    for wire in WIRES:
        s = session(wire)
        before = len(p.model_requests())
        p.call("POST", f"/v1/sessions/{s}/events", {
            "events": [{"type": "user.message", "content": content}]})
        events = p.idle(s)
        assert bb.texts(events) == ["I see."], (wire, error(events))
        (asked,) = p.model_requests()[before:]
        assert data in asked["raw"] and "JVBERg==" in asked["raw"], wire
        assert [e for e in events if e["type"] == "user.message"][0][
            "content"] == content
        # It is part of the conversation from then on.
        p.turn(s, 'SCRIPT:[{"text": "Still."}]', 2)
        assert data in p.model_requests()[-1]["raw"], wire
        e = p.refused(400, "POST", f"/v1/sessions/{s}/events", {
            "events": [{"type": "user.message", "content": [
                {"type": "image", "source": {"type": "base64", "data": "?",
                                             "media_type": "image/png"}}]}]})
        assert "content[0].source.data" in e["message"], e


@p.test
def results_of_a_client_hold_images():
    shot = {"type": "custom", "name": "shot", "description": "A screenshot.",
            "input_schema": {"type": "object"}}
    data = base64.b64encode(os.urandom(3000)).decode()
    for wire in WIRES:
        s = session(wire, tools=[shot])
        p.send(s, "SCRIPT:" + json.dumps([
            {"tools": [{"name": "shot", "arguments": {}}]}, {"text": "Nice."}]))
        call = p.idle(s)[-1]["stop_reason"]["event_ids"][0]
        p.call("POST", f"/v1/sessions/{s}/events", {"events": [{
            "type": "user.custom_tool_result", "custom_tool_use_id": call,
            "content": [{"type": "image", "source": {
                "type": "base64", "data": data, "media_type": "image/png"}}]}]})
        assert bb.texts(p.idle(s, 2)) == ["Nice."], wire
        assert data in p.model_requests()[-1]["raw"], wire


@p.test
def each_wire_gets_the_key_in_its_own_header():
    for wire in WIRES:
        _, _, asked = turn([{"text": "hi"}], wire)
        headers = {k.lower(): v for k, v in asked[0]["headers"].items()}
        key = "model-key-0123456789abcdef"
        if wire == "messages":
            assert headers["x-api-key"] == key
            assert headers["anthropic-version"] == "2023-06-01"
            assert "authorization" not in headers
        else:
            assert headers["authorization"] == "Bearer " + key


def without_marks(raw):
    return raw.replace(',"cache_control":{"type":"ephemeral"}', "")


@p.test
def each_request_begins_with_the_one_before_byte_for_byte():
    for wire in WIRES:
        s = session(wire, system="A fixed text.", tools=[
            {"type": "custom", "name": name, "description": "d",
             "input_schema": {"type": "object"}} for name in "zca"])
        before = len(p.model_requests())
        p.turn(s, "SCRIPT:" + json.dumps([
            {"thinking": "Hm.", "text": "One.", "tools": [PROVISION]},
            {"tools": [run("echo a"), run("echo b")]}, {"text": "End."}]))
        p.turn(s, 'SCRIPT:[{"text": "More."}]', 2)
        raws = [without_marks(r["raw"]) for r in p.model_requests()[before:]]
        assert len(raws) == 4
        for one, two in zip(raws, raws[1:]):
            assert one[-2:] == "]}", one[-40:]
            # Over messages, what a user adds goes into the last message.
            head = one[:-4] if wire == "messages" else one[:-2]
            assert two.startswith(head), (wire, one[-200:], two[len(head) - 200:])
        tools = [t.get("name") or t["function"]["name"]
                 for t in p.model_requests()[-1]["body"]["tools"]]
        assert tools == sorted(tools) and len(tools) == 5, tools


@p.test
def thinking_is_kept_and_sent_back_as_the_wire_needs():
    kept = {"chat": ("thinking_blocks", "sig-chat"),
            "responses": ("encrypted_content", "sealed-thought"),
            "messages": ("signature", "sig-messages")}
    for wire, (key, value) in kept.items():
        _, events, asked = turn([
            {"thinking": "Let me think.", "tools": [PROVISION]},
            {"text": "Done."}], wire)
        kinds = [e["type"] for e in events]
        assert kinds.index("agent.thinking") < kinds.index("agent.tool_use")
        assert key not in asked[0]["raw"] or wire == "responses"
        assert value not in asked[0]["raw"] and value in asked[1]["raw"], wire
        if wire == "messages":
            blocks = asked[1]["body"]["messages"][1]["content"]
            assert [b["type"] for b in blocks] == ["thinking", "tool_use"]


@p.test
def usage_is_normalised_and_counted_once():
    told = {"input": 1000, "cache_read": 600, "cache_write": 100,
            "output": 50, "reasoning": 20}
    for wire in WIRES:
        s, events, _ = turn([{"text": "hi", "usage": told}], wire)
        usage = ends(events)[0]["model_usage"]
        more = ends(events)[0]["brainbox.model"]
        write = 0 if wire == "responses" else 100
        fresh = {"chat": 300, "responses": 400, "messages": 1000}[wire]
        assert usage == {"input_tokens": fresh, "output_tokens": 50,
                         "cache_read_input_tokens": 600,
                         "cache_creation_input_tokens": write}, (wire, usage)
        assert more["reasoning_tokens"] == (0 if wire == "messages" else 20)
        total = p.call("GET", f"/v1/sessions/{s}")["usage"]
        assert total["input_tokens"] == fresh
        assert total["cache_read_input_tokens"] == 600
        assert total["output_tokens"] == 50
        nano = fresh * 3000 + 50 * 15000 + 600 * 300 + write * 3750
        assert more["cost_source"] == "prices"
        assert more["cost_nano_usd"] == nano
        assert total["brainbox.cost_nano_usd"] == nano


@p.test
def gateways_own_cost_goes_before_the_price_table():
    s, events, _ = turn([{"text": "hi", "cost": "1.25e-05"}])
    more = ends(events)[0]["brainbox.model"]
    assert (more["cost_source"], more["cost_nano_usd"]) == ("gateway", 12500)


@p.test
def retries_end_with_an_answer_and_leave_no_trace_in_the_log():
    with open(p.model + "/script.json", "w") as f:
        json.dump([{"status": 429, "headers": {"Retry-After": "0"}},
                   {"status": 503, "headers": {
                       "Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}},
                   {"text": "At last."}], f)
    try:
        s = session()
        before = len(p.model_requests())
        events = p.turn(s, "hello")
    finally:
        os.unlink(p.model + "/script.json")
    assert bb.texts(events) == ["At last."]
    assert len(p.model_requests()) - before == 3
    assert len(ends(events)) == 1
    assert not any(e["type"] == "session.error" for e in events)


@p.test
def failing_model_is_followed_by_its_fallbacks():
    _, events, asked = turn([{"status": 500, "fail_model": "test-model",
                              "text": "From another."}])
    assert [r["body"]["model"] for r in asked] == ["test-model",
                                                   "second-model"]
    assert [r["path"] for r in asked] == ["/v1/chat/completions",
                                          "/v1/messages"]
    assert bb.texts(events) == ["From another."]
    more = ends(events)[0]["brainbox.model"]
    assert (more["model"], more["wire"]) == ("second-model", "messages")
    assert more["cost_source"] == "unknown"


@p.test
def every_way_failing_is_an_error_of_the_last():
    _, events, asked = turn([{"status": 500, "message": "all broken"}])
    assert [r["body"]["model"] for r in asked] == [
        "test-model", "second-model", "third-model"]
    assert "all broken" in error(events)["message"]
    assert events[-1]["stop_reason"]["type"] == "retries_exhausted"


@p.test
def answer_that_was_begun_is_not_asked_for_again():
    for wire in WIRES:
        _, events, asked = turn([{"text": "half of it, then no more, alas",
                                 "cut": 4}], wire)
        assert len(asked) == 1, wire
        assert ends(events)[0]["is_error"] is True
        assert "model" in error(events)["message"]


@p.test
def silent_model_is_left_after_a_limit():
    _, events, asked = turn([{"text": "late", "stall_ms": 3000}])
    assert "model_first_token_seconds" in error(events)["message"], events
    assert len(asked) == 3
    _, events, asked = turn([{"text": "some words, then nothing for long",
                              "stall_ms": 3000, "stall_at": 5}], "messages")
    assert "model_idle_seconds" in error(events)["message"], events
    assert len(asked) == 1


@p.test
def endless_broken_and_odd_answers_are_errors():
    for wire in WIRES:
        for answer, word in (({"text": "more", "endless": True}, "65536"),
                             ({"text": "x", "broken": True}, "stream"),
                             ({}, "empty"),
                             ({"thinking": "only"}, "empty"),
                             ({"text": "x", "finish": "length"}, "length"),
                             ({"text": "x", "finish": "content_filter"},
                              "content filter"),
                             ({"text": "x", "error": {"message": "boom"}},
                              "boom")):
            _, events, _ = turn([answer], wire)
            assert word in error(events)["message"], (wire, answer, events)
            assert events[-1]["type"] == "session.status_idle"


def openings(s):
    rows = p.call("GET", f"/platform/v1/audit?session_id={s}&limit=100")
    return [r for r in rows["data"] if r["action"] == "workload.opened"
            and r["object"] == "brain:" + s]


@p.test
def the_vault_opens_the_model_once_a_turn():
    s, events, asked = turn([{"tools": [PROVISION]}, {"tools": [run("true")]},
                             {"text": "Done."}])
    assert len(asked) == 3 and bb.texts(events) == ["Done."]
    assert len(openings(s)) == 1, openings(s)


@p.test
def a_stub_that_is_refused_in_mid_turn_is_asked_for_anew():
    s = session()
    unscripted = sum("SCRIPT:" not in r["raw"] for r in p.model_requests())
    with open(p.model + "/script.json", "w") as f:
        json.dump([{}] * unscripted + [
            {"tools": [PROVISION]}, {"status": 401}, {"text": "Again."}], f)
    try:
        events = p.turn(s, "no script")
    finally:
        os.unlink(p.model + "/script.json")
    assert bb.texts(events) == ["Again."], events
    assert len(openings(s)) == 2, openings(s)
    assert all(r["path"] == WIRES["chat"] for r in p.model_requests()[-3:])


@p.test
def wires_that_are_none_are_refused_by_name():
    e = p.refused(400, "POST", "/v1/agents", {
        "name": "x", "model": {"id": "m", "wire": "smoke"}})
    assert "smoke" in e["message"] and "messages" in e["message"]
    e = p.refused(400, "POST", "/v1/agents", {"name": "x", "tools": [
        {"type": "custom", "name": "sandbox_execute", "input_schema": {}}]})
    assert "taken" in e["message"], e


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
