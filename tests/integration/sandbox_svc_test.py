#!/usr/bin/python3
"""sandbox_svc over gRPC: the real service, launcher, bridge and PostgreSQL,
with a fake vault and a fake egress. The service runs as `nobody`.

Needs root and a base image, as sandbox_launcher_test.py. Names of tests may be
given as arguments.
"""
import atexit
import json
import os
import pwd
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_launcher_test as base  # noqa: E402
import sandbox_bridge_test as bridge  # noqa: E402

TOOLS = f"{base.BUILD}/tools"
NOBODY = pwd.getpwnam("nobody")
CA = "-----BEGIN CERTIFICATE-----\nFAKE\n-----END CERTIFICATE-----\n"
FORK_BOMB = """python3 -c '
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
' &"""
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
database = None


def session(last="0"):
    """An id that no other test has."""
    return ("sesn_0" + "".join(random.choice(ALPHABET) for _ in range(24))
            + last)


class Stack(bridge.World):
    """Everything, for one test. `options` of a test are for sandbox_svc."""
    options = []

    @classmethod
    def for_test(cls, test):
        return type("Stack", (getattr(test, "world", cls),),
                    {"options": getattr(test, "options", [])})

    def __init__(self, tmp):
        os.chmod(tmp, 0o711)
        self.svc = self.vault = None
        for name in ("svc", "vault", "output"):
            os.mkdir(f"{tmp}/{name}")
        for name in ("svc", "output"):
            os.chown(f"{tmp}/{name}", NOBODY.pw_uid, NOBODY.pw_gid)
        with open(f"{tmp}/ca.pem", "w") as f:
            f.write(CA)
        self.events = f"{tmp}/vault/events"
        super().__init__(tmp)
        # The service tries again after a second, which a test may not have.
        wait_for(lambda: os.path.exists(self.sock_path))
        self.start_vault()
        self.start_service()

    def connect(self):
        """The launcher's one client is the service."""

    def arguments(self):
        return super().arguments() + ["--peer-user=nobody"]

    def start_vault(self, *arguments):
        self.vault = subprocess.Popen(
            [f"{TOOLS}/fake_vault", f"{self.tmp}/vault/s",
             f"{self.tmp}/ca.pem", "stub=API_TOKEN=bbxsstub",
             "env=GREETING=hello there", "host=api.test", *arguments],
            stdout=open(self.events, "a"), stderr=self.log)

    def start_service(self, *options):
        self.svc = subprocess.Popen(
            [f"{base.BIN}/sandbox_svc", f"--listen-brain={self.tmp}/svc/s",
             f"--launcher={self.sock_path}", "--orphan-seconds=4",
             f"--vault=unix:{self.tmp}/vault/s",
             f"--database={database} user=sandbox_run",
             f"--output-dir={self.tmp}/output", "--user=nobody",
             *([] if any(o.startswith("--pool-m") for o in self.options)
               else ["--pool-max=2"]),
             *self.options, *options], stderr=self.log)
        for _ in range(200):
            if os.path.exists(f"{self.tmp}/svc/s") and self.ask(
                    "health", "@timeout_ms=1000")[-1].get(
                        "status") == "SERVING":
                return
            time.sleep(0.02)
        raise AssertionError("sandbox_svc does not answer")

    def command(self, method, *fields):
        return [f"{TOOLS}/sandbox_call", f"unix:{self.tmp}/svc/s", method,
                *fields]

    def ask(self, method, *fields):
        """Each message that comes back."""
        r = subprocess.run(self.command(method, *fields), capture_output=True,
                           timeout=120)
        return [json.loads(line) for line in r.stdout.splitlines()]

    def provision(self, sesn, *fields):
        return self.ask("provision", f"session_id={sesn}", "call_id=p1",
                        *fields)[-1]

    def execute(self, sesn, call, command, *fields):
        """(result or error, everything on stdout, on stderr)"""
        items = self.ask("execute", f"session_id={sesn}", f"call_id={call}",
                         f"command={command}", *fields)
        return (items[-1].get("result", items[-1]),
                "".join(i.get("stdout", "") for i in items),
                "".join(i.get("stderr", "") for i in items))

    def stop(self):
        self.svc.terminate()
        assert self.svc.wait(20) == 0, "sandbox_svc did not stop well"
        self.vault.terminate()
        assert self.vault.wait(10) == 0
        super().stop()

    def kill(self):
        for p in (self.svc, self.vault):
            if p is not None and p.poll() is None:
                p.kill()
                p.wait()
        super().kill()

    def boxes(self):
        path = f"/sys/fs/cgroup/pids/brainbox-{self.instance}"
        return [e for e in os.listdir(path) if e.startswith("sbx_")]

    def living(self):
        """Those in which something runs."""
        path = f"/sys/fs/cgroup/pids/brainbox-{self.instance}"
        return [b for b in self.boxes()
                if open(f"{path}/{b}/cgroup.procs").read()]

    def vault_events(self):
        with open(self.events) as f:
            return [line.split() for line in f]


def with_options(*options):
    def mark(test):
        test.options = list(options)
        return test
    return mark


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


# ---------------------------------------------------------------- tests ----

def provision_and_execute(w):
    s = session()
    p = w.provision(s, "task_description=build it")
    assert p["sandbox_id"].startswith("sbx_") and p["is_new"], p
    assert (p["image"], p["workdir"]) == ("base", "/workspace"), p
    assert p["env_names"] == ["GREETING", "API_TOKEN"] or \
        p["env_names"] == ["API_TOKEN", "GREETING"], p
    assert p["allowed_hosts"] == ["api.test"], p
    assert p["limits"]["memory_bytes"] == 512 << 20, p
    r, out, errors = w.execute(
        s, "c1", "echo $GREETING $API_TOKEN; pwd; echo oops >&2; exit 4",
        f"sandbox_id={p['sandbox_id']}")
    assert r["outcome"] == "EXITED" and r["exit_code"] == 4, r
    assert out == "hello there bbxsstub\n/workspace\n" == r["stdout"], r
    assert errors == "oops\n" == r["stderr"], r
    assert not r["truncated"] and not r["is_recorded"], r
    again = w.provision(s)
    assert again["sandbox_id"] == p["sandbox_id"] and not again["is_new"]
    opened = w.vault_events()
    assert opened[0][:3] == ["open", s, p["sandbox_id"]], opened
    assert opened[0][4].startswith("fd"), opened
    assert w.ask("list_sandboxes")[0]["sandboxes"][0]["session_id"] == s
    assert w.ask("end_turn", f"session_id={s}") == [{"destroyed": True}]
    assert w.ask("end_turn", f"session_id={s}") == [{"destroyed": False}]
    wait_for(lambda: ["close", p["sandbox_id"]] in w.vault_events())
    assert p["sandbox_id"] not in w.living()
    assert w.execute(s, "c2", "true")[0]["error"] == "precondition"


def stdin_and_workspace(w):
    s = session()
    w.provision(s)
    r, out, _ = w.execute(s, "c1", "cat > f; wc -c < f", "stdin=" + "x" * 9000)
    assert (r["exit_code"], out) == (0, "9000\n"), r
    w.ask("end_turn", f"session_id={s}")
    w.provision(s)
    r, out, _ = w.execute(s, "c2", "wc -c < f; rm f")
    assert out == "9000\n", r
    r, out, _ = w.execute(s, "c3", "echo a > /dev/stderr; su www-data -s "
                          "/bin/sh -c 'echo b > /dev/stdout'")
    assert (r["stdout"], r["stderr"]) == ("b\n", "a\n"), r


def commands_of_a_turn_go_on_where_the_last_one_stopped(w):
    s = session()
    w.provision(s)

    def out(call, command, *more):
        r, text, errors = w.execute(s, call, command, *more)
        assert r["outcome"] == "EXITED", (r, errors)
        return text

    assert out("c1", "pwd; echo $GREETING") == "/workspace\nhello there\n"
    out("c2", "mkdir -p \"it's/x\"; cd \"it's/x\"; export A=\"it's\" B; "
        "GREETING=bye; PATH=$PATH:/opt; false")
    assert out("c3", "pwd; echo $A; echo $GREETING ${PATH##*:}; cd ..; pwd") \
        == "/workspace/it's/x\nit's\nbye /opt\n/workspace/it's\n"
    assert out("c4", "cd - >&2; pwd; exit 3") == "/workspace/it's/x\n"
    # The folder is gone, the next command is not.
    assert out("c6", "cd /workspace/it*/x; rmdir /workspace/it*/x") == ""
    assert out("c7", "pwd") == "/workspace\n"
    # What stands in for the end of a shell is the command's own business.
    assert out("c8", "cd /tmp; trap 'echo mine' EXIT") == "mine\n"
    assert out("c9", "pwd; cd /tmp; exec true") == "/workspace\n"
    assert out("c10", "pwd") == "/workspace\n"
    w.ask("end_turn", f"session_id={s}")
    w.provision(s)
    assert out("d1", "pwd; echo ${A-none} $GREETING") \
        == "/workspace\nnone hello there\n"


def what_a_command_leaves_cannot_stop_the_next(w):
    s = session()
    w.provision(s)
    for i, broken in enumerate((
            "echo 'if (' > /run/brainbox/state; exec true",
            "echo 'exit 7' > /run/brainbox/state; exec true",
            "echo 'kill -9 $$' > /run/brainbox/state; exec true",
            "head -c 9000000 /dev/urandom > /run/brainbox/state; exec true",
            "echo 'sleep 600' > /run/brainbox/state; exec true",
            "echo 'while :; do :; done' > /run/brainbox/state; exec true",
            "rm -rf /run/brainbox; exec true",
            "rm -rf /run/brainbox; ln -s /proc /run/brainbox; exec true",
            "(while :; do pkill -9 -P 1 sh; sleep 0.01; done) >&- 2>&- & "
            "pid=$!; (sleep 0.5; kill $pid) >&- 2>&- & exec true")):
        r, _, errors = w.execute(s, f"c{i}", broken)
        assert r["outcome"] == "EXITED", (broken, r, errors)
        time.sleep(0.7 if "pkill" in broken else 0)
        r, text, errors = w.execute(s, f"d{i}", "echo $GREETING; pwd")
        assert (r["exit_code"], text) == (0, "hello there\n/workspace\n"), \
            (broken, r, text, errors)


def a_background_command_outlives_its_call(w):
    s = session()
    w.provision(s)
    r, out, _ = w.execute(s, "c1", "(while :; do date +%N > b; mv b beat; "
                          "sleep 0.1; done) > /dev/null 2>&1 & echo $!")
    assert r["outcome"] == "EXITED" and r["wall_ms"] < 5000, r
    pid = out.strip()
    r, out, _ = w.execute(s, "c2", "until [ -s beat ]; do sleep 0.05; done; "
                          "a=$(cat beat); sleep 0.5; b=$(cat beat); "
                          f"[ $a != $b ] && kill -0 {pid} && echo beats")
    assert out == "beats\n", r
    # Also one that keeps the output, which is not waited for.
    r, out, _ = w.execute(s, "c3", "sleep 600 & echo begun")
    assert (r["outcome"], out) == ("EXITED", "begun\n"), r
    assert r["wall_ms"] < 5000, r
    w.ask("end_turn", f"session_id={s}")
    w.provision(s)
    r, out, _ = w.execute(s, "d1", "a=$(cat beat); sleep 0.5; b=$(cat beat); "
                          "[ $a = $b ] && ps -e | grep -c sleep")
    assert out == "0\n", r


def long_commands(w):
    s = session()
    w.provision(s)
    with open(f"{w.tmp}/long", "w") as f:
        f.write(": '" + "x" * (128 * 1024 - 30) + "'\necho done '")
        f.write("it'\\''s'\n")
    r, out, errors = w.execute(s, "c1", f"@{w.tmp}/long",
                               "stdin=" + "y" * 60000)
    assert (r["exit_code"], out) == (0, "done it's\n"), (r, errors)


def certificates_are_trusted(w):
    s = session()
    w.provision(s)
    r, out, _ = w.execute(
        s, "c1", "tail -n 3 $SSL_CERT_FILE; cat $NODE_EXTRA_CA_CERTS; env | "
        "grep -c 'ca-certificates.crt'; grep -c BEGIN $CURL_CA_BUNDLE")
    lines = out.split("\n")
    assert "\n".join(lines[:3]) + "\n" == CA, out
    assert "\n".join(lines[3:6]) + "\n" == CA, out
    assert lines[6] == "4" and int(lines[7]) > 100, out


def network_leads_to_egress(w):
    s = session()
    w.provision(s)
    r, out, _ = w.execute(s, "c1", "curl -ksS https://api.test/x")
    assert out == "hello", r
    address = w.vault_events()[0][4]
    assert w.tls.seen[0]["source"] == address, (w.tls.seen, address)


def a_repeated_call_is_not_run_again(w):
    s = session()
    w.provision(s)
    first, _, _ = w.execute(s, "c1", "echo x >> f; wc -l < f; exit 3")
    again, out, _ = w.execute(s, "c1", "echo x >> f; wc -l < f; exit 3")
    assert again["is_recorded"] and out == "", again
    again["is_recorded"] = False
    assert again == first, (first, again)
    assert w.execute(s, "c2", "wc -l < f")[0]["stdout"] == "1\n"
    # Also when the sandbox and the service are gone.
    w.ask("end_turn", f"session_id={s}")
    w.svc.terminate()
    w.svc.wait()
    w.start_service()
    assert w.execute(s, "c1", "true")[0]["exit_code"] == 3
    assert w.execute(s, "c9", "true")[0]["error"] == "precondition"
    other = session("b")
    assert w.execute(other, "c1", "true")[0]["error"] == "precondition"


def two_callers_of_one_call_share_its_result(w):
    s = session()
    w.provision(s)
    results = []
    run = lambda: results.append(w.execute(  # noqa: E731
        s, "c1", "echo x >> f; sleep 1; wc -l < f")[0])
    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    time.sleep(0.4)
    threads[1].start()
    time.sleep(0.2)
    assert w.execute(s, "c2", "true")[0]["error"] == "limit"
    for t in threads:
        t.join()
    assert [r["stdout"] for r in results] == ["1\n", "1\n"], results


def a_killed_service_leaves_an_unknown_end(w):
    s = session()
    w.provision(s)
    p = subprocess.Popen(w.command(
        "execute", f"session_id={s}", "call_id=c1",
        "command=echo x >> f; sleep 60"), stdout=subprocess.PIPE)
    time.sleep(0.5)
    w.svc.kill()
    w.svc.wait()
    p.communicate()
    wait_for(lambda: not w.boxes())
    w.start_service()
    r, _, _ = w.execute(s, "c1", "echo x >> f; sleep 60")
    assert r["outcome"] == "UNKNOWN" and r["exit_code"] == -1, r
    w.provision(s)
    assert w.execute(s, "c1", "true")[0]["outcome"] == "UNKNOWN"
    assert w.execute(s, "c2", "wc -l < f")[0]["stdout"] == "1\n"


def a_new_call_does_not_wait_for_its_record(w):
    s = session()
    w.provision(s)
    w.execute(s, "c0", "true")
    lock = subprocess.Popen(["psql", "-q", f"{database} user=postgres", "-c",
                             "BEGIN; LOCK TABLE sandbox.call;"
                             " SELECT pg_sleep(30)"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: psql("SELECT 1 FROM pg_locks WHERE relation ="
                          " 'sandbox.call'::regclass AND mode = 'AccessExclusiveLock'") == "1\n")
    try:
        r, out, _ = w.execute(s, "c1", "echo x >> f; echo on", "is_new=1")
        assert (out, r["is_recorded"]) == ("on\n", False), r
        # It is recorded before it runs only when it may have run before.
        e = w.execute(s, "c2", "echo y >> f", "@timeout_ms=500")[0]
        assert e["error"] == "timeout", e
        w.svc.kill()
        w.svc.wait()
    finally:
        psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
             " query LIKE '%sandbox.call%' AND pid <> pg_backend_pid()")
        lock.wait()
    w.start_service()
    wait_for(lambda: "error" not in w.provision(s))
    wait_for(lambda: w.execute(s, "c1", "echo x >> f")[0].get("error")
             != "unavailable")
    r, _, _ = w.execute(s, "c1", "echo x >> f")
    assert r["outcome"] == "UNKNOWN", r
    r, out, _ = w.execute(s, "c3", "cat f")
    assert out == "x\n", r


def who_has_lost_its_lease_runs_nothing_twice(w):
    s = session()
    w.provision(s, "fence=5")
    first, _, _ = w.execute(s, "c1", "echo x >> f", "is_new=1", "fence=5")
    again, _, _ = w.execute(s, "c1", "echo x >> f", "is_new=1", "fence=5")
    assert (first["is_recorded"], again["is_recorded"]) == (False, True)
    w.ask("end_turn", f"session_id={s}")
    w.provision(s, "fence=6")
    late, _, _ = w.execute(s, "c1", "echo x >> f", "is_new=1", "fence=5")
    assert late["is_recorded"], late
    assert w.execute(s, "c2", "cat f", "is_new=1", "fence=6")[1] == "x\n"


def after_a_crash_of_the_machine_what_may_have_run_is_unknown(w):
    s = session()
    w.provision(s)
    w.execute(s, "c1", "true", "is_new=1")
    w.svc.kill()
    w.svc.wait()
    with open(f"{w.tmp}/output/.journal", "r+b") as f:
        boot = open("/proc/sys/kernel/random/boot_id").read().strip()
        at = f.read().index(boot.encode())
        f.seek(at)
        f.write(b"0" * 8)
    w.start_service()
    wait_for(lambda: "error" not in w.provision(s))
    r, _, _ = w.execute(s, "c2", "echo x >> f")
    assert r["outcome"] == "UNKNOWN", r
    # What is recorded is known, and what is new has not run.
    assert w.execute(s, "c1", "true")[0]["outcome"] in ("EXITED", "UNKNOWN")
    assert w.execute(s, "c3", "cat f 2>&1", "is_new=1")[0]["exit_code"] == 1
    for is_known in (False, True):
        w.svc.terminate() if is_known else w.svc.kill()
        w.svc.wait()
        w.start_service()
        wait_for(lambda: "error" not in w.provision(s))
        r, _, _ = w.execute(s, f"d{is_known}", "true")
        assert r["outcome"] == ("EXITED" if is_known else "UNKNOWN"), r
    # Damaged, it is begun anew.
    w.svc.terminate()
    w.svc.wait()
    with open(f"{w.tmp}/output/.journal", "r+b") as f:
        f.write(b"nothing")
    w.start_service()
    wait_for(lambda: "error" not in w.provision(s))
    assert w.execute(s, "e1", "true")[0]["outcome"] == "UNKNOWN"
    assert w.execute(s, "e2", "true", "is_new=1")[0]["outcome"] == "EXITED"


def a_killed_launcher_is_survived(w):
    s = session()
    first = w.provision(s)["sandbox_id"]
    t = []
    th = threading.Thread(target=lambda: t.append(
        w.execute(s, "c1", "sleep 60")[0]))
    th.start()
    time.sleep(0.4)
    w.proc.kill()
    w.proc.wait()
    th.join(10)
    assert t and t[0]["outcome"] == "UNKNOWN", t
    assert w.provision(session())["error"] == "unavailable"
    assert w.execute(s, "c2", "true")[0]["error"] == "precondition"
    w.start()
    wait_for(lambda: "error" not in w.provision(s))
    assert w.provision(s)["sandbox_id"] != first
    assert w.execute(s, "c3", "echo on")[0]["stdout"] == "on\n"


def time_limit_kills_everything(w):
    s = session()
    w.provision(s)
    begun = time.monotonic()
    r, out, _ = w.execute(s, "c1", "echo begun; setsid sleep 600 & "
                          "trap '' TERM; sleep 600", "timeout_seconds=1")
    assert r["outcome"] == "TIMED_OUT" and out == "begun\n", r
    assert r["signal"] == 9 and 900 < r["wall_ms"] < 3000, r
    assert time.monotonic() - begun < 4
    assert w.execute(s, "c2", "ps -e | grep -c sleep")[0]["stdout"] == "0\n"
    e = w.execute(s, "c3", "true", "timeout_seconds=301")[0]
    assert e["error"] == "invalid" and "timeout_seconds" in e["message"], e


def cancelling_kills(w):
    s = session()
    w.provision(s)
    t = []
    th = threading.Thread(target=lambda: t.append(
        w.execute(s, "c1", "sleep 600")[0]))
    th.start()
    wait_for(lambda: w.ask("list_sandboxes")[0]["sandboxes"][0]["is_busy"])
    assert w.ask("cancel", f"session_id={s}", "call_id=c1") == [
        {"cancelled": True}]
    th.join(10)
    assert t[0]["outcome"] == "CANCELLED", t
    r, _, _ = w.execute(s, "c1", "true")
    assert r["outcome"] == "CANCELLED" and r["is_recorded"], r
    assert w.execute(s, "c2", "ps -e | grep -c sleep")[0]["stdout"] == "0\n"
    assert w.ask("cancel", f"session_id={s}", "call_id=c1") == [
        {"cancelled": False}]


def command_outlives_its_caller_and_is_attached_to_again(w):
    s = session()
    w.provision(s)
    r = w.ask("execute", f"session_id={s}", "call_id=c1",
              "command=echo x >> n; sleep 1.5; wc -l < n", "@timeout_ms=500")
    assert r[-1]["error"] == "timeout", r
    r, _, _ = w.execute(s, "c1", "ignored: the call is known")
    assert r["outcome"] == "EXITED" and r["stdout"] == "1\n", r
    # And one that nobody asks for again is killed in the end.
    r = w.ask("execute", f"session_id={s}", "call_id=c2",
              "command=sleep 600", "@timeout_ms=500")
    assert r[-1]["error"] == "timeout", r
    wait_for(lambda: not w.ask("list_sandboxes")[0]["sandboxes"][0]["is_busy"])
    r, _, _ = w.execute(s, "c2", "true")
    assert r["outcome"] == "CANCELLED" and r["is_recorded"], r


def the_end_of_a_turn_ends_its_command(w):
    s = session()
    w.provision(s)
    t = []
    th = threading.Thread(target=lambda: t.append(
        w.execute(s, "c1", "echo begun; sleep 60")[0]))
    th.start()
    time.sleep(0.4)
    assert w.ask("end_turn", f"session_id={s}") == [{"destroyed": True}]
    th.join(10)
    assert t[0]["outcome"] == "CANCELLED", t
    assert t[0]["stdout"] == "begun\n", t


def long_output_keeps_head_and_tail(w):
    s = session()
    w.provision(s)
    r, out, _ = w.execute(s, "c1", "seq 100000; seq 5 >&2")
    assert r["truncated"] and r["stderr"] == "1\n2\n3\n4\n5\n", r
    assert r["stdout"].startswith("1\n2\n3\n") and r["stdout"].endswith(
        "\n99999\n100000\n") and " bytes left out " in r["stdout"]
    assert len(r["stdout"].encode()) <= 32768 + 64
    assert out == "".join(f"{i}\n" for i in range(1, 100001))
    assert r["output_file"] == "/workspace/.output/c1.out", r
    assert w.execute(s, "c2", f"seq 100000 | cmp - {r['output_file']}")[0][
        "exit_code"] == 0


def endless_output_is_stopped(w):
    s = session()
    w.provision(s)
    begun = time.monotonic()
    p = subprocess.run(w.command("execute", f"session_id={s}", "call_id=c1",
                                 "command=yes | head -c 1000000000"),
                       capture_output=True)
    r = json.loads(p.stdout.splitlines()[-1])["result"]
    assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", "output"), r
    assert len(p.stdout) < 300 << 20 and time.monotonic() - begun < 60
    with open(f"/proc/{w.svc.pid}/status") as f:
        rss = [line.split()[1] for line in f if line.startswith("VmRSS")][0]
    # A sanitizer keeps freed memory for a while.
    assert int(rss) < 128 << 10 or "san" in base.BUILD, f"{rss} KiB"
    r, out, _ = w.execute(s, "c2", "stat -c %s .output/c1.out; rm -rf .output; "
                          "echo still here")
    assert out == f"{64 << 20}\nstill here\n", r


@with_options("--memory-mib=128", "--pids=64")
def limits_are_named(w):
    s = session()
    w.provision(s)
    r, _, _ = w.execute(s, "c1", "python3 -c 'x = b\"a\" * (500 << 20)'")
    assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", "memory"), r
    r, _, _ = w.execute(s, "c2", FORK_BOMB + " sleep 60")
    assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", "pids"), r
    assert r["wall_ms"] < 30000, r
    w.execute(s, "c3", "kill -9 $PPID; kill -9 -1")
    r, _, _ = w.execute(s, "c4", "echo fine")
    assert r["stdout"] == "fine\n", r


@with_options("--workspace-mib=32")
def a_workspace_has_a_size(w):
    s = session()
    w.provision(s)
    r, _, _ = w.execute(s, "c1", "head -c 40M /dev/zero > f; sleep 30")
    assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", "disk"), r
    assert r["wall_ms"] < 20000, r
    # What is too much can be removed, also a little at a time.
    r, out, _ = w.execute(s, "c2", "rm f; sleep 3; echo room")
    assert out == "room\n", r
    # What is left behind by a command counts too.
    w.execute(s, "c3", "(sleep 0.5; head -c 36M /dev/zero > g; while sleep 1;"
              " do head -c 1M /dev/zero >> g; done) > /dev/null 2>&1 &")
    wait_for(lambda: not w.ask("list_sandboxes")[0]["sandboxes"], 20)


def refusals_of_the_vault_pass_through(w):
    s = session()
    w.vault.terminate()
    w.vault.wait()
    e = w.provision(s)
    assert e["error"] == "unavailable", e
    w.start_vault(f"deny={s}")
    wait_for(lambda: w.provision(s)["error"] == "denied")
    assert "frozen" in w.provision(s)["message"]
    s2 = session()
    e = w.provision(s2, "environment_id=env_x")
    assert e["error"] == "denied" and "env_x" in e["message"], e
    assert "sandbox_id" in w.provision(s2)


def another_environment_replaces_the_sandbox(w):
    s = session()
    a = w.provision(s)
    assert w.provision(s, "environment_id=env_a")["sandbox_id"] == \
        a["sandbox_id"]
    b = w.provision(s, "environment_id=env_b")
    assert b["sandbox_id"] != a["sandbox_id"] and b["is_new"], b
    assert a["sandbox_id"] not in w.living()


def malformed_requests_name_the_field(w):
    s = session()
    w.provision(s)
    for fields, field in (
            ([f"session_id={s}", "call_id=../x", "command=true"], "call_id"),
            ([f"session_id={s}", "call_id=", "command=true"], "call_id"),
            (["session_id=x", "call_id=a", "command=true"], "session_id"),
            ([f"session_id={s}", "call_id=a", "command="], "command"),
            ([f"session_id={s}", "call_id=a", "command=true",
              "sandbox_id=sbx_"], "sandbox_id"),
            ([f"session_id={s}", "call_id=a", "command=true",
              "timeout_seconds=-1"], "timeout_seconds")):
        e = w.ask("execute", *fields)[-1]
        assert e["error"] == "invalid" and field in e["message"], e
    path = f"{w.tmp}/big"
    with open(path, "w") as f:
        f.write("#" * (128 * 1024))
    e = w.ask("execute", f"session_id={s}", "call_id=a", f"command=@{path}")
    assert e[-1]["error"] == "invalid", e
    with open(path, "w") as f:
        f.write("echo long #" + "#" * (127 * 1024))
    e = w.ask("execute", f"session_id={s}", "call_id=a", f"command=@{path}")
    assert e[-1]["result"]["stdout"] == "long\n", e[-1]


def post(w, method, message):
    """What no library would send: (status, message) of gRPC."""
    path = f"{w.tmp}/frame"
    with open(path, "wb") as f:
        f.write(b"\0" + struct.pack(">I", len(message)) + message)
    r = subprocess.run(
        ["curl", "-s", "--unix-socket", f"{w.tmp}/svc/s", "-o", "/dev/null",
         "--http2-prior-knowledge", "-D", "-", "-X", "POST", "-H",
         "content-type: application/grpc", "-H", "te: trailers",
         "--data-binary", f"@{path}",
         f"http://x/agent.sandbox.v1.SandboxService/{method}"],
        capture_output=True, timeout=30, check=True)
    head = dict(line.split(": ", 1) for line in r.stdout.decode().split("\r\n")
                if ": " in line)
    return int(head["grpc-status"]), head.get("grpc-message", "")


def text_field(number, value):
    return bytes([number << 3 | 2, len(value)]) + value


def a_command_with_a_nul_is_refused(w):
    """And not cut there: what was seen to be harmless would not be what was
    asked for."""
    s = session()
    w.provision(s)
    begin = text_field(1, s.encode()) + text_field(2, b"c1")
    status, message = post(w, "Execute", begin + text_field(
        4, b"echo seen > f\0; rm -rf /"))
    assert status == 3 and "command" in message and "NUL" in message, message
    status, message = post(w, "Execute", text_field(1, s.encode() + b"\0x")
                           + text_field(2, b"c1") + text_field(4, b"true"))
    assert status == 3 and "session_id" in message, message
    # Standard input is bytes.
    status, message = post(w, "Execute", begin + text_field(
        4, b"wc -c > n") + text_field(6, b"a\0b"))
    assert status == 0, message
    assert w.execute(s, "c2", "cat n; ls f 2>/dev/null")[1] == "3\n"


def a_command_is_bounded(w):
    s = session()
    w.provision(s)
    path = f"{w.tmp}/big"
    with open(path, "w") as f:
        f.write("#" * (1 << 20))
    e = w.ask("execute", f"session_id={s}", "call_id=a", f"command=@{path}")[-1]
    assert e["error"] == "invalid" and "command: longer than" in e["message"], e
    e = w.ask("execute", f"session_id={s}", "call_id=a", "command=true",
              f"call_id={'x' * 200}")[-1]
    assert e["error"] == "invalid" and "call_id" in e["message"], e
    with open(path, "w") as f:
        f.write("#" * ((1 << 20) + 1))
    e = w.ask("execute", f"session_id={s}", "call_id=a", "command=true",
              f"stdin=@{path}")[-1]
    assert e["error"] == "invalid" and "stdin" in e["message"], e
    assert w.execute(s, "b", "echo on")[1] == "on\n"


def a_sandbox_that_is_gone_or_of_another_is_refused(w):
    a, b = session(), session()
    mine = w.provision(a)["sandbox_id"]
    theirs = w.provision(b)["sandbox_id"]
    e = w.execute(a, "c1", "true", f"sandbox_id={theirs}")[0]
    assert e["error"] == "precondition" and "of that id" in e["message"], e
    w.ask("end_turn", f"session_id={a}")
    e = w.execute(a, "c2", "true", f"sandbox_id={mine}")[0]
    assert e["error"] == "precondition" and "provision one" in e["message"], e
    w.provision(a)
    e = w.execute(a, "c3", "true", f"sandbox_id={mine}")[0]
    assert e["error"] == "precondition", e
    # Nobody's command ran anywhere.
    assert w.execute(b, "c4", "echo on")[1] == "on\n"


def limits_beyond_the_machine_are_refused(w):
    def refused(option, error):
        r = subprocess.run(
            [f"{base.BIN}/sandbox_svc", f"--listen-brain={w.tmp}/svc/other",
             option], capture_output=True, timeout=10, check=False)
        assert r.returncode == 1, r
        message = json.loads(r.stderr.splitlines()[-1])["message"]
        assert error in message and "not between" in message, message
    refused("--pids=40000", "pids")
    refused("--pids=1", "pids")
    refused("--memory-mib=99999999", "memory_mib")
    refused("--cpu-milli=0", "cpu_milli")
    refused("--open-files=99999999", "open_files")
    refused("--disk-mib=0", "disk_mib")
    refused("--disk-inodes=1", "disk_inodes")
    refused("--idle-seconds=0", "idle_seconds")


def deleting_a_workspace_leaves_nothing(w):
    s = session()
    w.provision(s)
    w.execute(s, "c1", "seq 100000; mkdir -p a/b; touch a/b/c; chmod 0 a")
    assert s in os.listdir(f"{w.tmp}/work")
    assert os.listdir(f"{w.tmp}/output/{s}") == ["c1.out"]
    assert w.ask("delete_workspace", f"session_id={s}") == [{}]
    assert s not in os.listdir(f"{w.tmp}/work")
    assert s not in os.listdir(f"{w.tmp}/output")
    assert w.execute(s, "c1", "true")[0]["error"] == "precondition"
    assert w.ask("delete_workspace", f"session_id={s}") == [{}]


def a_lost_database_is_an_error_and_not_the_end(w):
    s = session()
    w.provision(s)
    psql("ALTER ROLE sandbox_run NOLOGIN")
    psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
         "usename = 'sandbox_run'")
    try:
        e = w.execute(s, "c1", "echo x >> f")[0]
        assert e["error"] == "unavailable", e
    finally:
        psql("ALTER ROLE sandbox_run LOGIN")
    wait_for(lambda: "error" not in w.execute(s, "c2", "true")[0])
    assert w.execute(s, "c3", "cat f 2>&1")[0]["exit_code"] != 0


def rows_are_hidden_from_other_tenants(w):
    a, b = session("a"), session("b")
    for s in (a, b):
        w.provision(s)
        w.execute(s, "c1", "true")
    show = ("SELECT set_config('brainbox.tenant', '%s', false); SELECT count(*)"
            " FROM sandbox.call WHERE session_id = '%s'")
    assert psql(show % ("tenant-a", a), "sandbox_run").split()[-1] == "1"
    assert psql(show % ("tenant-a", b), "sandbox_run").split()[-1] == "0"
    assert psql(show % ("", a), "sandbox_run").split()[-1] == "0"
    assert psql(show % ("tenant-a", a), "sandbox_owner").split()[-1] == "0"


@with_options("--memory-reserve-mib=16777216", "--pool-min=0")
def without_memory_nothing_is_made(w):
    e = w.provision(session())
    assert e["error"] == "limit" and "memory_reserve_mib" in e["message"], e


@with_options("--pool-min=1", "--pool-max=6")
def the_pool_follows_demand(w):
    sessions = [session() for _ in range(9)]
    calls = [subprocess.Popen(w.command("provision", f"session_id={s}",
                                        "call_id=p"),
                              stdout=subprocess.DEVNULL) for s in sessions]
    assert all(c.wait(30) == 0 for c in calls)
    for s in sessions:
        w.ask("end_turn", f"session_id={s}")
    wait_for(lambda: not w.ask("list_sandboxes")[0]["sandboxes"])
    wait_for(lambda: 3 <= len(w.living()) <= 6, 20)


@with_options("--max-sandboxes=20", "--pool-max=4")
def ten_thousand_provisions_at_once(w):
    r = subprocess.run([f"{TOOLS}/sandbox_bench", f"unix:{w.tmp}/svc/s",
                        "burst", "10000"], capture_output=True, timeout=120)
    assert b"figure burst.refused 9980 calls" in r.stdout, r
    assert len(w.ask("list_sandboxes")[0]["sandboxes"]) == 20
    e = w.provision(session())
    assert e["error"] == "limit" and "full" in e["message"], e


@with_options("--max-sandboxes=1", "--session-seconds=2")
def a_full_machine_says_so_and_old_sandboxes_expire(w):
    w.provision(session())
    e = w.provision(session())
    assert e["error"] == "limit" and "full" in e["message"], e
    wait_for(lambda: "sandbox_id" in w.provision(session()))


def chaos_turns(w, rng, stop, ends):
    """Sessions one after the other until `stop`; notes how commands end."""
    while not stop.is_set():
        s = session()
        ends[s] = []
        for turn in range(2):
            w.ask("provision", f"session_id={s}", "call_id=p",
                  f"@timeout_ms={rng.choice([5, 50, 5000])}")
            for c in range(3):
                tail = rng.choice(["true", "sleep 0.2", "seq 30000", "sleep 9"])
                fields = [f"session_id={s}", f"call_id=c{turn}{c}",
                          f"command=echo {turn}{c} >> f; {tail}"]
                for attempt in range(2):
                    r = w.ask("execute", *fields, f"is_new={1 - attempt}",
                              f"@timeout_ms={rng.choice([30, 300, 4000])}")
                    ends[s].append(r[-1].get("error")
                                   or r[-1]["result"]["outcome"])
            w.ask("end_turn", f"session_id={s}")


def nothing_runs_twice_whatever_is_killed(w):
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"     SEED={seed}")
    rng = random.Random(seed)
    stop, ends = threading.Event(), {}
    workers = [threading.Thread(target=chaos_turns, args=(
        w, random.Random(rng.random()), stop, ends)) for _ in range(3)]
    for t in workers:
        t.start()
    for _ in range(12):
        time.sleep(rng.uniform(0.1, 1.5))
        what = rng.choice(["service", "launcher", "bridge", "vault"])
        if what == "service":
            w.svc.kill()
            w.svc.wait()
            w.start_service()
        elif what == "launcher":
            w.proc.kill()
            w.proc.wait()
            w.start()
        elif what == "bridge":
            w.bridge.kill()
            w.bridge.wait()
            os.unlink(f"{w.tmp}/bridge/s")
            w.start_bridge()
        else:
            w.vault.kill()
            w.vault.wait()
            w.start_vault()
        assert w.svc.poll() is None, "sandbox_svc died by itself"
    stop.set()
    for t in workers:
        t.join()
    for s in ends:
        path = os.path.join(w.tmp, "work", s, "f")
        lines = open(path).read().split() if os.path.exists(path) else []
        assert len(lines) == len(set(lines)), (s, lines)
    told = [e for of_session in ends.values() for e in of_session]
    assert "EXITED" in told and set(told) <= {
        "EXITED", "UNKNOWN", "CANCELLED", "unavailable", "timeout",
        "precondition", "limit"}, set(told)
    s = session()
    wait_for(lambda: "error" not in w.provision(s))
    assert w.execute(s, "c1", "echo on")[0]["stdout"] == "on\n"
    w.ask("end_turn", f"session_id={s}")
    # What is left is the pool.
    wait_for(lambda: not w.ask("list_sandboxes")[0]["sandboxes"])
    wait_for(lambda: len(w.boxes()) == 2)


# --------------------------------------------------------------- running ----

def psql(sql, user="postgres"):
    r = subprocess.run(["psql", "-qXtA", "-v", "ON_ERROR_STOP=1",
                        f"{database} user={user}", "-c", sql], check=True,
                       capture_output=True)
    return r.stdout.decode()


def start_database():
    global database
    directory = tempfile.mkdtemp(prefix="bbpg", dir="/tmp")
    os.chmod(directory, 0o755)
    pg = f"{base.ROOT}/tests/support/pg.sh"

    def stop():
        subprocess.run([pg, "stop", directory], stdout=subprocess.DEVNULL)
        shutil.rmtree(directory)
    atexit.register(stop)
    r = subprocess.run([pg, "start", directory], check=True,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    database = r.stdout.decode().split("\n")[-2]
    subprocess.run([f"{base.BIN}/sandbox_svc", "--migrate",
                    f"--database-owner={database} user=sandbox_owner",
                    f"--sql-dir={base.ROOT}/sandbox_svc/sql"], check=True,
                   stderr=subprocess.DEVNULL)


TESTS = [provision_and_execute, stdin_and_workspace,
         commands_of_a_turn_go_on_where_the_last_one_stopped,
         what_a_command_leaves_cannot_stop_the_next,
         a_background_command_outlives_its_call, long_commands,
         certificates_are_trusted,
         network_leads_to_egress, a_repeated_call_is_not_run_again,
         two_callers_of_one_call_share_its_result,
         a_killed_service_leaves_an_unknown_end,
         a_new_call_does_not_wait_for_its_record,
         who_has_lost_its_lease_runs_nothing_twice,
         after_a_crash_of_the_machine_what_may_have_run_is_unknown,
         a_killed_launcher_is_survived,
         time_limit_kills_everything, cancelling_kills,
         command_outlives_its_caller_and_is_attached_to_again,
         the_end_of_a_turn_ends_its_command, long_output_keeps_head_and_tail,
         endless_output_is_stopped, limits_are_named, a_workspace_has_a_size,
         refusals_of_the_vault_pass_through,
         another_environment_replaces_the_sandbox,
         malformed_requests_name_the_field,
         a_command_with_a_nul_is_refused, a_command_is_bounded,
         a_sandbox_that_is_gone_or_of_another_is_refused,
         limits_beyond_the_machine_are_refused,
         deleting_a_workspace_leaves_nothing,
         a_lost_database_is_an_error_and_not_the_end,
         rows_are_hidden_from_other_tenants,
         a_full_machine_says_so_and_old_sandboxes_expire,
         without_memory_nothing_is_made, the_pool_follows_demand,
         ten_thousand_provisions_at_once,
         nothing_runs_twice_whatever_is_killed]

if __name__ == "__main__":
    start_database()
    base.main(TESTS, Stack)
