#!/usr/bin/env python3
"""A model is asked while what was decided on before is still being stored: what
it answers is seen once that has happened, and only if the log is what it was
asked about."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__))


def script(*answers):
    return "SCRIPT:" + json.dumps(answers)


def kinds(events):
    return [e["type"] for e in events]


class Ahead:
    """A turn whose second model call is made while what was decided on before it
    cannot be stored: `first` holds the session's row. The vault's rows, which
    egress waits for, can."""

    def __init__(self, first, **more):
        self.s, self.first = p.session(p.agent("native"), **more), first
        self.before = len(p.model_requests())
        p.send(self.s, script({"text": "One.", "stall_ms": 1000},
                              {"text": "Two."}))
        self.asked(1)
        p.send(self.s, "And a second thing.")

    def asked(self, n):
        bb.wait_for(f"request {n}", lambda: len(self.requests()) >= n)

    def requests(self):
        return p.model_requests()[self.before:]

    def held(self):
        return p.transaction(self.first.format(s=self.s))


LOCKED = "SELECT 1 FROM brain.session WHERE id = '{s}' FOR UPDATE"
POSTED = ("SELECT brain.event_post('default', '{s}', ARRAY['sevt_' || '{s}'], "
          "ARRAY['user.message'], ARRAY['{{\"id\": \"sevt_' || '{s}' || '\", "
          "\"type\": \"user.message\", \"content\": [{{\"type\": \"text\", "
          "\"text\": \"And a third.\"}}]}}'], '', 1000)")


@p.test
def answer_is_seen_behind_the_call_that_it_answers():
    ahead, heard = Ahead(LOCKED), []
    stream = p.stream(ahead.s, query="?event_deltas[]=agent.message"
                      "&from_start=true")
    listener = bb.in_background(lambda: heard.extend(until_idle(stream)))
    with ahead.held():
        ahead.asked(2)
        time.sleep(0.5)  # it has answered
        assert kinds(heard).count("span.model_request_start") == 1, heard
        assert kinds(heard).count("event_start") == 1, heard
    listener.join(20)
    order = [k for k in kinds(heard)
             if k in ("span.model_request_start", "event_start",
                      "span.model_request_end")]
    assert order == ["span.model_request_start", "event_start",
                     "span.model_request_end"] * 2, order
    assert len(ahead.requests()) == 2


def until_idle(stream):
    for _, event in stream:
        yield event
        if event["type"] == "session.status_idle":
            return


@p.test
def message_that_was_stored_before_the_call_is_in_its_request():
    """Another brain takes it, and its transaction is under way."""
    ahead = Ahead(POSTED)
    with ahead.held():
        ahead.asked(2)
    events = p.idle(ahead.s)
    asked = [r["raw"] for r in ahead.requests()]
    assert ["And a third." in r for r in asked] == [False, False, True], asked
    assert bb.texts(events) == ["One.", "Two."], events
    starts = [i for i, k in enumerate(kinds(events))
              if k == "span.model_request_start"]
    assert len(starts) == 2
    assert "And a third." in json.dumps(events[:starts[1]])


@p.test
def interrupt_while_the_call_is_stored_ends_the_turn():
    ahead = Ahead(LOCKED)
    with ahead.held():
        ahead.asked(2)
        sent = bb.in_background(p.interrupt, ahead.s)
        time.sleep(0.3)
    sent.join(20)
    # It may have come right behind the end of the turn, too.
    said = [k for k in kinds(p.idle(ahead.s)) if k != "user.interrupt"]
    assert said[-1] == "session.status_idle", said
    assert said.count("session.status_idle") == 1, said
    events = p.turn(ahead.s, script({"text": "Next."}), 2)
    assert bb.texts(events)[-1] == "Next."


@p.test
def brain_that_dies_while_the_call_is_stored_asks_anew():
    ahead = Ahead(LOCKED)
    with ahead.held():
        ahead.asked(2)
        os.kill(p.pid("brain_svc"), signal.SIGKILL)
        p.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
              "usename = 'brain_run'")
    bb.wait_for("the brain", p.alive)
    events = p.idle(ahead.s)
    # Neither answer was stored: one for both messages is.
    assert bb.texts(events) == ["One."], events
    assert "And a second thing." in ahead.requests()[2]["raw"]


@p.test
def session_with_a_budget_asks_once_the_call_is_reserved():
    ahead = Ahead(LOCKED, budget={
        "type": "limit", "brainbox.limits": {"tokens": {"hard": 100000}}})
    with ahead.held():
        time.sleep(2)  # the first answer came after one
        assert len(ahead.requests()) == 1
    assert bb.texts(p.idle(ahead.s)) == ["One.", "Two."]


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
