#!/usr/bin/env python3
"""Traces of turns: OTLP's JSON, a line a turn, in a file that does not grow
without end."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

if not os.environ.get("BRAINBOX_HOSTS"):
    FOLDER = tempfile.TemporaryDirectory(prefix="bbtrace", dir="/tmp")
    os.chmod(FOLDER.name, 0o777)
    os.environ["BRAINBOX_TRACE"] = FOLDER.name + "/traces.jsonl"
FILE = os.environ["BRAINBOX_TRACE"]
p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_BRAIN_OPTIONS":
    f"--trace-file={FILE} --trace-file-bytes=65536"})


def traces(session):
    out = []
    for line in bb.read_lines(FILE):
        (r,) = line["resourceSpans"]
        (scope,) = r["scopeSpans"]
        spans = scope["spans"]
        if attributes(spans[0]).get("gen_ai.conversation.id") == session:
            out.append(spans)
    return out


def attributes(span):
    return {a["key"]: list(a["value"].values())[0]
            for a in span["attributes"]}


@p.test
def turn_is_a_trace_with_its_calls():
    s = p.session(p.agent("native"))
    p.turn(s, "SCRIPT:" + json.dumps([
        {"tools": [{"name": "sandbox_provision",
                    "arguments": {"task_description": "hidden"}},
                   {"name": "sandbox_execute",
                    "arguments": {"command": "echo hidden"}}]},
        {"text": "hidden"}]))
    bb.wait_for("the trace", lambda: traces(s))
    (spans,) = traces(s)
    assert [x["name"] for x in spans] == [
        "invoke_agent", "chat test-model", "execute_tool sandbox_provision",
        "execute_tool sandbox_execute", "chat test-model"], spans
    root = spans[0]
    for x in spans:
        assert x["traceId"] == root["traceId"]
        assert int(x["startTimeUnixNano"]) <= int(x["endTimeUnixNano"])
        assert "status" not in x, x
    assert {x["parentSpanId"] for x in spans[1:]} == {root["spanId"]}
    assert int(attributes(spans[1])["gen_ai.usage.input_tokens"]) > 0
    with open(FILE) as f:
        assert "hidden" not in f.read()


@p.test
def file_makes_room_for_itself():
    s = p.session()
    n = 0
    while not os.path.exists(FILE + ".1"):
        n += 1
        assert n < 400, "the file grows"
        p.turn(s, "```sh\ntrue\n```\n" * 10, n, 60)
    assert os.path.getsize(FILE + ".1") < 65536 + 16384
    p.turn(s, "nothing to run", n + 1)
    bb.wait_for("a new file", lambda: os.path.getsize(FILE) > 0)


p.main()
