#!/usr/bin/env python3
"""A backup of the vault, put back on another machine: a dump of its schema, the
keeper's folder, the signed heads. Needs root (initdb runs as postgres)."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
HEADER = 1
KEEPER = "master.key", "identity.sealed", "root.pem"


def backup(v, folder):
    """What an operator keeps; the vault may go on meanwhile."""
    with open(folder + "/vault.sql", "w") as f:
        subprocess.run(["pg_dump", v.pg + " user=postgres", "-n", "vault"],
                       check=True, stdout=f)
    for name in KEEPER + ("audit-heads",):
        shutil.copy2(v.path(name), folder)


def restore(v, folder, names=KEEPER + ("audit-heads",)):
    v.stop("keeper")
    v.sql("DROP SCHEMA vault CASCADE")
    subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1",
                    v.pg + " user=postgres", "-f", folder + "/vault.sql"],
                   check=True, stdout=subprocess.DEVNULL)
    for name in names:
        shutil.copy2(folder + "/" + name, v.dir)
    v.start_keeper()


def everything_works_again_elsewhere():
    with Vault() as one, Vault(start=False) as two:
        key = one.key()
        vault = one.vault(key)
        one.credential(key, vault, "API_TOKEN", SECRET, ["api.example.com"])
        env = one.put_policy(key, ["api.example.com"])
        session = one.put_grant(key, env, [vault])
        w = one.open(session)
        stub = [(HEADER, "authorization", w["values"]["API_TOKEN"])]
        one.authorize(w["address"], stubs=stub)
        n = int(one.sql("SELECT max(seq) FROM vault.audit"))
        wait_for("the head", lambda: os.path.exists(one.path("audit-heads"))
                 and " %d " % n in open(one.path("audit-heads")).read())
        folder = two.path("backup")
        os.mkdir(folder)
        backup(one, folder)
        with open(folder + "/vault.sql") as f:
            dump = f.read()
        assert SECRET not in dump and SECRET.encode().hex() not in dump
        assert key not in dump and w["values"]["API_TOKEN"] not in dump
        one.stop("vault")

        restore(two, folder)
        two.run_vault("--migrate")
        two.start_vault()
        out = two.authorize(w["address"], stubs=stub)
        assert out["verdict"] == 1 and out["swaps"][0]["value"] == SECRET
        assert two.resolve(key)["tenant"] == "default"
        assert two.open(session)["values"] == w["values"]
        assert "audit.rolled_back" not in two.logged()
        assert "0 findings" in two.run_vault("audit", "verify").stdout
        # Where they trusted the root before, they trust it now.
        assert open(two.path("ca.pem")).read() == open(
            one.path("ca.pem")).read()


def a_dump_without_the_keepers_folder_is_worth_nothing():
    with Vault() as one, Vault(start=False) as two:
        key = one.key()
        one.credential(key, one.vault(key), "T", SECRET, ["api.example.com"])
        wait_for("the head", lambda: os.path.exists(one.path("audit-heads")))
        folder = two.path("backup")
        os.mkdir(folder)
        backup(one, folder)
        restore(two, folder, ())
        p = two.run_vault(check=False)
        assert p.returncode == 1 and "master key" in p.stderr, p.stderr


TESTS = [
    everything_works_again_elsewhere,
    a_dump_without_the_keepers_folder_is_worth_nothing,
]

if __name__ == "__main__":
    main(TESTS)
