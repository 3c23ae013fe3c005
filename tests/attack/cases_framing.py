"""Cases 28 to 36: requests that two readers would read differently."""
from attack import case


def arrived(t):
    return [x["raw"] for x in t.seen("A") if x["raw"]]


@case("28", "CL.TE and TE.CL")
def two_lengths_kinds(t):
    got = t.run("""
inner = 'GET /inner HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n\\r\\n' % (A, bearer())
for te in ('Transfer-Encoding: chunked', 'Transfer-Encoding:chunked',
           'transfer-encoding: Chunked'):
    for order in (0, 1):
        body = '0\\r\\n\\r\\n' + inner
        h = [te, f'Content-Length: {len(body)}']
        out(talk(tls(A), text(A, '/outer', bearer(), *(h if order else h[::-1]),
            method='POST', body=body, length=False)))
out(talk(tls(A), text(A, '/outer', bearer(), 'Content-Length: 4',
    'Transfer-Encoding: chunked', method='POST', length=False,
    body='5c\\r\\n' + inner + '\\r\\n0\\r\\n\\r\\n')))
""")
    for a in got:
        assert " 400 " in a[:20], a[:300]
    assert not arrived(t)


@case("29", "two Content-Lengths")
def two_content_lengths(t):
    got = t.run("""
for a, b in (('4', '5'), ('4', '4'), ('5', '4'), ('4, 5', None), ('+4', None),
             ('0x4', None), ('4 ', ' 5'), ('-1', None), ('4\\t', None),
             ('99999999999999999999', None)):
    h = ['Content-Length: ' + a] + (['Content-Length: ' + b] if b else [])
    out(talk(tls(A), text(A, '/x', bearer(), *h, method='POST', length=False,
        body='abcd' + 'GET /inner HTTP/1.1\\r\\n'), 3))
""")
    for i, a in enumerate(got):
        ok = " 400 " in a[:20] or " 413 " in a[:20]
        assert ok or (i == 8 and " 200 " in a), (i, a[:300])
    for raw in arrived(t):
        assert raw.endswith("\r\n\r\nabcd"), raw


@case("30", "obfuscated Transfer-Encoding, obs-fold")
def obfuscated_coding(t):
    got = t.run("""
body = '0\\r\\n\\r\\nGET /inner HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'
for h in ('Transfer-Encoding: xchunked', 'Transfer-Encoding : chunked',
          'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: identity',
          'Transfer-Encoding:\\x0bchunked',
          'X: y\\r\\n Transfer-Encoding: chunked',
          'Transfer-Encoding:\\r\\n chunked', 'Transfer-Encoding: "chunked"',
          'Transfer_Encoding: chunked', 'Transfer-Encoding\\x00: chunked',
          'Transfer-Encoding: chunked\\r\\nTransfer-Encoding: identity',
          'Transfer-Encoding: gzip, chunked'):
    out(talk(tls(A), text(A, '/outer', bearer(), h, method='POST',
        length=False, body=body), 3))
""")
    for a in got:
        assert " 40" in a[:20] or " 50" in a[:20] or " 200 " in a[:20], a[:200]
    for raw in arrived(t):
        head, _, body = raw.partition("\r\n\r\n")
        assert "/inner" not in raw, raw
        assert "transfer-encoding" not in head.lower(), raw
        assert body == "" or "content-length" in head.lower(), raw


@case("31", "bare LF, CR, NUL in a header")
def odd_line_ends(t):
    got = t.run("""
for h in ('X-A: b\\nAuthorization: Bearer own', 'X-A: b\\rX-B: c',
          'X-A: b\\0c', 'X-A: b\\x0bc', '\\nX: y', 'X-A: \\x7f',
          'X-A: b\\n\\nGET /inner HTTP/1.1\\nHost: in.e-corp.test'):
    out(talk(tls(A), text(A, '/outer', bearer(), h), 3))
    out(talk(tls(A), text(A, '/outer\\n', bearer(), h), 3))
""")
    for raw in arrived(t):
        assert raw.startswith("GET /outer HTTP/1.1\r\n"), raw
        assert "\r" not in raw.replace("\r\n", "") and \
            "\n" not in raw.replace("\r\n", "") and "\0" not in raw, raw
        assert raw.count("uthorization:") == 1, raw
    assert not t.seen("E")
    assert len(got) == 14


@case("32", "a second, pipelined request is decided, too")
def pipelined(t):
    got = t.run("""
def two(first, second):
    return talk(tls(A), first + second)
keep = 'GET /one HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n\\r\\n' % (A, bearer())
out(two(keep, text(E, '/two', bearer())))
out(two(keep, text(A, '/two', 'Cookie: ' + S)))
out(two(keep, text(A, '/two')))
out(two(keep, text(A, '/two', bearer())))
""")
    for a, reason in zip(got, ("destination_mismatch", "stub_wrong_slot",
                               "credential_required")):
        assert "ok /one" in a and reason in a, a
    assert "ok /one" in got[3] and "ok /two" in got[3], got[3]
    assert sum("/two" in r for r in arrived(t)) == 1


@case("33", "h2c upgrade and prior knowledge")
def clear_http2(t):
    got = t.run("""
pri = 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + '\\0\\0\\0\\4\\0\\0\\0\\0\\0'
out(attempt(lambda: talk(tcp(A, 80), pri, 3)))
out(attempt(lambda: talk(tls(A), pri, 3)))
out(attempt(lambda: talk(tcp(A, 80), text(A, '/x', bearer(),
    'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABkAAQAAP__'), 3)))
out(ask(A, '/x', bearer(), 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'))
""")
    assert " 40" in got[0][:20] or got[0][:1] in ("", "!"), got[0]
    assert " 101 " not in "".join(got)
    t.one(got[2], 403, "clear_text_refused")
    t.one(got[3], 403, "upgrade_refused")
    assert not arrived(t) and not t.seen("A:80")


@case("34", "HTTP/2: authority unlike host, CR LF in a value, lengths")
def http2_disagreements(t):
    got = t.run("""
auth = ('authorization', 'Bearer ' + S)
out(h2(A, [auth, ('host', E)]), h2(A, [auth], authority=E),
    h2(A, [auth], authority=A + ':8443'), h2(A, [auth], authority='x@' + A),
    h2(A, [auth, ('x-a', 'b\\r\\nX-Evil: 1')]),
    h2(A, [auth, ('x-a', 'b\\nX-Evil: 1')]), h2(A, [auth, ('x-a', 'b\\0c')]),
    h2(A, [auth, ('x-a: 1\\r\\nx-evil', 'c')]), h2(A, [auth, ('X-Up', 'c')]),
    h2(A, [auth, ('content-length', '3')], b'abcdef'),
    h2(A, [auth, ('content-length', '9')], b'abcdef'),
    h2(A, [auth, ('transfer-encoding', 'chunked')], b'0\\r\\n\\r\\nX'),
    h2(A, [auth, ('connection', 'x'), ('te', 'gzip')]),
    h2(A, [auth, (':authority', E)]), h2(A, [auth, (':path', '/y')]))
""")
    for raw in arrived(t):
        assert "evil" not in raw.lower() and "\0" not in raw, raw
        assert f"Host: api.a-corp.test\r\n" in raw, raw
        head, _, body = raw.partition("\r\n\r\n")
        assert "transfer-encoding" not in head.lower(), raw
        n = [int(x.split(":")[1]) for x in head.split("\r\n")
             if x.lower().startswith("content-length")]
        assert (n or [0])[0] == len(body), raw
    assert "destination_mismatch" in got[1] and not t.seen("E"), got[1]
    for i in (0, 2):
        assert "destination_mismatch" in got[i] or "reset" in got[i] \
            or "400" in got[i], got[i]
    for i in (9, 10):
        assert "ok" not in got[i] and '"lines"' not in got[i], got[i]


@case("35", "CONNECT in CONNECT; bytes that are not TLS")
def connect_in_connect(t):
    got = t.run("""
out(ask(A, '/', bearer(), method='CONNECT'))
out(talk(tls(A), 'CONNECT %s:443 HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n\\r\\n'
         % (E, A, bearer())))
out(attempt(lambda: talk(tcp(A), '\\x16\\x03\\x01\\0\\5hello', 4)))
out(attempt(lambda: talk(tcp(A), 'SSH-2.0-x\\r\\n', 4)))
out(attempt(lambda: talk(tcp(A), '\\x80\\x2e\\1\\0\\2', 4)))
out(attempt(lambda: talk(tcp(A), '\\x16\\x03\\x01\\x40\\1' + 'a' * 40000, 4)))
""")
    assert " 405 " in got[0][:20] or " 400 " in got[0][:20], got[0]
    assert " 405 " in got[1][:20] or " 400 " in got[1][:20], got[1]
    for a in got[2:]:
        assert a[:1] in ("!", "") or " 400 " in a[:20], a
    assert not arrived(t) and not t.seen("E")


@case("36", "slow headers, 10,000 headers, rapid reset, bombs")
def bombs(t):
    got = t.run("""
many = [f'X-{i}: y' for i in range(10000)]
out(ask(A, '/x', bearer(), *many)[:80])
out(ask(A, '/x', bearer(), 'X-Long: ' + 'y' * 600000)[:80])
out(ask(A, '/bomb', bearer())[:80])
def resets():
    s = tls(A, alpn='h2')
    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + frame(4, 0, 0, b''))
    block = b''.join(literal(k, v) for k, v in ((':method', 'GET'),
        (':scheme', 'https'), (':path', '/x'), (':authority', A)))
    for i in range(3000):
        s.sendall(frame(1, 5, 2 * i + 1, block)
                  + frame(3, 0, 2 * i + 1, b'\\0\\0\\0\\x08'))
    return 'sent'
out(attempt(resets))
slow = [tcp(A, 80) for i in range(50)]
for s in slow:
    s.sendall(b'GET / HTTP/1.1\\r\\nHost: ' + A.encode() + b'\\r\\nX: ')
out(ask(A, '/after', bearer()))
""")
    for a in got[:3]:
        assert any(f" {n} " in a[:20] for n in (400, 414, 431, 502)) or \
            " 200 " in a[:20] or a[:1] == "!", a
    assert " 502 " in got[2][:20], got[2]
    assert "ok /after" in got[4], "nothing is served after the bombs"
