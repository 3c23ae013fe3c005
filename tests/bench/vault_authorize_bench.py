#!/usr/bin/python3
"""Decisions with a committed audit row at a fixed rate: one tenant with one
credential, and 100 tenants with 10,000, in turns; beside them the commits alone
(fdatasync, and an INSERT of one row by PostgreSQL). Real vault, keeper and
PostgreSQL.

    vault_authorize_bench.py [RATE [SECONDS [ROUNDS]]]
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
from vault_support import BUILD, CALL, VAULT, Vault  # noqa: E402

RATE, SECONDS, ROUNDS = [int(x) for x in (sys.argv[1:] + [2000, 6, 3][
    len(sys.argv) - 1:])]
TENANTS, EACH = 100, 100
# As in production: tests sign and write more often.
USUAL = ["--audit-head-ms=1000", "--use-flush-ms=5000"]
HOST = "h0.example.com"


def floor(folder):
    """Microseconds of one write of 8 KiB and fdatasync: median, 99th."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as f:
        f.write(b"\0" * 8192 * 64)
        os.fsync(f.fileno())
        for i in range(1000):
            start = time.perf_counter()
            os.pwrite(f.fileno(), b"x" * 8192, i % 64 * 8192)
            os.fdatasync(f.fileno())
            took.append((time.perf_counter() - start) * 1e6)
    took.sort()
    return took[500], took[990]


def commit(v):
    """The same of PostgreSQL: one connection, one row a commit."""
    v.sql("CREATE TABLE public.bench (x text)")
    script = v.path("bench.sql")
    with open(script, "w") as f:
        f.write("INSERT INTO public.bench VALUES (repeat('x', 400));\n")
    bench = subprocess.run(
        ["bash", "-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"],
        stdout=subprocess.PIPE, text=True).stdout.strip() + "/pgbench"
    log = v.path("bench-log")
    subprocess.run([bench, "-n", "-f", script, "-T", "3", "-l",
                    "--log-prefix=" + log, v.pg + " user=postgres"],
                   check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    took = []
    for name in os.listdir(v.dir):
        if name.startswith("bench-log"):
            with open(v.path(name)) as f:
                took += sorted(int(x.split()[2]) for x in f)
    return took[len(took) // 2], took[len(took) * 99 // 100]


def credentials(v, key, vault, n):
    assertion = v.as_key(key)
    lines = "".join(json.dumps({"vault_id": vault, "auth_json": json.dumps({
        "type": "environment_variable", "secret_name": "T%d" % i,
        "secret_value": "bench-value-%08d-abcdefghijkl" % i,
        "networking": {"type": "limited",
                       "allowed_hosts": ["h%d.example.com" % i]}})}) + "\n"
        for i in range(n))
    p = subprocess.run(
        [CALL, v.socket("ingress"), "/" + VAULT
         + "VaultService/CreateCredential", "-m",
         "x-brainbox-assertion=" + assertion, "-"], input=lines, text=True,
        stdout=subprocess.PIPE, check=True)
    assert p.stdout.count("\n") == n and '"error"' not in p.stdout, \
        p.stdout[-500:]


def fill(v, tenants, each):
    """Workloads with their stubs, one a tenant."""
    out = []
    for t in tenants:
        key = v.key("--tenant=" + t)
        vault = v.vault(key)
        credentials(v, key, vault, each)
        env = v.put_policy(key, ["*.example.com"])
        w = v.open(v.put_grant(key, env, [vault]))
        out.append("%s %s\n" % (w["address"], w["values"]["T0"]))
    return "".join(out)


def load(v, lines):
    p = subprocess.run([BUILD + "/tools/vault_load", v.path("egress.sock"),
                        str(RATE), str(SECONDS), HOST], input=lines, text=True,
                       stdout=subprocess.PIPE, check=False)
    return [float(x) for x in p.stdout.split()] if p.returncode == 0 else None


def figure(name, value, unit):
    print("figure vault.%s %.4g %s" % (name, value, unit), flush=True)


def main():
    with Vault(start=False, args=USUAL) as big, Vault(args=USUAL) as small:
        names = ["t%d" % i for i in range(TENANTS)]
        for t in names:
            big.run_vault("--migrate", "--tenant=" + t)
        big.start_vault()
        one, many = fill(small, ["default"], 1), fill(big, names, EACH)
        sync = floor(small.dir)
        figure("fdatasync_p50_us", sync[0], "us")
        figure("fdatasync_p99_us", sync[1], "us")
        row = commit(small)
        figure("commit_p50_us", row[0], "us")
        figure("commit_p99_us", row[1], "us")
        got = {"one": [], "many": []}
        for _ in range(ROUNDS):
            got["one"].append(load(small, one))
            got["many"].append(load(big, many))
        # A round in which the rate was too much is a figure, too.
        lost = sum(x is None for v in got.values() for x in v)
        figure("authorize_rounds_lost", lost, "rounds")
        mid = {k: [statistics.median(x[i] for x in v if x) for i in range(3)]
               for k, v in got.items() if any(v)}
        if len(mid) < 2:
            sys.exit(1)
        figure("authorize_rps", mid["one"][0], "1/s")
        figure("authorize_p50_us", mid["one"][1], "us")
        figure("authorize_p99_us", mid["one"][2], "us")
        figure("authorize_10k_p50_us", mid["many"][1], "us")
        figure("authorize_10k_p99_us", mid["many"][2], "us")
        figure("authorize_10k_vs_one", mid["many"][1] / mid["one"][1],
               "ratio")
        figure("authorize_vs_commit", mid["one"][1] / row[0], "ratio")


main()
