#!/usr/bin/env python3
"""Credentials that a host mints in its answers: bindings that say so, what the
vault makes of them, and where they end. Needs root (initdb runs as postgres)."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, new_id, refused  # noqa: E402

SECRET = "client-secret-0123456789-abcdef"
TOKEN = "minted-access-token-%02d-abcdefgh"
AUTH, API = "auth.example.com", "api.example.com"
HEADER, BODY = 1, 5


def rule(**more):
    return {"host": AUTH, "path_prefixes": ["/token"], "slots": ["body"],
            "methods": ["POST"],
            "mint": [{"pointer": "/access_token", "host": API,
                      "path_prefixes": ["/v1/"]},
                     {"pointer": "/more/0/refresh~1token", "host": AUTH,
                      "slots": ["body"]}], **more}


class Session:
    def __init__(self, binding=None):
        self.vault = V.vault(KEY)
        self.cred = V.credential(KEY, self.vault, "CLIENT_SECRET", SECRET,
                                 [AUTH], location={"body": True},
                                 binding=[binding or rule()])["id"]
        self.id = V.put_grant(KEY, ENV, [self.vault])
        w = V.open(self.id)
        self.at, self.stub = w["address"], w["values"]["CLIENT_SECRET"]

    def token(self):
        return V.authorize(self.at, AUTH, method="POST", path="/token",
                           stubs=[(BODY, "form", self.stub)])

    def mint(self, *values, at=None, **place):
        out = self.token() if at is None else {"audit_id": "", "mint": []}
        return V.call("egress", "EgressService/Mint", {
            "workload_address": at or self.at, "audit_id": out["audit_id"],
            "values": [{"place": {"credential_id": self.cred, "rule": 0,
                                  "index": i, **place}, "value": v}
                       for i, v in enumerate(values)]})["stubs"]

    def use(self, stub, host=API, path="/v1/x", kind=HEADER,
            name="authorization", **kw):
        return V.authorize(kw.pop("at", self.at), host, path=path,
                           stubs=[(kind, name, stub)], **kw)


def a_decision_says_where_credentials_are_minted():
    s = Session()
    out = s.token()
    assert out["verdict"] == 1 and [
        (m["credential_id"], m["rule"], m["index"], m["pointer"])
        for m in out["mint"]] == [
            (s.cred, 0, 0, "/access_token"),
            (s.cred, 0, 1, "/more/0/refresh~1token")], out
    out = V.authorize(s.at, "free.example.com")
    assert out["verdict"] == 1 and not out["mint"]


def a_minted_credential_goes_where_its_parent_says():
    s = Session()
    first, second = s.mint(TOKEN % 1, TOKEN % 2)
    out = s.use(first)
    assert out["verdict"] == 1, out
    assert out["swaps"][0]["value"] == TOKEN % 1
    assert TOKEN % 1 in [p["value"] for p in out["scrub"]]
    assert s.use(first, AUTH)["reason"] == "stub_wrong_host"
    assert s.use(first, path="/v2/x")["reason"] == "path_not_allowed"
    assert s.use(first, kind=3, name="q")["reason"] == "stub_wrong_slot"
    out = s.use(second, AUTH, "/x", BODY, "form", method="POST")
    assert out["swaps"][0]["value"] == TOKEN % 2
    # What is bound now is not asked without a stub any more.
    assert V.authorize(s.at, API)["reason"] == "credential_required"
    # A stub made later in the session is the same one.
    again = V.open(s.id)
    assert list(again["values"]) == ["CLIENT_SECRET"]
    assert s.use(first, at=again["address"])["verdict"] == 1


def nobody_else_has_it():
    s, other = Session(), Session()
    (stub,) = s.mint(TOKEN % 3)
    assert other.use(stub)["reason"] == "stub_foreign"
    third = Session()
    third.mint(TOKEN % 4)
    refused("not_found", third.mint, TOKEN % 5, at="fd00::dead")
    refused("not_found", s.mint, TOKEN % 5, credential_id=third.cred)
    assert not V.call("ingress", "VaultService/ListCredentials",
                      {"vault_id": s.vault}, V.as_key(KEY))["data"][1:]


def places_that_no_binding_has_are_refused():
    s = Session()
    for place in ({"rule": 1}, {"index": 2}, {"rule": -1}, {"index": -1},
                  {"credential_id": new_id("vcrd")}):
        refused("not_found", s.mint, TOKEN % 6, **place)
    for value in "tiny", "with\nnewline-0123456789", "x" * 70000:
        message = refused("invalid", s.mint, value)
        assert value not in message
    (stub,) = s.mint(TOKEN % 6)
    (cred,) = V.sql("SELECT id FROM vault.credential WHERE session_id = '%s'"
                    % s.id).split()
    refused("not_found", s.mint, TOKEN % 7, credential_id=cred)


def it_ends_with_the_session():
    s = Session()
    (stub,) = s.mint(TOKEN % 8)
    V.call("brain", "GrantService/EndGrant", {"session_id": s.id},
           V.as_key(KEY))
    assert s.use(stub)["reason"] in ("workload_unknown", "session_ended")
    refused("not_found|denied", s.mint, TOKEN % 9, at=s.at)
    assert V.sql("SELECT count(*) FROM vault.credential WHERE session_id ="
                 " '%s'" % s.id) == "0"


def it_ends_with_the_credential_that_asked():
    for method in "ArchiveCredential", "DeleteCredential":
        s = Session()
        (stub,) = s.mint(TOKEN % 10)
        V.call("ingress", "VaultService/" + method,
               {"vault_id": s.vault, "credential_id": s.cred}, V.as_key(KEY))
        assert s.use(stub)["reason"] == "stub_revoked"


def the_oldest_go():
    s = Session()
    stubs = [s.mint(TOKEN % n)[0] for n in range(10, 20)]
    reasons = [s.use(stub)["reason"] for stub in stubs]
    assert reasons == ["stub_revoked"] * 2 + ["allowed"] * 8, reasons


def rows_cannot_be_moved():
    s, other = Session(), Session()
    (stub,) = s.mint(TOKEN % 20)
    row = V.sql("SELECT id, parent_id FROM vault.credential"
                " WHERE session_id = '%s'" % s.id).split("|")

    def change(text):
        V.sql("UPDATE vault.credential SET %s WHERE id = '%s'"
              % (text, row[0]))
        V.put_policy(KEY, [])  # what is kept in memory is forgotten
    good = "session_id = '%s', parent_id = '%s'" % (s.id, row[1])
    for bad in ("parent_id = '%s'" % other.cred,
                "session_id = NULL, parent_id = NULL"):
        change(bad)
        refused("corrupt|internal", s.use, stub)
        change(good)
        assert s.use(stub)["verdict"] == 1
    change("session_id = '%s'" % other.id)
    assert other.use(stub)["reason"] == "stub_foreign"
    change("session_id = '%s', vault_id = '%s'" % (other.id, other.vault))
    refused("corrupt|internal", other.use, stub)


def the_audit_says_what_was_minted():
    s = Session()
    s.mint(TOKEN % 21, TOKEN % 22)
    (row,) = V.call("ingress", "AuditService/ListAudit", {
        "session_id": s.id, "action": "credential.minted"},
        V.as_key(KEY))["data"]
    detail = json.loads(row["detail_json"])
    assert row["object"] == s.cred and len(detail["credentials"]) == 2, row
    assert detail["decision"].startswith("aud_")
    assert TOKEN % 21 not in V.logged()


def bindings_say_what_is_wrong():
    mint = {"pointer": "/a", "host": API}
    for bad, word in (({}, "not an array"), ([], "1 to 8"),
                      ([mint] * 9, "1 to 8"), ([mint, mint], "same"),
                      ([{"host": API}], "pointer"),
                      ([{**mint, "pointer": "a"}], "pointer"),
                      ([{**mint, "pointer": "/a~2"}], "pointer"),
                      ([{**mint, "pointer": ""}], "pointer"),
                      ([{"pointer": "/a"}], "host"),
                      ([{**mint, "host": "*.com"}], "mint[0]"),
                      ([{**mint, "host": "10.0.0.1"}], "mint[0]"),
                      ([{**mint, "scheme": "http"}], "clear-text"),
                      ([{**mint, "mint": []}], "unknown")):
        message = refused("invalid", Session, rule(mint=bad))
        assert word in message, (bad, message)


TESTS = [
    a_decision_says_where_credentials_are_minted,
    a_minted_credential_goes_where_its_parent_says,
    nobody_else_has_it,
    places_that_no_binding_has_are_refused,
    it_ends_with_the_session,
    it_ends_with_the_credential_that_asked,
    the_oldest_go,
    rows_cannot_be_moved,
    the_audit_says_what_was_minted,
    bindings_say_what_is_wrong,
]

if __name__ == "__main__":
    with Vault(args=["--minted-max=8"]) as V:
        KEY = V.key()
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
