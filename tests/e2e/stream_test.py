#!/usr/bin/env python3
"""An event stream that is opened before anything happens in its session."""
import http.client
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), model=False)
HEARTBEAT_SECONDS = 15


@p.test
def stream_of_a_silent_session_opens_at_once():
    host, port = p.url[len("http://"):].split(":")
    # Several, since the first may have a fresh connection to the brain.
    for _ in range(4):
        session = p.session()
        c = http.client.HTTPConnection(host, int(port), timeout=60)
        start = time.monotonic()
        c.request("GET", f"/v1/sessions/{session}/events/stream",
                  headers={"x-api-key": p.key})
        answer = c.getresponse()
        took = time.monotonic() - start
        assert answer.status == 200, answer.status
        assert took < HEARTBEAT_SECONDS / 3, f"headers after {took:.1f} s"
        c.close()


@p.test
def events_of_a_turn_arrive_on_a_stream_opened_before_it():
    session = p.session()
    stream = p.stream(session)
    start = time.monotonic()
    bb.in_background(p.send, session, "```sh\necho hello\n```")
    for _, e in stream:
        if e["type"] == "session.status_idle":
            break
    took = time.monotonic() - start
    assert took < HEARTBEAT_SECONDS / 3, f"the end after {took:.1f} s"


p.main()
