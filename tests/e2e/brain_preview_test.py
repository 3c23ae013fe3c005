#!/usr/bin/env python3
"""Previews: what listeners see of an event while it comes about."""
import json
import os
import queue
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

MAX = 8192  # much less than a stream holds for a reader that is slow
p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_BRAIN_OPTIONS": f"--preview-output-bytes={MAX}"})


class Listener:
    """Of a session, with previews of these types."""

    def __init__(self, session, *types):
        query = "&".join(f"event_deltas[]={t}" for t in types)
        self.all, self.more = [], queue.Queue()
        stream = p.stream(session, query="?from_start=true&" + query)
        self.thread = bb.in_background(self.follow, stream)

    def follow(self, stream):
        for event_id, event in stream:
            self.more.put((event_id, event))
            if event["type"] == "session.status_idle":
                return

    def until(self, wanted):
        """Everything up to the first event that is so."""
        while True:
            event_id, event = self.more.get(timeout=60)
            self.all.append(event)
            assert ("id" in event) == (event_id is not None), event
            if wanted(event):
                return event

    def whole(self):
        self.until(lambda e: e["type"] == "session.status_idle")
        return self.all


def started(event):
    return event["type"] == "event_start"


def parts(events, kind):
    return [e["delta"] for e in events if e["type"] == "event_delta"
            and e["delta"]["type"] == kind]


def of(events, kind):
    return [e for e in events if e["type"] == kind]


def of_log(events):
    return [e for e in events if "id" in e]


def printed(events, stream):
    return "".join(d["text"] for d in parts(events, "output_delta")
                   if d["stream"] == stream)


@p.test
def what_a_command_prints_is_seen_while_it_runs():
    s = p.session()
    listener = Listener(s, "agent.tool_result")
    p.send(s, "```sh\necho first; echo second >&2; sleep 600\n```")
    start = listener.until(lambda e: started(e))["event"]
    assert start["type"] == "agent.tool_result", start
    listener.until(lambda e: printed(listener.all, "stdout") == "first\n"
                   and printed(listener.all, "stderr") == "second\n")
    call = of(listener.all, "agent.tool_use")[-1]
    assert start["tool_use_id"] == call["id"], (start, call)
    assert not [e for e in of(listener.all, "agent.tool_result")
                if e["tool_use_id"] == call["id"]], "the command has ended"
    p.interrupt(s)
    events = listener.whole()
    result, text = bb.result_of(events)
    assert result["id"] == start["id"], (result, start)
    assert text["stdout"] == "first\n" and text["outcome"] == "cancelled", text
    assert p.events(s) == of_log(events)


@p.test
def only_those_see_it_who_asked_for_it():
    s = p.session()
    other = Listener(s, "agent.message")
    listener = Listener(s, "agent.tool_result", "agent.message")
    p.turn(s, "```sh\necho seen\n```")
    assert printed(listener.whole(), "stdout") == "seen\n"
    assert not parts(other.whole(), "output_delta"), other.all
    assert of_log(other.all) == of_log(listener.all) == p.events(s)


@p.test
def characters_come_whole():
    s = p.session()
    listener = Listener(s, "agent.tool_result")
    p.turn(s, "```sh\nprintf '\\303'; sleep 0.3; printf '\\244\\377 '; "
           "printf '\\360\\237'; sleep 0.3; printf '\\246\\212\\n'\n```")
    text = "ä\ufffd \N{FOX FACE}\n"
    assert printed(listener.whole(), "stdout") == text, listener.all
    assert bb.result_of(listener.all)[1]["stdout"] == text


@p.test
def long_output_is_cut_and_says_so():
    s = p.session()
    listener = Listener(s, "agent.tool_result")
    p.turn(s, f"```sh\nhead -c {MAX + 1000} /dev/zero | tr '\\0' x\n```")
    deltas = parts(listener.whole(), "output_delta")
    assert sum(len(d["text"]) for d in deltas) == MAX
    assert [d.get("truncated") for d in deltas] == (
        [None] * (len(deltas) - 1) + [True]), deltas[-1]


@p.test
def all_of_an_output_that_just_fits_is_shown():
    s = p.session()
    listener = Listener(s, "agent.tool_result")
    p.turn(s, f"```sh\nhead -c {MAX} /dev/zero | tr '\\0' x\n```")
    deltas = parts(listener.whole(), "output_delta")
    assert sum(len(d["text"]) for d in deltas) == MAX
    assert not [d for d in deltas if "truncated" in d], deltas[-1]


@p.test
def of_what_a_model_thinks_the_beginning_is_seen():
    for wire in ("chat", "responses", "messages"):
        s = p.session(p.agent("native", model={"id": "test-model",
                                               "wire": wire}))
        listener = Listener(s, "agent.thinking")
        p.turn(s, "SCRIPT:" + json.dumps(
            [{"thinking": "a secret thought", "text": "said aloud"}]))
        events = listener.whole()
        (start,) = [e["event"] for e in events if started(e)]
        (thought,) = of(events, "agent.thinking")
        assert start == {"type": "agent.thinking", "id": thought["id"]}, start
        assert not of(events, "event_delta"), events
        assert events.index(thought) > [started(e) for e in events].index(True)


@p.test
def unknown_type_of_preview_is_named():
    s = p.session()
    e = p.refused(400, "GET", f"/v1/sessions/{s}/events/stream"
                  "?event_deltas[]=agent.message&event_deltas[]=agent.mesage")
    assert e["type"] == "invalid_request_error", e
    assert e["message"] == ('event_deltas: "agent.mesage" is none of '
                            "agent.message, agent.thinking, "
                            "agent.tool_result"), e


p.main()
