#!/usr/bin/env python3
"""vault_bridge: the way out of vault_svc. In a network namespace of its own
without a route, whose loopback bears public and private addresses, and where
/etc/hosts says where names lead. Needs root."""
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import make_ca  # noqa: E402
from vault_support import BUILD, main, wait_for  # noqa: E402

PUBLIC, PRIVATE, OWN = "93.184.216.10", "10.0.0.5", "93.184.219.9"
NAMES = {"idp.example.com": [PUBLIC], "private.example.com": [PRIVATE],
         "loop.example.com": ["127.0.0.1"], "own.example.com": [OWN],
         "mixed.example.com": [PUBLIC, "169.254.169.254"],
         "six.example.com": ["::1"], "unlisted.example.com": [PUBLIC],
         "dead.example.com": ["93.184.216.99"]}
DEPLOYMENT = """
destination idp.example.com:443
destination private.example.com:443
destination loop.example.com:443
destination own.example.com:443
destination mixed.example.com:443
destination six.example.com:443
destination dead.example.com:444
destination nowhere.example.com:443
destination fixed.example.com:443 address=10.0.0.5:8443
destination silent.example.com:443 address=10.0.0.5:9000
destination 10.0.0.5:443
"""


def namespace():
    if not os.environ.get("VAULT_BRIDGE_NET"):
        os.environ["VAULT_BRIDGE_NET"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", "--",
                              sys.executable, os.path.abspath(__file__)])
    ip = "/usr/sbin/ip" if os.path.exists("/usr/sbin/ip") else "/sbin/ip"
    for words in (["link", "set", "lo", "up"],
                  ["addr", "add", PRIVATE + "/32", "dev", "lo"],
                  ["addr", "add", OWN + "/32", "dev", "lo"],
                  ["route", "add", "local", "93.184.216.0/24", "dev", "lo"]):
        subprocess.run([ip, *words], check=True)


def hosts_file(folder):
    with open(folder + "/hosts", "w") as f:
        for name, ips in NAMES.items():
            f.writelines(f"{a} {name}\n" for a in ips)
    with open(folder + "/nsswitch", "w") as f:
        f.write("hosts: files\n")
    subprocess.run(["mount", "--bind", folder + "/hosts", "/etc/hosts"],
                   check=True)
    subprocess.run(["mount", "--bind", folder + "/nsswitch",
                    "/etc/nsswitch.conf"], check=True)


class Host:
    """A TLS host that says back what it gets; counts who came."""

    def __init__(self, ip, port):
        self.came, self.got = 0, []
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(DIR + "/up.pem", DIR + "/up.key")
        self.sock = socket.create_server((ip, port))
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            c, _ = self.sock.accept()
            self.came += 1
            threading.Thread(target=self.serve, args=(c,),
                             daemon=True).start()

    def serve(self, c):
        try:
            c = self.ctx.wrap_socket(c, server_side=True)
            while data := c.recv(65536):
                self.got.append(data)
                c.sendall(data)
            c.unwrap()
        except OSError:
            pass
        c.close()


class Bridge:
    def __init__(self, *args):
        self.path = tempfile.mktemp(prefix="s", dir=DIR)
        self.proc = subprocess.Popen(
            [BUILD + "/bin/vault_bridge", "--user=", "--peer-user=",
             "--listen=" + self.path, "--deployment=" + DIR + "/deployment",
             *args], stderr=open(DIR + "/log", "ab"))
        wait_for("bridge", lambda: os.path.exists(self.path)
                 or self.proc.poll() is not None)

    def stop(self):
        self.proc.terminate()
        return self.proc.wait(10)

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(15)
        s.connect(self.path)
        return s

    def ask(self, target, method="CONNECT", more=b""):
        """(status, text, socket)."""
        s = self.connect()
        s.sendall(b"%s %s HTTP/1.1\r\nHost: x\r\n\r\n" % (
            method.encode(), target.encode()) + more)
        out = b""
        while b"\r\n\r\n" not in out:
            part = s.recv(4096)
            if not part:
                return 0, "", s
            out += part
        status = int(out.split(b" ")[1])
        while status != 200 and (part := s.recv(4096)):
            out += part
        return status, out.partition(b"\r\n\r\n")[2].decode(), s


def there_and_back(t, blob):
    """What comes back while the blob goes out. In one thread: two may not use
    a TLS connection at the same time."""
    t.setblocking(False)
    left, back, end = blob, b"", time.monotonic() + 30
    while len(back) < len(blob):
        assert time.monotonic() < end, (len(left), len(back))
        moved = 0
        try:
            moved = t.send(left[:16384]) if left else 0
            left = left[moved:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            part = t.recv(65536)
            assert part, "the connection ended"
            back, moved = back + part, len(part)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        if moved == 0:
            select.select([t], [t] if left else [], [], 1)
    t.settimeout(15)
    return back


def listed_hosts_are_reached_and_tls_is_the_vaults():
    for name, host in ("idp", IDP), ("fixed", FIXED):
        status, _, s = B.ask(f"{name}.example.com:443")
        assert status == 200
        ctx = ssl.create_default_context(cafile=DIR + "/up-ca.pem")
        t = ctx.wrap_socket(s, server_hostname=f"{name}.example.com")
        blob = os.urandom(1 << 20)
        assert there_and_back(t, blob) == blob
        assert b"".join(host.got) == blob
        t.unwrap().close()


def nothing_else_is_reached():
    before = IDP.came, FIXED.came, TRAP.came
    for target in ("unlisted.example.com:443", "idp.example.com:80",
                   "idp.example.com:8443", "fixed.example.com:8443",
                   "a.idp.example.com:443", "93-184-216-10.example.com:443"):
        status, text, _ = B.ask(target)
        assert status == 403 and "deployment.conf" in text, (target, text)
    for target in (PUBLIC + ":443", PRIVATE + ":443", "idp.example.com",
                   "idp.example.com:0", "idp.example.com:443.x",
                   "x@idp.example.com:443", "[::1]:443",
                   "idp.example.com:443\tx"):
        assert B.ask(target)[0] == 400, target
    for method in "GET", "connect", "POST":
        assert B.ask("http://idp.example.com:443/", method)[0] == 400
    assert before == (IDP.came, FIXED.came, TRAP.came)


def addresses_are_vetted_unless_root_fixed_them():
    before = TRAP.came, IDP.came
    for name in "private", "loop", "own", "mixed", "six":
        status, text, _ = B.ask(f"{name}.example.com:443")
        assert status == 403 and "open internet" in text, (name, text)
    assert B.ask("nowhere.example.com:443")[0] == 502
    assert B.ask("dead.example.com:444")[0] == 502
    assert before == (TRAP.came, IDP.came)


def only_the_vault_is_served():
    other = Bridge("--peer-user=nobody")
    try:
        s = other.connect()
        s.sendall(b"CONNECT idp.example.com:443 HTTP/1.1\r\n\r\n")
        try:
            assert s.recv(100) == b""
        except ConnectionResetError:
            pass
        wait_for("log", lambda: "tunnel.peer_refused" in open(
            DIR + "/log").read())
    finally:
        assert other.stop() == 0
    assert oct(os.stat(B.path).st_mode & 0o777) == "0o660"


def tunnels_are_bounded_in_number_and_time():
    small = Bridge("--max-tunnels=2", "--begin-seconds=1", "--idle-seconds=1")
    try:
        held = [small.ask("idp.example.com:443") for _ in range(2)]
        assert [h[0] for h in held] == [200, 200]
        status, text, _ = small.ask("idp.example.com:443")
        assert status == 503 and "max_tunnels" in text, text
        for _, _, s in held:            # without traffic they end
            assert s.recv(10) == b""
        s = small.connect()             # a head that never comes
        s.sendall(b"CONN")
        assert s.recv(10) == b""
        assert small.ask("idp.example.com:443")[0] == 200
    finally:
        assert small.stop() == 0


def a_host_that_does_not_answer_is_given_up():
    b = Bridge("--begin-seconds=1")
    # A listener whose queue is full takes no connection.
    full = socket.create_server((PRIVATE, 9000), backlog=0)
    held = []
    try:
        for _ in range(3):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((PRIVATE, 9000))
            held.append(s)
        time.sleep(0.1)
        start = time.monotonic()
        status, _, _ = b.ask("silent.example.com:443")
        assert status == 504 and time.monotonic() - start < 8, status
    finally:
        for s in held + [full]:
            s.close()
        assert b.stop() == 0


def a_wrong_file_does_not_start():
    with open(DIR + "/bad", "w") as f:
        f.write("destination idp.example.com\n")
    p = subprocess.run([BUILD + "/bin/vault_bridge", "--user=",
                        "--peer-user=", "--listen=" + DIR + "/bad.sock",
                        "--deployment=" + DIR + "/bad"], timeout=20,
                       stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and "line 1" in p.stderr, p.stderr


TESTS = [listed_hosts_are_reached_and_tls_is_the_vaults,
         nothing_else_is_reached,
         addresses_are_vetted_unless_root_fixed_them,
         only_the_vault_is_served, tunnels_are_bounded_in_number_and_time,
         a_host_that_does_not_answer_is_given_up, a_wrong_file_does_not_start]

if __name__ == "__main__":
    namespace()
    with tempfile.TemporaryDirectory(prefix="bbvb", dir="/tmp") as DIR:
        hosts_file(DIR)
        make_ca(DIR, [n for n in NAMES] + ["fixed.example.com"])
        with open(DIR + "/deployment", "w") as f:
            f.write(DEPLOYMENT)
        IDP, FIXED = Host(PUBLIC, 443), Host(PRIVATE, 8443)
        TRAP = Host(PRIVATE, 443)
        B = Bridge()
        try:
            main(TESTS)
        finally:
            assert B.stop() == 0
            if os.environ.get("VERBOSE"):
                print(open(DIR + "/log").read())
