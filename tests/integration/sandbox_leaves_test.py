#!/usr/bin/python3
"""Nothing is left: after many sandboxes, and after the service was killed again
and again, there are no more mounts, groups, namespaces, processes and
descriptors than before, and memory is flat. Through gRPC, with the real
service, launcher and bridge.

SANDBOXES (default 1000) and KILLS (default 20) say how many. Needs root and a
base image, as sandbox_launcher_test.py.
"""
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_svc_test as svc  # noqa: E402

SANDBOXES = int(os.environ.get("SANDBOXES", "1000"))
KILLS = int(os.environ.get("KILLS", "20"))
WARM_UP = 100
# As long must nothing change before stock counts.
QUIET_S = 1.5
# What an allocator may hold on to. A leak of a page each would be 4 MiB.
RSS_SLACK_KIB = 2048


def rounds(w, n):
    subprocess.run([f"{svc.TOOLS}/sandbox_bench", f"unix:{w.tmp}/svc/s",
                    "turns", str(n)], check=True, stdout=subprocess.DEVNULL)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return [int(line.split()[1]) for line in f
                if line.startswith("VmRSS")][0]


def families(w):
    """Processes of the test, by parent, with the sandboxes' own."""
    parents = {}
    for p in os.listdir("/proc"):
        try:
            with open(f"/proc/{p}/stat") as f:
                parents[int(p)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            pass
    ours = {w.svc.pid, w.proc.pid, w.bridge.pid}
    grew = True
    while grew:
        more = {p for p, of in parents.items() if of in ours} - ours
        grew = bool(more)
        ours |= more
    return ours


def namespaces(pids):
    seen = set()
    for p in pids:
        for kind in ("mnt", "net", "pid", "ipc", "uts", "user", "cgroup"):
            try:
                seen.add(os.readlink(f"/proc/{p}/ns/{kind}"))
            except OSError:
                pass
    return len(seen)


def net_slab():
    """Network namespaces that the kernel has, also those of no process."""
    with open("/proc/slabinfo") as f:
        for line in f:
            if line.startswith("net_namespace"):
                return int(line.split()[1])
    return 0


def descriptors(pid):
    """Without the user namespaces, which the launcher makes once for each slot
    and keeps."""
    return len([fd for fd in os.listdir(f"/proc/{pid}/fd")
                if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith(
                    "user:[")])


def take_stock(w):
    daemons = {"service": w.svc.pid, "launcher": w.proc.pid,
               "bridge": w.bridge.pid}
    pids = families(w)
    with open("/proc/self/mountinfo") as f:
        mounts = len([line for line in f if w.tmp in line])
    stock = {"mounts": mounts, "processes": len(pids),
             "namespaces": namespaces(pids),
             "groups": sorted(len([e for e in os.listdir(g)
                                   if e.startswith("sbx_")])
                              for g in w.groups())}
    for name, pid in daemons.items():
        stock[f"descriptors of {name}"] = descriptors(pid)
    return stock


def settled(w):
    """Stock, once the pool is full again and nothing ends any more."""
    svc.wait_for(lambda: len(w.boxes()) == 2 and not w.ask(
        "list_sandboxes")[0]["sandboxes"], 30)
    # The launcher takes down what has ended a moment later, and rarely at
    # once. Nothing is asked of the service meanwhile: a call is a connection.
    last, since = None, 0
    for _ in range(300):
        now = take_stock(w)
        if now != last or now["groups"] != [2] * len(now["groups"]):
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= QUIET_S:
            return now
        time.sleep(0.1)
    raise AssertionError(f"still changing after 30 s: {last}")


def many_sandboxes_leave_nothing(w):
    rounds(w, WARM_UP)
    before, slab = settled(w), net_slab()
    memory = {p: rss_kib(p) for p in (w.svc.pid, w.proc.pid, w.bridge.pid)}
    rounds(w, SANDBOXES)
    after = settled(w)
    assert after == before, (before, after)
    grown = {p: rss_kib(p) - m for p, m in memory.items()}
    print(f"     {SANDBOXES} sandboxes: RSS grew by {list(grown.values())} "
          "KiB (service, launcher, bridge)")
    assert max(grown.values()) < RSS_SLACK_KIB or "san" in svc.base.BUILD, \
        grown
    # The kernel takes them down in the background; others may make some.
    svc.wait_for(lambda: net_slab() < slab + SANDBOXES / 10, 60)


def load(w, stop):
    while not stop.is_set():
        s = svc.session()
        w.ask("provision", f"session_id={s}", "call_id=p", "@timeout_ms=3000")
        w.ask("execute", f"session_id={s}", "call_id=c",
              "command=sleep 30 & echo x > f", "@timeout_ms=3000")
        if random.random() < 0.5:
            w.ask("end_turn", f"session_id={s}", "@timeout_ms=3000")


def a_service_that_is_killed_leaves_nothing(w):
    rounds(w, 5)
    before = settled(w)
    stop = threading.Event()
    workers = [threading.Thread(target=load, args=(w, stop)) for _ in range(3)]
    for t in workers:
        t.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.05, 0.4))
        w.svc.kill()
        w.svc.wait()
        w.start_service()
    stop.set()
    for t in workers:
        t.join()
    # Sessions of the load that the last service knows.
    for box in w.ask("list_sandboxes")[0]["sandboxes"]:
        w.ask("end_turn", f"session_id={box['session_id']}")
    after = settled(w)
    # It has had no rounds yet: fewer connections are fine.
    name = "descriptors of service"
    assert after.pop(name) <= before.pop(name) + 2, (before, after)
    assert after == before, (before, after)


TESTS = [many_sandboxes_leave_nothing, a_service_that_is_killed_leaves_nothing]

if __name__ == "__main__":
    svc.start_database()
    svc.base.main(TESTS, svc.Stack)
