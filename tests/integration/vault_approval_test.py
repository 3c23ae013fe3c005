#!/usr/bin/env python3
"""Mode "ask" of network policies: approvals as rows of a real vault_svc, given
once, and bound to what was asked. Needs root (initdb runs as postgres)."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, new_id, refused, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
HEADER = 1
ALLOW, DENY, ASK = 1, 2, 3
APPROVED, DENIED, WAITING = 1, 2, 3


def asking(mode="ask"):
    """A session under a policy that asks; (workload, session)."""
    env = V.put_policy(KEY, ["named.example.com", "api.example.com"],
                       mode=mode)
    session = V.put_grant(KEY, env, [VLT])
    return V.open(session), session


def ask(w, **kw):
    kw.setdefault("host", "free.example.com")
    return V.authorize(w["address"], **kw)


def listed(session, **kw):
    return V.call("ingress", "ApprovalService/ListApprovals",
                  {"session_id": session, **kw}, V.as_key(KEY))["data"]


def decide(approval, decision="approve", scope="", key=None):
    return V.call("ingress", "ApprovalService/DecideApproval",
                  {"approval_id": approval, "decision": decision,
                   "scope": scope}, V.as_key(key or KEY))


def wait(approval, workload="fd00::1"):
    return V.call("egress", "EgressService/AwaitApproval",
                  {"approval_id": approval, "workload": workload})


def an_approval_lets_one_request_pass_once():
    w, session = asking()
    assert ask(w, host="named.example.com")["verdict"] == ALLOW
    out = ask(w, path="/v1/x", method="POST")
    assert out["verdict"] == ASK and out["approval_id"].startswith("apr_")
    assert out["reason"] == "approval_required" and not out["scrub"], out
    # The same request again is the same question.
    again = ask(w, path="/v1/x", method="POST")
    assert again["approval_id"] == out["approval_id"]
    (a,) = listed(session)
    assert (a["state"], a["method"], a["path"], a["host"], a["port"],
            a["reason"]) == ("pending", "POST", "/v1/x", "free.example.com",
                             443, "host_not_allowed"), a
    got = decide(a["id"])
    assert got["state"] == "approved" and got["decided_by"].startswith("key_")
    assert listed(session) == []
    assert ask(w, path="/v1/x")["verdict"] == ASK
    assert ask(w, path="/v2", method="POST")["verdict"] == ASK
    assert ask(w, path="/v1/x", method="POST")["verdict"] == ALLOW
    assert ask(w, path="/v1/x", method="POST")["verdict"] == ASK
    (used,) = [x for x in listed(session, include_decided=True)
               if x["id"] == a["id"]]
    assert used["state"] == "used"
    rows = V.sql("SELECT string_agg(action || ':' || object, ' ' ORDER BY seq)"
                 " FROM vault.audit WHERE session_id = '%s'" % session)
    assert "egress.asked:https://free.example.com:443" in rows
    assert "approval.decided:" + a["id"] in rows, rows


def an_approval_for_the_session_holds_for_its_destination():
    w, session = asking()
    decide(ask(w)["approval_id"], scope="session")
    for kw in ({}, {"path": "/other"}, {"method": "DELETE"}):
        assert ask(w, **kw)["verdict"] == ALLOW, kw
    for kw in ({"port": 8443}, {"host": "else.example.com"},
               {"scheme": "http", "port": 80}):
        assert ask(w, **kw)["verdict"] == ASK, kw
    other = V.open(V.put_grant(KEY, w["environment_id"], [VLT]))
    assert ask(other)["verdict"] == ASK


def a_denial_stands_and_an_answer_is_given_once():
    w, session = asking()
    a = ask(w)["approval_id"]
    decide(a, "deny")
    out = ask(w)
    assert (out["verdict"], out["reason"]) == (DENY, "approval_denied")
    assert "answered already" in refused("precondition", decide, a)
    for decision, scope in (("maybe", ""), ("deny", "session"),
                            ("approve", "always")):
        refused("invalid", decide, ask(w, path="/b")["approval_id"], decision,
                scope)
    refused("not_found", decide, new_id("apr"))
    reader = V.key("--scopes=read")
    refused("denied", decide, ask(w, path="/b")["approval_id"], key=reader)
    assert len(listed(session)) == 1


def bindings_hold_whatever_a_person_says():
    w, _ = asking()
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    assert ask(w, stubs=stub)["reason"] == "stub_wrong_host"
    assert ask(w, host="10.0.0.1")["reason"] == "host_not_allowed"
    decide(ask(w)["approval_id"], scope="session")
    assert ask(w, stubs=stub)["reason"] == "stub_wrong_host"
    out = ask(w, host="api.example.com", stubs=stub)
    assert out["verdict"] == ALLOW and out["swaps"][0]["value"] == SECRET
    out = ask(w, host="api.example.com", port=8443, stubs=stub)
    assert out["reason"] == "stub_wrong_host", out


def whoever_waits_hears_the_answer():
    w, _ = asking()
    a = ask(w)["approval_id"]
    got = []
    threads = [threading.Thread(target=lambda: got.append(wait(a)))
               for _ in range(2)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    assert not got
    decide(a)
    for t in threads:
        t.join(10)
    assert [x["state"] for x in got] == [APPROVED] * 2, got
    assert wait(a)["state"] == APPROVED
    b = ask(w, path="/b")["approval_id"]
    decide(b, "deny")
    assert wait(b)["state"] == DENIED
    refused("not_found", wait, new_id("apr"))


def waiting_ends_and_says_how_to_ask():
    w, _ = asking()
    a = ask(w)["approval_id"]
    out = wait(a)
    assert out["state"] == WAITING and a in out["message"], out
    assert "/platform/v1/approvals" in out["message"]


def parked_requests_and_open_approvals_are_limited():
    w, session = asking()
    a = ask(w)["approval_id"]
    got = []
    threads = [threading.Thread(
        target=lambda: got.append(wait(a, w["address"]))) for _ in range(2)]
    for t in threads:
        t.start()
    wait_for("a limit", lambda: ask(w, path="/y")["reason"]
             == "approval_limit", 2)
    for t in threads:
        t.join(10)
    assert ask(w, path="/y")["verdict"] == ASK
    for i in range(3):
        out = ask(w, path="/z%d" % i)
    assert out["reason"] == "approval_limit", out
    assert len(listed(session)) == 4
    out = ask(w, path="/" + "p" * 3000)
    assert out["reason"] == "approval_limit", out


def approvals_survive_restarts_and_not_edits():
    w, _ = asking()
    a = ask(w)["approval_id"]
    V.stop("vault")
    V.start_vault()
    assert ask(w)["approval_id"] == a
    decide(a)
    V.stop("vault")
    V.start_vault()
    assert ask(w)["verdict"] == ALLOW
    # A used one cannot be made new, nor a pending one be answered, in the
    # database.
    V.sql("UPDATE vault.approval SET state = 'approved' WHERE id = '%s'" % a)
    refused("corrupt|internal", ask, w)
    V.sql("DELETE FROM vault.approval WHERE id = '%s'" % a)
    b = ask(w)["approval_id"]
    V.sql("UPDATE vault.approval SET state = 'approved', scope = 'session',"
          " decided_us = 1 WHERE id = '%s'" % b)
    refused("corrupt|internal", ask, w, path="/any")
    refused("corrupt|internal", decide, b)


TESTS = [
    an_approval_lets_one_request_pass_once,
    an_approval_for_the_session_holds_for_its_destination,
    a_denial_stands_and_an_answer_is_given_once,
    bindings_hold_whatever_a_person_says,
    whoever_waits_hears_the_answer,
    waiting_ends_and_says_how_to_ask,
    parked_requests_and_open_approvals_are_limited,
    approvals_survive_restarts_and_not_edits,
]

if __name__ == "__main__":
    with Vault(args=["--approval-wait-seconds=3", "--approval-parked=2",
                     "--approvals-max=4"]) as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, ["api.example.com"])
        main(TESTS)
