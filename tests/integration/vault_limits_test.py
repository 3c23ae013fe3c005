#!/usr/bin/env python3
"""Odd and large input of a real vault: values at their bounds, a vault with
10,000 credentials, a database that goes away, a clock that is set back. Needs
root (initdb runs as postgres)."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import CALL, ROOT, VAULT, RpcError, Vault, main, \
    refused, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
API = "api.example.com"


def session(vault, env):
    w = V.open(V.put_grant(KEY, env, [vault]))
    return w["address"], w["values"]


def use(at, stub, host=API):
    return V.authorize(at, host, stubs=[(1, "authorization", stub)])


def values_at_their_bounds():
    vault, env = V.vault(KEY), V.put_policy(KEY, [API])
    for n, value in enumerate(("x" * 16, "y" * 65536, "ä" * 8, "~" * 16)):
        V.credential(KEY, vault, "T%d" % n, value, [API])
    at, values = session(vault, env)
    assert use(at, values["T1"])["swaps"][0]["value"] == "y" * 65536
    assert use(at, values["T2"])["swaps"][0]["value"] == "ä" * 8
    for bad in ("x" * 15, "y" * 65537, "", "tab\t0123456789abcd",
                "del\x7f0123456789abcd", "nul\x000123456789abcd"):
        message = refused("invalid", V.credential, KEY, vault, "B", bad,
                          [API])
        assert "secret_value" in message, message
    for name in ("", "1A", "A-B", "A B", "A=B", "Ä", "A" * 129):
        message = refused("invalid", V.credential, KEY, vault, name, SECRET,
                          [API])
        assert "secret_name" in message, message
    V.credential(KEY, vault, "A" * 128, SECRET, [API])


def a_vault_with_10000_credentials():
    vault, env = V.vault(KEY), V.put_policy(KEY, [API, "h7.example.com"])
    lines = "".join(json.dumps({"vault_id": vault, "auth_json": json.dumps({
        "type": "environment_variable", "secret_name": "T%d" % i,
        "secret_value": "large-value-%08d-abcdefghijkl" % i,
        "networking": {"type": "limited",
                       "allowed_hosts": ["h%d.example.com" % i]}})}) + "\n"
        for i in range(10000))
    p = subprocess.run(
        [CALL, V.socket("ingress"), "/" + VAULT
         + "VaultService/CreateCredential", "-m",
         "x-brainbox-assertion=" + V.as_key(KEY), "-"], input=lines,
        text=True, stdout=subprocess.PIPE, check=True)
    assert p.stdout.count("\n") == 10000 and '"error"' not in p.stdout
    at, values = session(vault, env)
    assert len(values) == 10000
    for i in 7, 9999:
        out = use(at, values["T%d" % i], "h7.example.com")
        if i == 7:
            assert out["swaps"][0]["value"].startswith("large-value-00000007")
            assert len(out["scrub"]) == 1
        else:
            assert out["reason"] == "stub_wrong_host", out
    page = V.call("ingress", "VaultService/ListCredentials",
                  {"vault_id": vault, "limit": 100}, V.as_key(KEY))
    assert len(page["data"]) == 100 and page["next_page"]
    out = V.call("egress", "EgressService/Fingerprints",
                 {"workload_address": at, "limit": 1})
    assert out["total"] >= 60000, out["total"]


def pg(verb):
    subprocess.run(["bash", ROOT + "/tests/support/pg.sh", verb, V.dir],
                   check=True, stdout=subprocess.DEVNULL)


def without_a_database_nothing_is_allowed_or_half_written():
    vault, env = V.vault(KEY), V.put_policy(KEY, [API])
    V.credential(KEY, vault, "T", SECRET, [API])
    at, values = session(vault, env)
    assert use(at, values["T"])["verdict"] == 1
    count = V.sql("SELECT count(*) FROM vault.credential")
    assertion = V.as_key(KEY)
    pg("stop")
    try:
        for _ in range(3):
            # What it may is in memory; its audit row cannot be written.
            message = refused("unavailable", use, at, values["T"])
            assert SECRET not in message
        refused("unavailable", V.call, "ingress",
                "VaultService/CreateCredential",
                {"vault_id": vault, "auth_json": json.dumps({
                    "type": "environment_variable", "secret_name": "U",
                    "secret_value": SECRET, "networking": {
                        "type": "limited", "allowed_hosts": [API]}})},
                assertion)
        refused("unavailable", V.open, "sesn_x")
    finally:
        pg("start")
    wait_for("the database", lambda: works(at, values["T"]))
    assert V.sql("SELECT count(*) FROM vault.credential") == count
    p = V.run_vault("audit", "verify", check=False)
    assert p.returncode == 0, p.stdout


def works(at, stub):
    try:
        return use(at, stub)["verdict"] == 1
    except RpcError as e:
        assert e.kind == "unavailable", e
        return False


def a_clock_that_is_set_back_loses_and_opens_nothing():
    vault, env = V.vault(KEY), V.put_policy(KEY, [API])
    V.credential(KEY, vault, "T", SECRET, [API])
    at, values = session(vault, env)
    old = V.as_key(KEY)
    gone = V.key()
    me = V.resolve(gone)
    V.call("ingress", "KeyService/RevokeKey", {"key_id": me["subject"]},
           V.as_key(KEY))
    before = int(V.sql("SELECT max(seq) FROM vault.audit"))
    restart("--clock-offset-seconds=-7200", keeper=False)
    # The keeper's clock is right: it signs nothing for another time.
    refused("internal|unavailable", V.resolve, KEY)
    assert use(at, values["T"])["verdict"] == 1
    restart("--clock-offset-seconds=-7200", keeper=True)
    refused("unauthenticated|denied", V.call, "ingress",
            "VaultService/GetVault", {"vault_id": vault}, old)
    refused("unauthenticated", V.resolve, gone)
    assert V.resolve(KEY)["tenant"] == "default"
    out = use(at, values["T"])
    assert out["swaps"][0]["value"] == SECRET
    rows = V.call("ingress", "AuditService/ListAudit", {"limit": 5},
                  V.as_key(KEY))["data"]
    assert rows[0]["seq"] > before, (rows[0], before)
    restart("--clock-offset-seconds=0", keeper=True)
    p = V.run_vault("audit", "verify", check=False)
    assert p.returncode == 0, p.stdout
    assert use(at, values["T"])["verdict"] == 1


def restart(option, keeper):
    V.stop("vault")
    if keeper:
        V.stop("keeper")
        args = V.keeper_args
        V.keeper_args = lambda: args() + [option]
        V.start_keeper()
        V.keeper_args = args
    V.args = [option]
    V.start_vault()


TESTS = [
    values_at_their_bounds,
    without_a_database_nothing_is_allowed_or_half_written,
    a_clock_that_is_set_back_loses_and_opens_nothing,
    a_vault_with_10000_credentials,
]

if __name__ == "__main__":
    with Vault() as V:
        KEY = V.key()
        main(TESTS)
