#!/usr/bin/env python3
"""What is open ends when its session ends or its credential is gone, and only
that. Real nginx, real vault, hosts that stream without end. Needs root."""
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import Dns, Egress, RawHost, Vault, make_ca, \
    proxy_header, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "cut-value-0123456789-abcdefghijkl"
MODEL = "sk-model-key-0123456789abcdefghij-EXTRA"
A, B = "api.example.com", "other.example.com"
ENOUGH = threading.Event()


def answer(host, c, head):
    """Events without end, or a body that is cut into many pieces."""
    sse = "/sse" in head.split("\r\n")[0]
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: "
              + (b"text/event-stream" if sse else b"text/plain")
              + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    until = "/until" in head.split("\r\n")[0]
    while not (until and ENOUGH.is_set()):
        data = b"data: x\n\n" if sse else b"x" * 50 + b"\n"
        c.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        time.sleep(0.005 if until else 0.05)
    c.sendall(b"0\r\n\r\n")


class Stream:
    """A request in a sandbox's place that reads for as long as it can."""

    def __init__(self, path="/", host=A, vaults=None, h2=False, bare=False):
        self.v = VLT if vaults is None else vaults
        self.session = V.put_grant(KEY, ENV, [self.v])
        w = V.open(self.session)
        self.at, self.host = w["address"], host
        self.stub = w["values"].get("API_TOKEN")
        self.headers = [] if bare else [
            ("Authorization", "Bearer " + self.stub)]
        self.n, self.ended = 0, None
        self.begin(path, h2)
        threading.Thread(target=self.read, daemon=True).start()
        wait_for("bytes", lambda: self.n > 100)

    def begin(self, path, h2):
        self.s = E.connect("egress-bridge", (self.at, 443), self.host)
        E.write(self.s, "GET", path, self.host, self.headers)

    def read(self):
        try:
            while data := self.s.recv(4096):
                self.n += len(data)
                self.last = time.monotonic()
            self.ended = "end"
        except (OSError, ssl.SSLError) as e:
            self.ended = type(e).__name__
        self.at_end = time.monotonic()

    def is_cut(self, what="cut"):
        wait_for(what, lambda: self.ended is not None, 5)
        return True

    def goes_on(self, seconds=2.5):
        n = self.n
        time.sleep(seconds)
        return self.ended is None and self.n > n


class Curl(Stream):
    """The same by HTTP/2."""

    def begin(self, path, h2):
        self.relay = Relay(self.at)
        words = ["curl", "-sS", "--http2", "-N", "--cacert", V.path("ca.pem"),
                 "--connect-to", f"{A}:443:127.0.0.1:{self.relay.port}",
                 "-w", "%{http_version} %{http_code}",
                 f"https://{A}{path}"]
        for k, v in self.headers:
            words += ["-H", f"{k}: {v}"]
        self.p = subprocess.Popen(words, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)

    def read(self):
        self.text = b""
        while data := os.read(self.p.stdout.fileno(), 4096):
            self.n += len(data)
            self.text += data[-100:]
        self.ended = self.p.wait()


class Relay:
    def __init__(self, address):
        import socket
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

        def copy(a, b):
            try:
                while data := a.recv(65536):
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def loop():
            c, _ = self.sock.accept()
            u = socket.socket(socket.AF_UNIX)
            u.connect(E.sock("egress-bridge"))
            u.sendall(proxy_header(address, 443))
            for pair in ((c, u), (u, c)):
                threading.Thread(target=copy, args=pair, daemon=True).start()
        threading.Thread(target=loop, daemon=True).start()


def end(session):
    V.call("brain", "GrantService/EndGrant", {"session_id": session},
           V.as_key(KEY))


def new_vault():
    v = V.vault(KEY)
    c = V.credential(KEY, v, "API_TOKEN", SECRET, [A])
    return v, c["id"]


def rows(stream):
    """The workload is gone with its session: the row has its address."""
    return V.sql("SELECT string_agg(detail::text, ' ') FROM vault.audit WHERE"
                 " subject IN ('%s', '%s') AND action = 'egress.refused'"
                 % (stream.session, stream.at))


def streams_end_with_their_session_and_no_others():
    for make, path in ((Stream, "/"), (Stream, "/sse"), (Curl, "/"),
                       (Curl, "/sse")):
        cut, other = make(path), make(path)
        mark = len(HOST.ended)
        start = time.monotonic()
        end(cut.session)
        assert cut.is_cut(f"{make.__name__} {path}")
        assert time.monotonic() - start < 3
        # The host sees it, too.
        wait_for("the host", lambda: len(HOST.ended) > mark)
        assert other.goes_on(), (make, path)
        wait_for("audit row", lambda: "stream_cut" in rows(cut))
        assert "stream_cut" not in rows(other)
        end(other.session)
        assert other.is_cut()


def a_cut_answer_does_not_look_whole():
    s = Curl("/")
    end(s.session)
    assert s.is_cut() and s.ended not in (0, None), s.ended
    assert b"2 200" in s.text[-20:], s.text[-40:]


def streams_end_with_a_credential_of_their_host():
    for how in ("ArchiveCredential", "DeleteCredential", "ArchiveVault",
                "DeleteVault"):
        v, c = new_vault()
        s, other = Stream(vaults=v), Stream()
        body = {"vault_id": v}
        if "Credential" in how:
            body["credential_id"] = c
        V.call("ingress", "VaultService/" + how, body, V.as_key(KEY))
        assert s.is_cut(how)
        assert other.goes_on(1.5), how
        end(other.session)


def a_frozen_session_is_cut():
    s = Stream()
    foreign = Stream()
    a = E.ask(foreign.at, A, headers=[("Authorization",
                                       "Bearer " + s.stub)])
    assert a.status == 403 and a.reason == "stub_foreign", a.raw
    assert foreign.is_cut()
    assert s.goes_on(1.5)
    end(s.session)


def what_has_nothing_to_do_with_it_goes_on():
    """Grants, policies and credentials that come, change and go meanwhile."""
    s, brain = Stream(), Brain()
    bare = Stream(host=B, bare=True)
    for _ in range(5):
        v, c = new_vault()
        box = V.put_grant(KEY, ENV, [v])
        V.open(box)
        V.call("ingress", "VaultService/ArchiveCredential",
               {"vault_id": v, "credential_id": c}, V.as_key(KEY))
        V.put_policy(KEY, ["*.example.net"])
        end(box)
    assert s.goes_on() and brain.goes_on() and bare.goes_on()
    end(brain.session)
    assert brain.is_cut("the brain's stream")
    assert s.goes_on(1.2)
    end(s.session)
    end(bare.session)
    assert s.is_cut() and bare.is_cut("a stream without a credential")


def a_vault_that_starts_anew_cuts_nothing():
    s = Stream()
    V.stop("vault")
    V.start_vault()
    assert s.goes_on(3)
    end(s.session)
    assert s.is_cut()


class Brain(Stream):
    """The brain's own stream, from its model gateway."""

    def __init__(self):
        self.session = V.put_grant(KEY, ENV, [VLT])
        w = V.open(self.session, kind=3, face="brain")
        self.stub = w["model_stub"]
        self.n, self.ended = 0, None
        self.s = E.connect("egress-brain-plain")
        E.write(self.s, "GET", "/endless", "127.0.0.1:%d" % PLAIN.port,
                [("Authorization", "Bearer " + self.stub),
                 ("X-Brainbox-Session", self.session)])
        threading.Thread(target=self.read, daemon=True).start()
        wait_for("bytes of the model", lambda: self.n > 300)


def a_stream_that_ends_while_its_end_is_told_ends_once():
    """The host ends it behind the cut, while the vault is still to write the
    row: what is left of the request is that call alone."""
    for kind in Stream, Curl:
        ENOUGH.clear()
        s = kind("/until")
        n = E.logs().count("egress cut:")
        end(s.session)
        V.procs["vault"].send_signal(signal.SIGSTOP)
        try:
            wait_for("the cut", lambda: E.logs().count("egress cut:") > n, 5)
            ENOUGH.set()
            assert s.is_cut()
            time.sleep(0.3)
        finally:
            V.procs["vault"].send_signal(signal.SIGCONT)
    assert Stream(vaults=new_vault()[0]).goes_on(0.2)
    assert "[alert]" not in E.logs(), re.findall(r".*\[alert\].*", E.logs())


def values_are_in_no_log():
    text = E.logs() + V.logged()
    assert "Sanitizer" not in text and "runtime error" not in text, text
    assert SECRET not in text and MODEL not in text
    assert "[alert]" not in text and "[emerg]" not in text, re.findall(
        r".*\[alert\].*", text)


TESTS = [
    streams_end_with_their_session_and_no_others,
    a_cut_answer_does_not_look_whole,
    streams_end_with_a_credential_of_their_host,
    a_frozen_session_is_cut,
    what_has_nothing_to_do_with_it_goes_on,
    a_vault_that_starts_anew_cuts_nothing,
    a_stream_that_ends_while_its_end_is_told_ends_once,
    values_are_in_no_log,
]

if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp")
    make_ca(folder.name, [A, B])
    HOST = RawHost(folder.name, answer)
    PLAIN = RawHost(None, answer)
    to = "address=127.0.0.1:%d ca=%s/up-ca.pem" % (HOST.port, folder.name)
    with Vault("destination %s:443 %s\ndestination %s:443 %s\n"
               "destination 127.0.0.1:%d clear-text\n"
               % (A, to, B, to, PLAIN.port),
               {"MODEL_API_KEY": MODEL,
                "MODEL_BASE_URL": "http://127.0.0.1:%d/v1" % PLAIN.port}) as V:
        KEY = V.key()
        VLT, CRED = new_vault()
        ENV = V.put_policy(KEY, ["*.example.com"])
        E = Egress(V, Dns({}))
        try:
            main(TESTS)
        finally:
            if os.environ.get("VERBOSE"):
                print(E.errors())
            E.stop()
            folder.cleanup()
