#!/usr/bin/env python3
"""Scopes and roles of keys: what each gives, that nobody gives more than he
holds, and what who writes the database can do about it. Needs root (initdb runs
as postgres)."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import (RpcError, Vault, environment_request, main, new_id,
                           refused, session_request, wait_for)  # noqa: E402

READ = {
    "vaults": ("VaultService/ListVaults", {}),
    "approvals": ("ApprovalService/ListApprovals", {}),
    "incidents": ("IncidentService/ListIncidents", {}),
    "audit": ("AuditService/ListAudit", {}),
    "metrics": ("OpsService/GetMetrics", {}),
    "keys": ("KeyService/ListKeys", {}),
}
WRITE = {
    "vaults": ("VaultService/CreateVault", {"display_name": "x"}),
    "approvals": ("ApprovalService/DecideApproval", {
        "approval_id": "apr_none", "decision": "deny"}),
    "incidents": ("IncidentService/ResolveIncident", {
        "incident_id": "inc_none"}),
    "keys": ("KeyService/RevokeKey", {"key_id": "key_none"}),
}


def ask(key, method, request):
    return V.call("ingress", method, request, V.as_key(key))


def may(key, call):
    """Whether the key is let in; what it then asks for need not be there."""
    try:
        ask(key, *call)
    except RpcError as e:
        if e.kind == "denied" and "lacks the scope" in e.message:
            return False
        assert e.kind in ("not_found", "invalid"), e
    return True


def may_all(key):
    return ({a for a, call in READ.items() if may(key, call)},
            {a for a, call in WRITE.items() if may(key, call)})


def make_key(by, **more):
    return ask(by, "KeyService/CreateKey", {"name": "made", **more})["secret"]


# ---- scopes ----------------------------------------------------------------
def a_scope_gives_what_it_says_and_nothing_else():
    for scopes, reads, writes in (
            (["read"], {"vaults", "approvals", "incidents"}, set()),
            (["write"], set(), {"vaults", "approvals"}),
            (["admin"], {"audit", "metrics", "keys"}, {"incidents", "keys"}),
            (["vaults"], {"vaults"}, {"vaults"}),
            (["approvals"], {"approvals"}, {"approvals"}),
            (["incidents"], {"incidents"}, {"incidents"}),
            (["audit"], {"audit"}, set()),
            (["metrics"], {"metrics"}, set()),
            (["sessions"], set(), set()),
            (["audit", "approvals"], {"audit", "approvals"}, {"approvals"})):
        key = make_key(KEY, scopes=scopes)
        assert set(V.resolve(key)["scopes"]) == set(scopes), scopes
        assert may_all(key) == (reads, writes), (scopes, may_all(key))


def a_key_for_sessions_grants_them_and_writes_no_policy():
    key, env = make_key(KEY, scopes=["sessions"]), V.put_policy(KEY, [])
    session = V.put_grant(key, env)
    V.open(session)
    wider = environment_request(["evil.example.com"], env)
    refused("denied", V.call, "brain", "GrantService/PutPolicy",
            {"environment_id": env, "version": 2,
             "original_request": {"hex": wider.hex()}}, V.as_key(key, wider))
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(key))
    other = make_key(KEY, scopes=["vaults", "read"])
    request = session_request(env)
    refused("denied", V.call, "brain", "GrantService/PutGrant",
            {"session_id": new_id("sesn"),
             "original_request": {"hex": request.hex()}},
            V.as_key(other, request))


def nobody_makes_a_key_that_gives_more_than_he_holds():
    admin = make_key(KEY, scopes=["admin"])
    for scopes in (["read"], ["write"], ["sessions"], ["vaults"],
                   ["incidents"], ["audit", "read"], []):
        text = refused("denied", make_key, admin, scopes=scopes)
        assert "nobody gives more than he holds" in text, text
    for scopes in ["audit"], ["metrics"], ["admin", "audit"]:
        make_key(admin, scopes=scopes)
    make_key(make_key(KEY, scopes=["read", "admin"]), scopes=["incidents"])
    text = refused("invalid", make_key, KEY, scopes=["read", "root"])
    assert '"sessions"' in text, text
    assert V.resolve(V.key("--scopes=metrics,audit"))["scopes"] == [
        "audit", "metrics"]


TESTS = [
    a_scope_gives_what_it_says_and_nothing_else,
    a_key_for_sessions_grants_them_and_writes_no_policy,
    nobody_makes_a_key_that_gives_more_than_he_holds,
]

if __name__ == "__main__":
    with Vault() as V:
        V.run_vault("--migrate", "--tenant=other")
        KEY = V.key()
        wait_for("the tenant", lambda: "tenant.loaded" in V.logged())
        THEIRS = V.key("--tenant=other")
        main(TESTS)
