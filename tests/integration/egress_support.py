"""Real nginx with the egress half of the module, a real vault beside it, a
loopback HTTPS host with a CA of its own and a DNS server on loopback."""
import base64
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import BUILD, ROOT, Vault, wait_for  # noqa: E402
import sanitizer  # noqa: E402

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
MODULE = os.path.join(BUILD, "bin/ngx_agent_module.so")


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stderr=subprocess.DEVNULL)


def make_ca(folder, names):
    """ca.pem, and server.pem with its key, in the folder."""
    def at(name):
        return os.path.join(folder, name)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/CN=test", "-keyout", at("up-ca.key"), "-out", at("up-ca.pem"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=host", "-keyout", at("up.key"), "-out",
            at("up.csr"))
    with open(at("up.ext"), "w") as f:
        f.write("subjectAltName=" + ",".join("DNS:" + n for n in names))
    openssl("x509", "-req", "-in", at("up.csr"), "-CA", at("up-ca.pem"),
            "-CAkey", at("up-ca.key"), "-CAcreateserial", "-days", "2",
            "-extfile", at("up.ext"), "-out", at("up.pem"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def handle_any(self):
        n = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(n)
        auth = self.headers.get("authorization", "")
        self.server.seen.append({
            "method": self.command, "path": self.path, "body": body,
            "headers": {k.lower(): v for k, v in self.headers.items()}})
        path = self.path.split("?")[0]
        if path == "/split":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            text = ("start " + auth + " end\n" + "x" * 40000 + auth
                    + "\nlast").encode()
            at, size = 0, int(self.headers.get("x-step", "7"))
            while at < len(text):
                # Small pieces around the values, large ones between.
                step = size if at < 100 or at > len(text) - 200 else 9000
                self.chunk(text[at:at + step])
                at += step
                time.sleep(0.002)
            self.chunk(b"")
            return
        if path == "/sse":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(3):
                self.chunk(b"data: %d\n\n" % i)
                if not self.server.go.wait(10):
                    return
                self.server.go.clear()
            self.chunk(b"")
            return
        out = json.dumps({"auth": auth}).encode()
        extra = {}
        if path == "/gzip":
            extra["Content-Encoding"] = "gzip"
        if path == "/forms":
            value = auth.split(" ")[-1].encode()
            out = b"\n".join([
                base64.b64encode(value), base64.b64encode(b"u:" + value),
                base64.b64encode(b"ab" + value + b"zz"),
                base64.b64encode(b"a" + value), value.hex().encode(),
                value.hex().upper().encode(),
                b"".join(b"%%%02X" % c for c in value[:0]) + value])
        if path == "/accel":
            extra["X-Accel-Redirect"] = \
                "/agent.vault.v1.EgressService/Authorize"
        if path == "/redirect":
            extra["Location"] = "https://evil.example.net/?t=" + auth
        extra["X-Reflected"] = auth
        self.send_response(302 if path == "/redirect" else 200)
        for k, v in extra.items():
            self.send_header(k, v)
        if path != "/none":
            self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_GET = do_POST = do_HEAD = do_PUT = handle_any


class Upstream(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.go = [], threading.Event()
        if folder:
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(folder + "/up.pem", folder + "/up.key")
            self.socket = ctx.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    @property
    def port(self):
        return self.server_address[1]


class RawHost:
    """A host that answers by hand, by TLS where it has a folder. `answer(self, c, head)` sends what it
    likes on `c` and returns whether the connection goes on. `seen` holds
    (number of the connection, head) of each request, `bodies` what came behind
    it (by its content-length), `ended` the connections
    that the other side closed."""

    def __init__(self, folder, answer):
        self.answer, self.seen, self.ended = answer, [], []
        self.bodies = []
        self.ctx = folder and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if folder:
            self.ctx.load_cert_chain(folder + "/up.pem", folder + "/up.key")
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        n = 0
        while True:
            c, _ = self.sock.accept()
            n += 1
            threading.Thread(target=self.serve, args=(c, n),
                             daemon=True).start()

    def serve(self, c, n):
        c.settimeout(30)
        try:
            if self.ctx:
                c = self.ctx.wrap_socket(c, server_side=True)
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    part = c.recv(65536)
                    if not part:
                        self.ended.append(n)
                        return
                    data += part
                head, _, body = data.partition(b"\r\n\r\n")
                m = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                while m and len(body) < int(m.group(1)):
                    body += c.recv(65536)
                self.bodies.append(body)
                self.seen.append((n, head.decode("latin-1")))
                if not self.answer(self, c, head.decode("latin-1")):
                    return
        except OSError:
            self.ended.append(n)
        finally:
            c.close()


class Dns(threading.Thread):
    """Answers A for the names it has, NXDOMAIN for others."""

    def __init__(self, names):
        super().__init__(daemon=True)
        self.names = names
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.start()

    def run(self):
        while True:
            q, who = self.sock.recvfrom(512)
            labels, at = [], 12
            while q[at]:
                labels.append(q[at + 1:at + 1 + q[at]].decode())
                at += 1 + q[at]
            kind = struct.unpack(">H", q[at + 1:at + 3])[0]
            found = self.names.get(".".join(labels).lower())
            ips = found if found and kind == 1 else []
            head = q[:2] + struct.pack(">HHHHH", 0x8180 | (
                0 if found else 3), 1, len(ips), 0, 0)
            out = head + q[12:at + 5]
            for ip in ips:
                out += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) \
                    + socket.inet_aton(ip)
            self.sock.sendto(out, who)


def proxy_header(address, port):
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack(">H", 36) \
        + socket.inet_pton(socket.AF_INET6, address) \
        + socket.inet_pton(socket.AF_INET6, "fd00::1") \
        + struct.pack(">HH", 40000, port)


class Answer:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.raw, self.head = raw, head.decode("latin-1")
        self.status = int(lines[0].split()[1]) if len(
            lines[0].split()) > 1 else 0
        self.headers = {}
        for line in lines[1:]:
            k, _, v = line.partition(": ")
            self.headers[k.lower()] = v
        if self.headers.get("transfer-encoding") == "chunked":
            out, rest = b"", self.body
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size or b"0", 16)
                out, rest = out + rest[:n], rest[n + 2:]
            self.body = out

    @property
    def reason(self):
        return json.loads(self.body)["error"]["reason"]


class Egress:
    """nginx in front of a Vault; the vault's folder holds everything."""

    def __init__(self, vault, dns, perturbs=True):
        self.v, self.run = vault, vault.path("run")
        self.perturbs = perturbs
        self.state = vault.path("state")
        for d in "vault-egress", "egress-ca", "egress-bridge", \
                "egress-brain", "egress-ingress", "egress", "public":
            os.makedirs(os.path.join(self.run, d))
        os.symlink(vault.path("generation"),
                   self.run + "/public/generation")
        os.makedirs(self.state + "/log")
        os.symlink(vault.path("egress.sock"),
                   self.run + "/vault-egress/vault-egress.sock")
        os.symlink(vault.path("intermediate.pem"),
                   self.run + "/egress-ca/intermediate.pem")
        with open(ROOT + "/nginx/conf/egress.conf") as f:
            conf = f.read()
        for k, x in {"@MODULE@": MODULE, "@RUN@": self.run,
                     "@STATE@": self.state,
                     "@RULES@": ROOT + "/vault_svc/rules.conf",
                     "@RESOLVER@": "127.0.0.1:%d" % dns.port}.items():
            conf = conf.replace(k, x)
        conf = conf.replace("user brainbox-egress;", "user root;")
        conf = re.sub(r"agent_egress_peer \S+;", "agent_egress_peer root;",
                      conf)
        conf = conf.replace("egress-error.log warn", "egress-error.log info")
        self.conf = self.run + "/egress.conf"
        self.asan = "/asan" in BUILD
        if self.asan:
            conf = "daemon off; master_process off;\n" + conf
        with open(self.conf, "w") as f:
            f.write(conf)
        self.start()

    def start(self):
        env = dict(os.environ)
        if self.asan:
            env["LD_PRELOAD"] = ":".join(sanitizer.libraries())
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        # What nginx reads behind its free is no longer what it was: nginx is
        # without a sanitizer in every build. Benchmarks go without: it takes two
        # fifths of a request's time.
        if self.perturbs:
            env["MALLOC_PERTURB_"] = "165"
        for d in "egress-bridge", "egress-brain", "egress-ingress":
            for f in os.listdir(os.path.join(self.run, d)):
                os.unlink(os.path.join(self.run, d, f))
        self.proc = subprocess.Popen(
            [NGINX, "-c", self.conf, "-p", self.run, "-e",
             self.state + "/log/start.log"]
            + ([] if self.asan else ["-g", "daemon off;"]),
            env=env, stderr=self.v.log)
        wait_for("nginx", lambda: self.proc.poll() is not None
                 or os.path.exists(self.sock("egress-bridge-plain")))
        assert self.proc.poll() is None, self.v.logged()
        time.sleep(0.1)

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        assert self.proc.wait(10) == 0, self.errors()

    def sock(self, name):
        return "%s/%s/%s.sock" % (self.run, "-".join(name.split("-")[:2]),
                                  name)

    def errors(self):
        with open(self.state + "/log/egress-error.log") as f:
            return f.read()

    def logs(self):
        with open(self.state + "/log/egress-access.log") as f:
            return f.read() + self.errors()

    def connect(self, name, proxy=None, sni=None):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(self.sock(name))
        if proxy:
            s.sendall(proxy_header(*proxy))
        if sni:
            ctx = ssl.create_default_context(cafile=self.v.path("ca.pem"))
            s = ctx.wrap_socket(s, server_hostname=sni)
        return s

    @staticmethod
    def write(s, method, path, host, headers=(), body=b""):
        head = "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n" \
            % (method, path, host)
        if body:
            head += "Content-Length: %d\r\n" % len(body)
        for k, x in headers:
            head += "%s: %s\r\n" % (k, x)
        s.sendall(head.encode() + b"\r\n" + body)

    @staticmethod
    def turn(s, path, host, headers=(), method="GET", body=b""):
        """One request on a connection that stays, its answer has a length."""
        head = "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n" \
            % (method, path, host, len(body))
        for k, x in headers:
            head += "%s: %s\r\n" % (k, x)
        s.sendall(head.encode() + b"\r\n" + body)
        out = b""
        while b"\r\n\r\n" not in out:
            part = s.recv(65536)
            if not part:
                return Answer(out)
            out += part
        a = Answer(out)
        while "content-length" in a.headers and len(a.body) < int(
                a.headers["content-length"]):
            part = s.recv(65536)
            if not part:
                break
            a.body += part
        return a

    @staticmethod
    def read(s):
        out = b""
        try:
            while True:
                part = s.recv(65536)
                if not part:
                    break
                out += part
        except ssl.SSLEOFError:
            pass
        s.close()
        return Answer(out)

    def ask(self, address, host="api.example.com", path="/", headers=(),
            method="GET", body=b"", port=443, tls=True, sni=None,
            host_header=None):
        s = self.connect("egress-bridge" if tls else "egress-bridge-plain",
                         (address, port), (sni or host) if tls else None)
        self.write(s, method, path, host_header or host, headers, body)
        return self.read(s)


__all__ = ["Answer", "Dns", "Egress", "RawHost", "Upstream", "Vault",
           "free_port", "make_ca", "proxy_header", "wait_for"]


def answering(answer):
    """For `setting`: a RawHost that answers so."""
    return lambda folder: RawHost(folder, answer)


@contextlib.contextmanager
def setting(names, new_host, **vault):
    """What most tests of egress begin with: a host on loopback, made by
    `new_host(folder)`, to which every one of `names` leads; a vault (whose other
    arguments may follow), its first key, and egress. Gives all four."""
    with tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp") as folder:
        make_ca(folder, names)
        host = new_host(folder)
        with Vault("".join(
                f"destination {name}:443 address=127.0.0.1:{host.port} "
                f"ca={folder}/up-ca.pem\n" for name in names), **vault) as v:
            egress = Egress(v, Dns({}))
            try:
                yield v, egress, host, v.key()
            finally:
                egress.stop()
