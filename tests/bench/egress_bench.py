#!/usr/bin/python3
"""Egress with authorisation, audit row, swap and scrub, beside a plain nginx TLS
proxy and mitmproxy, in interleaved rounds; nginx's memory during a long download
and with slow readers; decisions at 2,000 a second. Real vault, real PostgreSQL,
a host that answers only to the real token. Needs root.

    egress_bench.py          run by tests/bench/run.sh; ROUNDS, LOAD_SECONDS
"""
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from egress_support import Dns, Egress, Vault, free_port, \
    make_ca, wait_for  # noqa: E402
from vault_support import BUILD, field, varint  # noqa: E402
import sandbox_launcher_test as launcher  # noqa: E402

ROUNDS = os.environ.get("ROUNDS", "3")
SECONDS = os.environ.get("LOAD_SECONDS", "5")
CONNECTIONS = "32"
NAME = "api.example.com"
TOKEN = "real-token-0123456789-abcdefghijkl"

# The host, and plain proxies to it: with connections to the host that are
# kept, and (as egress) with one for each request.
NGINX = """
pid {0}/nginx.pid; worker_processes 2; error_log {0}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {0}/access.log; client_body_temp_path {0}/b;
    proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;
    scgi_temp_path {0}/s; ssl_certificate {0}/up.pem;
    ssl_certificate_key {0}/up.key; keepalive_requests 1000000;
    upstream kept {{ server 127.0.0.1:{1}; keepalive 32; }}
    upstream dialled {{ server 127.0.0.1:{1}; }}
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $http_host; proxy_ssl_server_name on;
    proxy_ssl_name {2}; proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {0}/up-ca.pem;
    proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 4 64k;
    server {{ listen unix:{0}/kept.sock ssl;
        location / {{ proxy_pass https://kept; }} }}
    server {{ listen unix:{0}/dialled.sock ssl;
        location / {{ proxy_pass https://dialled; }} }}
    server {{ listen 127.0.0.1:{1} ssl; access_log off;
        if ($http_authorization != "Bearer {3}") {{ return 401; }}
        default_type application/json; root {0}/host; }}
}}
"""


# Beside mitmproxy: the swap alone, which is the least that it could do.
MITM = """
def request(flow):
    h = flow.request.headers
    if h.get("authorization") == "Bearer %s":
        h["authorization"] = "Bearer %s"
"""


def tool(way, connections, *path):
    """What egress_load prints."""
    at, ca, workload, token = way
    return [float(x) for x in subprocess.run(
        [BUILD + "/tools/egress_load", at, NAME, ca, workload,
         str(connections), SECONDS, "Authorization: Bearer " + token, *path],
        check=True, stdout=subprocess.PIPE, text=True).stdout.split()]


def figure(name, value, unit):
    print(f"figure {name} {value} {unit}", flush=True)


def middle_of(ways, rounds, connections, *path):
    """Median of each column, for each way, in interleaved rounds."""
    got = {k: [] for k in ways}
    for _ in range(rounds):
        for k, way in ways.items():
            got[k].append(tool(way, connections, *path))
    return {k: [statistics.median(x) for x in zip(*rows)]
            for k, rows in got.items()}


def rates(ways):
    rps = {k: x[0] for k, x in
           middle_of(ways, int(ROUNDS), CONNECTIONS).items()}
    for k, x in rps.items():
        figure(f"egress.{k}_rps", f"{x:.0f}", "1/s")
    figure("egress.swap_vs_nginx", f"{rps['swap'] / rps['plain']:.3f}", "ratio")
    figure("egress.swap_vs_nginx_dial",
           f"{rps['swap'] / rps['plain_dial']:.3f}", "ratio")
    if "mitmproxy" in rps:
        figure("egress.swap_vs_mitmproxy",
               f"{rps['swap'] / rps['mitmproxy']:.1f}", "ratio")


def latency(ways):
    two = {k: ways[k] for k in ("swap", "plain")}
    us = {k: x[1] for k, x in middle_of(two, int(ROUNDS), 1).items()}
    figure("egress.swap_one_p50_ms", f"{us['swap'] / 1000:.3f}", "ms")
    figure("egress.added_p50_ms", f"{(us['swap'] - us['plain']) / 1000:.3f}",
           "ms")


def downloads(ways):
    two = {k: ways[k] for k in ("swap", "plain")}
    mb = {k: x[0] for k, x in
          middle_of(two, 2 * int(ROUNDS) + 1, 1, "/64m").items()}
    figure("egress.scrub_mb_s", f"{mb['swap']:.0f}", "MB/s")
    figure("egress.scrub_vs_plain", f"{mb['swap'] / mb['plain']:.3f}", "ratio")


def rss_kib(e):
    """Of nginx's workers."""
    out = 0
    with open(f"/proc/{e.proc.pid}/task/{e.proc.pid}/children") as f:
        for pid in f.read().split():
            with open(f"/proc/{pid}/status") as status:
                out += sum(int(x.split()[1]) for x in status
                           if x.startswith("VmRSS"))
    return out


def memory(e, way, workload, stub):
    before = rss_kib(e)
    tool(way, 1, "/1g")
    figure("egress.rss_1gib_grown_kib", rss_kib(e) - before, "KiB")
    before, readers = rss_kib(e), []
    for _ in range(100):
        s = e.connect("egress-bridge", (workload, 443), NAME)
        e.write(s, "GET", "/64m", NAME, [("Authorization", "Bearer " + stub)])
        readers.append(s)
    for _ in range(5):
        for s in readers:
            s.recv(4096)
        time.sleep(0.5)
    grown = rss_kib(e) - before
    for s in readers:
        s.close()
    figure("egress.rss_slow_reader_kib", f"{grown / 100:.0f}", "KiB")


def decisions(v, workload, stub):
    """Authorize, 2,000 a second from eight connections."""
    found = varint(1 << 3) + varint(1) + field(2, "authorization") \
        + field(3, stub)
    m = field(1, workload) + field(3, "https") + field(4, NAME) \
        + varint(5 << 3) + varint(443) + field(6, "GET") + field(7, "/x") \
        + field(8, found) + field(9, "req_bench")
    body, log = v.path("ask"), v.path("ask.log")
    with open(body, "wb") as f:
        f.write(b"\0" + len(m).to_bytes(4, "big") + m)
    subprocess.run(
        ["h2load", "-c8", "-m8", "--rps=250", "-D5", "--warm-up-time=1", "-d",
         body, "-H", "content-type: application/grpc", "-H", "te: trailers",
         "--log-file=" + log, "--base-uri=unix:" + v.path("egress.sock"),
         "http://vault/agent.vault.v1.EgressService/Authorize"],
        check=True, stdout=subprocess.DEVNULL)
    with open(log) as f:
        rows = [x.split("\t") for x in f]
    us = sorted(int(r[2]) for r in rows if r[1] == "200")
    assert len(us) == len(rows) > 5000, (len(us), len(rows))
    for name, at in ("p50", 50), ("p99", 99):
        figure(f"egress.authorize_{name}_ms",
               f"{us[len(us) * at // 100] / 1000:.3f}", "ms")


class Mitmproxy:
    """Reverse proxy to the host that swaps the token; or nothing, where the
    package is not installed."""

    def __init__(self, folder, port, stub):
        self.proc, self.port = None, free_port()
        self.ca = folder + "/mitm/mitmproxy-ca-cert.pem"
        if shutil.which("mitmdump") is None:
            print("skip mitmproxy: not installed", flush=True)
            return
        os.mkdir(folder + "/mitm")
        with open(folder + "/addon.py", "w") as f:
            f.write(MITM % (stub, TOKEN))
        self.proc = subprocess.Popen(
            ["mitmdump", "-q", "--mode", f"reverse:https://127.0.0.1:{port}",
             "--listen-host", "127.0.0.1", "-p", str(self.port), "-s",
             folder + "/addon.py", "--set", "confdir=" + folder + "/mitm",
             "--set", "ssl_insecure=true", "--set", "keep_host_header=true"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("mitmproxy", self.is_up, 30)

    def is_up(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0 \
                and os.path.exists(self.ca)

    def ways(self, stub):
        return {"mitmproxy": (str(self.port), self.ca, "-", stub)} \
            if self.proc else {}

    def stop(self):
        if self.proc:
            self.proc.terminate()
            self.proc.wait(10)


class Sandbox(launcher.Launcher):
    """A real sandbox behind a real bridge, in front of this egress."""

    def __init__(self, folder, v, e, session):
        self.tmp_bridge = folder + "/bridge"
        self.bridge = subprocess.Popen(
            [BUILD + "/bin/bridge", "--listen=" + self.tmp_bridge,
             "--egress-tls=" + e.sock("egress-bridge"),
             "--egress-plain=" + e.sock("egress-bridge-plain")],
            stderr=subprocess.DEVNULL)
        wait_for("bridge", lambda: os.path.exists(self.tmp_bridge))
        os.mkdir(folder + "/sandbox")
        super().__init__(folder + "/sandbox")
        self.box = self.create(1)
        w = v.open(session, address=self.box.address)
        self.stub = w["values"]["API_TOKEN"]
        with open(v.path("ca.pem"), "rb") as f:
            self.box.sh("cat >/tmp/ca.pem", stdin=f.read())

    def arguments(self):
        return super().arguments() + ["--bridge=" + self.tmp_bridge]

    def download(self):
        """Bytes a second."""
        return float(self.box.sh(
            "curl -sSf --cacert /tmp/ca.pem -o /dev/null -w '%%{speed_download}'"
            " -H 'Authorization: Bearer %s' https://%s/64m" % (self.stub, NAME)))

    def end(self):
        self.box.destroy()
        self.stop()
        self.bridge.terminate()
        self.bridge.wait(10)


def through_the_bridge(folder, sandbox):
    """The same client on both ways: curl."""
    got = {"bridge": [], "plain": []}
    for _ in range(2 * int(ROUNDS) + 1):
        got["bridge"].append(sandbox.download())
        got["plain"].append(float(subprocess.run(
            ["curl", "-sSf", "--cacert", folder + "/up-ca.pem", "-o",
             "/dev/null", "-w", "%{speed_download}", "--unix-socket",
             folder + "/kept.sock", "-H", "Authorization: Bearer " + TOKEN,
             f"https://{NAME}/64m"], check=True,
            stdout=subprocess.PIPE, text=True).stdout))
    mb = {k: statistics.median(x) / 1e6 for k, x in got.items()}
    figure("egress.scrub_bridge_mb_s", f"{mb['bridge']:.0f}", "MB/s")
    figure("egress.scrub_bridge_vs_plain",
           f"{mb['bridge'] / mb['plain']:.3f}", "ratio")


def measure(folder, port, v, e, workload, stub):
    ways = {"swap": (e.sock("egress-bridge"), v.path("ca.pem"), workload,
                     stub),
            "plain": (folder + "/kept.sock", folder + "/up-ca.pem", "-",
                      TOKEN),
            "plain_dial": (folder + "/dialled.sock", folder + "/up-ca.pem",
                           "-", TOKEN)}
    mitm = Mitmproxy(folder, port, stub)
    try:
        rates({**ways, **mitm.ways(stub)})
    finally:
        mitm.stop()
    latency(ways)
    downloads(ways)
    memory(e, ways["swap"], workload, stub)
    decisions(v, workload, stub)


def main():
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        make_ca(folder, [NAME])
        os.mkdir(folder + "/host")
        with open(folder + "/host/answer.json", "w") as f:
            f.write('{"text":"' + "x" * 900 + '"}\n')
        with open(folder + "/host/64m", "wb") as f:
            for _ in range(64):
                f.write(os.urandom(1 << 19).hex().encode())
        with open(folder + "/host/1g", "wb") as f:
            f.truncate(1 << 30)
        with open(folder + "/nginx.conf", "w") as f:
            f.write(NGINX.format(folder, port, NAME, TOKEN))
        nginx = subprocess.Popen(
            ["nginx", "-p", folder, "-c", folder + "/nginx.conf", "-e",
             folder + "/error.log", "-g", "daemon off;"],
            stderr=subprocess.DEVNULL)
        try:
            wait_for("nginx", lambda: os.path.exists(folder + "/kept.sock"))
            with Vault(f"destination {NAME}:443 address=127.0.0.1:{port} "
                       f"ca={folder}/up-ca.pem\n",
                       args=["--scrub-hits-max=0"]) as v:
                key = v.key()
                vault = v.vault(key)
                v.credential(key, vault, "API_TOKEN", TOKEN, [NAME])
                environment = v.put_policy(key, ["*.example.com"])
                session = v.put_grant(key, environment, [vault])
                w = v.open(session)
                e = Egress(v, Dns({}), perturbs=False)
                try:
                    measure(folder, port, v, e, w["address"],
                            w["values"]["API_TOKEN"])
                    sandbox = Sandbox(folder, v, e, session)
                    try:
                        through_the_bridge(folder, sandbox)
                    finally:
                        sandbox.end()
                    rows = v.sql("SELECT count(*) FROM vault.audit WHERE "
                                 f"session_id = '{session}'")
                    assert int(rows) > 100, f"{rows} audit rows"
                finally:
                    e.stop()
        finally:
            nginx.terminate()
            nginx.wait(10)


if __name__ == "__main__":
    main()
