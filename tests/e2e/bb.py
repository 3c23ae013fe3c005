"""Support for end-to-end tests: a whole platform of their own, and its API.

A test file calls `enter(__file__, …)` first. Outside of a platform that starts
one under supervisor/run.sh, with loopback hosts and a model server, in a
temporary folder and on free ports, runs the file again inside of it, cleans up,
and exits with its status. Inside it returns the context.
"""
import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/support")
import pg  # noqa: E402
import sanitizer  # noqa: E402

BUILD = os.environ.get("BRAINBOX_BUILD", os.path.join(TOP, "build/release"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


SANITIZED = os.path.basename(BUILD.rstrip("/")) == "asan"
REPORT = re.compile("ERROR: AddressSanitizer|ERROR: LeakSanitizer"
                    "|AddressSanitizer:DEADLYSIGNAL|runtime error:"
                    "|AddressSanitizer: CHECK failed|LeakSanitizer has encountered")


def sanitizer_env():
    """Variables for processes under ASan: leaks are looked for at the end,
    and a finding ends the process. nginx gets the libraries by LD_PRELOAD."""
    if not SANITIZED:
        return {}
    return {"BRAINBOX_SANITIZER_ENV":
            "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 "
            "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1",
            "BRAINBOX_SANITIZER_LIBS": ":".join(sanitizer.libraries())}


def sanitizer_reports(folder):
    """How many reports the logs hold; each is shown."""
    found = 0
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(base, name)
            with open(path, errors="replace") as f:
                lines = f.read().split("\n")
            at = [i for i, line in enumerate(lines) if REPORT.search(line)]
            found += len(at)
            for i in at[:3]:
                print(f"--- {os.path.relpath(path, folder)}: a sanitizer says")
                print("\n".join(lines[i:i + 40]), flush=True)
    return found


def enter(path, hosts=("api.demo.test", "other.demo.test"), model=True,
          env=None, state_mb=0):
    if os.environ.get("BRAINBOX_HOSTS"):
        return Context()
    if os.geteuid() != 0:
        sys.exit(f"{path}: needs root")
    folder = tempfile.mkdtemp(prefix="bbe2e", dir="/tmp")
    os.chmod(folder, 0o755)
    helpers = []

    def clean():
        for p in helpers:
            p.kill()
            p.wait()
        if state_mb:
            subprocess.run(["umount", "-l", folder + "/state"])
        if os.environ.get("KEEP"):
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    atexit.register(clean)
    stopped = []

    def stop(signum, _):
        """The instance is stopped, then its folder is cleaned, as always."""
        if stopped:
            return
        stopped.append(128 + signum)
        if not instance:
            sys.exit(stopped[0])
        instance[0].terminate()
    instance = []
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    hosts_dir, model_dir = folder + "/hosts", folder + "/model"
    helpers.append(subprocess.Popen(
        [sys.executable, TOP + "/supervisor/demo/api_host.py", hosts_dir,
         *hosts]))
    helpers.append(subprocess.Popen(
        [sys.executable, TOP + "/tests/support/model_server.py", model_dir]))
    wait_for("hosts", lambda: os.path.exists(hosts_dir + "/hosts.json"))
    wait_for("model", lambda: os.path.exists(model_dir + "/port"))
    with open(model_dir + "/port") as f:
        model_port = int(f.read())
    with open(hosts_dir + "/hosts.json") as f:
        ports = json.load(f)
    os.mkdir(folder + "/state")
    if state_mb:  # a disk of its own, that a test may fill
        subprocess.run(["mount", "-t", "tmpfs", "-o",
                        f"size={state_mb}m,mode=755", "tmpfs",
                        folder + "/state"], check=True)
    with open(folder + "/state/deployment.conf", "w") as f:
        for name, port in ports.items():
            f.write(f"destination {name}:443 address=127.0.0.1:{port} "
                    f"ca={hosts_dir}/ca.pem\n")
        f.write(f"destination 127.0.0.1:{model_port} clear-text\n")
    full = dict(os.environ, BRAINBOX_STATE=folder + "/state",
                BRAINBOX_RUN=folder + "/run",
                BRAINBOX_LISTEN=f"127.0.0.1:{free_port()}",
                BRAINBOX_GRPC_LISTEN=f"127.0.0.1:{free_port()}",
                BRAINBOX_IMAGES=TOP + "/var/images",
                BRAINBOX_BIN=BUILD + "/bin",
                BRAINBOX_INSTANCE="t" + os.path.basename(folder)[-8:],
                BRAINBOX_HOSTS=hosts_dir, BRAINBOX_MODEL=model_dir,
                **sanitizer_env())
    if model:
        full.update(MODEL_BASE_URL=f"http://127.0.0.1:{model_port}/v1",
                    MODEL_API_KEY="model-key-0123456789abcdef",
                    MODEL_NAME="test-model",
                    BRAINBOX_HARNESS="runbook")
    full.update(env or {})
    p = subprocess.Popen(["bash", TOP + "/supervisor/run.sh", "--exec",
                          f"{sys.executable} {path}"], env=full)
    instance.append(p)
    p.wait()
    if stopped:
        sys.exit(stopped[0])
    if p.returncode != 0:
        show_logs(folder + "/state/log")
    # Looked for in every build: one without sanitizers has none.
    n = sanitizer_reports(folder + "/state/log")
    if n:
        print(f"FAILED  {n} sanitizer reports in the logs")
    sys.exit(p.returncode or (1 if n else 0))


def show_logs(folder):
    for base, _, names in os.walk(folder):
        for name in names:
            if name not in ("current",) and not name.endswith(".log"):
                continue
            path = os.path.join(base, name)
            with open(path, errors="replace") as f:
                lines = [x for x in f.read().split("\n") if x and
                         ('"level":"info"' not in x)]
            if lines:
                print(f"--- {os.path.relpath(path, folder)}")
                print("\n".join(x[:400] for x in lines[-12:]))


class Refused(Exception):
    """An HTTP error: status, envelope, headers."""

    def __init__(self, status, body, headers):
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, body, headers
        try:
            self.error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            self.error = {"type": None, "message": body}


class Context:
    def __init__(self):
        env = os.environ
        self.url, self.key = env["BRAINBOX_URL"], env["BRAINBOX_KEY"]
        self.run, self.state = env["BRAINBOX_RUN"], env["BRAINBOX_STATE"]
        self.bin = env["BRAINBOX_BIN"]
        self.hosts, self.model = env["BRAINBOX_HOSTS"], env["BRAINBOX_MODEL"]
        self.instance = env["BRAINBOX_INSTANCE"]
        self.tests = []

    # ---- the API ----------------------------------------------------------
    def open(self, method, path, body=None, key=None, raw=None, timeout=60,
             headers=None):
        data = raw if raw is not None else (
            None if body is None else json.dumps(body).encode())
        h = {"content-type": "application/json"}
        if key != "":
            h["x-api-key"] = key or self.key
        h.update(headers or {})
        req = urllib.request.Request(self.url + path, data, method=method,
                                     headers=h)
        try:
            return urllib.request.urlopen(req, timeout=timeout)
        except urllib.error.HTTPError as e:
            with e:
                raise Refused(e.code, e.read().decode("utf-8", "replace"),
                              dict(e.headers)) from None

    def call(self, method, path, body=None, **more):
        with self.open(method, path, body, **more) as answer:
            return json.load(answer)

    def refused(self, status, method, path, body=None, **more):
        """The call must fail with this status; returns the error."""
        try:
            with self.open(method, path, body, **more) as answer:
                raise AssertionError(f"{method} {path}: {answer.status}, not "
                                     f"{status}")
        except Refused as e:
            assert e.status == status, f"{e.status}, not {status}: {e.body}"
            assert e.error["type"] and e.error["message"], e.body
            assert e.headers.get("request-id"), "no request-id"
            return e.error

    def agent(self, harness="runbook", **more):
        return self.call("POST", "/v1/agents", {
            "name": "test", "metadata": {"brainbox.harness": harness},
            **more})["id"]

    def environment(self, hosts=("api.demo.test", "other.demo.test"), **more):
        return self.call("POST", "/v1/environments", {
            "name": "test", "config": {"type": "cloud", "networking": {
                "type": "limited", "allowed_hosts": list(hosts)}},
            **more})["id"]

    def vault(self, name, value, hosts=("api.demo.test",), **more):
        v = self.call("POST", "/v1/vaults", {"display_name": "test"})["id"]
        c = self.call("POST", f"/v1/vaults/{v}/credentials", {"auth": {
            "type": "environment_variable", "secret_name": name,
            "secret_value": value, "networking": {
                "type": "limited", "allowed_hosts": list(hosts)}}, **more})
        return v, c["id"]

    def session(self, agent=None, environment=None, vaults=(), **more):
        return self.call("POST", "/v1/sessions", {
            "agent": agent or self.agent(),
            "environment_id": environment or self.environment(),
            "vault_ids": list(vaults), **more})["id"]

    def send(self, session, text, **more):
        return self.call("POST", f"/v1/sessions/{session}/events", {
            "events": [{"type": "user.message", "content": [
                {"type": "text", "text": text}]}]}, **more)["data"][0]["id"]

    def interrupt(self, session):
        self.call("POST", f"/v1/sessions/{session}/events",
                  {"events": [{"type": "user.interrupt"}]})

    def events(self, session):
        out, page = [], ""
        while True:
            r = self.call("GET", f"/v1/sessions/{session}/events?limit=100"
                          + (f"&page={page}" if page else ""))
            out += r["data"]
            page = r["next_page"]
            if not page:
                return out

    def stream(self, session, last=None, query="", timeout=60):
        """Listens from now on; yields (id, event)."""
        headers = {"Last-Event-ID": last} if last else {}
        return self.items(self.open(
            "GET", f"/v1/sessions/{session}/events/stream{query}",
            headers=headers, timeout=timeout))

    @staticmethod
    def items(stream):
        with stream as answer:
            event_id = None
            for line in answer:
                if line.startswith(b"id: "):
                    event_id = line[4:].strip().decode()
                elif line.startswith(b"data: "):
                    yield event_id, json.loads(line[6:])
                    event_id = None

    def pid(self, service):
        """Of a service of this instance."""
        return int(subprocess.check_output(
            ["s6-svstat", "-o", "pid", f"{self.run}/services/{service}"]))

    def new_tenant(self, name):
        """Makes it; returns a key of its own."""
        database = f"host={self.run}/pg dbname=brainbox user="
        subprocess.run(
            [self.bin + "/vault_svc", "--migrate", "--tenant=" + name,
             "--sql-dir=" + TOP + "/vault_svc/sql",
             f"--keeper={self.run}/keeper-vault/keeper-vault.sock",
             f"--database={database}vault_run",
             f"--database-owner={database}vault_owner"], check=True,
            capture_output=True)
        # A running vault learns of a new tenant at its next start.
        subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r",
                        f"{self.run}/services/vault_svc"], check=True)
        return subprocess.check_output(
            [self.bin + "/vault_svc", "key", "create", "--tenant=" + name,
             f"--listen-admin={self.run}/vault-admin/vault-admin.sock"],
            text=True).strip()

    def alive(self):
        """True once the brain answers (again)."""
        try:
            return bool(self.call("GET", "/v1/agents?limit=1"))
        except (Refused, OSError):
            return False

    def idle(self, session, turns=1, seconds=60):
        """Waits until so many turns have ended; returns all events."""
        def check():
            events = self.events(session)
            n = sum(e["type"] == "session.status_idle" for e in events)
            return events if n >= turns else None
        return wait_for(f"end of turn {turns} of {session}", check, seconds)

    def turn(self, session, text, turns=1, seconds=60):
        self.send(session, text)
        return self.idle(session, turns, seconds)

    # ---- the database ------------------------------------------------------
    def sql(self, text):
        """As the superuser; what it prints, a row a line."""
        return subprocess.run(
            ["psql", f"host={self.run}/pg dbname=brainbox user=postgres",
             "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", text], check=True,
            capture_output=True, text=True).stdout.strip()

    def transaction(self, text):
        """As pg.transaction, as the superuser."""
        return pg.transaction(
            f"host={self.run}/pg dbname=brainbox user=postgres", text)

    # ---- what arrived ------------------------------------------------------
    def replay(self, session):
        """`brain_svc replay`, with the options of the running brain."""
        with open(self.run + "/services/brain_svc/run") as f:
            line = f.read()
        line = line[line.index("MODEL_BASE_URL="):].replace("\\\n", " ")
        line = line.replace("--notify-fd=3", "").strip()
        return subprocess.run(["bash", "-c", f"env {line} replay {session}"],
                              capture_output=True, text=True, timeout=60)

    def replay_all(self):
        """Each session of the instance does again what its log says."""
        page, n = "", 0
        while page is not None:
            got = self.call("GET", f"/v1/sessions?limit=100{page}")
            for s in got["data"]:
                if not self.events(s["id"]):
                    continue
                a = self.replay(s["id"])
                assert a.returncode == 0, (s["id"], a.stdout, a.stderr)
                assert a.stdout.endswith(" no difference\n"), a.stdout
                n += 1
            page = got.get("next_page") and "&page=" + got["next_page"]
        assert n > 0
        return n

    def requests(self):
        return read_lines(self.hosts + "/requests.jsonl")

    def model_requests(self):
        return read_lines(self.model + "/model.jsonl")

    # ---- running tests -----------------------------------------------------
    def test(self, fn):
        self.tests.append(fn)
        return fn

    def main(self):
        only = os.environ.get("TEST", "")
        passed = failed = 0
        for fn in self.tests:
            if only not in fn.__name__:
                continue
            start = time.monotonic()
            try:
                fn()
                passed += 1
                print(f"ok      {fn.__name__} "
                      f"({time.monotonic() - start:.2f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  {fn.__name__}")
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
        print(f"{passed} passed, {failed} failed")
        sys.exit(1 if failed or not passed else 0)


def read_lines(path):
    try:
        with open(path) as f:
            return [json.loads(line) for line in f]
    except FileNotFoundError:
        return []


def result_of(events, n=-1):
    """The n-th tool result as (event, parsed text or text)."""
    e = [e for e in events if e["type"] == "agent.tool_result"][n]
    text = "".join(b["text"] for b in e["content"])
    try:
        return e, json.loads(text)
    except ValueError:
        return e, text


def texts(events, kind="agent.message"):
    return ["".join(b["text"] for b in e["content"])
            for e in events if e["type"] == kind]


def in_background(fn, *args):
    t = threading.Thread(target=fn, args=args, daemon=True)
    t.start()
    return t
