#!/usr/bin/python3
"""Every limit of a sandbox is named: in the result of the command that met it,
in the log, and to whoever comes back to a sandbox that it ended. Real service,
launcher and PostgreSQL, as sandbox_svc_test.py, which see.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_launcher_test as base  # noqa: E402
import sandbox_svc_test as svc  # noqa: E402
from sandbox_svc_test import session, wait_for, with_options  # noqa: E402

SMALL = ["--memory-mib=128", "--disk-mib=16", "--disk-inodes=2000"]


def logged(w, limit, sesn):
    with open(f"{w.tmp}/log") as f:
        return any('"event":"limit.reached"' in line and sesn in line
                   and f'"limit":"{limit}"' in line for line in f)


def named(w, limit, command, *fields, outcome="LIMIT_REACHED"):
    s = session()
    w.provision(s)
    r = w.execute(s, "c1", command, *fields)[0]
    assert (r["outcome"], r["limit"]) == (outcome, limit), r
    wait_for(lambda: logged(w, limit, s))
    # What it is recorded as.
    r = w.execute(s, "c1", command, *fields)[0]
    assert r["is_recorded"] and r["limit"] == limit, r
    return s


@with_options(*SMALL)
def space_of_the_root(w):
    fill = "for i in 1 2 3 4 5; do head -c 4M /dev/zero > /%s/f$i || exit 1; done"
    s = named(w, "disk", fill % "root")
    # It can be made room in, and what fails then fails for itself.
    r = w.execute(s, "c2", "rm /root/f*; exit 3")[0]
    assert (r["outcome"], r["exit_code"], r["limit"]) == ("EXITED", 3, ""), r
    named(w, "disk", fill % "dev/shm")


@with_options(*SMALL)
def inodes_of_the_root(w):
    named(w, "disk", "cd /root; seq 3000 | xargs touch")


@with_options(*SMALL)
def size_of_one_file(w):
    named(w, "disk", "exec head -c 20M /dev/zero > /workspace/f")
    named(w, "disk", "head -c 20M /dev/zero > /workspace/f; exit $?")


@with_options("--workspace-inodes=500")
def inodes_of_the_workspace(w):
    s = named(w, "disk", "seq 600 | xargs touch; sleep 30")
    r = w.execute(s, "c2", "rm [0-9]*; sleep 3; echo room")[0]
    assert r["stdout"] == "room\n", r


@with_options("--open-files=24")
def open_files(w):
    named(w, "open_files", "python3 -c 'l = [open(\"/etc/passwd\") for i in "
          "range(100)]'")


@with_options("--cpu-milli=200")
def processor(w):
    named(w, "cpu", "timeout 2 sh -c 'while :; do :; done'; exit 0",
          outcome="EXITED")
    s = session()
    w.provision(s)
    assert w.execute(s, "c1", "sleep 0.3")[0]["limit"] == ""


def wall_time(w):
    named(w, "wall_time", "sleep 60", "timeout_seconds=1", outcome="TIMED_OUT")


@with_options("--memory-mib=64", "--pids=32")
def memory_and_processes(w):
    named(w, "memory", "python3 -c 'x = b\"a\" * (500 << 20)'")
    named(w, "pids", "for i in $(seq 100); do sleep 9 & done; exit 1")


@with_options("--idle-seconds=2")
def idle_time(w):
    s = session()
    first = w.provision(s)["sandbox_id"]
    # A command is no idle time, however long.
    assert w.execute(s, "c1", "sleep 3; echo on")[0]["stdout"] == "on\n"
    wait_for(lambda: not w.ask("list_sandboxes")[0].get("sandboxes"))
    assert logged(w, "idle_seconds", s)
    e = w.execute(s, "c2", "true")[0]
    assert e["error"] == "precondition" and "nothing ran in it" in e[
        "message"], e
    assert w.provision(s)["sandbox_id"] != first
    assert w.execute(s, "c3", "echo on")[0]["stdout"] == "on\n"
    w.ask("end_turn", f"session_id={s}")
    e = w.execute(s, "c4", "true")[0]
    assert "nothing ran" not in e["message"], e


@with_options("--session-seconds=2")
def time_of_a_sandbox(w):
    s = session()
    w.provision(s)
    r = w.execute(s, "c1", "sleep 60")[0]
    assert r["outcome"] == "CANCELLED", r
    wait_for(lambda: logged(w, "session_seconds", s))
    e = w.execute(s, "c2", "true")[0]
    assert "its time is over" in e["message"], e


TESTS = [space_of_the_root, inodes_of_the_root, size_of_one_file,
         inodes_of_the_workspace, open_files, processor, wall_time,
         memory_and_processes, idle_time, time_of_a_sandbox]

if __name__ == "__main__":
    svc.start_database()
    base.main(TESTS, svc.Stack)
