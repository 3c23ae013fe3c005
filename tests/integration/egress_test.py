#!/usr/bin/env python3
"""Egress: what a sandbox or the brain sends out, through real nginx and the
real vault, to a host on loopback. Needs root (initdb runs as postgres)."""
import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import Dns, Egress, Upstream, Vault, make_ca, \
    proxy_header, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "sekret/value+0123456789\"abcdef-XYZ"
MODEL = "sk-model-key-0123456789abcdefghij-EXTRA"


def box():
    """A workload with a credential; (address, stub)."""
    session = V.put_grant(KEY, ENV, [VLT])
    w = V.open(session)
    return w["address"], w["values"]["API_TOKEN"], session


def bearer(stub):
    return [("Authorization", "Bearer " + stub)]


def real_token_arrives_and_stub_does_not():
    at, stub, _ = box()
    UP.seen.clear()
    a = E.ask(at, path="/x//y%2Fz?q=1", headers=bearer(stub))
    assert a.status == 200, a.raw
    seen = UP.seen[-1]
    assert seen["headers"]["authorization"] == "Bearer " + SECRET
    assert seen["path"] == "/x//y%2Fz?q=1" and seen["method"] == "GET"
    assert seen["headers"]["host"] == "api.example.com"
    assert seen["headers"].get("accept-encoding") == "identity"
    assert SECRET.encode() not in a.raw and json.dumps(
        SECRET)[1:-1].encode() not in a.raw


def answers_are_scrubbed_in_headers_and_body():
    at, stub, session = box()
    a = E.ask(at, headers=bearer(stub))
    filler = "*" * len(SECRET)
    assert a.headers["x-reflected"] == "Bearer " + filler, a.head
    # JSON escapes the quote: the filler is as long as what it covers.
    assert a.body == json.dumps({"auth": "Bearer *" + filler}).encode(), a.body
    a = E.ask(at, path="/redirect", headers=bearer(stub))
    assert a.status == 302 and "sekret" not in a.head
    a = E.ask(at, path="/forms", headers=bearer(stub))
    left = a.body.decode().split("\n")
    for line in left:
        assert "*" * 16 in line, left
    for off in range(3):
        text = base64.b64encode(b"x" * off + SECRET.encode())
        assert text[4:-4] not in a.body
    wait_for("report", lambda: "egress.scrubbed" in V.sql(
        "SELECT string_agg(action, ' ') FROM vault.audit"
        " WHERE session_id = '%s'" % session))


def values_split_across_buffers_are_scrubbed():
    at, stub, _ = box()
    for step in "1", "3", "7", "16":
        a = E.ask(at, path="/split", headers=bearer(stub)
                  + [("X-Step", step)])
        filler = "*" * len(SECRET)
        want = "start Bearer %s end\n%sBearer %s\nlast" % (
            filler, "x" * 40000, filler)
        assert a.body.decode() == want, (step, a.body[:80], a.body[-80:])


def basic_is_challenged_and_swapped():
    at, stub, _ = box()
    a = E.ask(at)
    assert a.status == 401 and a.reason == "credential_required"
    assert a.headers["www-authenticate"].startswith("Basic ")
    for pair in "x-access-token:" + stub, stub + ":x-oauth-basic":
        UP.seen.clear()
        a = E.ask(at, headers=[("Authorization", "bAsIc " + base64.b64encode(
            pair.encode()).decode())])
        assert a.status == 200, a.raw
        got = UP.seen[-1]["headers"]["authorization"]
        assert got.startswith("Basic ")
        assert base64.b64decode(got[6:]).decode() == pair.replace(
            stub, SECRET)
        assert got[6:].encode() not in a.raw


def stub_is_refused_elsewhere():
    at, stub, _ = box()
    UP.seen.clear()

    def refused(reason, **kw):
        kw.setdefault("headers", bearer(stub))
        a = E.ask(at, **kw)
        assert a.status == 403 and a.reason == reason, a.raw

    refused("stub_wrong_host", host="other.example.com")
    refused("host_not_allowed", host="evil.example.net")
    refused("host_not_allowed", port=8443)
    refused("clear_text_refused", port=80, tls=False)
    refused("stub_wrong_slot", headers=[("Cookie", "a=" + stub)])
    refused("stub_wrong_slot", headers=[], path="/?k=" + stub)
    refused("stub_wrong_slot", headers=[], path="/" + stub)
    refused("stub_wrong_slot", headers=[],
            path="/?k=" + stub.replace("b", "%62"))
    refused("stub_wrong_slot", headers=[],
            path="/?k=" + stub.replace("b", "%2562"))
    refused("stub_wrong_slot", headers=[], method="POST",
            body=b'{"k":"' + stub.encode() + b'"}')
    refused("stub_wrong_slot", headers=[], method="POST",
            body=b'{"k":"' + stub.replace("b", "\\u0062").encode() + b'"}')
    # Behind what fits into memory, and across its pieces.
    refused("stub_wrong_slot", headers=[], method="POST",
            body=b"z" * (1 << 20) * 2 + b"z" * 4000 + stub.encode() + b"z")
    refused("stub_wrong_slot", headers=bearer(stub), method="POST",
            body=stub.encode())
    refused("stub_unknown", headers=bearer(stub + "a"))
    refused("destination_mismatch", host_header="other.example.com")
    refused("destination_mismatch", host_header="api.example.com:8443")
    refused("destination_mismatch", sni="other.example.com")
    # Names that are none are told to the vault as none.
    for name in ("api.example.com:0", "api.example.com:x", "a_b.example.com",
                 "1.2.3.4:99999", ":443"):
        a = E.ask(at, host_header=name)
        assert a.status in (400, 403), a.raw
    assert not UP.seen, UP.seen


def bodies_pass_unchanged():
    at, stub, _ = box()
    for n in 0, 1, 5000, 3 << 20:
        body = os.urandom(n)
        a = E.ask(at, headers=bearer(stub), method="POST", body=body)
        assert a.status == 200 and UP.seen[-1]["body"] == body


def unknown_workload_and_foreign_stub_are_refused():
    at, stub, _ = box()
    _, foreign, _ = box()
    a = E.ask("fd00::dead", headers=bearer(stub))
    assert a.status == 403 and a.reason == "workload_unknown"
    a = E.ask(at, headers=bearer(foreign))
    assert a.status == 403 and a.reason == "stub_foreign"


def bad_peers_and_names_get_no_handshake():
    for sni in "1.2.3.4", "a_b.example.com", "-a.example.com":
        s = socket.socket(socket.AF_UNIX)
        s.connect(E.sock("egress-bridge"))
        s.sendall(proxy_header("fd00::1", 443))
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        try:
            ctx.wrap_socket(s, server_hostname=sni)
            raise AssertionError("handshake for " + sni)
        except (ssl.SSLError, ConnectionError):
            pass
        s.close()
    s = socket.socket(socket.AF_UNIX)
    s.connect(E.sock("egress-bridge-plain"))
    s.sendall(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
    assert s.recv(100) == b""
    s.close()
    code = ("import socket,sys;s=socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]);s.sendall(bytes.fromhex(sys.argv[2])+b'GET"
            " / HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n');"
            "print(s.recv(99))")
    got = subprocess.run(
        ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", code,
         E.sock("egress-bridge-plain"), proxy_header("fd00::1", 80).hex()],
        stdout=subprocess.PIPE, text=True).stdout.strip()
    assert got == "b''", got


def content_codings_and_tricks_of_hosts_are_refused():
    at, stub, _ = box()
    a = E.ask(at, path="/gzip", headers=bearer(stub))
    assert a.status == 502 and b"sekret" not in a.raw
    a = E.ask(at, path="/accel", headers=bearer(stub))
    assert a.status == 200 and b"*****" in a.body
    a = E.ask(at, path="/agent.vault.v1.EgressService/Authorize",
              headers=bearer(stub))
    assert a.status == 404
    UP.seen.clear()
    a = E.ask(at, headers=bearer(stub) + [("Range", "bytes=0-5")])
    assert "range" not in UP.seen[-1]["headers"]
    a = E.ask(at, headers=bearer(stub) + [
        ("Upgrade", "websocket"), ("X-Brainbox-Session", "sesn_x")])
    assert a.status == 403 and a.reason == "upgrade_refused", a.raw
    assert E.ask(at, method="TRACE", headers=bearer(stub)).status == 405


def names_are_vetted_before_the_dial():
    at, _, _ = box()
    for host in SPECIAL:
        a = E.ask(at, host=host)
        assert a.status == 502 and a.reason == "address_refused", (host, a.raw)
    a = E.ask(at, host="nowhere.example.com")
    assert a.status == 502 and a.reason == "name_not_resolved", a.raw


def certificates_of_hosts_are_verified():
    at, _, _ = box()
    UP.seen.clear()
    # The right CA and the wrong name; then a name whose CA is not trusted.
    for host in "misnamed.example.com", "other.example.com":
        a = E.ask(at, host=host)
        assert a.status == 502 and a.reason == "upstream_failed", a.raw
    assert not UP.seen


def http2_works_like_http1():
    at, stub, _ = box()

    def relay(s):
        c, _ = s.accept()
        u = E.connect("egress-bridge", (at, 443))

        def pump(a, b):
            try:
                while True:
                    data = a.recv(65536)
                    if not data:
                        break
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        t = threading.Thread(target=pump, args=(c, u), daemon=True)
        t.start()
        pump(u, c)
        c.close()

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        threading.Thread(target=relay, args=(s,), daemon=True).start()
        p = subprocess.run(
            ["curl", "-sS", "--http2", "--cacert", V.path("ca.pem"),
             "--connect-to", "api.example.com:443:127.0.0.1:%d"
             % s.getsockname()[1], "-H", "Authorization: Bearer " + stub,
             "-w", "%{http_version} %{http_code}\n", "--max-time", "20",
             "https://api.example.com/a", "https://api.example.com/split"],
            stdout=subprocess.PIPE, text=True)
    assert p.returncode == 0 and p.stdout.count("2 200") == 2, p.stdout[-300:]
    assert SECRET not in p.stdout and "*" * len(SECRET) in p.stdout


def brain_streams_from_the_gateway():
    session = V.put_grant(KEY, ENV)
    stub = V.open(session, kind=3, face="brain")["model_stub"]
    PLAIN.seen.clear()
    PLAIN.go.clear()
    s = E.connect("egress-brain-plain")
    E.write(s, "POST", "/sse", "127.0.0.1:%d" % PLAIN.port,
            bearer(stub) + [("X-Brainbox-Session", session)], b"{}")
    got = b""
    for i in range(3):
        while b"data: %d\n\n" % i not in got:
            part = s.recv(65536)
            assert part, got
            got += part
        assert b"data: %d" % (i + 1) not in got
        PLAIN.go.set()
    E.read(s)
    seen = PLAIN.seen[-1]["headers"]
    assert seen["authorization"] == "Bearer " + MODEL
    assert "x-brainbox-session" not in seen
    for headers, reason in (
            (bearer(stub), "workload_unknown"),
            (bearer(stub) + [("X-Brainbox-Session", "sesn_none")],
             "workload_unknown"),
            ([("X-Brainbox-Session", session)], "credential_required")):
        s = E.connect("egress-brain-plain")
        E.write(s, "GET", "/", "127.0.0.1:%d" % PLAIN.port, headers)
        assert E.read(s).reason == reason
    s = E.connect("egress-brain-plain")
    E.write(s, "GET", "/", "api.example.com",
            [("X-Brainbox-Session", session)])
    assert E.read(s).status == 403


def brain_reaches_hosts_of_the_deployment_over_tls():
    session = V.put_grant(KEY, ENV)
    V.open(session, kind=3, face="brain")
    for host, status in (("api.example.com", 200), ("x.example.com", 403)):
        s = E.connect("egress-brain", sni=host)
        E.write(s, "GET", "/", host, [("X-Brainbox-Session", session)])
        a = E.read(s)
        assert a.status == status, a.raw
    assert "x-brainbox-session" not in UP.seen[-1]["headers"]


def many_requests_at_once_are_all_decided():
    boxes = [box() for _ in range(4)]
    answers = []

    def one(n):
        at, stub, _ = boxes[n % 4]
        answers.append(E.ask(at, path="/%d" % n, headers=bearer(stub)).status)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(60)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [200] * 60, answers
    n, top, macs = V.sql("SELECT count(*), max(seq), count(DISTINCT mac) FROM"
                         " vault.audit").split("|")
    assert n == top == macs, (n, top, macs)
    for _, _, session in boxes:
        assert V.sql("SELECT count(*) FROM vault.audit WHERE session_id = '%s'"
                     " AND action = 'egress.allowed'" % session) == "15"


def nothing_leaves_while_the_vault_is_down():
    at, stub, _ = box()
    UP.seen.clear()
    V.stop("vault")
    try:
        a = E.ask(at, headers=bearer(stub))
        assert a.status == 503 and a.reason == "vault_unavailable", a.raw
        assert not UP.seen
    finally:
        V.start_vault()
    a = E.ask(at, headers=bearer(stub))
    assert a.status == 200, a.raw


def values_are_in_no_log():
    text = E.logs() + V.logged()
    assert "request.served" in text
    assert "Sanitizer" not in text and "runtime error" not in text, text
    for word in SECRET, MODEL, "sekret", base64.b64encode(
            SECRET.encode()).decode():
        assert word not in text, word
    assert "[alert]" not in text and "[emerg]" not in text, [
        x for x in text.split("\n") if "[alert]" in x or "[emerg]" in x]


TESTS = [
    real_token_arrives_and_stub_does_not,
    answers_are_scrubbed_in_headers_and_body,
    values_split_across_buffers_are_scrubbed,
    basic_is_challenged_and_swapped,
    stub_is_refused_elsewhere,
    bodies_pass_unchanged,
    unknown_workload_and_foreign_stub_are_refused,
    content_codings_and_tricks_of_hosts_are_refused,
    names_are_vetted_before_the_dial,
    certificates_of_hosts_are_verified,
    http2_works_like_http1,
    brain_streams_from_the_gateway,
    brain_reaches_hosts_of_the_deployment_over_tls,
    many_requests_at_once_are_all_decided,
    nothing_leaves_while_the_vault_is_down,
    values_are_in_no_log,
    bad_peers_and_names_get_no_handshake,
]

if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp")
    make_ca(folder.name, ["api.example.com", "other.example.com"])
    UP, PLAIN = Upstream(folder.name), Upstream()
    to = "address=127.0.0.1:%d" % UP.port
    ca = "ca=%s/up-ca.pem" % folder.name
    SPECIAL = {"mixed.example.com": ["93.184.216.34", "169.254.169.254"]}
    for n, ip in enumerate((
            "10.1.2.3", "127.0.0.1", "0.0.0.0", "100.64.0.1", "100.127.9.9",
            "169.254.1.1", "172.31.255.255", "192.0.0.8", "192.0.2.1",
            "192.168.1.1", "198.18.0.1", "198.19.255.1", "198.51.100.7",
            "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255",
            "168.63.129.16", "100.100.100.200")):
        SPECIAL["s%d.example.com" % n] = [ip]
    DNS = Dns(SPECIAL)
    with Vault("destination api.example.com:443 %s %s\n"
               "destination misnamed.example.com:443 %s %s\n"
               "destination other.example.com:443 %s\n"
               "destination 127.0.0.1:%d clear-text\n"
               % (to, ca, to, ca, to, PLAIN.port),
               {"MODEL_API_KEY": MODEL,
                "MODEL_BASE_URL": "http://127.0.0.1:%d/v1" % PLAIN.port},
               args=["--scrub-hits-max=0"]) as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, ["api.example.com"])
        ENV = V.put_policy(KEY, ["*.example.com"])
        E = Egress(V, DNS)
        try:
            main(TESTS)
        finally:
            E.stop()
            time.sleep(0)
            folder.cleanup()
