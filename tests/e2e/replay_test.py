#!/usr/bin/env python3
"""`brain_svc replay`: ten sessions do again what their logs say, and a log that
was changed by hand does not."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__))
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}


def run(command):
    return {"name": "sandbox_execute", "arguments": {"command": command}}


def native(*script, **more):
    s = p.session(p.agent("native", **more))
    p.turn(s, "SCRIPT:" + json.dumps(script))
    return s


def runbook(*turns):
    s = p.session()
    for n, text in enumerate(turns):
        p.turn(s, text, n + 1)
    return s


def shown(s, code=0):
    a = p.replay(s)
    assert a.returncode == code, (a.returncode, a.stdout, a.stderr)
    return a.stdout + a.stderr


def conversation():
    s = native({"thinking": "Hm.", "text": "One.",
                "tools": [PROVISION, run("echo first")]},
               {"text": "Two.", "tools": [run("echo second")]},
               {"text": "Three."})
    p.turn(s, 'SCRIPT:[{"text": "Four."}]', 2)
    return s


@p.test
def ten_sessions_replay_without_a_difference():
    made = [
        runbook("```sh\necho a\n```\n"),
        runbook("```sh\nexit 3\n```\n", "nothing to run",
                "```sh\necho b\n```\n```sh\necho c\n```\n"),
        native({"text": "Hello."}),
        conversation(),
        native({"tools": [PROVISION, run("exit 1"), run("sleep 0.2")]},
               {"finish": "length", "text": "cut"}),
        native({"tools": [{"name": "no_such_tool", "arguments": {}}]},
               {"text": "So be it."}),
        native({"status": 500}, model={"id": "test-model",
                                       "wire": "messages"}),
        native(*[{"tools": [PROVISION]}] * 4, max_steps=2),
        native({"text": ""}),
        native({"text": "Over this wire, too.", "tools": [PROVISION]},
               {"text": "Done."},
               model={"id": "test-model", "wire": "responses"}),
    ]
    total = [0, 0, 0, 0]
    for s in made:
        text = shown(s)
        got = re.fullmatch(r"(\d+) events, (\d+) turns, (\d+) model calls, "
                           r"(\d+) tool calls: no difference\n", text)
        assert got, text
        assert int(got[1]) == len(p.events(s)), text
        total = [a + int(b) for a, b in zip(total, got.groups())]
    assert total[1] == 13 and total[2] >= 14 and total[3] >= 12, total
    print("  replayed: %d events, %d turns, %d model calls, %d tool calls"
          % tuple(total))
    # As logs were before their events said what had been heard of.
    p.sql("UPDATE brain.event SET heard = NULL")
    for s in made:
        assert "no difference" in shown(s), s


@p.test
def event_that_was_changed_is_named():
    s = conversation()
    seq = p.sql("UPDATE brain.event SET body = replace(body::text, 'One.',"
                " 'Uno.')::json WHERE session_id = '%s' AND type ="
                " 'agent.message' AND body::text LIKE '%%One.%%' RETURNING seq"
                % s)
    text = shown(s, 1)
    assert f"event {seq} was changed after it was stored" in text, text


def forge(s, old, new):
    """A change with a digest to match; its seq."""
    return int(p.sql(
        "UPDATE brain.event SET body = replace(body::text, '%s', '%s')::json,"
        " digest = sha256(convert_to(replace(body::text, '%s', '%s'),"
        " 'UTF8')) WHERE session_id = '%s' AND body::text LIKE '%%%s%%'"
        " AND seq > 1 RETURNING seq" % (old, new, old, new, s, old))
        .split("\n")[0])


@p.test
def forged_answer_shows_in_what_the_model_was_asked():
    s = conversation()
    seq = forge(s, "Two.", "Zwei.")
    text = shown(s, 1)
    at = int(re.search(r"difference at seq (\d+): the model is asked "
                       r"something else", text)[1])
    assert at > seq, (at, seq)


@p.test
def forged_command_shows_in_the_runbook():
    s = runbook("```sh\necho a\n```\n```sh\necho b\n```\n")
    seq = forge(s, "echo a", "echo z")
    text = shown(s, 1)
    assert f"difference at seq {seq}: " in text, text
    assert "echo z" in text and "echo a" in text, text


@p.test
def missing_event_is_told():
    s = conversation()
    seq = int(p.sql("DELETE FROM brain.event WHERE session_id = '%s' AND type ="
                    " 'agent.tool_result' AND seq = (SELECT min(seq) FROM"
                    " brain.event WHERE session_id = '%s' AND type ="
                    " 'agent.tool_result') RETURNING seq" % (s, s)))
    text = shown(s, 1)
    assert f"behind seq {seq - 1} comes {seq + 1}: events are missing" in text


@p.test
def what_is_decided_together_is_stored_together():
    s = native({"tools": [PROVISION]}, {"tools": [run("true")]},
               {"text": "Done."})
    batches = p.sql("SELECT string_agg(type, ' ' ORDER BY seq) FROM brain.event "
                    f"WHERE session_id = '{s}' GROUP BY xmin::text ORDER BY min(seq)")
    start, end = "span.model_request_start", "span.model_request_end"
    assert batches.split("\n") == [
        "user.message", "session.status_running " + start,
        end + " agent.tool_use", "agent.tool_result " + start,
        end + " agent.tool_use", "agent.tool_result " + start,
        end + " agent.message", "session.status_idle"], batches
    s = native({"text": "Done."})
    batches = p.sql("SELECT string_agg(type, ' ' ORDER BY seq) FROM brain.event "
                    f"WHERE session_id = '{s}' GROUP BY xmin::text ORDER BY min(seq)")
    assert batches.split("\n")[2:] == [
        end + " agent.message session.status_idle"], batches


@p.test
def interrupt_that_was_stored_before_it_was_heard_of_replays():
    """It stands before a result and a model call that were on their way."""
    s = p.session(p.agent("native"))
    p.send(s, "SCRIPT:" + json.dumps([
        {"tools": [{"name": "no_such_tool", "arguments": {}}]},
        {"text": "a b", "stall_at": 1, "stall_ms": 20000}]))
    bb.wait_for("the second call", lambda: [
        e["type"] for e in p.events(s)].count("span.model_request_start") == 2)
    p.interrupt(s)
    kinds = [e["type"] for e in p.idle(s)]
    at = kinds.index("user.interrupt") + 1
    assert kinds[at - 3:at - 1] == ["agent.tool_result",
                                    "span.model_request_start"], kinds
    shown(s)
    p.sql("UPDATE brain.event SET seq = CASE seq WHEN %d THEN %d ELSE seq + 1 END"
          " + 100000 WHERE session_id = '%s' AND seq BETWEEN %d AND %d;"
          "UPDATE brain.event SET seq = seq - 100000 WHERE session_id = '%s'"
          " AND seq > 100000" % (at, at - 2, s, at - 2, at, s))
    assert [e["type"] for e in p.events(s)][at - 3] == "user.interrupt"
    shown(s)


@p.test
def decision_names_what_was_heard_of_before_it():
    s = p.session()
    p.send(s, "```sh\nsleep 60\n```")
    bb.wait_for("the command", lambda: [
        e["type"] for e in p.events(s)].count("agent.tool_use") == 2)
    p.interrupt(s)
    p.idle(s)
    rows = [line.split("|") for line in p.sql(
        "SELECT seq, type, heard FROM brain.event WHERE session_id = "
        f"'{s}' ORDER BY seq").split("\n")]
    at = {kind: int(seq) for seq, kind, _ in rows}
    heard = {kind: heard for _, kind, heard in rows}
    assert heard["user.message"] == heard["user.interrupt"] == "", rows
    # The command was called before, and ended because of it.
    assert int(heard["agent.tool_result"]) == at["agent.tool_use"], rows
    assert int(heard["session.status_idle"]) >= at["user.interrupt"], rows
    shown(s)
    p.sql("UPDATE brain.event SET heard = %d WHERE session_id = '%s' AND type = "
          "'agent.tool_result' AND seq > 5" % (at["user.interrupt"], s))
    text = shown(s, 1)
    assert f"difference at seq {at['agent.tool_result']}: " in text, text
    assert "not run: the turn was ended" in text, text


@p.test
def order_of_events_matters():
    s = runbook("```sh\necho a\n```\n```sh\necho b\n```\n")
    kinds = [e["type"] for e in p.events(s)]
    one = kinds.index("agent.tool_result") + 1
    p.sql("UPDATE brain.event SET seq = 100000 WHERE session_id = '%s' AND seq ="
          " %d; UPDATE brain.event SET seq = %d WHERE session_id = '%s' AND seq"
          " = %d; UPDATE brain.event SET seq = %d WHERE session_id = '%s' AND"
          " seq = 100000" % (s, one, one, s, one + 1, one + 1, s))
    text = shown(s, 1)
    assert f"difference at seq {one}: " in text, text


@p.test
def what_cannot_be_replayed_says_why():
    assert "has no events of session sesn_nope" in shown("sesn_nope", 1)
    s = p.session()
    assert "has no events" in shown(s, 1)
    a = p.replay("")
    assert a.returncode == 1 and "replay SESSION" in a.stderr, a.stderr


p.main()
