#!/usr/bin/env python3
"""Scopes and roles of keys: what each gives, that nobody gives more than he
holds, and what who writes the database can do about it. Needs root (initdb runs
as postgres)."""
import json
import os
import subprocess
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


# ---- roles -----------------------------------------------------------------
def role(by=None, name=None, **more):
    return ask(by or KEY, "RoleService/CreateRole",
               {"name": name or new_id("name"), "scopes": ["read"], **more})


def change(by, r, **more):
    return ask(by, "RoleService/UpdateRole", {"role_id": r["id"], **more})


def delete(r, **more):
    return ask(KEY, "RoleService/DeleteRole", {"role_id": r["id"], **more})


def scopes_of(key):
    return set(V.resolve(key)["scopes"])


def generation():
    with open(V.path("generation"), "rb") as f:
        return f.read(8)


def built_in_roles_are_there_for_every_tenant():
    for key in KEY, THEIRS:
        rows = ask(key, "RoleService/ListRoles", {})["data"]
        got = {r["id"]: set(r["scopes"]) for r in rows if r["built_in"]}
        assert got == {
            "role_viewer": {"read"}, "role_operator": {"read", "write"},
            "role_admin": {"read", "write", "admin"},
            "role_approver": {"approvals"}, "role_auditor": {"read", "audit"},
            "role_monitor": {"metrics"}}, got
        for r, scopes in got.items():
            assert scopes_of(make_key(key, role_id=r)) == scopes
    viewer = {"id": "role_viewer"}
    refused("precondition", change, KEY, viewer, scopes=["admin"])
    refused("precondition", delete, viewer, force=True)
    refused("exists", role, name="viewer")
    assert scopes_of(V.key("--role=role_auditor")) == {"read", "audit"}
    p = V.run_vault("key", "create", "--role=role_none", check=False)
    assert p.returncode == 1 and "there is no such role" in p.stderr, p.stderr


def a_role_is_looked_up_when_its_key_is_used():
    r = role(scopes=["read", "audit"], description="sees")
    assert (r["version"], r["type"], r["built_in"], r["keys"]) == (
        1, "role", False, 0), r
    one, two = (make_key(KEY, role_id=r["id"]) for _ in range(2))
    other = make_key(KEY, scopes=["read"])
    assert scopes_of(one) == scopes_of(two) == {"read", "audit"}
    assert may(one, READ["audit"]) and not may(one, WRITE["vaults"])
    before = generation()
    r = change(KEY, r, scopes=["write"])
    assert (r["version"], r["keys"], r["description"]) == (2, 2, "sees"), r
    assert generation() != before
    assert scopes_of(one) == scopes_of(two) == {"write"}
    assert not may(one, READ["audit"]) and may(two, WRITE["vaults"])
    assert scopes_of(other) == {"read"}
    name = new_id("name")
    r = change(KEY, r, name=name, description="", version=2)
    assert (r["name"], r["description"], r["scopes"]) == (name, "", ["write"])
    text = refused("conflict", change, KEY, r, scopes=["read"], version=2)
    assert "version 3" in text, text
    assert ask(KEY, "RoleService/GetRole", {"role_id": r["id"]}) == r
    listed = ask(KEY, "KeyService/ListKeys", {"role_id": r["id"]})["data"]
    assert [(k["role_id"], k["scopes"]) for k in listed] == \
        [(r["id"], [])] * 2, listed


def a_role_in_use_is_deleted_only_when_that_is_said():
    r = role()
    keys = [make_key(KEY, role_id=r["id"]) for _ in range(3)]
    text = refused("precondition", delete, r)
    assert "3 keys have this role" in text and "force" in text, text
    ask(KEY, "KeyService/RevokeKey", {"key_id": V.resolve(keys[2])["subject"]})
    assert "2 keys have" in refused("precondition", delete, r)
    assert scopes_of(keys[0]) == {"read"}
    before = generation()
    assert delete(r, force=True) == {"id": r["id"], "type": "role_deleted"}
    assert generation() != before
    for k in keys[:2]:
        text = refused("unauthenticated", V.resolve, k)
        assert "role was deleted" in text, text
    for fn in (lambda: delete(r), lambda: change(KEY, r, scopes=["read"]),
               lambda: ask(KEY, "RoleService/GetRole", {"role_id": r["id"]}),
               lambda: make_key(KEY, role_id=r["id"])):
        refused("not_found", fn)
    assert role(name=r["name"])["id"] != r["id"]  # the name is free again
    delete(role())  # nobody's
    assert r["id"] not in [x["id"] for x in ask(
        KEY, "RoleService/ListRoles", {"limit": 100})["data"]]


def what_is_asked_for_wrongly_is_refused():
    for more, word in (({"name": ""}, "name"), ({"name": "x" * 65}, "name"),
                       ({"description": "x" * 1025}, "description"),
                       ({"scopes": []}, "scopes"),
                       ({"scopes": ["root"]}, "scopes")):
        request = {"name": "fine", "scopes": ["read"], **more}
        assert word in refused("invalid", ask, KEY, "RoleService/CreateRole",
                               request)
    r = role()
    refused("exists", role, name=r["name"])
    refused("exists", change, KEY, role(), name=r["name"])
    text = refused("invalid", make_key, KEY, role_id=r["id"], scopes=["read"])
    assert "one of the two" in text, text
    for method, more in (("GetRole", {}), ("DeleteRole", {}),
                         ("UpdateRole", {"scopes": ["read"]})):
        refused("not_found", ask, KEY, "RoleService/" + method,
                {"role_id": "role_none", **more})
    refused("not_found", make_key, KEY, role_id="role_none")


def roles_are_listed_by_page():
    made = [role()["id"] for _ in range(3)]
    for limit in 1, 2, 6, 7, 100:
        seen, page = [], ""
        while True:
            out = ask(KEY, "RoleService/ListRoles",
                      {"limit": limit, "page": page})
            assert len(out["data"]) <= limit
            seen += [r["id"] for r in out["data"]]
            page = out.get("next_page")
            if not page:
                break
        assert seen[:6] == ["role_viewer", "role_operator", "role_admin",
                            "role_approver", "role_auditor", "role_monitor"]
        assert seen[6:9] == made[::-1] and len(set(seen)) == len(seen), seen


def changes_of_roles_stand_in_the_audit():
    r = role(scopes=["read"])
    key = ask(KEY, "KeyService/CreateKey", {"name": "x", "role_id": r["id"]})
    change(KEY, r, scopes=["read", "audit"])
    delete(r, force=True)
    rows = [(a["action"], json.loads(a["detail_json"])) for a in ask(
        KEY, "AuditService/ListAudit", {"limit": 100})["data"]
        if a["object"] in (r["id"], key["id"])]
    assert [a for a, _ in rows] == ["role.deleted", "role.updated",
                                    "key.created", "role.created"], rows
    details = [d for _, d in rows]
    assert [d.get("version") for d in details] == [3, 2, None, 1], details
    assert details[1]["scopes"] == "read,audit" and details[0]["keys"] == 1
    assert details[2] == {"role": r["id"]}


# ---- who holds a narrow key ------------------------------------------------
def nobody_makes_a_role_that_gives_more_than_he_holds():
    r = role(scopes=["admin"])
    key = make_key(KEY, role_id=r["id"])
    for scopes in ["read"], ["admin", "write"], ["sessions"], ["incidents"]:
        for fn in (lambda s: role(key, scopes=s),
                   lambda s: change(key, r, scopes=s),
                   lambda s: make_key(key, scopes=s)):
            text = refused("denied", fn, scopes)
            assert "nobody gives more than he holds" in text, text
    for wide in ("role_admin", "role_viewer", "role_approver",
                 role(scopes=["write"])["id"]):
        refused("denied", make_key, key, role_id=wide)
    assert scopes_of(key) == {"admin"}
    # It can: give what it holds, and take away.
    make_key(key, role_id=r["id"])
    change(key, role(key, scopes=["audit", "metrics"]), scopes=["admin"])
    # What a role gave before may stay; what is new may not come in with it.
    wide = role(scopes=["read", "write"])
    change(key, wide, description="kept", scopes=["write", "read", "metrics"])
    refused("denied", change, key, wide, scopes=["read", "vaults"])
    change(key, wide, scopes=["read"])
    refused("denied", change, key, wide, scopes=["read", "write"])


def a_key_without_admin_sees_and_makes_no_roles():
    r = role(scopes=["read", "write", "sessions", "vaults", "approvals",
                     "incidents", "audit", "metrics"])
    for key in make_key(KEY, role_id=r["id"]), make_key(KEY, scopes=["write"]):
        for method, request in (
                ("RoleService/CreateRole", {"name": "x", "scopes": ["read"]}),
                ("RoleService/UpdateRole", {"role_id": r["id"],
                                            "scopes": ["admin"]}),
                ("RoleService/DeleteRole", {"role_id": r["id"], "force": True}),
                ("RoleService/ListRoles", {}),
                ("RoleService/GetRole", {"role_id": r["id"]}),
                ("KeyService/CreateKey", {"name": "x",
                                          "role_id": "role_viewer"})):
            text = refused("denied", ask, key, method, request)
            assert "lacks the scope" in text, text


def other_callers_do_not_reach_roles():
    for face in "brain", "egress", "sandbox":
        for method in "CreateRole", "UpdateRole", "DeleteRole", "ListRoles":
            refused("unimplemented", V.call, face, "RoleService/" + method, {},
                    V.as_key(KEY))
    refused("unauthenticated", V.call, "ingress", "RoleService/ListRoles", {})


# ---- another tenant --------------------------------------------------------
def another_tenant_sees_and_uses_no_role():
    r = role(scopes=["read", "admin"])
    for method, more in (("GetRole", {}), ("DeleteRole", {"force": True}),
                         ("UpdateRole", {"scopes": ["read"]})):
        refused("not_found", ask, THEIRS, "RoleService/" + method,
                {"role_id": r["id"], **more})
    refused("not_found", make_key, THEIRS, role_id=r["id"])
    assert r["id"] not in [x["id"] for x in ask(
        THEIRS, "RoleService/ListRoles", {"limit": 100})["data"]]
    role(THEIRS, name=r["name"])  # a name is a tenant's own
    assert ask(KEY, "RoleService/GetRole", {"role_id": r["id"]}) == r


# ---- who writes the database -----------------------------------------------
def edit(text):
    V.sql("BEGIN; SET LOCAL session_replication_role = replica; %s; COMMIT"
          % text)


def audit_verify():
    p = V.run_vault("audit", "verify", check=False)
    return p.returncode, p.stdout


def signed():
    """The audit verifies, so its head is signed."""
    wait_for("a signed head", lambda: audit_verify()[0] == 0)


CHANGE = {"text": "{c} || 'x'", "bytea": "{c} || '\\x00'",
          "bigint": "coalesce({c}, 0) + 1", "integer": "{c} + 1"}


def the_writer_edits_a_role():
    r = role(scopes=["read"], description="d")
    key = make_key(KEY, role_id=r["id"])
    where = "WHERE id = '%s'" % r["id"]
    columns = [x.split("|") for x in V.sql(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'vault' AND table_name = 'role'").split("\n")]
    assert len(columns) == 10, columns
    edits = ["%s = %s" % (c, CHANGE[t].format(c=c)) for c, t in columns
             if c not in ("id", "tenant")]
    edits += ["scopes = 'read,write,admin'", "mac = ''",
              "scopes = o.scopes, mac = o.mac FROM (SELECT scopes, mac FROM"
              " vault.role WHERE id = '%s') o" % role(scopes=["admin"])["id"]]
    V.sql("DROP TABLE IF EXISTS public.save; CREATE TABLE public.save AS"
          " SELECT * FROM vault.role " + where)
    for e in edits:
        edit("UPDATE vault.role SET %s %s" % (e, where.replace(
            "WHERE id", "WHERE vault.role.id")))
        text = refused("corrupt|internal", V.resolve, key)
        assert r["id"] in text, (e, text)
        refused("corrupt|internal", change, KEY, r, description="x")
        refused("corrupt|internal", make_key, KEY, role_id=r["id"])
        if "deleted_us" not in e:  # what is deleted is in no list
            refused("corrupt|internal", ask, KEY, "RoleService/ListRoles",
                    {"limit": 100})
        edit("DELETE FROM vault.role %s; INSERT INTO vault.role SELECT * FROM"
             " public.save" % where)
        assert scopes_of(key) == {"read"}, e
    assert '"event":"call.failed"' in V.logged()


def the_writer_gives_a_key_another_role():
    wide, narrow = role(scopes=["admin"]), role(scopes=["read"])
    key = make_key(KEY, role_id=narrow["id"])
    plain = make_key(KEY, scopes=["read"])
    for k in key, plain:
        where = "WHERE id = '%s'" % V.resolve(k)["subject"]
        was = V.sql("SELECT coalesce(quote_literal(role_id), 'NULL') FROM"
                    " vault.api_key " + where)
        for to in "'%s'" % wide["id"], "'role_admin'", "NULL", "''":
            if to == was:
                continue
            edit("UPDATE vault.api_key SET role_id = %s %s" % (to, where))
            refused("corrupt|internal", V.resolve, k)
            edit("UPDATE vault.api_key SET role_id = %s %s" % (was, where))
        assert scopes_of(k) == {"read"}
    # A row of its own making, under a built-in role's id or another's.
    edit("INSERT INTO vault.role SELECT 'role_viewer', tenant, 'w',"
         " description, scopes, version, created_us, updated_us, NULL, mac"
         " FROM vault.role WHERE id = '%s'" % wide["id"])
    assert scopes_of(make_key(KEY, role_id="role_viewer")) == {"read"}
    edit("DELETE FROM vault.role WHERE id = 'role_viewer'")


def the_writer_moves_a_role_to_another_tenant():
    r = role(scopes=["read", "admin"])
    key = make_key(KEY, role_id=r["id"])
    signed()
    edit("UPDATE vault.role SET tenant = 'other' WHERE id = '%s'" % r["id"])
    text = refused("corrupt|internal", V.resolve, key)
    assert "outside the vault" in text and r["id"] in text, text
    # Nor does it give anything there.
    refused("corrupt|internal", make_key, THEIRS, role_id=r["id"])
    refused("corrupt|internal", change, THEIRS, r, scopes=["read"])
    rc, text = audit_verify()
    assert rc == 1 and "role %s that row" % r["id"] in text, text
    # With the key, too: that one's MAC names the tenant as well.
    edit("UPDATE vault.api_key SET tenant = 'other' WHERE role_id = '%s'"
         % r["id"])
    refused("corrupt|internal", V.resolve, key)
    edit("UPDATE vault.role SET tenant = 'default' WHERE id = '%s';"
         " UPDATE vault.api_key SET tenant = 'default' WHERE role_id = '%s'"
         % (r["id"], r["id"]))
    assert scopes_of(key) == {"read", "admin"}
    signed()


def the_writer_puts_an_older_role_back():
    r = role(scopes=["read", "admin"])
    key = make_key(KEY, role_id=r["id"])
    where = "WHERE id = '%s'" % r["id"]
    for then in (lambda: change(KEY, r, scopes=["read"]),
                 lambda: delete(r, force=True)):
        V.sql("DROP TABLE IF EXISTS public.save; CREATE TABLE public.save AS"
              " SELECT * FROM vault.role " + where)
        V.sql("DROP TABLE IF EXISTS public.now")
        then()
        V.sql("CREATE TABLE public.now AS SELECT * FROM vault.role " + where)
        signed()
        edit("DELETE FROM vault.role %s; INSERT INTO vault.role SELECT * FROM"
             " public.save" % where)
        text = refused("corrupt|internal", V.resolve, key)
        assert "an older row was put back" in text, text
        refused("corrupt|internal", change, KEY, r, description="x")
        V.stop("vault")
        V.start_vault()  # it is no matter of what this process has seen
        refused("corrupt|internal", V.resolve, key)
        rc, text = audit_verify()
        assert rc == 1 and "role %s is not what row" % r["id"] in text, text
        edit("DELETE FROM vault.role %s; INSERT INTO vault.role SELECT * FROM"
             " public.now" % where)
        signed()
    refused("unauthenticated", V.resolve, key)


def the_writer_deletes_a_role():
    r = role(scopes=["read"])
    key = make_key(KEY, role_id=r["id"])
    signed()
    V.sql("DROP TABLE IF EXISTS public.save; CREATE TABLE public.save AS"
          " SELECT * FROM vault.role WHERE id = '%s'" % r["id"])
    edit("DELETE FROM vault.role WHERE id = '%s'" % r["id"])
    text = refused("corrupt|internal", V.resolve, key)
    assert "deleted outside the vault" in text and r["id"] in text, text
    rc, text = audit_verify()
    assert rc == 1 and "role %s that row" % r["id"] in text, text
    # Its own audit row with it: the chain has a gap.
    V.sql("DROP TABLE IF EXISTS public.gone; CREATE TABLE public.gone AS SELECT"
          " * FROM vault.audit WHERE object = '%s'" % r["id"])
    edit("DELETE FROM vault.audit WHERE object = '%s'" % r["id"])
    rc, text = audit_verify()
    assert rc == 1 and "missing" in text, text
    edit("INSERT INTO vault.audit SELECT * FROM public.gone;"
         " INSERT INTO vault.role SELECT * FROM public.save")
    assert scopes_of(key) == {"read"}
    signed()


def the_role_that_serves_deletes_no_row():
    r = role()
    for text in ("DELETE FROM vault.role WHERE id = '%s'" % r["id"],
                 "SET brainbox.tenant = 'default'; TRUNCATE vault.role"):
        p = subprocess.run(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1",
                            V.pg + " user=vault_run", "-c", text],
                           stderr=subprocess.PIPE, check=False, text=True)
        assert p.returncode != 0 and "permission denied" in p.stderr, p
    out = subprocess.run(["psql", "-qXAt", V.pg + " user=vault_run", "-c",
                          "SET brainbox.tenant = 'other'; SELECT count(*) FROM"
                          " vault.role WHERE tenant <> 'other'"],
                         stdout=subprocess.PIPE, check=True, text=True)
    assert out.stdout.strip() == "0", out.stdout


TESTS = [
    a_scope_gives_what_it_says_and_nothing_else,
    a_key_for_sessions_grants_them_and_writes_no_policy,
    nobody_makes_a_key_that_gives_more_than_he_holds,
    built_in_roles_are_there_for_every_tenant,
    a_role_is_looked_up_when_its_key_is_used,
    a_role_in_use_is_deleted_only_when_that_is_said,
    what_is_asked_for_wrongly_is_refused,
    roles_are_listed_by_page,
    changes_of_roles_stand_in_the_audit,
    nobody_makes_a_role_that_gives_more_than_he_holds,
    a_key_without_admin_sees_and_makes_no_roles,
    other_callers_do_not_reach_roles,
    another_tenant_sees_and_uses_no_role,
    the_writer_edits_a_role,
    the_writer_gives_a_key_another_role,
    the_writer_moves_a_role_to_another_tenant,
    the_writer_puts_an_older_role_back,
    the_writer_deletes_a_role,
    the_role_that_serves_deletes_no_row,
]

if __name__ == "__main__":
    with Vault() as V:
        V.run_vault("--migrate", "--tenant=other")
        KEY = V.key()
        wait_for("the tenant", lambda: "tenant.loaded" in V.logged())
        THEIRS = V.key("--tenant=other")
        main(TESTS)
