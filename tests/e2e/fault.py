#!/usr/bin/env python3
"""`make fault`: kill_test.py for every kind of fault, in several instances side
by side, and one table of all.

  SEEDS=50        seeds for each kind
  KINDS=a,b       these kinds alone
  SEED=kind:7     that one alone
  JOBS=2          instances at a time; `clock` has one of its own in any case

What an instance says is printed as it comes. A signal stops all of them, and each
takes its processes, mounts and folders with it.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import faults  # noqa: E402


def parts(kinds, jobs):
    """Lists of kinds, one for each instance: neighbours in the list are dealt
    out, since they take about as long."""
    rest = [k for k in kinds if k != "clock"]
    dealt = [rest[i::jobs] for i in range(jobs)]
    return [x for x in dealt + [["clock"]] if set(x) & set(kinds)]


def main():
    kinds = [k for k in os.environ.get("KINDS", "").split(",") if k]
    kinds = kinds or list(faults.KINDS)
    if os.environ.get("SEED"):
        kinds = [os.environ["SEED"].partition(":")[0]]
    unknown = set(kinds) - set(faults.KINDS)
    if unknown:
        sys.exit(f"KINDS: {' '.join(unknown)}: known are "
                 + " ".join(faults.KINDS))
    jobs = int(os.environ.get("JOBS", "2"))
    waiting = parts(kinds, jobs)
    running, rows, failed, stopped = [], [], [], []

    def stop(signum, _):
        stopped.append(128 + signum)
        waiting.clear()
        for p in running:
            p.terminate()
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, stop)
    with tempfile.TemporaryDirectory(prefix="bbfault", dir="/tmp") as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                part = waiting.pop(0)
                path = f"{folder}/{part[0]}"
                p = subprocess.Popen(
                    [sys.executable, HERE + "/kill_test.py"],
                    env=dict(os.environ, FAULTS=" ".join(part), ROWS=path))
                p.path = path
                running.append(p)
            p = next((p for p in running if p.poll() is not None), None)
            if p is None:
                time.sleep(0.2)
                continue
            running.remove(p)
            failed.append(p.returncode)
            if os.path.exists(p.path):
                with open(p.path) as f:
                    rows += json.load(f)
    faults.table(rows)
    passed = sum(r["ok"] for r in rows)
    print(f"{passed} passed, {len(rows) - passed} failed")
    sys.exit(stopped[0] if stopped else 1 if any(failed) or not passed else 0)


main()
