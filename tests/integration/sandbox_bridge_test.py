#!/usr/bin/python3
"""The real launcher, bridge and a sandbox, against an egress that is a test.

Needs root and a base image, as sandbox_launcher_test.py.
"""
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sandbox_launcher_test as base  # noqa: E402

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BLOB = os.urandom(1 << 20) * 8


class Egress(threading.Thread):
    """Accepts on a unix socket, notes the PROXY header, answers HTTP."""

    def __init__(self, path, tls=None):
        super().__init__(daemon=True)
        self.tls, self.seen = tls, []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        os.chmod(path, 0o666)
        self.sock.listen(64)
        self.start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,),
                             daemon=True).start()

    def serve(self, c):
        head = c.recv(16, socket.MSG_WAITALL)
        if len(head) < 16:
            return
        assert head[:12] == SIGNATURE and head[12:14] == b"\x21\x21", head
        body = c.recv(struct.unpack(">H", head[14:])[0], socket.MSG_WAITALL)
        seen = {"source": socket.inet_ntop(socket.AF_INET6, body[:16]),
                "destination": socket.inet_ntop(socket.AF_INET6, body[16:32]),
                "port": struct.unpack(">H", body[34:36])[0]}
        try:
            if self.tls is not None:
                c = self.tls.wrap_socket(c, server_side=True)
            f = c.makefile("rwb")
            seen["line"] = f.readline().decode().strip()
            size = 0
            while (line := f.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"host":
                    seen["host"] = value.strip().decode()
                if name.lower() == b"content-length":
                    size = int(value)
            seen["body"] = hashlib.sha256(f.read(size)).hexdigest()
            self.seen.append(seen)
            data = BLOB if "/blob" in seen["line"] else b"hello"
            f.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(data) + data)
            f.flush()
        except OSError:
            pass
        c.close()


class World(base.Launcher):
    """A launcher with a bridge and both faces of egress."""

    def __init__(self, tmp):
        for name in ("bridge", "egress"):
            os.mkdir(f"{tmp}/{name}")
        pem = f"{tmp}/egress/pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=t",
                        "-keyout", pem, "-out", pem + ".crt"], check=True,
                       stderr=subprocess.DEVNULL)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(pem + ".crt", pem)
        self.plain = Egress(f"{tmp}/egress/plain")
        self.tls = Egress(f"{tmp}/egress/tls", ctx)
        self.tmp = tmp
        self.log = open(f"{tmp}/log", "ab")
        self.start_bridge()
        super().__init__(tmp)

    def start_bridge(self):
        self.bridge = subprocess.Popen(
            [f"{base.BIN}/bridge", f"--listen={self.tmp}/bridge/s",
             f"--egress-tls={self.tmp}/egress/tls",
             f"--egress-plain={self.tmp}/egress/plain", "--log-level=debug"],
            stderr=self.log)
        for _ in range(200):
            if os.path.exists(f"{self.tmp}/bridge/s"):
                return
            time.sleep(0.02)
        raise AssertionError("bridge does not listen")

    def arguments(self):
        return super().arguments() + [f"--bridge={self.tmp}/bridge/s"]

    def stop(self):
        super().stop()
        self.bridge.terminate()
        assert self.bridge.wait(10) == 0

    def kill(self):
        super().kill()
        if self.bridge.poll() is None:
            self.bridge.kill()
            self.bridge.wait()


QUERY = r'''
import socket, struct, sys
def ask(name, kind=1):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    q = b"".join(bytes([len(l)]) + l for l in name.encode().split(b".")) + b"\0"
    s.sendto(struct.pack(">6H", 77, 0x100, 1, 0, 0, 0) + q +
             struct.pack(">2H", kind, 1), ("127.0.0.1", 53))
    d = s.recv(600)
    i, flags, _, n, _, _ = struct.unpack(">6H", d[:12])
    assert i == 77
    return flags & 15, n, socket.inet_ntoa(d[-4:]) if n else ""
'''


def python(code):
    return "python3 -c '" + (QUERY + code).replace("'", "'\\''") + "'"


# ---------------------------------------------------------------- tests ----

def names_get_addresses_of_their_own(w):
    b = w.create(1)
    assert b.sh("getent ahostsv4 a.test | head -1 | cut -d' ' -f1") == \
        "198.18.1.0"
    out = b.sh(python("""
print(ask("b.test"), ask("A.TEST"), ask("b.test", 28), ask("b.test", 65),
      ask("1.2.3.4"))"""))
    assert out == ("(0, 1, '198.18.1.1') (0, 1, '198.18.1.0') (0, 0, '') "
                   "(4, 0, '') (3, 0, '')"), out
    other = w.create(2)
    assert other.sh(python('print(ask("c.test")[2])')) == "198.18.1.0"
    b.destroy()
    other.destroy()


def names_run_out_at_their_limit(w):
    b = w.create(1)
    out = b.sh(python("""
r = [ask("n%d.test" % i)[0] for i in range(1030)]
print(r[:1024] == [0] * 1024, r[1024:] == [2] * 6, ask("n5.test")[0])"""))
    assert out == "True True 0", out
    b.destroy()


def clear_text_reaches_the_plain_listener(w):
    b = w.create(1)
    assert b.sh("curl -sS http://api.test:8080/x?y") == "hello"
    seen = w.plain.seen[0]
    assert seen["source"] == b.address and b.address.startswith("fd"), seen
    assert (seen["port"], seen["line"], seen["host"]) == (
        8080, "GET /x?y HTTP/1.1", "api.test:8080"), seen
    assert seen["destination"].startswith("fd00:"), seen
    assert not w.tls.seen
    b.destroy()


def tls_reaches_the_tls_listener(w):
    b = w.create(1)
    assert b.sh("curl -ksS https://api.test/") == "hello"
    assert b.sh("""python3 -c '
import socket, ssl
c = ssl.create_default_context(); c.check_hostname = False
c.verify_mode = ssl.CERT_NONE
s = c.wrap_socket(socket.create_connection(("Api.Test", 8443)),
                  server_hostname="API.test")
s.sendall(b"GET /p HTTP/1.1\\r\\nHost: api.test\\r\\n\\r\\n")
print(s.recv(15))'""") == "b'HTTP/1.1 200 OK'"
    assert [s["port"] for s in w.tls.seen] == [443, 8443], w.tls.seen
    assert {s["source"] for s in w.tls.seen} == {b.address}
    b.destroy()


def a_name_that_differs_is_reset(w):
    b = w.create(1)
    b.sh("getent ahostsv4 good.test; getent ahostsv4 evil.test")
    errors = b.fails("curl -ksS --resolve evil.test:443:198.18.1.0 "
                     "https://evil.test/")
    assert "reset" in errors.lower(), errors
    # Without a server name.
    errors = b.fails("curl -ksS https://198.18.1.0/")
    assert "reset" in errors.lower(), errors
    # An address that was never given out.
    errors = b.fails("curl -sS http://198.18.7.7/")
    assert "reset" in errors or "connect" in errors, errors
    # The capture port itself.
    b.fails("curl -sS http://127.0.0.1:1/")
    assert not w.tls.seen and not w.plain.seen
    b.destroy()


def large_bodies_pass_unchanged_both_ways(w):
    b = w.create(1)
    want = hashlib.sha256(BLOB).hexdigest()
    assert b.sh("curl -ksS https://api.test/blob | sha256sum").split()[0] == \
        want
    out = b.sh("head -c 5000000 /dev/urandom > /tmp/u; sha256sum < /tmp/u; "
               "curl -sS -H 'Expect:' --data-binary @/tmp/u http://api.test/up")
    assert out.endswith("hello"), out
    assert w.plain.seen[-1]["body"] == out.split()[0]
    # Many at a time.
    b.sh("for i in 1 2 3 4 5 6 7 8; do curl -ksS https://api.test/blob | "
         f"sha256sum | grep -q {want} & p=\"$p $!\"; done; "
         "for i in $p; do wait $i || exit 1; done")
    b.destroy()


def a_restarted_bridge_serves_sandboxes_that_live(w):
    b = w.create(1)
    assert b.sh("curl -sS http://api.test/") == "hello"
    w.bridge.kill()
    w.bridge.wait()
    os.unlink(f"{w.tmp}/bridge/s")
    w.start_bridge()
    assert b.sh("for i in $(seq 50); do curl -sS --max-time 2 "
                "http://api.test/ && exit; sleep 0.1; done; exit 1"
                ) == "hello"
    b.destroy()


def no_egress_is_a_reset(w):
    b = w.create(1)
    w.plain.sock.close()
    os.unlink(f"{w.tmp}/egress/plain")
    errors = b.fails("curl -sS --max-time 5 http://api.test/")
    assert "reset" in errors.lower(), errors
    b.destroy()


TESTS = [names_get_addresses_of_their_own, names_run_out_at_their_limit,
         clear_text_reaches_the_plain_listener, tls_reaches_the_tls_listener,
         a_name_that_differs_is_reset, large_bodies_pass_unchanged_both_ways,
         a_restarted_bridge_serves_sandboxes_that_live, no_egress_is_a_reset]

if __name__ == "__main__":
    base.main(TESTS, World)
