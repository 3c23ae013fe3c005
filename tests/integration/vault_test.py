#!/usr/bin/env python3
"""vault_svc and vault_keeper with a real PostgreSQL: identities, credentials,
grants, workloads, decisions, audit. Needs root (initdb runs as postgres)."""
import functools
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import BUILD, RpcError, Vault, environment_request, main, \
    new_id, refused, session_request, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
HEADER, BASIC, QUERY, PATH, BODY = 1, 2, 3, 4, 5


def session_with_credential(v, hosts=("api.example.com",), **more):
    key = v.key()
    vault = v.vault(key)
    cred = v.credential(key, vault, "API_TOKEN", SECRET, list(hosts), **more)
    env = v.put_policy(key, ["api.example.com", "other.example.com"])
    return key, vault, cred, env, v.put_grant(key, env, [vault])


def key_resolves_to_an_assertion_that_services_accept():
    key = V.key("--name=tests", "--scopes=read,write")
    assert key.startswith("bbx_") and len(key) == 44
    who = V.resolve(key)
    assert who["tenant"] == "default" and who["scopes"] == ["read", "write"]
    V.call("ingress", "VaultService/ListVaults", {}, who["assertion"])
    refused("denied", V.call, "ingress", "KeyService/ListKeys", {},
            who["assertion"])
    assert key not in V.sql("SELECT string_agg(k::text, ' ')"
                            " FROM vault.api_key k")


def unknown_revoked_and_malformed_keys_are_refused():
    for bad in "", "bbx_" + "a" * 40, "x" * 300:
        refused("unauthenticated", V.resolve, bad)
    key = V.key()
    me = V.resolve(key)
    before = open(V.path("generation"), "rb").read()
    V.call("ingress", "KeyService/RevokeKey", {"key_id": me["subject"]},
           me["assertion"])
    refused("unauthenticated", V.resolve, key)
    assert open(V.path("generation"), "rb").read() != before


def forged_and_missing_assertions_are_refused():
    good = V.as_key(V.key())
    body, sig = good.split(".")
    for bad in None, "x.y", body + "." + sig[::-1], "A" + body[1:] + "." + sig:
        refused("unauthenticated", V.call, "ingress",
                "VaultService/ListVaults", {}, bad)


def a_changed_key_row_is_corrupt():
    key = V.key("--scopes=read")
    me = V.resolve(key)["subject"]
    V.sql("UPDATE vault.api_key SET scopes = 'read,write,admin'"
          " WHERE id = '%s'" % me)
    refused("corrupt|internal", V.resolve, key)


def credential_is_write_only_and_sealed():
    key = V.key()
    vault = V.vault(key)
    cred = V.credential(key, vault, "TOKEN", SECRET, ["api.example.com"])
    got = V.call("ingress", "VaultService/GetCredential",
                 {"vault_id": vault, "credential_id": cred["id"]},
                 V.as_key(key))
    assert SECRET not in json.dumps(got)
    rule = json.loads(got["binding_json"])[0]
    assert rule["host"] == "api.example.com" and rule["port"] == 443
    assert rule["slots"] == ["header:authorization", "basic"]
    dump = V.sql("SELECT string_agg(c::text, ' ') FROM vault.credential c")
    assert SECRET not in dump and SECRET.encode().hex() not in dump
    assert SECRET not in V.logged()


def bad_credentials_name_the_field_and_not_the_value():
    key = V.key()
    vault = V.vault(key)
    for value, hosts, word in [
            ("short", ["api.example.com"], "secret_value"),
            (SECRET + "\n", ["api.example.com"], "secret_value"),
            (SECRET, [], "binding"), (SECRET, ["*.com"], "allowed_hosts"),
            (SECRET, ["*.co.uk"], "allowed_hosts"),
            (SECRET, ["10.0.0.1"], "allowed_hosts"),
            (SECRET, ["0x7f.1"], "allowed_hosts"),
            (SECRET, ["com"], "allowed_hosts"),
            (SECRET, ["localhost:8080"], "allowed_hosts"),
            (SECRET, ["metadata.google.internal"], "allowed_hosts"),
            (SECRET, ["192.168.7.7"], "allowed_hosts"),
            (SECRET, ["api.example.com:0"], "allowed_hosts"),
            (SECRET, ["a b.example.com"], "allowed_hosts")]:
        text = refused("invalid", V.credential, key, vault, "TOKEN", value,
                       hosts)
        assert word in text and "sekret" not in text, text
    refused("invalid", V.credential, key, vault, "BAD-NAME", SECRET,
            ["api.example.com"])
    refused("invalid", V.credential, key, vault, "T", SECRET,
            ["api.example.com"], binding=[{"host": "evil.example.com"}])
    refused("not_found", V.credential, key, new_id("vlt"), "T", SECRET,
            ["api.example.com"])


def token_reaches_only_its_host_and_slot():
    _, vlt, cred, _, session = session_with_credential(V)
    w = V.open(session)
    stub, at = w["values"]["API_TOKEN"], w["address"]
    assert "bbxs" in stub and SECRET not in json.dumps(w)
    assert len(stub) != len(SECRET)
    ok = V.authorize(at, stubs=[(HEADER, "authorization", stub)])
    assert ok["verdict"] == 1, ok
    assert ok["swaps"][0]["value"] == SECRET
    assert ok["scrub"][0] == {"value": SECRET, "credential_id": cred["id"],
                              "vault_id": vlt}
    ok = V.authorize(at, stubs=[(BASIC, "password", stub)])
    assert ok["verdict"] == 1

    def denied(reason, **kw):
        kw.setdefault("stubs", [(HEADER, "authorization", stub)])
        out = V.authorize(at, **kw)
        assert out["verdict"] == 2 and out["reason"] == reason, out
        assert not out["swaps"] and not out["scrub"]
        return out

    denied("stub_wrong_host", host="other.example.com")
    denied("host_not_allowed", host="evil.example.net")
    denied("host_not_allowed", port=8443)
    denied("clear_text_refused", scheme="http", port=80)
    denied("stub_wrong_slot", stubs=[(HEADER, "cookie", stub)])
    denied("stub_wrong_slot", stubs=[(QUERY, "key", stub)])
    denied("stub_wrong_slot", stubs=[(BODY, "", stub)])
    denied("stub_unknown", stubs=[(HEADER, "authorization",
                                   stub[:-1] + "aa")])
    out = denied("credential_required", stubs=[])
    assert out["http_status"] == 401 and out["challenge_basic"]
    assert V.authorize(at, host="other.example.com")["verdict"] == 1


def slots_of_query_path_and_body_are_declared_one_by_one():
    _, _, cred, _, session = session_with_credential(V, binding=[
        {"host": "api.example.com",
         "slots": ["query:key", "path", "body"]}])
    w = V.open(session)
    stub, at = w["values"]["API_TOKEN"], w["address"]

    def reason(kind, name, path="/"):
        return V.authorize(at, method="POST", path=path,
                           stubs=[(kind, name, stub)])["reason"]

    for name in "json", "form", "text":
        assert reason(BODY, name) == "allowed"
    assert reason(BODY, "") == "stub_wrong_slot"
    assert reason(QUERY, "key") == "allowed"
    assert reason(QUERY, "other") == "stub_wrong_slot"
    assert reason(HEADER, "authorization") == "stub_wrong_slot"
    assert reason(PATH, "", "/bot" + stub + "/send") == "allowed"
    rows = V.sql("SELECT string_agg(detail, ' ') FROM vault.audit WHERE"
                 " session_id = '%s'" % session)
    assert stub not in rows and "/bot" + "*" * len(stub) in rows
    rule = json.loads(cred["binding_json"])[0]
    assert "methods" not in rule, rule


def bindings_that_contradict_themselves_are_refused():
    key = V.key()
    vault = V.vault(key)

    def says(word, rule, **more):
        text = refused("invalid", V.credential, key, vault, "T", SECRET,
                       ["api.example.com"],
                       binding=[{"host": "api.example.com", **rule}], **more)
        assert word in text, text

    says("slots: empty", {"slots": []})
    says("methods: empty", {"methods": []})
    says("path_prefixes: empty", {"path_prefixes": []})
    says("contradict", {"slots": ["body"], "methods": ["GET"]})
    says("twice", {"methods": ["GET", "GET"]})
    says("unknown field", {"paths": ["/v1"]})
    says("gateway's own", {"slots": ["header:Host"]})
    says("injection_location", {"slots": ["body"]},
         location={"header": True})
    refused("invalid", V.credential, key, vault, "T", SECRET,
            ["api.example.com"], location={"header": False})
    out = V.credential(key, vault, "T", SECRET, ["api.example.com"],
                       location={"body": True})
    assert json.loads(out["binding_json"])[0]["slots"] == ["body"]


def stubs_are_stable_and_belong_to_one_session_and_kind():
    key, vault, _, env, one = session_with_credential(V)
    two = V.put_grant(key, env, [vault])
    a, b, j = V.open(one), V.open(two), V.open(one, kind=2)
    sa, sb, sj = (x["values"]["API_TOKEN"] for x in (a, b, j))
    assert len({sa, sb, sj}) == 3
    assert V.open(one)["values"]["API_TOKEN"] == sa
    for at, stub in (a["address"], sb), (b["address"], sa), \
            (a["address"], sj):
        # In a body, where it freezes nobody (vault_incident_test.py).
        out = V.authorize(at, stubs=[(BODY, "json", stub)])
        assert out["reason"] == "stub_foreign", out
    dump = V.sql("SELECT string_agg(s::text, ' ') FROM vault.stub s")
    assert sa not in dump and sa[-32:] not in dump


def methods_and_paths_narrow_a_binding():
    _, _, _, _, session = session_with_credential(V, binding=[
        {"host": "api.example.com", "methods": ["GET"],
         "path_prefixes": ["/v1"], "slots": ["header:X-Key"]}])
    w = V.open(session)

    def ask(**kw):
        return V.authorize(w["address"], stubs=[
            (HEADER, "x-key", w["values"]["API_TOKEN"])], **kw)["reason"]

    assert ask(path="/v1/x") == "allowed"
    assert ask(path="/v1/x", method="POST") == "method_not_allowed"
    for path in "/v2", "/v10", "/v1/../v2", "/v1/%2e%2e/x", "/v1//x", \
            "/v1/a%2fb", "/v1/;x", "/":
        assert ask(path=path) == "path_not_allowed", path
    out = V.authorize(w["address"])
    assert out["http_status"] == 403 and not out["challenge_basic"]


def unknown_workloads_and_ended_sessions_get_nothing():
    key, _, _, _, session = session_with_credential(V)
    w = V.open(session)
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    assert V.authorize("fd00::dead", stubs=stub)["reason"] \
        == "workload_unknown"
    assert V.authorize("10.0.0.1")["reason"] == "workload_unknown"
    other = V.open(session)
    V.call("sandbox", "WorkloadService/CloseWorkload",
           {"workload_id": V.sql("SELECT id FROM vault.workload WHERE address"
                                 " = '%s'" % other["address"])})
    assert V.authorize(other["address"])["reason"] == "workload_unknown"
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(key))
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(key))
    assert V.authorize(w["address"], stubs=stub)["verdict"] == 2
    refused("denied", V.open, session)
    refused("not_found", V.open, new_id("sesn"))


def an_address_that_moves_names_the_new_workload():
    key, vault, _, env, one = session_with_credential(V)
    two = V.put_grant(key, env, [vault])
    a = V.open(one, address="fd00::77")
    b = V.open(two, address="fd00::77")
    stub = [(BODY, "json", a["values"]["API_TOKEN"])]
    assert V.authorize("fd00::77", stubs=stub)["reason"] == "stub_foreign"
    stub = [(HEADER, "authorization", b["values"]["API_TOKEN"])]
    assert V.authorize("fd00::77", stubs=stub)["verdict"] == 1


def grants_take_rights_from_the_persons_request_only():
    key = V.key()
    env, vault = V.put_policy(key, ["api.example.com"]), V.vault(key)
    mine, other = session_request(env), session_request(env, [vault])
    session = new_id("sesn")

    def put(request, assertion):
        return V.call("brain", "GrantService/PutGrant",
                      {"session_id": session,
                       "original_request": {"hex": request.hex()}}, assertion)

    refused("denied", put, other, V.as_key(key, mine))
    refused("denied", put, mine, V.as_key(key))
    refused("denied", put, mine, None)
    put(mine, V.as_key(key, mine))
    put(mine, V.as_key(key, mine))
    refused("exists", put, other, V.as_key(key, other))
    refused("not_found", V.put_grant, key, new_id("env"))
    refused("not_found", V.put_grant, key, env, [new_id("vlt")])
    refused("denied", V.open, session, env=new_id("env"))


def outlast_snapshots():
    """What was done behind the vault's back counts after `snapshot_ms`."""
    time.sleep(1.1)


def policies_are_versioned_and_checked():
    key = V.key()
    env = V.put_policy(key, ["B\u00fccher.example", "a.example:8443"])
    session = V.put_grant(key, env)
    w = V.open(session)
    assert w["allowed_hosts"] == ["a.example:8443", "xn--bcher-kva.example"]
    V.put_policy(key, ["c.example"], env, 2)
    assert V.authorize(w["address"], host="c.example")["verdict"] == 1
    assert V.authorize(w["address"], host="a.example",
                       port=8443)["reason"] == "host_not_allowed"
    refused("exists", V.put_policy, key, ["d.example"], env, 2)
    refused("exists", V.put_policy, key, ["d.example"], env, 4)
    for hosts in ["*.com"], ["127.0.0.1"], ["*"], ["2130706433"]:
        refused("invalid", V.put_policy, key, hosts)
    V.sql("UPDATE vault.policy SET policy = '{\"allowed_hosts\":"
          "[\"evil.example\"]}' WHERE environment_id = '%s'" % env)
    outlast_snapshots()
    refused("corrupt|internal", V.authorize, w["address"],
            host="evil.example")


def policies_name_methods_and_paths():
    key = V.key()
    env = V.put_policy(key, ["plain.example.com"], rules=[
        {"host": "api.example.com", "methods": ["GET"],
         "path_prefixes": ["/v1/"]},
        {"host": "web.example.com", "scheme": "http", "ports": [80, 8080]}])
    w = V.open(V.put_grant(key, env))
    assert w["allowed_hosts"] == [
        "plain.example.com", "api.example.com:443", "web.example.com:80",
        "web.example.com:8080"], w["allowed_hosts"]

    def reason(**kw):
        return V.authorize(w["address"], **kw)["reason"]

    assert reason(path="/v1/x") == "allowed"
    assert reason(path="/v1/x", method="POST") == "method_not_allowed"
    assert reason(path="/v2") == "path_not_allowed"
    assert reason(port=8443, path="/v1/x") == "host_not_allowed"
    web = {"host": "web.example.com"}
    assert reason(scheme="http", port=8080, **web) == "allowed"
    assert reason(scheme="https", port=443, **web) == "host_not_allowed"
    for bad in ({"mode": "off"}, {"rules": [{"host": "*.com"}]},
                {"rules": [{"host": "plain.example.com"}]}):
        refused("invalid", V.put_policy, key, ["plain.example.com"], **bad)


def observe_lets_pass_and_proposes_a_policy():
    key, vault, _, _, _ = session_with_credential(V)
    env = V.put_policy(key, ["named.example.com"], mode="observe")
    w = V.open(V.put_grant(key, env, [vault]))
    for path in "/v1/a", "/v1/b?x":
        out = V.authorize(w["address"], host="free.example.com", path=path)
        assert out["verdict"] == 1, out
    V.authorize(w["address"], host="named.example.com")
    # The mode is the policy's alone: bindings and addresses hold.
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    assert V.authorize(w["address"], host="free.example.com",
                       stubs=stub)["reason"] == "stub_wrong_host"
    assert V.authorize(w["address"])["reason"] == "credential_required"
    for host in "10.0.0.1", "169.254.169.254", "0x7f.1":
        assert V.authorize(w["address"], host=host)["reason"] \
            == "host_not_allowed", host

    def proposal():
        return V.call("ingress", "PolicyService/GetProposedPolicy",
                      {"environment_id": env}, V.as_key(key))

    wait_for("two requests counted", lambda: [
        o["requests"] for o in proposal()["observations"]] == [2])
    p = proposal()
    assert p["version"] == 1
    net = json.loads(p["networking_json"])
    assert net == {"type": "limited", "allowed_hosts": ["named.example.com"],
                   "rules": [{"scheme": "https", "host": "free.example.com",
                              "ports": [443], "methods": ["GET"],
                              "path_prefixes": ["/v1/"]}]}, net
    row = V.sql("SELECT detail FROM vault.audit WHERE id = '%s'"
                % out["audit_id"])
    assert json.loads(row)["observed"] == "host_not_allowed"
    # Written back, it names what was seen and nothing else.
    V.put_policy(key, net["allowed_hosts"], env, 2, rules=net["rules"])
    assert V.authorize(w["address"], host="free.example.com",
                       path="/v1/c")["verdict"] == 1
    assert V.authorize(w["address"], host="free.example.com", path="/v2/c")[
        "reason"] == "path_not_allowed"
    assert proposal()["observations"] == []
    refused("not_found", V.call, "ingress", "PolicyService/GetProposedPolicy",
            {"environment_id": new_id("env")}, V.as_key(key))


def a_ciphertext_that_was_moved_does_not_open():
    key, vault, cred, env, session = session_with_credential(V)
    evil = V.credential(key, vault, "EVIL", "x" * 20, ["other.example.com"])
    w = V.open(session)
    stub = [(HEADER, "authorization", w["values"]["EVIL"])]
    assert V.authorize(w["address"], host="other.example.com",
                       stubs=stub)["swaps"][0]["value"] == "x" * 20
    V.sql("UPDATE vault.credential SET sealed = (SELECT sealed FROM"
          " vault.credential WHERE id = '%s') WHERE id = '%s'"
          % (cred["id"], evil["id"]))
    outlast_snapshots()
    message = refused("corrupt|internal", V.authorize, w["address"],
                      host="other.example.com", stubs=stub)
    assert SECRET not in message


def each_callers_socket_offers_only_its_methods():
    refused("unimplemented", V.call, "brain", "EgressService/Authorize", {})
    refused("unimplemented", V.call, "sandbox", "EgressService/Authorize", {})
    refused("unimplemented", V.call, "egress", "GrantService/PutGrant", {})
    refused("unimplemented", V.call, "ingress", "GrantService/PutGrant", {})
    refused("unimplemented", V.call, "brain", "VaultService/ListVaults", {})
    _, _, _, _, session = session_with_credential(V)
    refused("denied", V.open, session, kind=1, face="brain")
    refused("denied", V.open, session, kind=3, face="sandbox")


def decided_while_grants_are_locked(session):
    """Whether egress gets its answer about the brain without reading a grant."""
    with V.transaction("LOCK TABLE vault.session_grant"):
        asked = threading.Thread(target=V.authorize,
                                 kwargs={"session": session})
        asked.start()
        asked.join(1)
        was_decided = not asked.is_alive()
    asked.join(10)
    assert not asked.is_alive()
    return was_decided


def what_a_brain_may_use_is_read_before_egress_asks():
    _, _, _, _, session = session_with_credential(V)
    V.open(session, kind=3, face="brain")
    time.sleep(2.5)  # what was read and then used is looked at once more
    assert not decided_while_grants_are_locked(session)
    time.sleep(2.5)
    warm = functools.partial(V.call, "brain", "WorkloadService/WarmWorkload")
    assert warm({"session_id": session}) == {}
    time.sleep(0.3)  # it reads behind its answer
    assert decided_while_grants_are_locked(session)
    # It says nothing of a session, and is the brain's alone.
    assert warm({"session_id": new_id("sesn")}) == {}
    assert warm({"session_id": "x" * 1000}) == {}
    refused("unimplemented", V.call, "sandbox", "WorkloadService/WarmWorkload",
            {"session_id": session})


def row_security_hides_other_tenants():
    if "other" not in V.sql("SELECT string_agg(tenant, ' ')"
                            " FROM vault.tenant"):
        V.run_vault("--migrate", "--tenant=other")
    # A running vault learns of it by itself.
    wait_for("the new tenant", lambda: "tenant.loaded" in V.logged())
    key, vault, _, env, session = session_with_credential(V)
    foreign = V.key("--tenant=other")
    assert V.resolve(foreign)["tenant"] == "other"
    refused("not_found", V.call, "ingress", "VaultService/GetVault",
            {"vault_id": vault}, V.as_key(foreign))
    refused("not_found", V.credential, foreign, vault, "T", SECRET,
            ["api.example.com"])
    own = V.put_policy(foreign, ["api.example.com"])
    refused("not_found", V.put_grant, foreign, own, [vault])
    refused("not_found", V.put_grant, foreign, env)
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(foreign))
    V.open(session)
    seen = subprocess.run(
        ["psql", "-qXAt", V.pg + " user=vault_run", "-c",
         "SELECT count(*) FROM vault.credential", "-c",
         "SET brainbox.tenant = 'other'; SELECT count(*) FROM vault.vault"],
        stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    assert seen == ["0", "0"], seen


def every_decision_has_an_audit_row_in_a_chain():
    key, _, cred, _, session = session_with_credential(V)
    w = V.open(session)
    ok = V.authorize(w["address"], path="/a?b", stubs=[
        (HEADER, "authorization", w["values"]["API_TOKEN"])])
    no = V.authorize(w["address"], host="evil.example.net")
    V.call("egress", "EgressService/ReportScrub",
           {"audit_id": ok["audit_id"], "credential_id": cred["id"],
            "where": "body", "count": 2})
    rows = V.call("ingress", "AuditService/ListAudit",
                  {"session_id": session, "limit": 100},
                  V.as_key(key))["data"]
    actions = [r["action"] for r in rows]
    assert actions[:3] == ["egress.scrubbed", "egress.denied",
                           "egress.allowed"], actions
    ids = {r["id"] for r in rows}
    assert ok["audit_id"] in ids and no["audit_id"] in ids
    text = json.dumps(rows)
    assert SECRET not in text and w["values"]["API_TOKEN"] not in text
    n, top = V.sql("SELECT count(*), max(seq) FROM vault.audit"
                   " WHERE tenant = 'default'").split("|")
    assert n == top
    assert V.sql("SELECT count(DISTINCT mac) FROM vault.audit"
                 " WHERE tenant = 'default'") == n


def what_is_kept_of_a_session_is_forgotten_at_once():
    key = V.key()
    vault, env = V.vault(key), V.put_policy(key, ["*.example.com"])
    cred = V.credential(key, vault, "ONE", "1" * 20, ["api.example.com"])
    session = V.put_grant(key, env, [vault])
    w = V.open(session)
    first = [(HEADER, "authorization", w["values"]["ONE"])]

    def verdict(stub=first, **kw):
        a = V.authorize(w["address"], stubs=stub, **kw)
        return a["reason"] if a["verdict"] == 2 else "allowed"

    assert verdict() == "allowed"
    # A credential that is made, and stubs of a second opening.
    V.credential(key, vault, "TWO", "2" * 20, ["b.example.com"])
    assert verdict() == "allowed"
    again = V.open(session)
    second = [(HEADER, "authorization", again["values"]["TWO"])]
    assert verdict(second, host="b.example.com") == "allowed"
    V.put_policy(key, ["api.example.com"], env, 2)
    assert verdict(second, host="b.example.com") == "host_not_allowed"
    assert verdict() == "allowed"
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": vault, "credential_id": cred["id"]}, V.as_key(key))
    assert verdict() != "allowed"
    assert verdict([]) == "allowed"
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(key))
    assert verdict([]) in ("session_ended", "workload_unknown")


def archived_and_deleted_credentials_are_dead_at_once():
    key, vault, cred, _, session = session_with_credential(V)
    w = V.open(session)
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": vault, "credential_id": cred["id"]}, V.as_key(key))
    assert V.authorize(w["address"], stubs=stub)["reason"] == "stub_revoked"
    other = V.open(session, kind=2)
    assert V.authorize(other["address"],
                       stubs=stub)["reason"] == "stub_foreign"
    V.call("ingress", "VaultService/DeleteCredential",
           {"vault_id": vault, "credential_id": cred["id"]}, V.as_key(key))
    assert V.authorize(w["address"], stubs=stub)["reason"] == "stub_revoked"
    assert V.authorize(other["address"],
                       stubs=stub)["reason"] == "stub_foreign"
    V.call("ingress", "VaultService/DeleteVault", {"vault_id": vault},
           V.as_key(key))


def a_value_is_rotated_without_a_failed_request():
    key, vault, cred, _, session = session_with_credential(V)
    w = V.open(session)
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    values = ["rotated-%04d-0123456789abcdef" % i for i in range(8)]

    def update(assertion=None, **more):
        return V.call("ingress", "VaultService/UpdateCredential", {
            "vault_id": vault, "credential_id": cred["id"], **more},
            assertion or V.as_key(key))

    def auth(value, kind="environment_variable", name="secret_value"):
        return {"auth_json": json.dumps({"type": kind, name: value})}

    seen, failed, stop = [], [], threading.Event()

    def load():
        while not stop.is_set():
            out = V.authorize(w["address"], stubs=stub)
            if out["verdict"] == 1:
                seen.append(out["swaps"][0]["value"])
            else:
                failed.append(out)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for t in threads:
        t.start()
    for value in values:
        out = update(**auth(value))
        assert value not in json.dumps(out)
        assert V.authorize(w["address"], stubs=stub)["swaps"][0][
            "value"] == value
    stop.set()
    for t in threads:
        t.join()
    assert not failed and set(seen) <= {SECRET, *values}, failed
    again = V.open(session)
    assert again["values"] == w["values"]
    out = update(display_name="mine",
                 metadata_json='{"a":"b"}')
    assert out["display_name"] == "mine"
    assert V.authorize(w["address"], stubs=stub)["swaps"][0][
        "value"] == values[-1]
    for bad in (auth("short"), auth("x" * 20, "static_bearer", "token"),
                auth("x" * 20, name="token"),
                {"auth_json": json.dumps({
                    "type": "environment_variable", "secret_value": "y" * 20,
                    "networking": {"type": "limited",
                                   "allowed_hosts": ["evil.example"]}})}):
        text = refused("invalid", update, **bad)
        assert "yyyy" not in text and "xxxx" not in text, text
    refused("denied", update, V.as_key(V.key("--scopes=read")),
            display_name="x")
    dump = V.sql("SELECT string_agg(c::text, ' ') FROM vault.credential c")
    assert values[-1] not in dump + V.logged()
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": vault, "credential_id": cred["id"]}, V.as_key(key))
    refused("precondition", update, display_name="x")


def explain_says_what_would_happen_and_why():
    _, vault, cred, env, session = session_with_credential(V)
    key = V.key("--scopes=read")

    def ask(url, credential="", **kw):
        return V.call("ingress", "ExplainService/Explain",
                      {"session_id": session, "url": url,
                       "credential": credential, **kw}, V.as_key(key))

    before = V.sql("SELECT count(*) FROM vault.audit WHERE session_id = '%s'"
                   % session)
    out = ask("https://api.example.com/v1/x?y", "API_TOKEN")
    assert (out["verdict"], out["swapped_credential_id"],
            out["swapped_slot"]) == ("allow", cred["id"],
                                     "header:authorization"), out
    (bound,) = out["credentials"]
    assert bound["variable"] == "API_TOKEN" and json.loads(
        bound["binding_json"])[0]["host"] == "api.example.com"
    assert out["environment_id"] == env and out["policy_version"] == 1
    for reason, url, kw in (
            ("credential_required", "https://api.example.com/", {}),
            ("host_not_allowed", "https://evil.example.net/", {}),
            ("stub_wrong_host", "https://other.example.com/",
             {"credential": cred["id"]}),
            ("stub_wrong_slot", "https://api.example.com/",
             {"credential": "API_TOKEN", "slot": "query:key"}),
            ("clear_text_refused", "http://api.example.com/",
             {"credential": "API_TOKEN"}),
            ("host_not_allowed", "https://10.0.0.1/", {})):
        out = ask(url, **kw)
        assert (out["verdict"], out["reason"]) == ("deny", reason), out
    refused("invalid", ask, "ftp://x.example/")
    refused("invalid", ask, "https://api.example.com/", slot="cookie")
    refused("not_found", ask, "https://api.example.com/", "NOBODYS")
    text = json.dumps(out) + V.run_vault(
        "explain", session, "https://api.example.com/v1", "POST",
        "API_TOKEN", "basic").stdout
    assert "allow: allowed" in text and "swaps: " + cred["id"] in text, text
    assert SECRET not in text and "bbxs" not in text
    p = V.run_vault("explain", new_id("sesn"), "https://a.example",
                    check=False)
    assert p.returncode == 1 and "no grant" in p.stderr, p
    # Nothing was counted, made or written.
    assert before == V.sql("SELECT count(*) FROM vault.audit"
                           " WHERE session_id = '%s'" % session)
    assert V.sql("SELECT count(*) FROM vault.stub WHERE session_id = '%s'"
                 % session) == "0"


def credentials_say_when_they_were_last_used():
    key, vault, cred, _, session = session_with_credential(V)
    w = V.open(session)
    other = V.credential(key, vault, "IDLE", SECRET, ["other.example.com"])

    def read(which):
        return V.call("ingress", "VaultService/GetCredential", {
            "vault_id": vault, "credential_id": which["id"]}, V.as_key(key))

    got = read(cred)
    assert got["last_used_at"] is None and got["uses"] == 0, got
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    for _ in range(3):
        assert V.authorize(w["address"], stubs=stub)["verdict"] == 1
    V.authorize(w["address"], stubs=stub, host="other.example.com")
    wait_for("three uses", lambda: read(cred)["uses"] == 3)
    assert read(cred)["last_used_at"] > read(cred)["created_at"]
    listed = V.call("ingress", "VaultService/ListCredentials",
                    {"vault_id": vault}, V.as_key(key))["data"]
    assert {c["id"]: c["uses"] for c in listed} == {cred["id"]: 3,
                                                    other["id"]: 0}
    V.call("ingress", "VaultService/DeleteCredential",
           {"vault_id": vault, "credential_id": cred["id"]}, V.as_key(key))


def stubs_of_mcp_credentials_reach_the_brain():
    key = V.key()
    vault = V.vault(key)
    cred = V.call("ingress", "VaultService/CreateCredential", {
        "vault_id": vault, "auth_json": json.dumps({
            "type": "static_bearer", "token": SECRET,
            "mcp_server_url": "https://mcp.example.com/mcp"})},
        V.as_key(key))
    env = V.put_policy(key, [])
    session = V.put_grant(key, env, [vault])
    brain = V.open(session, kind=3, face="brain")
    (m,) = brain["mcp_stubs"]
    assert (m["credential_id"], m["url"]) == (
        cred["id"], "https://mcp.example.com/mcp"), m
    ask = dict(session=session, host="mcp.example.com", method="POST",
               path="/mcp")
    ok = V.authorize(stubs=[(HEADER, "authorization", m["stub"])], **ask)
    assert ok["verdict"] == 1 and ok["swaps"][0]["value"] == SECRET, ok
    box = V.open(session)
    assert not box["mcp_stubs"] and m["stub"] not in json.dumps(box)


def vault_survives_database_and_keeper_restarts():
    key = V.key()
    subprocess.run(["bash", os.path.dirname(__file__) + "/../support/pg.sh",
                    "stop", V.dir], check=True)
    refused("unavailable", V.resolve, key)
    subprocess.run(["bash", os.path.dirname(__file__) + "/../support/pg.sh",
                    "start", V.dir], check=True, stdout=subprocess.DEVNULL)
    for _ in range(50):
        try:
            V.resolve(key)
            break
        except RpcError:
            continue
    V.stop("keeper")
    refused("unavailable", V.resolve, key)
    V.start_keeper()
    assert V.resolve(key)["tenant"] == "default"
    V.vault(key)


def intermediate_chains_to_the_root_and_is_narrow():
    path = V.path("intermediate.pem")
    assert os.stat(path).st_mode & 0o777 == 0o640
    out = subprocess.run(
        ["openssl", "verify", "-CAfile", V.path("ca.pem"), path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    assert ": OK" in out, out
    text = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-text"],
                          stdout=subprocess.PIPE, text=True).stdout
    assert "CA:TRUE, pathlen:0" in text and "prime256v1" in text


def brain_reaches_the_model_gateway_in_clear_text():
    model = "sk-model-key-0123456789abcdefghij-EXTRA"
    with Vault("destination 127.0.0.1:4000 clear-text\n"
               "destination api.demo.test:443 address=127.0.0.1:8443"
               " ca=/tmp/ca.pem # a comment\n",
               {"MODEL_API_KEY": model,
                "MODEL_BASE_URL": "http://127.0.0.1:4000/v1",
                "CONTAINER_ENV_GREETING": "hello world",
                "CONTAINER_ENV_GH": "ghp_" + "a1B2" * 10,
                "CONTAINER_ENV_ODD": "plain:c2VjcmV0LTEyMzQ1Njc4OTA"}) as v:
        key = v.key()
        env = v.put_policy(key, ["api.demo.test", "api.github.com"])
        session = v.put_grant(key, env)
        brain = v.open(session, kind=3, face="brain")
        stub = brain["model_stub"]
        assert "bbxs" in stub and not brain["env"]
        ask = dict(session=session, host="127.0.0.1", port=4000,
                   scheme="http", method="POST", path="/v1/chat/completions")
        ok = v.authorize(stubs=[(HEADER, "authorization", stub)], **ask)
        assert ok["verdict"] == 1 and ok["swaps"][0]["value"] == model, ok
        assert ok["clear_text"] and ok["is_deployment_destination"]
        assert v.authorize(**ask)["reason"] == "credential_required"
        assert v.authorize(session=session)["reason"] == "host_not_allowed"
        box = v.open(session)
        assert box["values"]["GREETING"] == "hello world"
        assert box["values"]["ODD"] == "c2VjcmV0LTEyMzQ1Njc4OTA"
        assert "bbxs" in box["values"]["GH"] and "PATH" not in box["values"]
        out = v.authorize(box["address"], host="127.0.0.1", port=4000,
                          scheme="http",
                          stubs=[(HEADER, "authorization", stub)])
        assert out["verdict"] == 2
        ok = v.authorize(box["address"], host="api.demo.test")
        assert ok["dial_address"] == "127.0.0.1:8443", ok
        assert ok["ca_file"] == "/tmp/ca.pem"
        ok = v.authorize(box["address"], host="api.github.com", stubs=[
            (HEADER, "authorization", box["values"]["GH"])])
        assert ok["swaps"][0]["value"] == "ghp_" + "a1B2" * 10
        assert model not in v.logged()
        # The same environment again changes nothing; a new value does.
        v.stop("vault")
        v.start_vault()
        assert v.open(session)["values"]["GH"] == box["values"]["GH"]
        v.stop("vault")
        v.env["CONTAINER_ENV_GH"] = "ghp_" + "c3D4" * 10
        v.start_vault()
        assert v.authorize(box["address"], host="api.github.com", stubs=[
            (HEADER, "authorization", box["values"]["GH"])])["verdict"] == 2
        v.stop("vault")
        # A master key that did not wrap this data refuses to start.
        v.stop("keeper")
        for name in "master.key", "identity.sealed", "root.pem":
            os.rename(v.path(name), v.path(name + ".old"))
        v.run_keeper("--init")
        v.start_keeper()
        p = v.run_vault(check=False)
        assert p.returncode == 1 and "master key" in p.stderr, p.stderr
        v.stop("keeper")
        for name in "identity.sealed", "root.pem":
            os.rename(v.path(name + ".old"), v.path(name))
        p = subprocess.run(v.keeper_args(), stderr=subprocess.PIPE, text=True)
        assert p.returncode == 1 and "does not open" in p.stderr
        os.rename(v.path("master.key.old"), v.path("master.key"))
        v.start_keeper()
        for name, value in (("STRANGE_TOKEN", "q8Zk2LmN0pXv7TyR4sWu1"),
                            ("CFG", "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg"),
                            ("AWS_ID", "AKIAIOSFODNN7EXAMPLE")):
            v.env["CONTAINER_ENV_" + name] = value
            p = v.run_vault(check=False)
            v.env.pop("CONTAINER_ENV_" + name)
            assert p.returncode == 1 and value not in p.stderr, p.stderr
            assert "CONTAINER_ENV_" + name in p.stderr, p.stderr


def a_signal_at_any_moment_of_start_ends_it():
    V.stop("vault")
    try:
        for n in range(12):
            p = subprocess.Popen(V.vault_args(), stderr=V.log,
                                 env=V.environ())
            time.sleep(n * 0.004)
            p.terminate()
            assert p.wait(10) in (0, 1, -15), p.returncode
    finally:
        V.start_vault()
    V.vault(V.key())


CHECK = """
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
try:
    s.send(struct.pack("IHHII", 0x4b424231, int(sys.argv[2]), 0, 0, 0))
    print(len(s.recv(4096)))
except OSError:
    print(0)
"""


def keeper_refuses_other_users():
    def ask(op, *runner):
        return int(subprocess.run(
            [*runner, "/usr/bin/python3", "-c", CHECK, V.path("keeper.sock"),
             str(op)], stdout=subprocess.PIPE, text=True).stdout)

    assert ask(1) > 300
    assert ask(1, "runuser", "-u", "nobody", "--") == 0
    assert ask(99) == 0
    assert V.resolve(V.key())["tenant"] == "default"
    V.vault(V.key())


TESTS = [
    credentials_say_when_they_were_last_used,
    explain_says_what_would_happen_and_why,
    a_value_is_rotated_without_a_failed_request,
    key_resolves_to_an_assertion_that_services_accept,
    unknown_revoked_and_malformed_keys_are_refused,
    forged_and_missing_assertions_are_refused,
    a_changed_key_row_is_corrupt,
    credential_is_write_only_and_sealed,
    bad_credentials_name_the_field_and_not_the_value,
    token_reaches_only_its_host_and_slot,
    slots_of_query_path_and_body_are_declared_one_by_one,
    bindings_that_contradict_themselves_are_refused,
    stubs_are_stable_and_belong_to_one_session_and_kind,
    methods_and_paths_narrow_a_binding,
    unknown_workloads_and_ended_sessions_get_nothing,
    an_address_that_moves_names_the_new_workload,
    grants_take_rights_from_the_persons_request_only,
    policies_are_versioned_and_checked,
    policies_name_methods_and_paths,
    observe_lets_pass_and_proposes_a_policy,
    a_ciphertext_that_was_moved_does_not_open,
    each_callers_socket_offers_only_its_methods,
    what_a_brain_may_use_is_read_before_egress_asks,
    row_security_hides_other_tenants,
    every_decision_has_an_audit_row_in_a_chain,
    what_is_kept_of_a_session_is_forgotten_at_once,
    archived_and_deleted_credentials_are_dead_at_once,
    stubs_of_mcp_credentials_reach_the_brain,
    vault_survives_database_and_keeper_restarts,
    intermediate_chains_to_the_root_and_is_narrow,
    brain_reaches_the_model_gateway_in_clear_text,
    a_signal_at_any_moment_of_start_ends_it,
    keeper_refuses_other_users,
]

if __name__ == "__main__":
    assert environment_request(["x"])
    with Vault() as V:
        main(TESTS)
