#!/usr/bin/env python3
"""A small HTTPS API on loopback, for the demo and the tests.

usage: api_host.py DIR NAME[=PORT] ...

Makes DIR/ca.pem and a certificate for each NAME, serves each on 127.0.0.1 (a
free port unless one is given), and writes DIR/hosts.json {name: port} when it
listens. Every request is appended to DIR/requests.jsonl as it was received, so
that a test can see what arrived.

  GET  /v1/whoami     tells which token came, as a digest
  GET  /v1/echo       sends the request's headers back, in header and body
  POST /v1/count/X    counts calls under X and returns the count
"""
import base64
import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading

LOCK = threading.Lock()
COUNTS = {}


def make_certificates(folder, names):
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True,
                       stderr=subprocess.DEVNULL)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=demo CA", "-days", "2")
    for name in names:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem",
                "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-copy_extensions", "copy", "-out", f"{name}.pem")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder = "."
    name = ""

    def log_message(self, *args):
        pass

    def record(self, body):
        line = {"host": self.name, "method": self.command, "path": self.path,
                "headers": {k.lower(): v for k, v in self.headers.items()},
                "body": body.decode("latin-1")}
        with LOCK, open(os.path.join(self.folder, "requests.jsonl"), "a") as f:
            f.write(json.dumps(line) + "\n")

    def reply(self, status, value, headers=()):
        data = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for k, v in headers:
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(data)

    def token(self):
        auth = self.headers.get("Authorization", "")
        kind, _, rest = auth.partition(" ")
        if kind.lower() == "basic":
            return base64.b64decode(rest).decode("latin-1").partition(":")[2]
        return rest

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.record(body)
        if self.path == "/v1/whoami":
            digest = hashlib.sha256(self.token().encode()).hexdigest()
            self.reply(200, {"host": self.name, "token_sha256": digest})
        elif self.path == "/v1/echo":
            self.reply(200, {"headers": dict(self.headers.items())},
                       [("X-Echo", self.headers.get("Authorization", ""))])
        elif self.path.startswith("/v1/count/"):
            with LOCK:
                COUNTS[self.path] = COUNTS.get(self.path, 0) + 1
                n = COUNTS[self.path]
            self.reply(200, {"count": n})
        else:
            self.reply(404, {"error": "no such path"})

    do_GET = do_POST = do_PUT = serve


def serve(folder, name, port):
    handler = type("HostHandler", (Handler,), {"folder": folder, "name": name})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    # A caller that leaves is no news.
    server.handle_error = lambda *_: None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, f"{name}.pem"),
                            os.path.join(folder, f"{name}.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True,
                                        do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    wanted = [(n, int(p or 0)) for n, _, p in
              (a.partition("=") for a in sys.argv[2:])]
    make_certificates(folder, [n for n, _ in wanted])
    ports = {n: serve(folder, n, p) for n, p in wanted}
    part = os.path.join(folder, "hosts.json.part")
    with open(part, "w") as f:
        json.dump(ports, f)
    os.rename(part, os.path.join(folder, "hosts.json"))
    threading.Event().wait()


if __name__ == "__main__":
    main()
