"""Cases 18 to 27: where a stub hides in a request."""
import base64
import json

from attack import case


def refused(t, answers, reason="stub_wrong_slot"):
    for a in answers:
        t.one(a, 403, reason)
    t.audit(reason)
    assert not [x for x in t.seen() if x["at"] != "dns"], t.seen()


@case("18", "slot that is not declared: cookie, User-Agent, path, query, body")
def undeclared_slot(t):
    refused(t, t.run("""
for h in ('Cookie: a=' + S, 'User-Agent: x ' + S, 'X-Api-Key: ' + S,
          'X-Other: ' + S, 'Proxy-Authorization: Bearer ' + S,
          'Referer: https://x/' + S, 'Authorization_: ' + S):
    out(ask(A, '/echo', h), ask(A, '/echo', bearer(), h))
out(ask(A, '/echo?k=' + S), ask(A, '/echo/' + S),
    ask(A, '/echo?k=' + S, bearer()),
    ask(A, '/echo', method='POST', body='k=' + S),
    ask(A, '/echo', bearer(), method='POST', body=json.dumps({'k': S})),
    ask(A, '/echo', bearer(K)))
"""))


@case("19", "Basic as git sends it: user or password, lower-case scheme")
def basic_credentials(t):
    got = t.run("""
out(ask(A, '/echo', basic('x-access-token:' + S)),
    ask(A, '/echo', basic(S + ':x-oauth-basic')),
    ask(A, '/echo', basic(S + ':' + S)), ask(A, '/echo', basic(S)),
    ask(A, '/form/raw', basic('u:' + S)))
out(sh(f'curl -sS -m 15 -u x:{S} https://{A}/echo'))
out(ask(A, '/echo'))
out(ask(E, '/echo', basic('x:' + S)))
""")
    for a in got[:5]:
        t.one(a, 200)
    assert '"lines"' in got[5], got[5]
    t.one(got[6], 401, "credential_required")
    assert "WWW-Authenticate: Basic" in got[6]
    t.one(got[7], 403, "stub_wrong_host")
    pairs = [base64.b64decode(line.split(" ")[2]).decode()
             for x in t.seen("A") for line in x["raw"].split("\r\n")
             if line.startswith("Authorization: Basic")]
    assert pairs[:4] == ["x-access-token:" + t.token,
                         t.token + ":x-oauth-basic",
                         t.token + ":" + t.token, t.token], "not swapped"
    assert not t.seen("E")


@case("20", "percent escapes, once and twice")
def percent_escapes(t):
    refused(t, t.run("""
def p(s, n=1):
    return s if n == 0 else p(''.join('%%%02x' % ord(c) if c != '%' else '%25'
                              for c in s) if n == 1 else
                              p(s, 1).replace('%', '%25'), 0)
one = ''.join('%%%02X' % ord(c) for c in S)
two = one.replace('%', '%25')
mixed = S[:20] + ''.join('%%%02x' % ord(c) for c in S[20:])
for x in (one, two, mixed):
    out(ask(A, '/echo?k=' + x), ask(A, '/echo/' + x),
        ask(A, '/echo', 'Authorization: Bearer ' + x),
        ask(A, '/echo', 'Cookie: c=' + x),
        ask(A, '/echo', method='POST', body='k=' + x),
        ask(A, '/echo?k=' + x, bearer()),
        ask(A, '/echo', 'Authorization: Bearer ' + S + ' ' + x))
"""))


@case("21", "JSON escapes of a stub")
def json_escapes(t):
    refused(t, t.run("""
u = ''.join('\\\\u%04x' % ord(c) for c in S)
for x in (u, u.replace('\\\\u', '\\\\U').upper(), S[:30] + u[180:],
          S[:9] + '\\\\u00' + '%02X' % ord(S[9]) + S[10:]):
    out(ask(A, '/echo', method='POST', body='{"k":"%s"}' % x),
        ask(A, '/echo', bearer(), method='POST', body='{"k":"%s"}' % x),
        ask(A, '/echo', 'X-J: {"k":"%s"}' % x))
"""))


@case("22", "one byte a chunk, one byte a TLS record")
def one_byte_at_a_time(t):
    got = t.run("""
def slowly(data):
    s = tls(A)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for c in data:
        s.send(c.encode())
    return talk(s, '')
body = ''.join('1\\r\\n%s\\r\\n' % c for c in '{"k":"%s"}' % S)
body += '0\\r\\n\\r\\n'
out(ask(A, '/echo', 'Transfer-Encoding: chunked', method='POST', body=body,
        length=False))
out(ask(A, '/echo', bearer(), 'Transfer-Encoding: chunked', method='POST',
        body=body, length=False))
out(attempt(slowly, text(A, '/echo', 'Cookie: ' + S)))
out(attempt(slowly, text(A, '/echo', method='POST', body='x' * 40 + '=' + S)))
out(ask(A, '/echo', method='POST', body='z' * (2 << 20) + S + 'zz'))
out(attempt(slowly, text(A, '/form/raw', bearer())))
""")
    for a in got[:5]:
        t.one(a, 403, "stub_wrong_slot")
    t.one(got[5], 200)
    assert len([x for x in t.seen("A") if x["raw"]]) == 1, t.seen()


@case("23", "a stub in trailers of a request")
def trailers(t):
    got = t.run("""
for h in ((), (bearer(),)):
    out(ask(A, '/echo', 'Transfer-Encoding: chunked', 'Trailer: X-T',
        *h, method='POST', length=False,
        body='2\\r\\nhi\\r\\n0\\r\\nX-T: %s\\r\\nAuthorization: Bearer %s'
             '\\r\\n\\r\\n' % (S, S)))
""")
    # Trailers are dropped: the first has no credential, the second has one.
    t.one(got[0], 401, "credential_required")
    t.one(got[1], 200)
    assert "bbxs" not in got[1]


@case("24", "WebSocket with a credential")
def websocket(t):
    ws = ("'Upgrade: websocket', 'Sec-WebSocket-Version: 13',"
          " 'Sec-WebSocket-Key: x'")
    got = t.run(f"""
out(ask(A, '/switch', bearer(), {ws}))
out(ask(A, '/switch', {ws}))
out(ask(A, '/switch', bearer()))
out(ask(B, '/switch', {ws}), ask(B, '/switch', 'Upgrade: h2c'),
    ask(B, '/switch'), ask(B, '/switch', bearer(), {ws}))
out(talk(tls(A), 'GET /switch HTTP/1.1\\r\\nHost: %s\\r\\nConnection: Upgrade'
    '\\r\\nUpgrade: h2c\\r\\n%s\\r\\n\\r\\n' % (A, bearer())))
""")
    t.one(got[0], 403, "upgrade_refused")
    t.one(got[1], 401, "credential_required")
    # To a host that nothing is bound to it passes; nothing else changes.
    t.one(got[3], 101)
    assert " 101 " not in got[4][:20] and " 101 " not in got[5][:20], got[4:6]
    t.one(got[6], 403, "stub_wrong_host")
    t.one(got[7], 403, "upgrade_refused")


@case("24b", "gRPC: messages, -bin metadata, trailers")
def grpc_messages(t):
    got = t.run("""
out(rpc(b'hi', bearer()), rpc(b'hi', 'x-key-bin: ' + b64('k:' + K)))
out(rpc(b'k=' + S.encode(), bearer()),
    rpc(b'x' * 100000 + S.encode() + b'y', bearer()),
    rpc(b'hi', bearer(), 'x-other-bin: ' + b64('ab:' + S)),
    rpc(b'hi', bearer(), 'x-other-bin: ' + b64(b'\\0\\1 ' + S.encode())),
    rpc(b'hi', 'x-key-bin: ' + b64('k:' + K) + ',' + b64('k:' + K)),
    rpc(b'hi', 'x-key-bin: ' + b64('k:' + S)),
    rpc(b'hi', bearer(), host=E), rpc(b'hi'),
    rpc(b'hi', bearer(), 'grpc-encoding: gzip', flag=1))
""")
    seen = [x["raw"] for x in t.seen("G")]
    assert len(seen) == 2, seen
    assert "authorization: Bearer " + t.token in seen[0], seen[0]
    assert "x-key-bin: k:" + t.special in seen[1], seen[1]
    assert "<hi|Bearer ****" in got[0] and "x-end: Bearer ***" in got[0], got
    assert "grpc-status: 0" in got[0] and "grpc-status: 0" in got[1], got
    reasons = ["stub_wrong_slot"] * 6 + ["stub_wrong_host",
                                         "credential_required",
                                         "encoding_refused"]
    for a, reason in zip(got[2:], reasons):
        assert reason in a and ("grpc-status: 7" in a or "grpc-status: 16"
                                in a), (reason, a)
    t.audit("stub_wrong_slot")


@case("25", "HTTP/2: Huffman, a header split over CONTINUATION frames")
def http2_coding(t):
    got = t.run("""
for pieces in (1, 2, 5, 40):
    out(h2(A, [('cookie', 'a=' + S)], pieces=pieces),
        h2(A, [('x-other', S)], b'body', pieces=pieces),
        h2(A, [('cookie', 'a=' + S[:20]), ('cookie', S[20:])],
           pieces=pieces),
        h2(E, [('authorization', 'Bearer ' + S)], pieces=pieces))
out(sh(f'curl -sS --http2 -m 15 -H "Cookie: a={S}" https://{A}/echo'))
out(sh(f'curl -sS --http2 -m 15 -H "{bearer()}" https://{A}/form/base64'))
out(h2(A, [('authorization', 'Bearer ' + S)], pieces=30))
""")
    for i, a in enumerate(got[:16]):
        if i % 4 == 2:
            assert "credential_required" in a, a
        else:
            assert ("stub_wrong_host" if i % 4 == 3 else
                    "stub_wrong_slot") in a, a
    assert "stub_wrong_slot" in got[16], got[16]
    assert "****" in got[17], got[17]
    assert '"lines"' in got[18], got[18]
    assert not t.seen("E")


@case("26", "a body over the limit is refused, never cut and forwarded")
def body_over_the_limit(t):
    got = t.run("""
s = tls(A)
out(talk(s, text(A, '/echo', bearer(), f'Content-Length: {300 << 20}',
    method='POST')))
s = tls(A)
s.sendall(text(A, '/echo', bearer(), 'Transfer-Encoding: chunked',
    method='POST').encode())
one = b'100000\\r\\n' + b'y' * (1 << 20) + b'\\r\\n'
try:
    for i in range(270):
        s.sendall(one)
    s.sendall(b'0\\r\\n\\r\\n')
except OSError:
    pass
out(talk(s, ''))
""")
    assert " 413 " in got[0][:20], got[0]
    assert " 413 " in got[1][:20] or got[1].startswith("!"), got[1]
    assert not [x for x in t.seen("A") if x["raw"]]


@case("27", "values with CR, LF, NUL; quotes and slashes in each slot")
def odd_values(t):
    v = t.api.call("POST", "/v1/vaults", {"display_name": "x"})["id"]
    for c in "\r\n", "\n", "\r", "\x7f", "\x1b", "\t":
        e = t.api.refused(400, "POST", f"/v1/vaults/{v}/credentials", {
            "auth": {"type": "environment_variable", "secret_name": "X",
                     "secret_value": "x" * 20 + c + "y: z", "networking": {
                         "type": "limited", "allowed_hosts": ["a.b.test"]}}})
        assert "control character" in e["message"], e
    t.api.refused(400, "POST", f"/v1/vaults/{v}/credentials", {
        "auth": {"type": "environment_variable", "secret_name": "X",
                 "secret_value": "x" * 20 + "\0", "networking": {
                     "type": "limited", "allowed_hosts": ["a.b.test"]}}})
    got = t.run("out(ask(A, '/echo', 'X-Api-Key: ' + K),"
                " ask(A, '/echo', basic('u:' + K)))")
    for a in got:
        t.one(a, 200)
    raw = "".join(x["raw"] for x in t.seen("A"))
    assert "X-Api-Key: " + t.special in raw
    assert base64.b64encode(b"u:" + t.special.encode()).decode() in raw
    assert json.dumps(t.special)[1:-1] not in "".join(got)
