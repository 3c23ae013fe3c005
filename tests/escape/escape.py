#!/usr/bin/python3
"""Attempts to get out of a sandbox, to see another one, or to take the machine
along: one named test each, in real sandboxes. docs/sandbox.md lists them.

    tests/escape/escape.py [NAME...]
    tests/escape/escape.py --without-each

The probes (probe.c) are compiled inside and run as root inside and as an
ordinary user. Needs root and a base image, as
tests/integration/sandbox_launcher_test.py.
"""
import ctypes
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cases_init  # noqa: E402
import cases_inside  # noqa: E402
import cases_limits  # noqa: E402
import cases_published  # noqa: E402
import cases_service  # noqa: E402
from support import base, svc  # noqa: E402

LAUNCHER_TESTS = (cases_inside.TESTS + cases_limits.TESTS
                  + cases_published.TESTS)
SERVICE_TESTS = cases_service.TESTS + cases_init.TESTS


# What the first named defence decides when those behind it are left out too:
# the tests fail without all of them. They pass without the others alone, but
# for those with "*", which do not stand without their first one.
DECIDED_BY = {
    "capabilities": ["capabilities_are_nine", "refused_mounts"],
    "no_new_privs,*seccomp": ["nothing_raises_privileges"],
    "seccomp": ["refused_namespaces", "refused_kernel", "refused_other_abi",
                "refused_sockets", "refused_devices"],
    "user_namespace": ["ids_are_of_no_one", "refused_rights",
                       "refused_kernel_files"],
    "landlock,seccomp": ["refused_topology"],
    "landlock,seccomp,user_namespace,capabilities": ["refused_any_device"],
    "landlock,net_namespace": ["nothing_outside_is_called"],
    "pid_namespace": ["other_sandboxes_are_not_there"],
    "net_namespace": ["only_loopback"],
    "ipc_namespace": ["other_sandboxes_are_not_there"],
    "uts_namespace": ["hostname_is_its_own"],
    "cgroup_namespace": ["cgroups_show_no_path"],
    "pivot_root": ["nothing_of_the_machine_is_mounted"],
    "mount_flags": ["only_six_device_nodes"],
    "dev_read_only": ["only_six_device_nodes"],
    "keyring,seccomp": ["keys_of_the_machine_are_not_there"],
    "sealed_init,landlock": ["init_is_a_sealed_copy"],
    "empty_environment": ["nothing_inherited"],
    "close_range,close_on_exec": ["nothing_inherited"],
    "close_on_exec,close_range": ["nothing_inherited"],
    "process_limits": ["refused_rights"],
    "oom_score": ["goes_before_services"],
    "parent_death_signal": ["dies_with_the_launcher"],
    "memory_limit": ["memory_is_limited"],
    "pids_limit": ["processes_are_counted"],
    "cpu_limit": ["processor_time_is_limited"],
    "disk_limit": ["space_is_limited"],
    "inode_limit": ["inodes_are_limited"],
    "openat2": ["folders_are_opened_without_links"],
    "output_place": ["links_lead_nowhere"],
    "empty_environment,dumpable": ["no_secret_of_the_services"],
    "dumpable": ["refused_tracing", "init_cannot_be_turned"],
    "output_limit": ["output_is_limited"],
    "pass_rights": ["init_lies_lingers"],
    "event_budget": ["init_lies_flood"],
    "work_mode": ["workspaces_are_closed_to_users_of_the_machine"],
}


# A sandbox still works without the defence: what fails, fails for want of it.
CONTROL = "sandboxes_work"


def give_a_key():
    """One that the launcher inherits, and a sandbox must not."""
    c = ctypes.CDLL(None)
    join, add_key, session_keyring = 1, 248, -3
    if c.syscall(250, join, None) < 0 or c.syscall(
            add_key, b"user", b"bbsecret-key", b"x", 1, session_keyring) < 0:
        sys.exit("no session keyring can be made")


def run_without(defences, tests):
    """Output of this file run again, in a build that can leave out."""
    r = subprocess.run([sys.executable, __file__, *tests],
                       env={**os.environ, "SANDBOX_WITHOUT": defences},
                       capture_output=True, check=False)
    return r.stdout.decode()


def without_each():
    passed = missed = 0
    for names, tests in DECIDED_BY.items():
        defence, *others = names.split(",")
        out = run_without(names.replace("*", ""), [CONTROL] + tests)
        with_it = ""
        if others and not others[0].startswith("*"):
            with_it = run_without(",".join(others), tests)
        for test in tests:
            fails = (f"FAIL {test}\n" in out
                     and f"ok   {CONTROL}\n" in out)
            passes = not with_it or f"ok   {test}\n" in with_it
            good = fails and passes
            passed, missed = passed + good, missed + (not good)
            print(f"{'ok  ' if good else 'FAIL'} without {names}: {test} "
                  f"{'fails' if fails else 'passes'}"
                  f"{'' if passes else ', also with ' + defence}")
    print(f"{passed} passed, {missed} failed")
    sys.exit(1 if missed else 0)


def main():
    if os.geteuid() != 0:
        sys.exit("tests of sandboxes need root")
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["ESCAPE_SECRET"] = "bbsecret-from-the-service"
    give_a_key()
    base.make_image()
    if sys.argv[1:] == ["--without-each"]:
        without_each()
    names = set(sys.argv[1:])
    def wanted(tests):
        return [t for t in tests if not names or t.__name__ in names]
    unknown = names - {t.__name__ for t in LAUNCHER_TESTS + SERVICE_TESTS}
    if unknown:
        sys.exit(f"no test {', '.join(sorted(unknown))}")
    results = [base.run_one(t, base.Launcher) for t in wanted(LAUNCHER_TESTS)]
    if wanted(SERVICE_TESTS):
        svc.start_database()
        results += [base.run_one(t, svc.Stack) for t in wanted(SERVICE_TESTS)]
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
