#!/usr/bin/env python3
"""The audit chain, its signed head and `audit verify`, against somebody who
writes to the database: a real vault_svc and PostgreSQL. Needs root."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import CALL, Vault, main, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
HEADER = 1


def fill(n=20):
    """Rows of all kinds; a session's address and stub."""
    w = V.open(V.put_grant(KEY, ENV, [VLT]))
    stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
    for i in range(n):
        V.authorize(w["address"], path="/%d" % i, stubs=stub)
    return w, stub


def top():
    return int(V.sql("SELECT max(seq) FROM vault.audit"
                     " WHERE tenant = 'default'"))


def heads():
    with open(V.path("audit-heads")) as f:
        return f.read()


def signed_seq():
    return int(heads().split()[2]) if os.path.exists(
        V.path("audit-heads")) else 0


def settle():
    wait_for("the head to be signed", lambda: signed_seq() == top())


def verify():
    p = V.run_vault("audit", "verify", check=False)
    assert p.returncode == (0 if ": 0 findings" in p.stdout or
                            "0 findings" in p.stdout else 1), p
    return p.returncode, p.stdout


class Saved:
    """The audit as it was, put back at the end."""

    def __enter__(self):
        settle()
        V.sql("DROP TABLE IF EXISTS public.kept; CREATE TABLE public.kept AS"
              " SELECT * FROM vault.audit")

    def __exit__(self, *_):
        V.stop("vault")
        V.sql("DELETE FROM vault.audit; INSERT INTO vault.audit"
              " SELECT * FROM public.kept")
        with open(V.path("audit-heads"), "w") as f:
            f.write(self.text)
        V.start_vault()

    def __init__(self):
        settle()
        self.text = heads()


def finds(*texts):
    code, out = verify()
    assert code == 1, out
    for t in texts:
        assert t in out, out


def an_honest_chain_verifies():
    fill()
    settle()
    code, out = verify()
    n = top()
    assert code == 0, out
    assert "tenant default: %d rows, %d signed, 0 findings" % (n, n) in out
    assert oct(os.stat(V.path("audit-heads")).st_mode)[-3:] == "600"
    assert "head default %d " % n in heads()


def edits_of_every_column_are_named():
    fill(3)
    for column, value in (
            ("detail", "'{\"reason\":\"allowed\",\"x\":1}'"),
            ("action", "'egress.denied'"), ("subject", "'key_other'"),
            ("object", "'https://other.example.com:443'"),
            ("session_id", "'sesn_other'"), ("id", "'aud_other'"),
            ("created_us", "created_us + 1"),
            ("mac", "decode(repeat('00', 32), 'hex')")):
        with Saved():
            n = top() - 2
            V.sql("UPDATE vault.audit SET %s = %s WHERE seq = %d"
                  % (column, value, n))
            finds("row %d (" % n, "was changed")


def deleted_rows_are_named():
    fill(5)
    with Saved():
        n = top() - 3
        V.sql("DELETE FROM vault.audit WHERE seq IN (%d, %d)" % (n, n + 1))
        finds("rows %d to %d are missing" % (n, n + 1))


def moved_rows_are_named():
    fill(3)
    with Saved():
        n = top()
        V.sql("UPDATE vault.audit SET seq = -1 WHERE seq = %d;"
              "UPDATE vault.audit SET seq = %d WHERE seq = %d;"
              "UPDATE vault.audit SET seq = %d WHERE seq = -1"
              % (n, n, n - 1, n - 1))
        finds("row %d (" % (n - 1), "row %d (" % n)


def a_cut_end_is_named():
    fill(5)
    with Saved():
        n = top()
        V.sql("DELETE FROM vault.audit WHERE seq > %d" % (n - 4))
        finds("rows after %d are missing: the signed head names row %d"
              % (n - 4, n))


def a_rollback_that_went_on_is_found():
    w, stub = fill(5)
    with Saved():
        V.stop("vault")
        n = top()
        V.sql("DELETE FROM vault.audit WHERE seq > %d" % (n - 4))
        V.start_vault()
        for i in range(9):
            V.authorize(w["address"], path="/again%d" % i, stubs=stub)
        assert top() > n
        # The signer sees it too, and does not sign over it.
        wait_for("the alarm", lambda: "audit.rolled_back" in V.logged())
        time.sleep(0.4)
        assert signed_seq() == n
        finds("row %d is not the one whose head was signed" % n)


def a_missing_cut_or_forged_head_is_found():
    fill(2)
    settle()
    text = heads()
    with Saved():
        V.stop("vault")
        os.unlink(V.path("audit-heads"))
        finds("no signed head")
        for bad in text[:-1], text[:40], text.replace("head ", "tail "):
            with open(V.path("audit-heads"), "w") as f:
                f.write(bad)
            p = V.run_vault("audit", "verify", check=False)
            assert p.returncode == 1 and "audit-heads" in p.stderr, p
        words = text.split()
        words[2] = str(int(words[2]) - 1)
        with open(V.path("audit-heads"), "w") as f:
            f.write(" ".join(words) + "\n")
        finds("signature of the head does not check")
        # A vault does not start over a file that it cannot read.
        with open(V.path("audit-heads"), "w") as f:
            f.write("rubbish\n")
        p = V.run_vault(check=False)
        assert p.returncode == 1 and "audit-heads" in p.stderr, p
        with open(V.path("audit-heads"), "w") as f:
            f.write(text)
        V.start_vault()


def rows_that_were_put_back_are_named():
    """Each old row carries a MAC that checks."""
    key = V.key()
    me = V.resolve(key)
    vault = V.vault(KEY)
    cred = V.credential(KEY, vault, "X", SECRET, ["api.example.com"])["id"]
    turned = V.credential(KEY, vault, "Y", SECRET, ["api.example.com"])["id"]
    session = V.put_grant(KEY, ENV, [vault])
    env = V.put_policy(KEY, ["a.example.com"])
    V.sql("DROP TABLE IF EXISTS public.k, public.c, public.g;"
          "CREATE TABLE public.k AS SELECT * FROM vault.api_key;"
          "CREATE TABLE public.c AS SELECT * FROM vault.credential;"
          "CREATE TABLE public.g AS SELECT * FROM vault.session_grant")
    V.call("ingress", "KeyService/RevokeKey", {"key_id": me["subject"]},
           me["assertion"])
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": vault, "credential_id": cred}, V.as_key(KEY))
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(KEY))
    V.put_policy(KEY, ["b.example.com"], env, 2)
    V.call("ingress", "VaultService/UpdateCredential", {
        "vault_id": vault, "credential_id": turned, "auth_json": json.dumps({
            "type": "environment_variable", "secret_value": SECRET * 2})},
        V.as_key(KEY))
    settle()
    assert verify()[0] == 0
    V.sql("BEGIN; SET LOCAL session_replication_role = replica;"
          "DELETE FROM vault.api_key WHERE id = '%s';"
          "INSERT INTO vault.api_key SELECT * FROM public.k WHERE id = '%s';"
          "DELETE FROM vault.credential WHERE id = '%s';"
          "INSERT INTO vault.credential SELECT * FROM public.c"
          " WHERE id = '%s';"
          "DELETE FROM vault.credential WHERE id = '%s';"
          "INSERT INTO vault.credential SELECT * FROM public.c"
          " WHERE id = '%s';"
          "DELETE FROM vault.session_grant WHERE session_id = '%s';"
          "INSERT INTO vault.session_grant SELECT * FROM public.g"
          " WHERE session_id = '%s';"
          "DELETE FROM vault.policy WHERE environment_id = '%s' AND"
          " version = 2; COMMIT" % (me["subject"], me["subject"], cred, cred,
                                    turned, turned,
                                    session, session, env))
    finds("key %s was revoked" % me["subject"],
          "credential %s was archived" % cred,
          "credential %s got a new value" % turned,
          "the grant of %s was ended" % session, "a policy of %s" % env)
    V.call("ingress", "VaultService/DeleteCredential",
           {"vault_id": vault, "credential_id": cred}, V.as_key(KEY))


def export_gives_every_row_and_follows():
    fill(3)
    n = top()
    out = V.run_vault("audit", "export").stdout.splitlines()
    rows = [json.loads(line) for line in out]
    assert [r["seq"] for r in rows] == list(range(1, n + 1))
    assert rows[-1]["action"] == "egress.allowed" and len(
        rows[-1]["mac"]) == 64
    assert SECRET not in "".join(out)
    assert len(V.run_vault("audit", "export", "--since=%d" % (
        n - 2)).stdout.splitlines()) == 2
    p = V.run_vault("audit", "export", "--tenant=nobody", check=False)
    assert p.returncode == 1 and "no tenant" in p.stderr
    p = subprocess.Popen(V.vault_args() + ["audit", "export", "--follow",
                                           "--since=%d" % n],
                         stdout=subprocess.PIPE, stderr=V.log, text=True,
                         env=V.environ())
    fill(1)
    line = json.loads(p.stdout.readline())
    assert line["seq"] == n + 1, line
    p.terminate()
    p.stdout.close()
    assert p.wait(10) == 0


def old_rows_go_and_the_rest_still_verifies():
    fill(20)
    settle()
    old = top()
    keep = V.args
    V.stop("vault")
    # Ten days later, by the service's own clock.
    V.args = keep + ["--audit-retention-days=3",
                     "--audit-retention-check-ms=300",
                     "--clock-offset-seconds=864000"]
    V.start_vault()
    try:
        wait_for("old rows to go", lambda: int(V.sql(
            "SELECT min(seq) FROM vault.audit WHERE tenant = 'default'"))
            >= old)
    finally:
        V.stop("vault")
        V.args = keep
        V.start_vault()
    assert "audit.pruned" in V.logged()
    fill(5)
    settle()
    code, out = verify()
    assert code == 0 and " 0 findings" in out, out
    first = int(V.sql("SELECT min(seq) FROM vault.audit"
                      " WHERE tenant = 'default'"))
    assert first > 1
    with Saved():  # one more row is gone than the chain says
        V.sql("DELETE FROM vault.audit WHERE seq = %d" % first)
        finds("rows 1 to %d are missing" % first)
    with Saved():  # it says another beginning
        V.sql("UPDATE vault.audit SET detail = replace(detail, '\"mac\":\"',"
              " '\"mac\":\"0') WHERE action = 'audit.pruned'")
        finds("are missing", "was changed")
    with Saved():
        V.sql("UPDATE vault.audit SET created_us = created_us + 1"
              " WHERE seq = %d" % first)
        finds("row %d (" % first, "was changed")


def rows_are_deleted_only_when_the_chain_says_so():
    before = int(V.sql("SELECT count(*) FROM vault.audit"))
    V.sql("SELECT vault.audit_prune('default', %d)" % (top() - 1))
    assert int(V.sql("SELECT count(*) FROM vault.audit")) == before


def one_tenants_trouble_is_not_anothers():
    """Rows of both stand in one batch; the chain of one has a row that somebody
    else wrote."""
    V.run_vault("--migrate", "--tenant=other")
    wait_for("the tenant to be known", lambda: V.run_vault(
        "key", "create", "--tenant=other", check=False).returncode == 0)
    key = V.key("--tenant=other")
    env = V.put_policy(key, ["*.example.com"])
    other = V.open(V.put_grant(key, env))["address"]
    mine = V.open(V.put_grant(KEY, ENV))["address"]

    def ask(address, path):
        return subprocess.Popen(
            [CALL, V.socket("egress"),
             "/agent.vault.v1.EgressService/Authorize", json.dumps({
                 "workload_address": address, "scheme": "https", "port": 443,
                 "host": "api.example.com", "method": "GET", "path": path})],
            stdout=subprocess.PIPE, text=True)

    for at in mine, other:  # what is kept of both
        assert ask(at, "/warm").wait(10) == 0
    with V.transaction(
            "LOCK TABLE vault.audit IN SHARE ROW EXCLUSIVE MODE;"
            "INSERT INTO vault.audit SELECT 'other', max(seq) + 1, 'aud_x', 0,"
            " 'x', '', '', '', '{}', '' FROM vault.audit WHERE tenant = 'other'"):
        first = ask(mine, "/first")  # waits for the lock, the others for it
        wait_for("the first batch", lambda: V.sql(
            "SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        asks = [ask(other, "/lost"), ask(mine, "/kept"), ask(other, "/lost")]
        time.sleep(0.5)
    answers = [json.loads(p.communicate(timeout=15)[0])
               for p in [first] + asks]
    assert [a.get("reason") for a in answers] == [
        "allowed", None, "allowed", None], answers
    assert "the audit row was not written" in answers[1]["error"]["message"]
    rows = V.sql("SELECT count(*) FROM vault.audit WHERE detail LIKE '%/lost%'")
    assert rows == "0", rows
    # The head was read again.
    assert json.loads(ask(other, "/after").communicate(timeout=15)[0])["reason"]
    V.sql("DELETE FROM vault.audit WHERE tenant = 'other'")


TESTS = [
    an_honest_chain_verifies,
    edits_of_every_column_are_named,
    deleted_rows_are_named,
    moved_rows_are_named,
    a_cut_end_is_named,
    a_rollback_that_went_on_is_found,
    a_missing_cut_or_forged_head_is_found,
    export_gives_every_row_and_follows,
    rows_that_were_put_back_are_named,
    rows_are_deleted_only_when_the_chain_says_so,
    old_rows_go_and_the_rest_still_verifies,
    one_tenants_trouble_is_not_anothers,
]

if __name__ == "__main__":
    with Vault() as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, ["api.example.com"])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
