#!/usr/bin/env python3
"""Requests that a person decides about, through real nginx and the real vault:
parked, let go, denied, left; and rows for what egress refuses itself. Needs root (initdb runs as postgres)."""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import Upstream, setting, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "sekret/value+0123456789\"abcdef-XYZ"


def box():
    session = V.put_grant(KEY, ENV, [VLT])
    w = V.open(session)
    return w["address"], w["values"]["API_TOKEN"], session


class Parked(threading.Thread):
    """One request in the background."""

    def __init__(self, at, **kw):
        super().__init__(daemon=True)
        self.at, self.kw, self.got = at, kw, None
        self.start()

    def run(self):
        self.got = E.ask(self.at, host="other.example.com", **self.kw)

    def answer(self):
        self.join(15)
        return self.got


def pending(session):
    return V.call("ingress", "ApprovalService/ListApprovals",
                  {"session_id": session}, V.as_key(KEY))["data"]


def decide(approval, decision="approve", scope=""):
    V.call("ingress", "ApprovalService/DecideApproval",
           {"approval_id": approval, "decision": decision, "scope": scope},
           V.as_key(KEY))


def one(session):
    wait_for("a question", lambda: pending(session))
    return pending(session)[0]


def a_parked_request_goes_on_when_a_person_approves():
    at, _, session = box()
    UP.seen.clear()
    p = Parked(at, path="/form?q=1", method="POST", body=b"x" * 5000)
    a = one(session)
    assert (a["method"], a["path"], a["host"]) == ("POST", "/form",
                                                   "other.example.com"), a
    time.sleep(0.2)
    assert not UP.seen and p.got is None
    decide(a["id"])
    got = p.answer()
    assert got.status == 200, got.raw
    (seen,) = UP.seen
    assert seen["path"] == "/form?q=1" and seen["body"] == b"x" * 5000


def a_denied_request_is_never_sent():
    at, _, session = box()
    UP.seen.clear()
    p = Parked(at)
    decide(one(session)["id"], "deny")
    got = p.answer()
    assert (got.status, got.reason) == (403, "approval_denied"), got.raw
    got = E.ask(at, host="other.example.com")
    assert (got.status, got.reason) == (403, "approval_denied")
    assert not UP.seen


def after_the_time_limit_the_answer_says_how_to_ask():
    at, _, session = box()
    UP.seen.clear()
    got = Parked(at).answer()
    assert (got.status, got.reason) == (403, "approval_pending"), got.raw
    text = json.loads(got.body)["error"]["message"]
    a = one(session)["id"]
    assert a in text and "/platform/v1/approvals" in text
    decide(a)
    assert E.ask(at, host="other.example.com").status == 200
    assert len(UP.seen) == 1


def what_changed_while_it_was_parked_holds():
    at, _, session = box()
    UP.seen.clear()
    p = Parked(at)
    a = one(session)
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(KEY))
    decide(a["id"])
    got = p.answer()
    assert got.reason in ("session_ended", "workload_unknown"), got.raw
    assert not UP.seen


def a_client_that_goes_away_takes_its_request_along():
    at, _, session = box()
    UP.seen.clear()
    s = E.connect("egress-bridge", (at, 443), "other.example.com")
    E.write(s, "GET", "/gone", "other.example.com")
    a = one(session)
    s.close()
    time.sleep(0.3)
    decide(a["id"])
    time.sleep(0.3)
    assert not UP.seen


def the_vault_going_away_sends_nothing():
    at, _, session = box()
    UP.seen.clear()
    p = Parked(at)
    one(session)
    V.stop("vault", "kill")
    got = p.answer()
    V.start_vault()
    assert (got.status, got.reason) == (503, "vault_unavailable"), got.raw
    assert not UP.seen
    p = Parked(at)
    decide(one(session)["id"])
    assert p.answer().status == 200


def other_requests_of_the_worker_do_not_wait():
    at, stub, session = box()
    parked = [Parked(at, path="/p%d" % i) for i in range(4)]
    wait_for("four parked", lambda: len(pending(session)) == 4)
    time.sleep(0.2)
    got = E.ask(at, headers=[("Authorization", "Bearer " + stub)])
    assert got.status == 200, got.raw
    got = E.ask(at, host="other.example.com", path="/p9")
    assert got.reason == "approval_limit", got.raw
    for a in pending(session):
        decide(a["id"])
    assert [p.answer().status for p in parked] == [200] * 4


def rows(session):
    """(reason, count, decision) of what egress refused by itself."""
    out = V.sql("SELECT detail FROM vault.audit WHERE session_id = '%s' AND"
                " action = 'egress.refused' ORDER BY seq" % session)
    return [json.loads(x) for x in out.split("\n") if x]


def what_egress_refuses_by_itself_stands_in_the_audit():
    at, stub, session = box()
    auth = [("Authorization", "Bearer " + stub)]
    for reason, kw in (
            ("destination_mismatch", {"host_header": "other.example.com"}),
            ("request_malformed", {"path": "/#x"}),
            ("upgrade_refused", {"headers": auth + [("Upgrade", "websocket"),
                                                    ("Connection",
                                                     "Upgrade")]}),
            ("override_refused", {"headers": auth + [
                ("X-HTTP-Method-Override", "DELETE")]})):
        got = E.ask(at, **kw)
        assert got.reason == reason, got.raw
        wait_for(reason, lambda: [r for r in rows(session)
                                  if r["reason"] == reason])
        (row,) = [r for r in rows(session) if r["reason"] == reason]
        assert row["count"] == 1 and row["request_id"].startswith("req_")
        was_allowed = reason in ("upgrade_refused", "override_refused")
        assert ("decision" in row) == was_allowed, row
    text = V.sql("SELECT string_agg(detail || object, ' ') FROM vault.audit"
                 " WHERE session_id = '%s'" % session)
    assert stub not in text and "https://api.example.com:443" in text


def a_flood_of_refusals_is_counted_not_written():
    at, _, session = box()
    s = E.connect("egress-bridge-plain", (at, 80))
    n = 120
    for _ in range(n):
        got = E.turn(s, "/", "api.example.com:81")
        assert got.status == 403, got.raw
    time.sleep(1.1)
    E.turn(s, "/", "api.example.com:81")
    s.close()
    wait_for("all counted", lambda: sum(r["count"] for r in rows(session))
             == n + 1)
    assert len(rows(session)) < n // 2, len(rows(session))


TESTS = [
    a_parked_request_goes_on_when_a_person_approves,
    a_denied_request_is_never_sent,
    after_the_time_limit_the_answer_says_how_to_ask,
    what_changed_while_it_was_parked_holds,
    a_client_that_goes_away_takes_its_request_along,
    the_vault_going_away_sends_nothing,
    other_requests_of_the_worker_do_not_wait,
    what_egress_refuses_by_itself_stands_in_the_audit,
    a_flood_of_refusals_is_counted_not_written,
]

if __name__ == "__main__":
    with setting(["api.example.com", "other.example.com"], Upstream,
                 args=["--approval-wait-seconds=4"]) as (V, E, UP, KEY):
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, ["api.example.com"])
        ENV = V.put_policy(KEY, ["api.example.com"], mode="ask")
        main(TESTS)
