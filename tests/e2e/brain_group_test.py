#!/usr/bin/env python3
"""Appends of sessions that work at the same time go into one transaction; what
goes wrong with one of them is its own."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), env={
    "BRAINBOX_BRAIN_OPTIONS": "--lease-ms=1500 --claim-poll-ms=500"})
N = 24
AGENT, ENVIRONMENT = p.agent("native"), p.environment()


def script(steps):
    """So many model calls with a tool that there is not, which costs nothing
    but appends."""
    none = {"tools": [{"name": "no_such_tool", "arguments": {}}]}
    return "SCRIPT:" + json.dumps([none] * steps + [{"text": "Done."}])


def at_once(steps):
    sessions = [p.session(AGENT, ENVIRONMENT) for _ in range(N)]
    workers = [bb.in_background(p.send, s, script(steps)) for s in sessions]
    for w in workers:
        w.join()
    return sessions


def ended(s):
    events = p.idle(s)
    assert bb.texts(events) == ["Done."], events
    n, top = p.sql("SELECT count(*), max(seq) FROM brain.event WHERE session_id "
                   f"= '{s}'").split("|")
    assert n == top, (n, top)


@p.test
def sessions_that_work_at_once_share_transactions():
    sessions = at_once(6)
    for s in sessions:
        ended(s)
    shared = p.sql("SELECT count(*), max(n) FROM (SELECT count(DISTINCT "
                   "session_id) AS n FROM brain.event GROUP BY xmin::text) t "
                   "WHERE n > 1").split("|")
    print("  %s transactions of several sessions, of up to %s" % tuple(shared))
    assert int(shared[0]) > 0


@p.test
def lease_that_one_lost_fails_no_other():
    sessions = at_once(10)
    for s in sessions[::6]:
        p.sql("UPDATE brain.run SET fence = fence + 1, lease_until = now() "
              f"WHERE session_id = '{s}' AND owner IS NOT NULL")
    for s in sessions:
        ended(s)
    with open(p.state + "/log/brain_svc/current") as f:
        lost = {json.loads(line[line.index("{"):])["session"]
                for line in f if '"run.write_failed"' in line}
    assert lost and lost <= set(sessions[::6]), (lost, sessions[::6])


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


@p.test
def deleted_session_takes_its_events_along():
    one, other = p.session(AGENT, ENVIRONMENT), p.session(AGENT, ENVIRONMENT)
    for s in one, other:
        p.send(s, script(1))
        ended(s)
    count = "SELECT count(*) FROM brain.event WHERE session_id = '%s'"
    assert int(p.sql(count % one)) > 3
    p.call("DELETE", "/v1/sessions/" + one)
    assert p.sql(count % one) == "0"
    assert int(p.sql(count % other)) > 3


p.main()
