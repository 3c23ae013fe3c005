"""Cases 37 to 46: getting the value back."""
import json
import os
import subprocess

from attack import case, holds
import hosts


@case("37", "headers reflected in the body, whole and split anywhere")
def reflected(t):
    got = t.run("""
for size in (1, 2, 3, 7, 16, 31, 64, 4096):
    out(ask(A, f'/split/{size}', bearer()))
out(ask(A, '/echo', bearer()), ask(A, '/echo', 'X-Api-Key: ' + K),
    ask(A, '/status', bearer()), ask(A, '/name', bearer()),
    ask(A, '/early', bearer()), ask(A, '/echo', bearer(), basic('u:' + S)),
    ask(A, '/old', bearer()))
out(sh(f'curl -sS --http2 -i -m 15 -H "{bearer()}" https://{A}/split/1'))
""")
    for a in got[:9]:
        t.one(a, 200)
        assert "****" in a, a
    # What has no status line is no answer.
    t.one(got[14], 502)
    t.audit("egress.scrubbed")


@case("38", "gzip and doubled coding; an unknown coding fails closed")
def codings(t):
    got = t.run("""
for c in ('gzip', 'deflate', 'br', 'odd', 'both', 'gzip-then-identity',
          'identity-then-gzip'):
    out(ask(A, '/coding/' + c, bearer(), 'Accept-Encoding: gzip'))
for c in ('gzip', 'two-lines'):
    out(ask(A, '/transfer/' + c, bearer(), 'TE: gzip'))
import zlib
def packed(c):
    raw = tls(A)
    raw.sendall(text(A, c, bearer()).encode())
    data = b''
    while True:
        part = raw.recv(65536)
        if not part:
            break
        data += part
    body = data.partition(b'\\r\\n\\r\\n')[2]
    at = body.find(b'\\x1f\\x8b')
    return zlib.decompressobj(31).decompress(body[at:]).decode() \\
        if at >= 0 else ''
for c in ('gzip', 'gzip-then-identity', 'identity-then-gzip'):
    out(attempt(packed, '/coding/' + c))
for c in ('gzip', 'two-lines'):
    out(attempt(packed, '/transfer/' + c))
""")
    t.leaks()
    for a in got[:9]:
        assert " 502 " in a[:20], a[:200]


@case("39", "base64, hex, percent, JSON and HTML forms of the value")
def forms(t):
    got = t.run("""
for f in %r:
    out(ask(A, '/form/' + f, bearer()), ask(A, '/form/' + f, 'X-Api-Key: ' + K))
""" % hosts.FORMS)
    wrong = sorted({f for i, f in enumerate(hosts.FORMS)
                    for a in got[2 * i:2 * i + 2]
                    for v in t.values if holds(a, v)})
    if wrong:
        t.text += "".join(got)
    assert not wrong, f"forms that come back: {wrong}"
    for a in got:
        t.one(a, 200)


@case("40", "TRACE; OPTIONS with Max-Forwards: 0")
def trace(t):
    got = t.run("""
out(ask(A, '/echo', bearer(), method='TRACE'),
    ask(A, '/echo', bearer(), 'Max-Forwards: 0', method='OPTIONS'),
    ask(A, '/echo', bearer(), method='TRACK'),
    ask(A, '*', bearer(), method='OPTIONS'),
    ask(A, '/echo', bearer(), method='trace'))
""")
    assert " 405 " in got[0][:20], got[0]
    assert " 400 " in got[4][:20] or " 405 " in got[4][:20], got[4]


@case("41", "what is held back when the stream ends or is reset")
def cut_streams(t):
    t.run("""
for path in ('/cut', '/reset'):
    out(ask(A, path, bearer()))
    out(sh(f'curl -sS --http2 -m 15 -H "{bearer()}" https://{A}{path}'))
""")
    # Most of a value is the value: holds() looks for all but its ends.


@case("42", "errors, logs, /proc and core dumps of the gateway")
def traces_of_the_value(t):
    got = t.run("""
out(ask(A, '/badheader', bearer()), ask(A, '/badvalue', bearer()),
    ask(A, '/x' * 3000, bearer()), ask(A, '/bomb', bearer())[:500],
    sh('cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr "\\\\0" "\\\\n"'),
    sh('mount; cat /proc/self/mountinfo; ls -la / /run /tmp'))
""")
    assert " 502 " in got[0][:20] or " 200 " in got[0][:20], got[0]
    pid = subprocess.run(["pgrep", "-f", "nginx.*" + t.api.run
                          + "/egress.conf"], stdout=subprocess.PIPE,
                         text=True).stdout.split()
    workers = subprocess.run(["pgrep", "-P", ",".join(pid)], text=True,
                             stdout=subprocess.PIPE).stdout.split()
    nginx = [p for p in workers if "worker" in
             open(f"/proc/{p}/cmdline").read()]
    assert nginx, "no worker found"
    for p in nginx:
        with open(f"/proc/{p}/limits") as f:
            core = [x for x in f if x.startswith("Max core")][0]
        assert core.split()[4] == "0", core
        assert os.stat(f"/proc/{p}/environ").st_uid == 0, "dumpable"


@case("43", "a stub never has the length of its value")
def lengths(t):
    vaults = []
    for n in (16, 20, 32, 36, 40, 44, 48, 64):
        value = ("ghp_" + os.urandom(40).hex())[:n]
        t.values.append(value)
        vaults.append(t.credential(f"LEN_{n}", value, [hosts.A])[0])
        value = os.urandom(40).hex()[:n]
        t.values.append(value)
        vaults.append(t.credential(f"RAW_{n}", value, [hosts.A])[0])
    s = t.session(vaults)
    got, = t.run("out({k: len(v) for k, v in os.environ.items()"
                 " if k[:4] in ('LEN_', 'RAW_')})", s)
    assert len(got) == 16, got
    same = {k: n for k, n in got.items() if n == int(k[4:])}
    assert not same, same
    t.values = [v for v in t.values if len(v) >= 16]


@case("44", "an endpoint that mints a credential in its answer")
def minted(t):
    value = os.urandom(20).hex()
    t.values += [value, hosts.MINTED]
    t.own("B")
    vault, _ = t.credential("OAUTH", value, [hosts.A], None, [{
        "host": hosts.A, "path_prefixes": ["/oauth"],
        "mint": [{"pointer": "/access_token", "host": hosts.B}]}])
    s = t.session([vault])
    got = t.run("""
O = os.environ['OAUTH']
a = ask(A, '/oauth/token', bearer(O))
N = json.loads(a.partition('\\r\\n\\r\\n')[2])['access_token']
out(a, ask(A, '/oauth/form', bearer(O)), ask(B, '/x', bearer(N)),
    ask(E, '/x', bearer(N)), ask(A, '/oauth/x', bearer(N)), ask(B, '/x'))
""", s)
    t.one(got[0], 200)
    assert "bbxs" in got[0] and '"copy": "***' in got[0], got[0]
    t.one(got[1], 502, "mint_failed")
    t.one(got[2], 200)
    assert hosts.MINTED in t.seen("B")[-1]["raw"]
    t.one(got[3], 403, "stub_wrong_host")
    t.one(got[4], 403, "stub_wrong_host")
    t.one(got[5], 401, "credential_required")
    t.audit("credential.minted", s)


@case("45", "the value written to A and read back later")
def read_back(t):
    s = t.session()
    t.run("out(ask(A, '/store', bearer()))", s)
    got = t.run("out(ask(A, '/load', bearer()), ask(A, '/load'),"
                " ask(A, '/load', 'X-Api-Key: ' + K),"
                " ask(A, '/load', port=8443),"
                " attempt(lambda: talk(tcp(A, 80), text(A, '/load'))))", s)
    t.one(got[0], 200)
    assert "****" in got[0], got[0]
    t.one(got[1], 401)
    for a in got[2:]:
        t.one(a, 200)
        assert "****" in a, a


@case("45b", "slices of an answer: Range by all its names")
def slices(t):
    got = t.run("""
for name in ('Range', 'Request-Range', 'If-Range', 'range'):
    for low in (0, 17, 27, 37):
        out(ask(A, '/range', bearer(), f'{name}: bytes={low}-{low + 9}'))
""")
    bodies = [a.partition("\r\n\r\n")[2] for a in got]
    pieces = [t.token[i:i + 6] for i in range(0, len(t.token) - 6)]
    if any(p in b for b in bodies for p in pieces):
        t.text += " " + t.token
        raise AssertionError("a slice shows a piece of the value")


@case("46", "WebSocket frames that come in")
def frames_that_come_in(t):
    got = t.run("""
for h in (('Upgrade: websocket',), ()):
    out(ask(A, '/switch', bearer(), *h))
s = tls(A)
s.sendall(('GET /switch HTTP/1.1\\r\\nHost: %s\\r\\nConnection: upgrade\\r\\n'
           '%s\\r\\n\\r\\n' % (A, bearer())).encode())
out(talk(s, '', 4))
""")
    t.one(got[0], 403, "upgrade_refused")
