#!/usr/bin/env python3
"""gRPC through egress: a real gRPC client in a sandbox's place, a real gRPC host
with TLS, real nginx and the real vault between them. Needs root."""
import os
import socket
import sys
import tempfile
import threading
import time

try:
    import grpc
except ImportError:                 # it is a package of the system's Python
    if sys.executable != "/usr/bin/python3":
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    raise

from concurrent import futures

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import Dns, Egress, Vault, make_ca, \
    proxy_header, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "grpc-value+0123456789-abcdefghijkl"
SHAPE = b"ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6"
A, B = "api.example.com", "other.example.com"


# ---- the host --------------------------------------------------------------

class Echo(grpc.GenericRpcHandler):
    """Messages are bytes. Says back what it got as metadata, everywhere."""

    def __init__(self):
        self.seen, self.messages, self.cancelled = [], [], 0
        self.go = threading.Event()

    def service(self, details):
        kind = details.method.rpartition("/")[2]
        make = {"Unary": grpc.unary_unary_rpc_method_handler,
                "Down": grpc.unary_stream_rpc_method_handler,
                "Up": grpc.stream_unary_rpc_method_handler,
                "Both": grpc.stream_stream_rpc_method_handler}.get(kind)
        return make and make(getattr(self, kind))

    def meta(self, ctx):
        m = dict(ctx.invocation_metadata())
        self.seen.append(m)
        v = m.get("authorization", m.get("x-key-bin", b""))
        raw = v if isinstance(v, bytes) else v.encode()
        text = raw.replace(b"\0", b"").decode()
        ctx.send_initial_metadata((("x-echo", text),))
        ctx.set_trailing_metadata((("x-end", text),
                                   ("x-end-bin", b"<" + raw + b">")))
        return raw

    def Unary(self, msg, ctx):
        raw = self.meta(ctx)
        self.messages.append(msg)
        if msg == b"fail":
            ctx.abort(grpc.StatusCode.FAILED_PRECONDITION,
                      "no: " + raw.decode())
        if msg == b"pack":
            ctx.set_compression(grpc.Compression.Gzip)
            return b"z" * 4000 + raw
        return b"got " + msg + b" with " + raw

    def Down(self, msg, ctx):
        raw = self.meta(ctx)
        for i in range(int(msg)):
            yield b"%d " % i + raw
            # The next is not sent before the one before it was read.
            if not self.go.wait(20):
                return
            self.go.clear()

    def Up(self, messages, ctx):
        raw = self.meta(ctx)
        n = 0
        for m in messages:
            n += len(m)
            self.messages.append(m)
        return b"%d " % n + raw

    def Both(self, messages, ctx):
        raw = self.meta(ctx)
        for m in messages:
            self.messages.append(m)
            yield b"<" + m + b"|" + raw


def serve(folder, handler, tls=True):
    s = grpc.server(futures.ThreadPoolExecutor(32), options=[
        ("grpc.max_receive_message_length", -1)])
    s.add_generic_rpc_handlers((handler,))
    with open(folder + "/up.key", "rb") as k, open(folder + "/up.pem",
                                                   "rb") as c:
        creds = grpc.ssl_server_credentials([(k.read(), c.read())])
    port = s.add_secure_port("127.0.0.1:0", creds)
    s.start()
    return s, port


# ---- the sandbox -----------------------------------------------------------

class Relay:
    """A TCP port that leads to egress as a workload: the bridge's part."""

    def __init__(self, address):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port, self.address = self.sock.getsockname()[1], address
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            c, _ = self.sock.accept()
            u = socket.socket(socket.AF_UNIX)
            u.connect(E.sock("egress-bridge"))
            u.sendall(proxy_header(self.address, 443))
            for a, b in (c, u), (u, c):
                threading.Thread(target=self.copy, args=(a, b),
                                 daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Box:
    def __init__(self, host=A):
        self.session = V.put_grant(KEY, ENV, [VLT])
        w = V.open(self.session)
        self.at, self.stub = w["address"], w["values"]["API_TOKEN"]
        self.relay = Relay(self.at)
        with open(V.path("ca.pem"), "rb") as f:
            creds = grpc.ssl_channel_credentials(f.read())
        self.channel = grpc.secure_channel(
            "127.0.0.1:%d" % self.relay.port, creds, options=[
                ("grpc.ssl_target_name_override", host),
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1)])

    def meta(self, *more):
        return [("authorization", "Bearer " + self.stub), *more]

    def call(self, name, request, metadata=None, **kw):
        kind = {"Unary": "unary_unary", "Down": "unary_stream",
                "Up": "stream_unary", "Both": "stream_stream"}[name]
        fn = getattr(self.channel, kind)("/echo.Echo/" + name)
        if kind.endswith("unary"):
            return fn.with_call(request, timeout=30, metadata=self.meta()
                                if metadata is None else metadata, **kw)
        return fn(request, timeout=30, metadata=self.meta()
                  if metadata is None else metadata, **kw)


def refused(code, text, fn):
    try:
        fn()
    except grpc.RpcError as e:
        assert e.code() == code and text in e.details(), (
            e.code(), e.details())
        return e
    raise AssertionError("not refused with " + text)


def mark(name):
    return len(getattr(HOST, name))


FILLER = "*" * len(SECRET)
P, U = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE


# ---- tests -----------------------------------------------------------------

def unary_calls_are_swapped_and_scrubbed_with_their_trailers():
    box = Box()
    out, call = box.call("Unary", b"hello")
    assert out == b"got hello with Bearer " + FILLER.encode(), out
    assert HOST.seen[-1]["authorization"] == "Bearer " + SECRET
    head, end = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert head["x-echo"] == "Bearer " + FILLER, head
    assert end["x-end"] == "Bearer " + FILLER, end
    # In base64 the filler stands for characters of base64.
    assert SECRET.encode() not in end["x-end-bin"] and \
        SECRET[4:-4].encode() not in end["x-end-bin"], end
    wait_for("report", lambda: "egress.scrubbed" in V.sql(
        "SELECT string_agg(action, ' ') FROM vault.audit"
        " WHERE session_id = '%s'" % box.session))


def errors_of_the_host_arrive_scrubbed():
    box = Box()
    e = refused(grpc.StatusCode.FAILED_PRECONDITION, "no: Bearer ***",
                lambda: box.call("Unary", b"fail"))
    assert SECRET not in e.details() and SECRET not in repr(e)


def each_message_of_a_stream_arrives_when_it_is_sent():
    # The host waits for `go`: a tail that stays behind would stop both.
    box = Box()
    HOST.go.clear()
    got = []
    for m in box.call("Down", b"4"):
        got.append(m)
        HOST.go.set()
    assert got == [b"%d Bearer " % i + FILLER.encode() for i in range(4)], got


def both_ways_at_once_works():
    box = Box()
    answered = threading.Event()

    def messages():
        for i in range(20):
            yield b"m%d" % i
            assert answered.wait(20)
            answered.clear()
    got = []
    for m in box.call("Both", messages()):
        got.append(m)
        answered.set()
    assert got == [b"<m%d|Bearer " % i + FILLER.encode()
                   for i in range(20)], got


def long_messages_pass_both_ways():
    box = Box()
    blob = os.urandom(5 << 20)
    out, _ = box.call("Unary", blob)
    assert out == b"got " + blob + b" with Bearer " + FILLER.encode()
    out, _ = box.call("Up", iter([blob] * 3))
    assert out == b"%d Bearer " % (15 << 20) + FILLER.encode(), out


def a_stub_in_a_message_goes_no_further():
    box = Box()
    stub = box.stub.encode()
    before = mark("messages")
    refused(P, "", lambda: box.call("Unary", b"k=" + stub))
    refused(P, "", lambda: box.call("Unary", b"x" * 70000 + stub + b"y"))
    assert mark("messages") == before

    def slowly():
        yield b"first"
        time.sleep(0.3)
        yield b"\x0a\x05" + stub
    # Its answer had begun: the stream is cut.
    refused(grpc.StatusCode.INTERNAL, "RST_STREAM",
            lambda: list(box.call("Both", slowly())))
    assert HOST.messages[before:] in ([], [b"first"]), HOST.messages[before:]
    wait_for("audit", lambda: "stub_wrong_slot" in V.sql(
        "SELECT string_agg(detail::text, ' ') FROM vault.audit WHERE"
        " session_id = '%s' AND action = 'egress.refused'" % box.session))


def binary_metadata_is_swapped_where_it_is_declared():
    v = V.vault(KEY)
    V.credential(KEY, v, "BIN_TOKEN", SECRET, [A], binding=[
        {"host": A, "slots": ["header:X-Key-Bin"]}])
    session = V.put_grant(KEY, ENV, [v])
    box = Box()
    w = V.open(session)
    box.relay.address = w["address"]
    stub = w["values"]["BIN_TOKEN"].encode()
    _, call = box.call("Unary", b"x", [("x-key-bin", b"\0k:" + stub)])
    assert HOST.seen[-1]["x-key-bin"] == b"\0k:" + SECRET.encode()
    assert SECRET.encode() not in dict(call.trailing_metadata())["x-end-bin"]
    before = mark("seen")
    refused(P, "stub_wrong_slot", lambda: box.call(
        "Unary", b"x", [("x-other-bin", b"k:" + stub)]))
    refused(P, "slot_repeated", lambda: box.call(
        "Unary", b"x", [("x-key-bin", b"a:" + stub),
                        ("x-key-bin", b"b:" + stub)]))
    assert mark("seen") == before


def what_is_not_allowed_says_so_to_grpc():
    box, other = Box(), Box(B)
    before = mark("seen")
    refused(grpc.StatusCode.UNAUTHENTICATED, "credential_required",
            lambda: box.call("Unary", b"x", []))
    refused(P, "stub_wrong_slot", lambda: box.call(
        "Unary", b"x", [("x-other", box.stub)]))
    refused(P, "stub_wrong_host", lambda: other.call("Unary", b"x"))
    refused(P, "encoding_refused", lambda: box.call(
        "Unary", b"x" * 5000, compression=grpc.Compression.Gzip))
    assert mark("seen") == before
    out, _ = other.call("Unary", b"x", [])
    assert out == b"got x with ", out


def packed_answers_fail_closed():
    box = Box()
    # The host is asked for identity, so that grpc packs nothing by itself.
    out, _ = box.call("Unary", b"pack")
    assert out == b"z" * 4000 + b"Bearer " + FILLER.encode()
    assert HOST.seen[-1].get("grpc-accept-encoding") in (None, "identity")


def a_host_that_is_away_is_unavailable():
    box = Box("gone.example.com")
    refused(U, "could not be reached",
            lambda: box.call("Unary", b"x", []))
    box = Box("misnamed.example.com")
    before = mark("seen")
    refused(U, "certificate", lambda: box.call("Unary", b"x", []))
    assert mark("seen") == before


def connections_are_kept_and_shared_with_nobody():
    box = Box()
    peers = set()
    real = HOST.meta

    def meta(ctx):
        peers.add(ctx.peer())
        return real(ctx)
    HOST.meta = meta
    try:
        for _ in range(8):
            box.call("Unary", b"x")
        # A connection on which the host says something unasked is not kept.
        assert len(peers) < 8, peers
        mine = len(peers)
        Box().call("Unary", b"x")
        assert len(peers) == mine + 1, peers
    finally:
        HOST.meta = real


def values_are_in_no_log():
    text = E.logs() + V.logged()
    assert "Sanitizer" not in text and "runtime error" not in text, text
    assert SECRET not in text and "grpc-value" not in text
    assert "[alert]" not in text and "[emerg]" not in text


def values_and_credentials_in_messages_go_no_further():
    before = mark("messages")
    box = Box()
    refused(P, "", lambda: box.call("Unary", b"k=" + SHAPE))
    refused(P, "", lambda: box.call("Unary", b"x " * 35000 + SHAPE))
    refused(P, "", lambda: box.call("Unary", b"k=" + SECRET.encode()))
    assert mark("messages") == before
    wait_for("incident", lambda: V.sql(
        "SELECT kind FROM vault.incident WHERE session_id = '%s'"
        % box.session) == "known_value_out")

    box = Box()

    def slowly():
        yield b"first"
        time.sleep(0.3)
        yield SECRET[:9].encode()
        yield SECRET[9:].encode()
    refused(grpc.StatusCode.INTERNAL, "RST_STREAM",
            lambda: list(box.call("Both", slowly())))
    assert SECRET[9:].encode() not in HOST.messages[before:]


TESTS = [
    unary_calls_are_swapped_and_scrubbed_with_their_trailers,
    errors_of_the_host_arrive_scrubbed,
    each_message_of_a_stream_arrives_when_it_is_sent,
    both_ways_at_once_works,
    long_messages_pass_both_ways,
    a_stub_in_a_message_goes_no_further,
    values_and_credentials_in_messages_go_no_further,
    binary_metadata_is_swapped_where_it_is_declared,
    what_is_not_allowed_says_so_to_grpc,
    packed_answers_fail_closed,
    a_host_that_is_away_is_unavailable,
    connections_are_kept_and_shared_with_nobody,
    values_are_in_no_log,
]

if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp")
    make_ca(folder.name, [A, B, "gone.example.com"])
    HOST = Echo()
    SERVER, port = serve(folder.name, HOST)
    ca = "ca=%s/up-ca.pem" % folder.name
    to = "address=127.0.0.1:%d %s" % (port, ca)
    with Vault("".join("destination %s:443 %s\n" % x for x in (
            (A, to), (B, to), ("misnamed.example.com", to),
            ("gone.example.com", "address=127.0.0.1:1 " + ca))),
               args=["--scrub-hits-max=0"]) as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, [A])
        ENV = V.put_policy(KEY, ["*.example.com"])
        E = Egress(V, Dns({}))
        try:
            main(TESTS)
        finally:
            if os.environ.get('VERBOSE'):
                print(E.logs())
            E.stop()
            SERVER.stop(0)
            folder.cleanup()
