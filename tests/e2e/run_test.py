#!/usr/bin/env python3
"""`make run` as a person uses it: what it prints works, Ctrl-C stops all of it,
nothing is left, and what was said is still there after the next start. And
`make install` into a folder."""
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

TMP = tempfile.mkdtemp(prefix="bbrun", dir="/tmp")
os.chmod(TMP, 0o755)
LISTEN = f"127.0.0.1:{bb.free_port()}"
INSTANCE = "r" + os.path.basename(TMP)[-8:]
ENV = dict(os.environ, BRAINBOX_STATE=TMP + "/state", BRAINBOX_RUN=TMP + "/run",
           BRAINBOX_LISTEN=LISTEN,
           BRAINBOX_GRPC_LISTEN=f"127.0.0.1:{bb.free_port()}",
           BRAINBOX_IMAGES=bb.TOP + "/var/images",
           BRAINBOX_BIN=bb.BUILD + "/bin", BRAINBOX_INSTANCE=INSTANCE,
           **bb.sanitizer_env(),
           CONTAINER_ENV_GREETING="hello from outside",
           CONTAINER_ENV_GH_TOKEN="ghp_" + "Ab3dE6gH9j" * 4)


class Run:
    """An instance in the foreground, as `make run` starts it. The key is
    shown at the first start only, and goes on working."""
    key = None

    def __enter__(self):
        self.p = subprocess.Popen(
            ["bash", bb.TOP + "/supervisor/run.sh"], env=ENV, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = ""
        for line in self.p.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        assert "Ctrl-C" in self.said, self.said
        shown = re.search(r"bbx_\w+", self.said)
        if shown:
            Run.key = shown.group()
        return self

    def __exit__(self, *exc):
        self.p.send_signal(signal.SIGINT)
        self.rest = self.p.communicate(timeout=60)[0]

    def call(self, method, path, body=None):
        out = subprocess.run(
            ["curl", "-sS", "-X", method, f"http://{LISTEN}{path}",
             "-H", f"x-api-key: {self.key}", "-H",
             "content-type: application/json",
             *(["-d", json.dumps(body)] if body is not None else [])],
            capture_output=True, text=True, check=True).stdout
        return json.loads(out)

    def turn(self, session, command, turns):
        self.call("POST", f"/v1/sessions/{session}/events", {"events": [
            {"type": "user.message", "content": [
                {"type": "text", "text": f"```sh\n{command}\n```"}]}]})

        def done():
            events = self.call("GET", f"/v1/sessions/{session}/events"
                               "?limit=100")["data"]
            n = sum(e["type"] == "session.status_idle" for e in events)
            return events if n == turns else None
        return bb.wait_for("the turn", done, 60)


def leftovers():
    """What an instance must not leave: processes, mounts, cgroups."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode("latin-1")
        except OSError:
            continue
        if TMP in line and int(pid) != os.getpid():
            out.append(f"process {pid}: {line}")
    with open("/proc/mounts") as f:
        out += [line for line in f if TMP in line or INSTANCE in line]
    for base, dirs, _ in os.walk("/sys/fs/cgroup"):
        out += [f"{base}/{d}" for d in dirs if d.endswith(INSTANCE)]
    return out


def what_run_prints_works_and_ctrl_c_leaves_nothing():
    global SESSION
    with Run() as r:
        curl = re.search(r"curl -s .*?-d '[^']*'", r.said, re.S).group()
        agent = json.loads(subprocess.run(
            ["bash", "-c", curl], capture_output=True, text=True,
            check=True).stdout)
        assert agent["type"] == "agent", agent
        environment = r.call("POST", "/v1/environments", {"name": "x"})
        SESSION = r.call("POST", "/v1/sessions", {
            "agent": agent["id"], "environment_id": environment["id"]})["id"]
        events = r.turn(SESSION, "echo $GREETING $GH_TOKEN > f; cat f", 1)
        out = bb.result_of(events)[1]["stdout"]
        assert out.startswith("hello from outside ghp_bbxs"), out
    assert r.p.returncode == 0, r.rest
    bb.wait_for("a clean machine", lambda: not leftovers(), 10)


def conversation_and_files_outlive_a_restart_of_everything():
    with Run() as r:
        events = r.turn(SESSION, "cat f", 2)
        assert "hello from outside" in bb.result_of(events)[1]["stdout"]
        assert [e["type"] for e in events].count("user.message") == 2
    bb.wait_for("a clean machine", lambda: not leftovers(), 10)


def second_instance_is_refused():
    with Run():
        p = subprocess.run(["bash", bb.TOP + "/supervisor/run.sh"], env=ENV,
                           capture_output=True, text=True, timeout=30)
        assert p.returncode == 1 and "already" in p.stderr, p


def secret_of_unknown_kind_is_refused_by_name():
    secret = "c2VjcmV0LW9mLXVua25vd24ta2luZC0xMjM0NTY3ODkw"
    p = subprocess.run(["bash", bb.TOP + "/supervisor/run.sh"],
                       env=dict(ENV, CONTAINER_ENV_API_SECRET=secret),
                       capture_output=True, text=True, timeout=90)
    said = p.stdout + p.stderr
    assert p.returncode == 1, said
    assert "CONTAINER_ENV_API_SECRET" in said and secret not in said, said
    bb.wait_for("a clean machine", lambda: not leftovers(), 10)


def command_is_run_once_egress_listens():
    lock = open(TMP + "/run/egress.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    p = execute(f"echo began; test -S {TMP}/run/egress-bridge/"
                "egress-bridge.sock")
    bb.wait_for("egress", lambda: subprocess.run(
        ["s6-svstat", "-o", "up", TMP + "/run/services/egress"],
        capture_output=True, text=True).stdout == "true\n", 60)
    time.sleep(4)  # time for all else to come up, and for the command to begin
    fcntl.flock(lock, fcntl.LOCK_UN)
    said = p.communicate(timeout=60)[0]
    assert p.returncode == 0 and "began\n" in said, said


def signal_ends_the_command_and_the_instance():
    p = execute("echo began; exec sleep 600")
    for line in p.stdout:
        if line == "began\n":
            break
    p.terminate()
    said = p.communicate(timeout=60)[0]
    assert "began" not in said, said
    bb.wait_for("a clean machine", lambda: not leftovers(), 10)


def execute(command):
    return subprocess.Popen(
        ["bash", bb.TOP + "/supervisor/run.sh", "--exec", command], env=ENV,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def install_puts_everything_below_a_folder():
    dest = TMP + "/dest"
    subprocess.run(["bash", bb.TOP + "/supervisor/install.sh"], check=True,
                   capture_output=True,
                   env=dict(os.environ, DESTDIR=dest, PREFIX="/usr/local",
                            BIN=bb.BUILD + "/bin"))
    for path in ("usr/local/libexec/brainbox/brain_svc",
                 "usr/local/libexec/brainbox/ngx_agent_module.so",
                 "usr/local/share/brainbox/vault_svc/sql/0001_vault.sql",
                 "etc/systemd/system/brainbox.target"):
        assert os.path.exists(f"{dest}/{path}"), path
    for base, _, names in os.walk(dest + "/etc/systemd/system"):
        for n in names:
            with open(f"{base}/{n}") as f:
                assert "@" not in f.read().replace("$@", ""), n


def main():
    passed = failed = 0
    for fn in (what_run_prints_works_and_ctrl_c_leaves_nothing,
               conversation_and_files_outlive_a_restart_of_everything,
               second_instance_is_refused,
               secret_of_unknown_kind_is_refused_by_name,
               command_is_run_once_egress_listens,
               signal_ends_the_command_and_the_instance,
               install_puts_everything_below_a_folder):
        start = time.monotonic()
        try:
            fn()
            passed += 1
            print(f"ok      {fn.__name__} ({time.monotonic() - start:.1f} s)",
                  flush=True)
        except Exception as e:
            failed += 1
            print(f"FAILED  {fn.__name__}: {type(e).__name__}: {e}",
                  flush=True)
    if failed:
        bb.show_logs(TMP + "/state/log")
    shutil.rmtree(TMP, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
