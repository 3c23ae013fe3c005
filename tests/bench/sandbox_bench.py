#!/usr/bin/python3
"""Sandboxes: through gRPC as a brain uses them, and cold beside their peers.

    tests/bench/sandbox_bench.py [ROUNDS]

Real service, launcher, bridge and PostgreSQL, and a fake vault. Prints a line
"figure NAME VALUE UNIT" for each figure, and writes a table and a plot of the
peers to the folder OUT when that is set. Needs root and a base image, as
tests/integration/sandbox_launcher_test.py.
"""
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [HERE, f"{HERE}/../integration", f"{HERE}/../escape"]
import cases_service  # noqa: E402
import sandbox_peers as peers  # noqa: E402
import sandbox_svc_test as svc  # noqa: E402

IDLE = 5000


def figure(name, value, unit, digits=2):
    print(f"figure sandbox.{name} {value:.{digits}f} {unit}", flush=True)


@contextlib.contextmanager
def service(*options):
    """A stack of its own, as the tests have it."""
    kind = type("Stack", (svc.Stack,), {"options": list(options)})
    with tempfile.TemporaryDirectory(prefix="bb", dir="/tmp") as tmp:
        stack = kind(tmp)
        try:
            yield stack
            stack.stop()
        finally:
            stack.kill()


def run(stack, mode, count, *more):
    """The figures of one run of tests/support/sandbox_bench.c."""
    r = subprocess.run([f"{svc.TOOLS}/sandbox_bench",
                        f"unix:{stack.tmp}/svc/s", mode, str(count), *more],
                       check=True, stdout=subprocess.PIPE)
    return {m[1]: (float(m[2]), m[3]) for m in re.finditer(
        r"figure \w+\.(\w+) ([\d.]+) (\S+)", r.stdout.decode())}


def turns(rounds):
    """Warm, sequential and staggered."""
    with service() as w:
        s = svc.session()
        w.provision(s)
        w.execute(s, "fill", "head -c 10M /dev/urandom > f")
        w.ask("end_turn", f"session_id={s}")
        time.sleep(1)
        for name, (value, unit) in run(w, "sequential", rounds, s).items():
            figure(name, value, unit)
        time.sleep(1)
        found = run(w, "staggered", 100)
        for q in ("p50", "p95", "p99"):
            figure(f"staggered_warm_{q}_ms", found[f"warm_{q}_ms"][0], "ms")
    with service("--pool-min=110", "--max-sandboxes=200") as w:
        svc.wait_for(lambda: len(w.boxes()) >= 110, 60)
        time.sleep(1)
        found = run(w, "burst", 100)
        for q in ("p50", "p95", "p99"):
            figure(f"burst100_{q}_ms", found[f"provision_{q}_ms"][0], "ms")
    with service() as w:
        s = svc.session()
        w.provision(s)
        found = run(w, "loop", rounds, s)
        for q in ("p50", "p95", "p99"):
            figure(f"execute_warm_{q}_ms", found[f"execute_{q}_ms"][0], "ms")


def output():
    """One command that prints 2 GB, all of it kept in a file besides."""
    with service("--output-file-mib=4096") as w:
        s = svc.session()
        w.provision(s)
        found = run(w, "loop", 1, s, "head -c 2000000000 /dev/zero")
        figure("output_gb_s", *found["output_gb_s"])


def neighbours():
    """Commands of one session beside each hog of another."""
    worst = 0
    with service(*cases_service.HOG_OPTIONS) as w:
        calm, hog = svc.session(), svc.session()
        w.provision(calm)
        alone = run(w, "loop", 100, calm)["execute_p50_ms"][0]
        for name, command in cases_service.HOGS.items():
            w.provision(hog)
            t = threading.Thread(target=w.execute, args=(
                hog, name, command, "timeout_seconds=20"))
            t.start()
            time.sleep(0.2)
            ratio = run(w, "loop", 60, calm)["execute_p50_ms"][0] / alone
            figure(f"beside_{name}", ratio, "ratio")
            worst = max(worst, ratio)
            w.ask("end_turn", f"session_id={hog}")
            t.join()
    figure("neighbour_vs_alone", worst, "ratio")


def available_kib():
    with open("/proc/meminfo") as f:
        return int(re.search(r"MemAvailable:\s+(\d+)", f.read())[1])


def many():
    """So many idle at once, with limits: what each takes, how fast they came."""
    with peers.launcher("--max-sandboxes=8192") as path:
        time.sleep(1)
        before = available_kib()
        p = subprocess.Popen([f"{svc.TOOLS}/launcher_bench", path, "hold",
                              str(IDLE), "1"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
        line = p.stdout.readline().decode()
        m = re.match(r"built (\d+) in (\d+) ms", line)
        assert m, "the launcher did not build them: see above"
        time.sleep(2)
        figure("idle_count", int(m[1]), "sandboxes", 0)
        figure("created_per_s", int(m[1]) * 1000 / int(m[2]), "1/s", 0)
        figure("idle_kib", (before - available_kib()) / int(m[1]), "KiB", 0)
        p.stdin.close()
        p.wait()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    svc.base.make_image()
    svc.start_database()
    turns(rounds)
    output()
    neighbours()
    peers.compare(figure)
    many()


if __name__ == "__main__":
    main()
