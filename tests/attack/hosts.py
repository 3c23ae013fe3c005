#!/usr/bin/env python3
"""The world outside, for the attack suite: DNS and hosts in a namespace that
has no route.

usage: hosts.py DIR

Makes DIR/ca.pem (the public CA of this world) and certificates, listens, and
writes DIR/ready. Every byte that a host gets after TLS stands in
DIR/seen.jsonl as {"at": listener, "raw": text}; DNS questions as
{"at": "dns", "raw": name}. The case files say what each path of a host does.
"""
import base64
import gzip
import html
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import warnings

import rpc_host
import work

LOCK = threading.Lock()
FOLDER = "."
STORED = {}
TURN = {}

# What A gives to whoever shows a credential at /oauth/….
MINTED = "minted/\"token\"-0123456789-abcdefgh"
A, B, E = "api.a-corp.test", "www.b-corp.test", "in.e-corp.test"
DENIED = "out.x-corp.test"
G = "rpc.a-corp.test"
IDP = "idp.x-corp.test"
PUBLIC = "93.184.216."
# Addresses that a name may not lead to, by the name's first label.
SPECIAL = {
    "loopback": ["127.0.0.1"], "zero": ["0.0.0.0"], "ten": ["10.0.0.5"],
    "oneseventwo": ["172.16.0.5"], "oneninetwo": ["192.168.0.5"],
    "linklocal": ["169.254.1.1"], "metadata": ["169.254.169.254"],
    "cgnat": ["100.64.0.5"], "alibaba": ["100.100.100.200"],
    "azure": ["168.63.129.16"], "multicast": ["224.0.0.5"],
    "broadcast": ["255.255.255.255"], "own": ["93.184.219.9"],
    "mixed": [PUBLIC + "13", "10.0.0.5"], "six-loopback": ["::1"],
    "six-mapped": ["::ffff:10.0.0.5"], "six-nat64": ["64:ff9b::a00:5"],
    "six-6to4": ["2002:a00:5::1"], "six-local": ["fd00::5"],
    "six-link": ["fe80::5"], "six-multicast": ["ff02::1"],
    "six-teredo": ["2001:0:a00:5::1"], "six-mixed": [PUBLIC + "13", "::1"],
}
SPECIAL = {k + ".addr.test": v for k, v in SPECIAL.items()}
BAD_TLS = {"expired.certs.test": 21, "misnamed.certs.test": 22,
           "selfsigned.certs.test": 23, "unknownca.certs.test": 24,
           "tls10.certs.test": 25}
NAMES = {A: [PUBLIC + "10"], B: [PUBLIC + "11"], E: [PUBLIC + "66"],
         DENIED: [PUBLIC + "67"], "api.a-corp.test.e-corp.test":
         [PUBLIC + "66"], "evilapi.a-corp.test": [PUBLIC + "66"],
         "deep.api.a-corp.test": [PUBLIC + "66"],
         "one.wild-corp.test": [PUBLIC + "14"],
         G: [PUBLIC + "15"], IDP: [PUBLIC + "16"], work.GIT: [PUBLIC + "20"], work.FILES: [PUBLIC + "20"],
         "two.one.wild-corp.test": [PUBLIC + "66"],
         "wild-corp.test": [PUBLIC + "66"],
         **{k: [PUBLIC + str(v)] for k, v in BAD_TLS.items()}, **SPECIAL}
REBIND = "rebind.addr.test"


def seen(at, raw):
    line = json.dumps({"at": at, "raw": raw})
    with LOCK, open(FOLDER + "/seen.jsonl", "a") as f:
        f.write(line + "\n")


# ---- certificates ----------------------------------------------------------

def openssl(*args):
    subprocess.run(["openssl", *args], cwd=FOLDER, check=True,
                   stderr=subprocess.DEVNULL)


KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def make_ca(name):
    openssl("req", "-x509", *KEY, "-keyout", name + ".key", "-out",
            name + ".pem", "-subj", "/CN=" + name, "-days", "3")


def make_cert(name, sans, ca="ca", *more):
    openssl("req", *KEY, "-keyout", name + ".key", "-out", name + ".csr",
            "-subj", "/CN=host", "-addext", "subjectAltName=" + ",".join(
                "DNS:" + s for s in sans))
    openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem",
            "-CAkey", ca + ".key", "-CAcreateserial", "-copy_extensions",
            "copy", "-out", name + ".pem", *(more or ("-days", "2")))


def context(name):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if name == "tls10":
        ctx.set_ciphers("DEFAULT:@SECLEVEL=0")
        warnings.simplefilter("ignore", DeprecationWarning)
        ctx.minimum_version = ssl.TLSVersion.TLSv1
        ctx.maximum_version = ssl.TLSVersion.TLSv1
    ctx.load_cert_chain(f"{FOLDER}/{name}.pem", f"{FOLDER}/{name}.key")
    return ctx


def certificates():
    make_ca("ca")
    make_ca("unknown-ca")
    make_cert("host", [*NAMES, "*.addr.test"])
    make_cert("misnamed", ["somebody-else.test"])
    make_cert("tls10", ["tls10.certs.test"])
    make_cert("unknownca", ["unknownca.certs.test"], "unknown-ca")
    openssl("req", "-x509", *KEY, "-keyout", "selfsigned.key", "-out",
            "selfsigned.pem", "-subj", "/CN=x", "-days", "2", "-addext",
            "subjectAltName=DNS:selfsigned.certs.test")
    make_cert("expired", ["expired.certs.test"], "ca", "-days", "-1")


# ---- what host A answers ---------------------------------------------------

class Request:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target = (lines[0].split(" ") + ["", ""])[:2]
        self.path, _, self.query = self.target.partition("?")
        self.headers, self.lines, self.body = {}, lines[1:], body
        for line in lines[1:]:
            k, _, v = line.partition(":")
            self.headers[k.lower()] = v.strip()

    @property
    def auth(self):
        """What came as credential: both slots of A."""
        return " ".join(x for x in (self.headers.get("authorization"),
                                    self.headers.get("x-api-key")) if x)

    @property
    def value(self):
        value = self.headers.get("x-api-key") or \
            self.headers.get("authorization", "").partition(" ")[2]
        if self.headers.get("authorization", "").lower().startswith("basic "):
            value = base64.b64decode(value).decode().partition(":")[2]
        return value


def form(name, v):
    """The value as some library would write it."""
    raw = v.encode()
    return {
        "raw": lambda: v,
        "base64": lambda: " ".join(base64.b64encode(b"x" * i + raw).decode()
                                   for i in range(3)),
        "base64url": lambda: " ".join(base64.urlsafe_b64encode(
            b"x" * i + raw).decode() for i in range(3)),
        "base64-json": lambda: base64.b64encode(raw).decode()
        .replace("/", "\\/"),
        "base64-form": lambda: urllib.parse.quote(
            base64.b64encode(raw).decode(), ""),
        "hex": lambda: raw.hex() + " " + raw.hex().upper(),
        "percent-python": lambda: urllib.parse.quote(v),
        "percent-form": lambda: urllib.parse.quote_plus(v),
        "percent-all": lambda: "".join("%%%02x" % c for c in raw),
        "percent-twice": lambda: urllib.parse.quote(urllib.parse.quote(v)),
        "percent-lower": lambda: "".join(
            c if c.isalnum() else "%%%02x" % ord(c) for c in v),
        "json": lambda: json.dumps(v),
        "json-php": lambda: json.dumps(v).replace("/", "\\/"),
        "json-go": lambda: json.dumps(v).replace("<", "\\u003c")
        .replace(">", "\\u003e").replace("&", "\\u0026"),
        "json-all": lambda: "".join("\\u%04x" % c for c in raw),
        "json-hex-upper": lambda: "".join(
            c if c.isalnum() else "\\u%04X" % ord(c) for c in v),
        "bytes-python": lambda: "".join("\\x%02x" % c for c in raw),
        "html-python": lambda: html.escape(v),
        "html-go": lambda: v.replace("&", "&amp;").replace("<", "&lt;")
        .replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;")
        .replace("+", "&#43;"),
        "html-php": lambda: v.replace("&", "&amp;").replace("<", "&lt;")
        .replace('"', "&quot;").replace("'", "&#039;"),
        "html-hex": lambda: "".join(
            c if c.isalnum() else "&#x%X;" % ord(c) for c in v),
        "html-all": lambda: "".join("&#%d;" % c for c in raw),
        "html-apos": lambda: v.replace("&", "&amp;").replace("'", "&apos;"),
    }[name]()


FORMS = ("raw base64 base64url base64-json base64-form hex percent-python "
         "percent-form percent-all percent-twice percent-lower json json-php "
         "json-go json-all json-hex-upper bytes-python html-python html-go "
         "html-php html-hex html-all html-apos").split()


def plain(body, *headers, status="200 OK", length=True):
    body = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", *headers]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def in_pieces(c, r, size):
    c.sendall(CHUNKED + b"\r\n")
    text = ("<" + r.auth + ">\n").encode()
    for i in range(0, len(text), size):
        c.sendall(chunk(text[i:i + size]))
        time.sleep(0.001)
    c.sendall(b"0\r\n\r\n")


def ranged(r):
    """A host that knows Range by all its names."""
    text = "0123456789" + r.auth
    for name in ("range", "request-range"):
        low, _, high = r.headers.get(name, "").partition("=")[2] \
            .partition("-")
        if low:
            part = text[int(low):int(high) + 1]
            return plain(part, f"Content-Range: bytes {low}-{high}/"
                         f"{len(text)}", status="206 Partial Content")
    return plain(text)


def answer(c, r):
    """Returns bytes, or None when it has sent them itself."""
    auth, word = r.auth, r.path.rpartition("/")[2]
    packed = gzip.compress(auth.encode())
    if r.path == "/echo":
        return plain(json.dumps({"lines": r.lines, "body":
                                 r.body.decode("latin-1")}),
                     "X-Echo: " + auth)
    if r.path.startswith("/split/"):
        return in_pieces(c, r, int(word))
    if r.path.startswith("/form/"):
        return plain("<" + form(word, r.value) + ">\n")
    if r.path == "/redirect":
        return plain("", f"Location: https://{E}/?t={auth}",
                     status="302 Found")
    if r.path == "/status":
        return plain("x", status="200 " + auth)
    if r.path == "/name":
        return plain("x", "X-" + r.value + ": 1")
    if r.path == "/oauth/token":
        return plain(json.dumps({"token_type": "bearer", "copy": MINTED,
                                 "access_token": MINTED}))
    if r.path == "/oauth/form":
        return plain("access_token=" + MINTED + "&scope=x")
    if r.path == "/store":
        STORED["x"] = auth
        return plain("stored")
    if r.path == "/load":
        return plain(STORED.get("x", ""))
    if r.path == "/range":
        return ranged(r)
    if r.path == "/trailers":
        c.sendall(CHUNKED + b"Trailer: X-T\r\n\r\n" + chunk(b"body") +
                  b"0\r\nX-T: " + auth.encode() + b"\r\n\r\n")
        return None
    if r.path == "/old":
        c.sendall(b"no status line at all: " + auth.encode() + b"\n")
        return None
    if r.path == "/early":
        return (f"HTTP/1.1 103 Early Hints\r\nLink: <{auth}>\r\n\r\n"
                .encode() + plain(auth))
    if r.path == "/switch":
        return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\n\r\n" + auth.encode())
    if r.path == "/cut":
        half = auth.encode()[:-4]
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + half)
        return None
    if r.path == "/reset":
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" +
                  auth.encode())
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                     struct.pack("ii", 1, 0))
        return None
    if r.path == "/badheader":
        return plain("x", "X-" + r.value + "\x01: 1")
    if r.path == "/badvalue":
        return plain("x", "Content-Length: " + r.value, length=False)
    if r.path == "/altsvc":
        return plain("x", f'Alt-Svc: h3="{E}:443"; ma=3600')
    if r.path.startswith("/coding/"):
        lines = {"gzip": ["Content-Encoding: gzip"],
                 "deflate": ["Content-Encoding: deflate"],
                 "br": ["Content-Encoding: br"],
                 "odd": ["Content-Encoding: x-mine"],
                 "both": ["Content-Encoding: gzip, gzip"],
                 "gzip-then-identity": ["Content-Encoding: gzip",
                                        "Content-Encoding: identity"],
                 "identity-then-gzip": ["Content-Encoding: identity",
                                        "Content-Encoding: gzip"]}
        return plain(packed, *lines[word])
    if r.path.startswith("/transfer/"):
        lines = {"gzip": b"gzip, chunked",
                 "two-lines": b"gzip\r\nTransfer-Encoding: chunked"}[word]
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + lines +
                  b"\r\n\r\n" + chunk(packed) + b"0\r\n\r\n")
        return None
    if r.path == "/bomb":
        c.sendall(b"HTTP/1.1 200 OK\r\n")
        try:
            for i in range(20000):
                c.sendall(b"X-%d: %s\r\n" % (i, b"y" * 100))
        except OSError:
            pass
        return None
    return plain("ok " + r.path)


# ---- listeners ---------------------------------------------------------------

def read_request(c, at):
    data = b""
    while b"\r\n\r\n" not in data:
        part = c.recv(65536)
        if not part:
            break
        data += part
    if not data:
        return None
    head, _, rest = data.partition(b"\r\n\r\n")
    probe = Request(head, b"")
    n = int(probe.headers.get("content-length") or 0)
    while len(rest) < n:
        part = c.recv(65536)
        if not part:
            break
        rest += part
    seen(at, (head + b"\r\n\r\n" + rest[:65536]).decode("latin-1"))
    return Request(head, rest)


def serve_one(c, at, ctx, is_http):
    c.settimeout(10)
    try:
        if ctx is not None:
            c = ctx.wrap_socket(c, server_side=True)
        seen(at, "")
        if not is_http:
            seen(at, c.recv(65536).decode("latin-1"))
            return
        r = read_request(c, at)
        if r is not None:
            out = answer(c, r)
            if out is not None:
                c.sendall(out)
    except (OSError, ValueError, KeyError) as e:
        seen(at + " error", type(e).__name__)
    finally:
        c.close()


def listen(at, ip, port, ctx=None, is_http=True):
    s = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((ip, port))
    s.listen(64)

    def loop():
        while True:
            c, _ = s.accept()
            threading.Thread(target=serve_one, args=(c, at, ctx, is_http),
                             daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()


def dns(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", port))
    while True:
        q, who = s.recvfrom(512)
        labels, at = [], 12
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode("latin-1"))
            at += 1 + q[at]
        name = ".".join(labels).lower()
        kind = struct.unpack(">H", q[at + 1:at + 3])[0]
        seen("dns", name)
        found = NAMES.get(name)
        if name == REBIND:
            TURN[name] = TURN.get(name, 0) + (kind == 1)
            found = [PUBLIC + "12" if TURN[name] % 2 else "10.0.0.5"]
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        ips = [x for x in found or [] if family is not None
               and (":" in x) == (family == socket.AF_INET6)]
        out = q[:2] + struct.pack(">HHHHH", 0x8180 | (0 if found else 3), 1,
                                  len(ips), 0, 0) + q[12:at + 5]
        for ip in ips:
            data = socket.inet_pton(family, ip)
            out += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0,
                                             len(data)) + data
        s.sendto(out, who)


def main():
    global FOLDER
    FOLDER = sys.argv[1]
    certificates()
    host = context("host")
    for name, last in (("A", 10), ("B", 11), ("rebind", 12), ("mixed", 13),
                       ("wild", 14), ("idp", 16), ("E", 66), ("denied", 67)):
        listen(name, PUBLIC + str(last), 443, host)
        listen(name + ":80", PUBLIC + str(last), 80)
    work.serve(FOLDER, PUBLIC + "20", host)
    rpc_host.serve(FOLDER, PUBLIC + "15", seen)
    for port in 8443, 4443:
        listen(f"A:{port}", PUBLIC + "10", port, host)
    for port in 22, 25, 53:
        listen(f"E:{port}", PUBLIC + "66", port, None, False)
    for name, last in BAD_TLS.items():
        listen(name, PUBLIC + str(last), 443, context(name.split(".")[0]))
    for name in sorted(set(sum(SPECIAL.values(), []))):
        if name.startswith((PUBLIC, "224.", "255.", "ff", "fe80", "::ffff",
                            "0.")):
            continue
        listen("special " + name, name, 443, host)
    threading.Thread(target=dns, args=(5353,), daemon=True).start()
    with open(FOLDER + "/ready", "w"):
        pass
    threading.Event().wait()


if __name__ == "__main__":
    main()
