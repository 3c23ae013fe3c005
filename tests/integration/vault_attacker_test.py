#!/usr/bin/env python3
"""Who writes the database, owns the brain, an egress worker or another tenant:
what each could and could not do, against a real vault. docs/threat-model.md
has the table. Needs root (initdb runs as postgres)."""
import hashlib
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import (RpcError, Vault, environment_request, main, new_id,
                           refused, session_request, wait_for)  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
SECOND = "another-value-0123456789-abcdefg"
API, EVIL = "api.example.com", "evil.example.com"


class Session:
    def __init__(self, key=None, hosts=(API,)):
        self.key = key or KEY
        self.vault = V.vault(self.key)
        self.cred = V.credential(self.key, self.vault, "API_TOKEN", SECRET,
                                 list(hosts))["id"]
        self.env = V.put_policy(self.key, [API])
        self.id = V.put_grant(self.key, self.env, [self.vault])
        self.sbx = new_id("sbx")
        w = V.open(self.id, workload=self.sbx)
        self.at, self.stub = w["address"], w["values"]["API_TOKEN"]

    def use(self, host=API, stub=None, at=None):
        return V.authorize(at or self.at, host,
                           stubs=[(1, "authorization", stub or self.stub)])

    def outcome(self):
        """"same", or how it was refused; a wider one fails the test."""
        forget()
        try:
            out = self.use()
            wide = V.authorize(self.at, EVIL)
            moved = self.use(EVIL)
        except RpcError as e:
            return e.kind
        for o in wide, moved:
            assert o["verdict"] != 1 and not o.get("swaps"), o
        if out["verdict"] != 1:
            return out["reason"]
        assert [s["value"] for s in out["swaps"]] == [SECRET], out
        return "same"


def forget():
    """What the vault keeps of sessions in memory goes."""
    V.put_policy(KEY, [])


def audit_verify():
    p = V.run_vault("audit", "verify", check=False)
    return p.returncode, p.stdout


# ---- who writes the database -----------------------------------------------
CHANGE = {"text": "coalesce({c}, '') || 'x'", "bytea": "coalesce({c}, ''::bytea) || '\\x00'",
          "bigint": "coalesce({c}, 0) + 1", "integer": "{c} + 1",
          "boolean": "NOT {c}"}
# Columns that say nothing of what a session may do: {table: columns}.
NO_MATTER = {
    "credential": set(), "session_grant": set(), "policy": set(),
    # Which tenant's stub it is, and when it was made.
    "stub": {"stub_hash", "created_us"},
    "workload": set(), "api_key": {"last_used_us"},
}


def each_column(table, where, check):
    """Edit every column by hand; {column: outcome}. Rows are put back."""
    V.sql("DROP TABLE IF EXISTS public.save; CREATE TABLE public.save AS"
          " SELECT * FROM vault.%s WHERE %s" % (table, where))
    columns = [x.split("|") for x in V.sql(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'vault' AND table_name = '%s'"
        % table).split("\n")]
    out = {}
    for name, kind in columns:
        if name == "tenant":
            continue
        try:
            V.sql("BEGIN; SET LOCAL session_replication_role = replica;"
                  "UPDATE vault.%s SET %s = %s WHERE %s; COMMIT" % (
                      table, name, CHANGE[kind].format(c=name), where))
        except subprocess.CalledProcessError:
            out[name] = "constraint"
            continue
        out[name] = check()
        V.sql("BEGIN; SET LOCAL session_replication_role = replica;"
              "DELETE FROM vault.%s t WHERE NOT EXISTS (SELECT FROM"
              " public.save s WHERE s = t) AND (%s OR t.%s IN (SELECT %s FROM"
              " public.save s)); INSERT INTO vault.%s SELECT * FROM"
              " public.save ON CONFLICT DO NOTHING; COMMIT"
              % (table, where, KEYS[table], CHANGE[dict(columns)[
                  KEYS[table]]].format(c="s." + KEYS[table]), table))
        thaw()
    return out


def thaw():
    """A stub that a changed row makes foreign froze its session."""
    for i in V.call("ingress", "IncidentService/ListIncidents", {},
                    V.as_key(KEY))["data"]:
        try:
            V.call("ingress", "IncidentService/ResolveIncident",
                   {"incident_id": i["id"]}, V.as_key(KEY))
        except RpcError as e:
            assert e.kind in ("corrupt", "internal"), e


KEYS = {"credential": "id", "session_grant": "session_id", "policy":
        "environment_id", "workload": "id", "stub": "credential_id",
        "api_key": "id"}


def the_writer_edits_rows():
    for table in "credential", "session_grant", "policy", "workload", "stub":
        s = Session()
        where = {"credential": "id = '%s'" % s.cred,
                 "session_grant": "session_id = '%s'" % s.id,
                 "policy": "environment_id = '%s'" % s.env,
                 "workload": "id = '%s'" % s.sbx,
                 "stub": "credential_id = '%s'" % s.cred}[table]
        assert s.outcome() == "same"
        out = each_column(table, where, s.outcome)
        assert s.outcome() == "same", table
        assert len(out) > 5, out
        same = {k for k, v in out.items() if v == "same"}
        assert same == NO_MATTER[table], (table, out)


def the_writer_edits_keys():
    key = V.key("--scopes=read")
    me = V.resolve(key)

    def check():
        try:
            got = V.resolve(key)
        except RpcError as e:
            return e.kind
        assert got["scopes"] == ["read"] and got["tenant"] == "default", got
        return "same"
    out = each_column("api_key", "id = '%s'" % me["subject"], check)
    assert {k for k, v in out.items() if v == "same"} \
        == NO_MATTER["api_key"], out


def the_writer_moves_rows():
    a, b = Session(), Session(hosts=(EVIL,))
    V.sql("UPDATE vault.credential c SET sealed = o.sealed FROM"
          " vault.credential o WHERE c.id = '%s' AND o.id = '%s'"
          % (b.cred, a.cred))
    forget()
    refused("corrupt|internal", b.use, EVIL)
    # The whole row but its id: neither MAC nor envelope is for that id.
    V.sql("UPDATE vault.credential c SET sealed = o.sealed, mac = o.mac,"
          " binding = o.binding, auth = o.auth, env_name = o.env_name,"
          " stub_prefix = o.stub_prefix, created_us = o.created_us,"
          " updated_us = o.updated_us, vault_id = o.vault_id"
          " FROM vault.credential o WHERE c.id = '%s' AND o.id = '%s'"
          % (b.cred, a.cred))
    forget()
    refused("corrupt|internal", a.use)  # it stands in a's vault now
    V.sql("DELETE FROM vault.credential WHERE id = '%s'" % b.cred)
    # A credential in another vault, whose session would get it.
    c = Session()
    V.sql("UPDATE vault.credential SET vault_id = '%s' WHERE id = '%s'"
          % (c.vault, a.cred))
    forget()
    refused("corrupt|internal", c.use)


def the_writer_inserts_rows():
    s, other = Session(), Session()
    # A key: the hash is under a key that the database does not have.
    key = "bbx_" + "a" * 40
    V.sql("INSERT INTO vault.api_key SELECT 'key_forged', tenant, name, scopes,"
          " sha256('%s'::bytea), created_us, NULL, NULL, mac FROM"
          " vault.api_key LIMIT 1" % key)
    refused("unauthenticated|invalid", V.resolve, key)
    # A grant for a session of one's own, with somebody's rights.
    V.sql("INSERT INTO vault.session_grant SELECT 'sesn_forged', tenant,"
          " subject, vault_ids, environment_ids, request_sha256, created_us,"
          " NULL, NULL, mac FROM vault.session_grant WHERE session_id = '%s'"
          % s.id)
    refused("corrupt|internal", V.open, "sesn_forged")
    # A workload of a session that is somebody else's.
    V.sql("INSERT INTO vault.workload SELECT 'sbx_forged', tenant, '%s', kind,"
          " environment_id, 'fd00::666', opened_us, NULL, mac FROM"
          " vault.workload WHERE id = '%s'" % (other.id, s.sbx))
    refused("corrupt|internal", s.use, at="fd00::666")
    # A stub that the writer knows: none is made of what the table says.
    stub = "bbxs" + "a" * 32
    V.sql("UPDATE vault.stub SET stub_hash = '\\x%s' WHERE credential_id ="
          " '%s'" % (hashlib.sha256(stub.encode()).hexdigest(), s.cred))
    forget()
    assert s.use(stub=stub)["reason"] in ("stub_revoked", "stub_unknown")
    assert s.use()["verdict"] == 1
    # A policy of the next version.
    V.sql("INSERT INTO vault.policy SELECT tenant, environment_id, version + 1,"
          " replace(policy, 'api.', 'evil.'), digest, subject, created_us, mac"
          " FROM vault.policy WHERE environment_id = '%s'" % s.env)
    forget()
    refused("corrupt|internal", V.authorize, s.at, EVIL)


def the_writer_deletes_and_puts_back():
    """It can; `audit verify` names it."""
    s = Session()
    V.sql("DROP TABLE IF EXISTS public.save; CREATE TABLE public.save AS"
          " SELECT * FROM vault.vault WHERE id = '%s'" % s.vault)
    wait_for("a clean state", lambda: audit_verify()[0] == 0 or True)
    V.call("ingress", "VaultService/ArchiveVault", {"vault_id": s.vault},
           V.as_key(KEY))
    assert s.use()["verdict"] != 1
    before = audit_verify()[1]
    V.sql("UPDATE vault.vault SET archived_us = NULL WHERE id = '%s'"
          % s.vault)
    rc, text = audit_verify()
    assert rc == 1 and s.vault in text and s.vault not in before, text
    V.sql("UPDATE vault.vault SET archived_us = 1 WHERE id = '%s'" % s.vault)
    # Deleting takes rights away, never gives any.
    t = Session()
    for table, where in (("stub", "credential_id = '%s'" % t.cred),
                         ("workload", "id = '%s'" % t.sbx)):
        V.sql("DELETE FROM vault.%s WHERE %s" % (table, where))
        assert t.outcome() != "same", table


def the_writer_reads_no_value():
    s = Session()
    key = V.key()
    dump = "".join(V.sql("SELECT string_agg(t::text, '') FROM vault.%s t"
                         % x.strip()) for x in V.sql(
        "SELECT table_name FROM information_schema.tables WHERE"
        " table_schema = 'vault'").split("\n"))
    for secret in SECRET, s.stub, key, SECRET.encode().hex(), \
            s.stub.encode().hex():
        assert secret not in dump


# ---- who owns the brain ----------------------------------------------------
def brain_put_grant(session, request, assertion):
    return V.call("brain", "GrantService/PutGrant",
                  {"session_id": session,
                   "original_request": {"hex": request.hex()}}, assertion)


def the_brain_names_no_foreign_vault():
    mine, theirs = Session(), Session(THEIRS)
    person = session_request(mine.env, [mine.vault])
    assertion = V.as_key(KEY, person)
    for vaults, env in (([theirs.vault], mine.env),
                        ([mine.vault, theirs.vault], mine.env),
                        ([mine.vault], theirs.env)):
        refused("denied", brain_put_grant, new_id("sesn"),
                session_request(env, vaults), assertion)
    # Even if a person asked for it.
    wrong = session_request(mine.env, [theirs.vault])
    refused("not_found", brain_put_grant, new_id("sesn"), wrong,
            V.as_key(KEY, wrong))
    # It can: the same rights for another session, while the assertion lasts.
    brain_put_grant(new_id("sesn"), person, assertion)


def the_brain_widens_no_policy():
    s = Session()
    person = environment_request([API], s.env)
    assertion = V.as_key(KEY, person)

    def put(request, with_it, version=2):
        return V.call("brain", "GrantService/PutPolicy", {
            "environment_id": s.env, "version": version,
            "original_request": {"hex": request.hex()}}, with_it)
    wider = environment_request([API, EVIL], s.env)
    for with_it in assertion, V.as_key(KEY), None:
        refused("denied", put, wider, with_it)
    # A request about another environment, with its own assertion.
    fresh = environment_request([EVIL], new_id("env"))
    refused("denied|invalid|not_found", put, fresh, V.as_key(KEY, fresh))
    assert V.authorize(s.at, EVIL)["reason"] == "host_not_allowed"


def the_brain_mints_no_key_and_opens_no_sandbox():
    s = Session()
    for method, request in (
            ("KeyService/CreateKey", {"name": "x"}),
            ("IdentityService/Resolve", {"api_key": "bbx_x"}),
            ("VaultService/CreateVault", {"display_name": "x"}),
            ("VaultService/GetCredential", {"vault_id": s.vault,
                                            "credential_id": s.cred}),
            ("EgressService/Authorize", {}), ("AuditService/ListAudit", {}),
            ("ApprovalService/DecideApproval", {}),
            ("IncidentService/ResolveIncident", {}),
            ("DataKeyService/RotateDataKey", {})):
        refused("unimplemented", V.call, "brain", method, request,
                V.as_key(KEY))
    refused("denied", V.open, s.id, kind=1, face="brain")
    refused("not_found", V.open, new_id("sesn"), kind=3, face="brain")
    # It can: open itself for a session, which gives no stub of a sandbox.
    out = V.open(s.id, kind=3, face="brain")
    assert s.stub not in json.dumps(out) and not out["values"], out
    assert V.authorize(session=s.id, stubs=[(1, "authorization", s.stub)])[
        "verdict"] != 1


# ---- who owns an egress worker ---------------------------------------------
def the_worker_gets_values_one_decision_at_a_time():
    s = Session()
    before = len(rows(s))
    out = s.use()
    # It can: have the value of a session whose address and stub it saw.
    assert out["swaps"][0]["value"] == SECRET
    got = rows(s)
    assert len(got) == before + 1 and got[0]["id"] == out["audit_id"]
    # Without the stub, or for another place, it gets none.
    for o in (V.authorize(s.at, API), s.use(EVIL),
              s.use(stub="bbxs" + "b" * 32), s.use(at="fd00::77")):
        assert SECRET not in json.dumps(o), o


def rows(s):
    return V.call("ingress", "AuditService/ListAudit", {"session_id": s.id},
                  V.as_key(KEY))["data"]


def the_worker_can_list_decide_and_change_nothing():
    s = Session()
    for method in ("VaultService/ListCredentials", "VaultService/ListVaults",
                   "VaultService/UpdateCredential", "KeyService/CreateKey",
                   "GrantService/PutGrant", "WorkloadService/OpenWorkload",
                   "ApprovalService/DecideApproval", "AuditService/ListAudit",
                   "IncidentService/ResolveIncident",
                   "DataKeyService/RotateDataKey"):
        refused("unimplemented", V.call, "egress", method, {}, V.as_key(KEY))
    # Fingerprints say nothing of a value, and Confirm needs it whole.
    out = V.call("egress", "EgressService/Fingerprints",
                 {"workload_address": s.at})
    assert SECRET not in json.dumps(out)
    refused("not_found", V.call, "egress", "EgressService/Fingerprints",
            {"workload_address": "fd00::78"})
    # What it says was minted goes where the owner's binding says: nowhere.
    refused("not_found", V.call, "egress", "EgressService/Mint", {
        "workload_address": s.at, "audit_id": "", "values": [{
            "place": {"credential_id": s.cred, "rule": 0, "index": 0},
            "value": SECOND}]})
    # It can: freeze sessions, by reporting what did not happen.
    for _ in range(3):
        audit = s.use()["audit_id"]
        V.call("egress", "EgressService/ReportScrub", {
            "audit_id": audit, "credential_id": s.cred, "where": "body",
            "count": 1})
    assert s.use()["reason"] == "session_frozen"


# ---- another tenant --------------------------------------------------------
def another_tenant_sees_and_uses_nothing():
    s, theirs = Session(), Session(THEIRS)
    who = V.as_key(THEIRS)
    cred = {"vault_id": s.vault, "credential_id": s.cred}
    for method, request in (
            ("VaultService/GetVault", {"vault_id": s.vault}),
            ("VaultService/DeleteVault", {"vault_id": s.vault}),
            ("VaultService/ArchiveVault", {"vault_id": s.vault}),
            ("VaultService/GetCredential", cred),
            ("VaultService/DeleteCredential", cred),
            ("VaultService/ArchiveCredential", cred),
            ("VaultService/UpdateCredential", {**cred, "auth_json": json.dumps(
                {"type": "environment_variable", "secret_value": SECOND})}),
            ("PolicyService/GetProposedPolicy", {"environment_id": s.env}),
            ("ExplainService/Explain", {"session_id": s.id,
                                        "url": "https://" + API})):
        refused("not_found", V.call, "ingress", method, request, who)
    for method, request in (
            ("VaultService/ListCredentials", {"vault_id": s.vault}),
            ("AuditService/ListAudit", {"session_id": s.id}),
            ("IncidentService/ListIncidents", {"session_id": s.id}),
            ("ApprovalService/ListApprovals", {"session_id": s.id})):
        assert not V.call("ingress", method, request, who).get("data"), method
    V.call("brain", "GrantService/EndGrant", {"session_id": s.id}, who)
    assert s.use()["verdict"] == 1
    # A stub of the other tenant's, in its own sandbox: an alarm, no value.
    out = theirs.use(stub=s.stub)
    assert out["reason"] == "stub_foreign" and SECRET not in json.dumps(out)
    assert theirs.use()["reason"] == "session_frozen"
    assert s.use()["verdict"] == 1


def what_is_in_use_is_no_shelter_for_an_edited_row():
    """Requests in a row, so that what the vault keeps is found good again and
    again; triggers are off; nothing but time lets the vault look."""
    edits = {
        "grant": "UPDATE vault.session_grant SET frozen_us = 1"
                 " WHERE session_id = '{0.id}'",
        "grant gone": "DELETE FROM vault.session_grant"
                      " WHERE session_id = '{0.id}'",
        "policy": "UPDATE vault.policy SET policy = policy || ' '"
                  " WHERE environment_id = '{0.env}'",
        "policy put back": "INSERT INTO vault.policy SELECT tenant,"
                           " environment_id, version + 1, policy, digest,"
                           " subject, created_us, mac FROM vault.policy"
                           " WHERE environment_id = '{0.env}'",
        "workload": "UPDATE vault.workload SET closed_us = 1"
                    " WHERE id = '{0.sbx}'",
        "credential": "UPDATE vault.credential SET version = version + 1"
                      " WHERE id = '{0.cred}'",
        "credential gone": "DELETE FROM vault.credential"
                           " WHERE id = '{0.cred}'",
        "vault": "UPDATE vault.vault SET archived_us = 1"
                 " WHERE id = '{0.vault}'",
        "stub": "UPDATE vault.stub SET nonce = nonce || '\\x00'"
                " WHERE session_id = '{0.id}'",
    }
    sessions = {name: Session() for name in edits}
    for name, s in sessions.items():
        for _ in range(2):
            assert s.use()["verdict"] == 1, name
    time.sleep(1.2)  # found good again at least once
    for name, s in sessions.items():
        assert s.use()["verdict"] == 1, name
    for name, s in sessions.items():
        V.sql("BEGIN; SET LOCAL session_replication_role = replica; %s; COMMIT"
              % edits[name].format(s))
    left, end = set(sessions), time.monotonic() + 10
    while left and time.monotonic() < end:
        for name in sorted(left):
            try:
                if sessions[name].use()["verdict"] != 1:
                    left.remove(name)
            except RpcError as e:
                assert e.kind in ("corrupt", "internal"), e
                left.remove(name)
    assert not left, left
    # What names no row of the session leaves it alone.
    assert Session().outcome() == "same"
    V.sql("BEGIN; SET LOCAL session_replication_role = replica; %s; COMMIT"
          % "; ".join("DELETE FROM vault.%s WHERE session_id IN ('%s')" % (
              t, "','".join(s.id for s in sessions.values()))
              for t in ("session_grant", "workload", "stub")))


TESTS = [
    what_is_in_use_is_no_shelter_for_an_edited_row,
    the_writer_edits_rows,
    the_writer_edits_keys,
    the_writer_moves_rows,
    the_writer_inserts_rows,
    the_writer_deletes_and_puts_back,
    the_writer_reads_no_value,
    the_brain_names_no_foreign_vault,
    the_brain_widens_no_policy,
    the_brain_mints_no_key_and_opens_no_sandbox,
    the_worker_gets_values_one_decision_at_a_time,
    the_worker_can_list_decide_and_change_nothing,
    another_tenant_sees_and_uses_nothing,
]

if __name__ == "__main__":
    with Vault() as V:
        V.run_vault("--migrate", "--tenant=other")
        KEY = V.key()
        wait_for("the tenant", lambda: "tenant.loaded" in V.logged())
        THEIRS = V.key("--tenant=other")
        main(TESTS)
