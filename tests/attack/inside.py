"""What an attack has at hand inside the sandbox. The runner puts this text in
front of each attack; it needs nothing but the image's Python."""
import base64
import json
import os
import socket
import ssl
import struct
import subprocess
import time

A, B, E = "api.a-corp.test", "www.b-corp.test", "in.e-corp.test"
S, K = os.environ.get("API_TOKEN", ""), os.environ.get("API_SPECIAL", "")


def tcp(host, port=443):
    s = socket.create_connection((host, port), 15)
    s.settimeout(15)
    return s


def tls(host, sni=None, port=443, alpn=None):
    """TLS to what `host` resolves to, asking for `sni`; the leaf must check."""
    ctx = ssl.create_default_context()
    if alpn:
        ctx.set_alpn_protocols([alpn])
    return ctx.wrap_socket(tcp(host, port), server_hostname=sni or host)


def talk(s, data, wait=15):
    """Send, and read until the other side ends."""
    if isinstance(data, str):
        data = data.encode("latin-1")
    out = b""
    s.settimeout(wait)
    try:
        s.sendall(data)
        while True:
            part = s.recv(65536)
            if not part:
                break
            out += part
    except OSError as e:
        out += b"" if out else ("!" + type(e).__name__).encode()
    s.close()
    return out.decode("latin-1")


def attempt(fn, *args, **kw):
    """The answer, or the name of the refusal."""
    try:
        return fn(*args, **kw)
    except (OSError, ValueError) as e:
        return "!" + type(e).__name__


def text(host, path="/echo", *headers, method="GET", body="", length=True):
    if body and length:
        headers += (f"Content-Length: {len(body)}",)
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}",
                        "Connection: close", *headers, "", body])


def ask(host=A, path="/echo", *headers, sni=None, port=443, dial=None, **kw):
    return attempt(lambda: talk(tls(dial or host, sni or host, port),
                                text(host, path, *headers, **kw)))


PROXY = "proxy.brainbox.internal"


def tunnel(authority, sni, data, port=3128):
    """CONNECT through the proxy of the sandbox, then TLS for `sni`, or for None
    the bytes as they are."""
    def run():
        s = tcp(PROXY, port)
        s.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}"
                  "\r\n\r\n".encode("latin-1"))
        head = s.recv(4096).decode("latin-1")
        if " 200 " not in head[:20]:
            return head
        if sni is None:
            return talk(s, data)
        ctx = ssl.create_default_context()
        return talk(ctx.wrap_socket(s, server_hostname=sni), data)
    return attempt(run)


def bearer(s=None):
    return "Authorization: Bearer " + (s or S)


def basic(pair):
    return "Authorization: basic " + base64.b64encode(pair.encode()).decode()


def sh(command):
    p = subprocess.run(command, shell=True, capture_output=True, text=True,
                       timeout=60)
    return (p.stdout + p.stderr)[-6000:] + f"[exit {p.returncode}]"


def frame(kind, flags, stream, data):
    return struct.pack(">I", len(data))[1:] + bytes((kind, flags)) \
        + struct.pack(">I", stream) + data


def literal(name, value):
    out = b"\x00"
    for s in (name, value):
        s = s.encode("latin-1")
        n = len(s)
        if n < 127:
            out += bytes((n,))
        else:
            n -= 127
            out += b"\x7f"
            while n > 127:
                out += bytes((n % 128 + 128,))
                n //= 128
            out += bytes((n,))
        out += s
    return out


def h2(host, headers, body=b"", pieces=1, authority=None, data_frames=None):
    """One request as raw HTTP/2 frames; answers (statuses, text)."""
    def run():
        s = tls(host, alpn="h2")
        block = b"".join(literal(k, v) for k, v in
                         [(":method", "POST" if body else "GET"),
                          (":scheme", "https"), (":path", "/echo"),
                          (":authority", authority or host), *headers])
        size = -(-len(block) // pieces)
        parts = [block[i:i + size] for i in range(0, len(block), size)]
        out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
        for i, part in enumerate(parts):
            flags = (0x4 if i == len(parts) - 1 else 0) | (
                0x1 if i == 0 and not body else 0)
            out += frame(1 if i == 0 else 9, flags, 1, part)
        if body:
            out += frame(0, 1, 1, body)
        s.sendall(out)
        got, kinds, content = b"", [], b""
        while not (kinds and kinds[-1] == "end"):
            part = s.recv(65536)
            if not part:
                break
            got += part
            while len(got) >= 9 and len(got) >= 9 + int.from_bytes(
                    got[:3], "big"):
                n, kind, flags = int.from_bytes(got[:3], "big"), got[3], got[4]
                payload, got = got[9:9 + n], got[9 + n:]
                if kind == 0:
                    content += payload
                if kind in (3, 7):
                    kinds.append("reset" if kind == 3 else "goaway")
                if kind == 1:
                    content += b"[" + payload[:5] + b"]"
                if (kind in (0, 1) and flags & 1) or kind in (3, 7):
                    kinds.append("end")
        s.close()
        return " ".join(kinds) + " " + content.decode("latin-1")
    return attempt(run)


def rpc(message, *headers, host="rpc.a-corp.test", flag=0):
    """A gRPC call by curl: headers, trailers and the answer's bytes."""
    with open("/tmp/m", "wb") as f:
        f.write(bytes((flag,)) + struct.pack(">I", len(message)) + message)
    words = ["curl", "-sS", "-m", "20", "--http2", "-D", "-", "-o", "/tmp/o",
             "--data-binary", "@/tmp/m", "-H", "te: trailers", "-H",
             "content-type: application/grpc"]
    for h in headers:
        words += ["-H", h]
    p = subprocess.run(words + [f"https://{host}/e.E/Echo"],
                       capture_output=True)
    answer = b""
    if os.path.exists("/tmp/o"):
        with open("/tmp/o", "rb") as f:
            answer = f.read()
        os.unlink("/tmp/o")
    return (p.stdout + p.stderr + b"\n" + answer).decode("latin-1")


def b64(data):
    data = data if isinstance(data, bytes) else data.encode()
    return base64.b64encode(data).decode().rstrip("=")


def out(*values):
    for v in values:
        print(json.dumps(v))
