"""Starts real nginx with the module in front of fake_brain, for the tests of
ingress. Everything lives in one folder under /tmp and ends with the test."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/tests/support")
import sanitizer  # noqa: E402

BUILD = os.environ.get("BRAINBOX_BUILD") or os.path.join(
    ROOT, "build", os.environ.get("MODE", "release"))
MODE = os.path.basename(BUILD)
MODULE = os.path.join(BUILD, "bin", "ngx_agent_module.so")
FAKE = os.path.join(BUILD, "tools", "fake_brain")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, check, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


def nginx_env():
    env = dict(os.environ)
    if MODE == "asan":
        env["LD_PRELOAD"] = ":".join(sanitizer.libraries())
        # nginx itself frees nothing at exit.
        env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"
    return env


def main():
    """unittest.main with the last line that tests/run.sh counts by."""
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    for test, why in result.skipped:
        print(f"skip: {test}: {why}")
    passed = max(0, result.testsRun - failed - skipped)
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    sys.exit(0 if failed == 0 else 1)


class Nginx:
    """One nginx in the foreground, on a configuration file."""

    def __init__(self, folder, conf, port, master=True):
        self.folder, self.conf, self.port = folder, conf, port
        extra = "daemon off;"
        if MODE == "asan" or not master:
            extra += " master_process off;"
        self.stderr = open(os.path.join(folder, "nginx.stderr"), "ab")
        self.process = subprocess.Popen(
            [NGINX, "-p", folder, "-c", conf, "-g", extra],
            stderr=self.stderr, env=nginx_env())
        try:
            wait_for("nginx", self.answers)
        except BaseException:
            self.stop()
            raise

    def answers(self):
        if self.process.poll() is not None:
            with open(self.stderr.name) as f:
                raise AssertionError("nginx ended: " + f.read())
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def signal(self, which):
        self.process.send_signal(which)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
        self.stderr.close()


class Ingress:
    """fake_brain and nginx with nginx/conf/ingress.conf."""

    def __init__(self, edit=None):
        self.folder = tempfile.mkdtemp(prefix="bbi-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        run = os.path.join(self.folder, "run")
        for d in ("run/brain-ingress", "run/vault-ingress", "run/public",
                  "run/ingress", "state/log", "sock"):
            os.makedirs(os.path.join(self.folder, d))
        self.generation = 0
        self.move_generation()
        for name in ("brain", "vault"):
            os.symlink(f"{self.folder}/sock/{name}.sock",
                       f"{run}/{name}-ingress/{name}-ingress.sock")
        self.fake = None
        self.start_fake()
        self.port, self.grpc_port = free_port(), free_port()
        with open(os.path.join(ROOT, "nginx/conf/ingress.conf")) as f:
            conf = f.read()
        for key, value in {
                "MODULE": MODULE, "RUN": run,
                "RULES": os.path.join(ROOT, "vault_svc/rules.conf"),
                "STATE": os.path.join(self.folder, "state"),
                "LISTEN": f"127.0.0.1:{self.port}",
                "GRPC_LISTEN": f"127.0.0.1:{self.grpc_port}",
                "DASHBOARD": os.path.join(ROOT, "nginx/dashboard"),
                "PREFIX": os.path.join(ROOT, "build/gen")}.items():
            conf = conf.replace(f"@{key}@", value)
        conf = conf.replace("user brainbox-ingress;", "user root;")
        conf = conf.replace("ingress-error.log warn", "ingress-error.log info")
        if edit:
            conf = edit(conf)
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w") as f:
            f.write(conf)
        try:
            self.nginx = Nginx(self.folder, path, self.port)
        except BaseException:
            self.stop_fake()
            shutil.rmtree(self.folder)
            raise

    def start_fake(self):
        log = os.path.join(self.folder, "fake.log")
        self.fake_log = open(log, "ab")
        before = self.text("fake.log").count('"ready"')
        self.fake = subprocess.Popen(
            [FAKE, os.path.join(self.folder, "sock")],
            stdout=self.fake_log, stderr=self.fake_log)
        wait_for("fake_brain",
                 lambda: self.text("fake.log").count('"ready"') > before)

    def stop_fake(self):
        if self.fake.poll() is None:
            self.fake.terminate()
            self.fake.wait(10)
        self.fake_log.close()

    def move_generation(self):
        """As the vault does: write the counter in place."""
        self.generation += 1
        path = os.path.join(self.folder, "run/public/generation")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(fd, struct.pack("<Q", self.generation), 0)
        os.close(fd)

    def calls(self, name=None):
        """What the services were asked, oldest first."""
        out = []
        with open(os.path.join(self.folder, "fake.log")) as f:
            for line in f:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if "call" in row and name in (None, row["call"]):
                    out.append(row)
        return out

    def text(self, name):
        with open(os.path.join(self.folder, name), errors="replace") as f:
            return f.read()

    def ask(self, verb, path, body=None, key="key-good", headers=None,
            port=None):
        """Returns status, headers (lower case), parsed or raw body."""
        c = http.client.HTTPConnection("127.0.0.1", port or self.port,
                                       timeout=20)
        h = dict(headers or {})
        if key is not None:
            h["x-api-key"] = key
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        c.request(verb, path, body, h)
        r = c.getresponse()
        data = r.read()
        c.close()
        got = {k.lower(): v for k, v in r.getheaders()}
        if got.get("content-type") == "application/json":
            data = json.loads(data)
        return r.status, got, data

    def stop(self):
        self.nginx.stop()
        self.stop_fake()
        bad = re.findall(r".*(?:\[(?:alert|emerg|crit)\]|AddressSanitizer|"
                         r"runtime error|exited on signal).*",
                         self.text("state/log/ingress-error.log")
                         + self.text("nginx.stderr") + self.text("fake.log"))
        shutil.rmtree(self.folder)
        if bad:
            raise AssertionError("nginx complained: " + "\n".join(bad))


class Events:
    """A client of one event stream."""

    def __init__(self, ingress, path, headers=None):
        self.c = http.client.HTTPConnection("127.0.0.1", ingress.port,
                                            timeout=20)
        self.c.request("GET", path, headers=dict(headers or {},
                                                 **{"x-api-key": "key-good"}))
        self.r = self.c.getresponse()
        self.status = self.r.status
        self.type = self.r.headers["content-type"]

    def next(self):
        """The next event as {field: value}; None at the end."""
        out = {}
        while True:
            line = self.r.readline().decode()
            if line == "":
                return None
            line = line.rstrip("\n")
            if line == "":
                return out
            name, value = line.split(": ", 1)
            out[name] = out[name] + "\n" + value if name in out else value

    def next_of(self, kind):
        while True:
            e = self.next()
            if e is None or e["event"] == kind:
                return e

    def close(self):
        self.c.close()
        self.r.close()
