#!/usr/bin/python3
"""The launcher on machines with other cgroups than this one has by itself: v2
(here a hierarchy that may have none of the controllers), none, and what is not
there. As sandbox_launcher_test.py, which see.
"""
import json
import os
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_launcher_test as base  # noqa: E402

V2 = next((d for d in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
           if os.path.exists(f"{d}/cgroup.controllers")), None)


def own_group():
    with open("/proc/self/cgroup") as f:
        path = [line[3:].strip() for line in f if line.startswith("0::")][0]
    return V2 + path.rstrip("/")


class Other(base.Launcher):
    mode = ""

    @classmethod
    def for_test(cls, test):
        return type("Other", (cls,), {"mode": test.mode})

    def arguments(self):
        return super().arguments() + [f"--cgroup={self.mode}"]

    def groups(self):
        at = own_group() if self.mode == "v2" else ""
        mine = f"brainbox-{self.instance}"
        return [f"{at}/{mine}"] if at else [
            f"/sys/fs/cgroup/{c}/{mine}" for c in ("memory", "pids", "cpu")]

    def detected(self):
        # It listens before it has looked, and answers afterwards.
        assert self.ask(base.LIST)["type"] == 65
        with open(f"{self.tmp}/log") as f:
            return [json.loads(line) for line in f
                    if '"cgroup.detected"' in line][-1]


def mode(name):
    def mark(test):
        test.mode = name
        return test
    return mark


def attach(b):
    os.makedirs(f"{b.launcher.tmp}/output/{base.SESSION.decode()}",
                exist_ok=True)
    r = b.launcher.ask(base.ATTACH, b.name, base.SESSION)
    assert r["error"] == 0 and len(r["fds"]) == 1, r
    os.close(r["fds"][0])


def pids_of(group):
    with open(f"{group}/cgroup.procs") as f:
        return f.read().split()


@mode("v2")
def a_sandbox_is_born_in_its_v2_group(l):
    if V2 is None:
        print("skip: no v2 hierarchy")
        return
    with open(f"{own_group()}/cgroup.controllers") as f:
        there = f.read().split()
    seen = l.detected()
    assert seen["mode"] == "v2", seen
    missing = [c for c in ("memory", "pids", "cpu") if c not in there]
    assert seen["missing"] == ",".join(missing), (seen, there)
    assert seen["limits_hold"] == (not missing), seen
    b = l.create(1)
    attach(b)
    group = f"{l.groups()[0]}/{b.name.decode()}"
    with open(f"/proc/self/fdinfo/{b.pidfd}") as f:
        pid = [line.split()[1] for line in f if line.startswith("Pid:")][0]
    assert pid in pids_of(group), (pid, group)
    b.start("sleep 60")
    assert b.event()[0] == base.STARTED
    assert len(pids_of(group)) >= 2
    # From inside it is the root of all groups, and cannot be seen or changed.
    b.init.send(base.HEAD.pack(base.INIT_MAGIC, base.KILL, b.run_id, 0, 0))
    assert {b.event()[0], b.event()[0]} == {base.KILLED, base.EXITED}
    assert "0::/" in b.sh("cat /proc/self/cgroup").split("\n")
    b.fails("ls /sys/fs/cgroup/cgroup.procs")
    for limit, name in (("memory", "memory.max"), ("pids", "pids.max"),
                        ("cpu", "cpu.max")):
        if limit in there:
            with open(f"{group}/{name}") as f:
                assert not f.read().startswith("max"), name
    b.destroy()
    # Groups go a moment later, those of several sandboxes together.
    for _ in range(100):
        if not os.path.exists(group):
            return
        time.sleep(0.05)
    raise AssertionError(f"{group} stays")


@mode("v2")
def what_a_killed_launcher_left_in_v2_goes(l):
    if V2 is None:
        print("skip: no v2 hierarchy")
        return
    b = l.create(1)
    group = f"{l.groups()[0]}/{b.name.decode()}"
    l.proc.kill()
    l.proc.wait()
    assert select.select([b.pidfd], [], [], 5)[0], "sandbox lives"
    # As if something had outlived it there.
    left = subprocess.Popen(["sleep", "1000"])
    try:
        with open(f"{group}/cgroup.procs", "w") as f:
            f.write(str(left.pid))
        l.start()
        assert l.ask(base.LIST)["type"] == 65
        assert not os.path.exists(group)
        assert left.wait(5) == -9
    finally:
        left.kill()
        left.wait()


@mode("none")
def without_groups_sandboxes_work_and_it_is_said(l):
    seen = l.detected()
    assert seen["mode"] == "none" and not seen["limits_hold"], seen
    assert seen["missing"] == "memory,pids,cpu", seen
    assert seen["level"] == "warn", seen
    assert not any(os.path.exists(g) for g in l.groups())
    b = l.create(1)
    attach(b)
    assert b.sh("echo works > f; cat f; id -u").split() == ["works", "0"]
    # The limits that need no group hold.
    assert "No space" in b.fails("for i in 1 2 3 4 5; do head -c 32M /dev/zero"
                                 " > /root/f$i || exit 1; done")
    assert b.sh("ulimit -n") == "256"
    b.destroy()


@mode("v1")
def v1_can_be_asked_for(l):
    if not os.path.isdir("/sys/fs/cgroup/memory"):
        print("skip: no v1 hierarchies")
        return
    assert l.detected()["mode"] == "v1" and l.detected()["limits_hold"]
    b = l.create(1)
    assert b.sh("echo works") == "works"
    b.destroy()


@mode("none")
def what_is_not_there_is_refused(l):
    for word, error in (("v3", '"v3" is not auto, v2, v1 or none'),):
        r = subprocess.run(
            [a for a in l.arguments() if not a.startswith("--cgroup")
             and not a.startswith("--listen")]
            + [f"--cgroup={word}", f"--listen={l.tmp}/l/other"],
            capture_output=True, timeout=10, check=False)
        assert r.returncode == 1, r
        message = json.loads(r.stderr.splitlines()[-1])["message"]
        assert error in message, message


TESTS = [a_sandbox_is_born_in_its_v2_group,
         what_a_killed_launcher_left_in_v2_goes,
         without_groups_sandboxes_work_and_it_is_said, v1_can_be_asked_for,
         what_is_not_there_is_refused]

if __name__ == "__main__":
    base.main(TESTS, Other)
