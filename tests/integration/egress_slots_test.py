#!/usr/bin/env python3
"""Stubs in queries, paths and bodies: the value stands where the stub stood,
written as its place wants it, and what a host sends back of it is taken out.
Real nginx, real vault, a host that echoes. Needs root."""
import json
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting  # noqa: E402
from vault_support import main  # noqa: E402

ODD = "od+d &=?#%\"\\/value-0123456789"
A, B = "api.example.com", "other.example.com"
JSON, FORM, TEXT = ("application/json; charset=utf-8",
                    "application/x-www-form-urlencoded", "text/plain")


def answer(host, c, head):
    body = head.encode("latin-1") + b"\n\n" + host.bodies[-1]
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
              + body)
    return True


def box():
    w = V.open(V.put_grant(KEY, ENV, [VLT]))
    return w["address"], w["values"]


def ask(at, path, body=b"", kind=None, **kw):
    """The request as the host saw it: (line, headers, body)."""
    HOST.seen.clear()
    HOST.bodies.clear()
    headers = [("Content-Type", kind)] if kind else []
    a = E.ask(at, path=path, method="POST" if body else "GET", body=body,
              headers=headers + kw.pop("headers", []), **kw)
    if a.status != 200:
        assert not HOST.seen, HOST.seen
        return a
    for form in (ODD, urllib.parse.quote(ODD, ""), urllib.parse.quote_plus(ODD),
                 json.dumps(ODD)[1:-1]):
        assert form.encode() not in a.raw, a.raw
    assert b"****" in a.raw, a.raw
    return HOST.seen[-1][1].split("\r\n")[0], HOST.seen[-1][1], \
        HOST.bodies[-1]


def refused(reason, *args, status=403, **kw):
    a = ask(*args, **kw)
    assert getattr(a, "status", 200) == status and a.reason == reason, \
        getattr(a, "raw", a)


def a_query_parameter_gets_the_value_percent_encoded():
    at, v = box()
    line, _, _ = ask(at, "/q?a=1&key=%s&b=%%20" % v["QUERY"])
    want = urllib.parse.quote(ODD, "-._~")
    assert line == "GET /q?a=1&key=%s&b=%%20 HTTP/1.1" % want, line
    for path in ("/q?other=" + v["QUERY"], "/q?" + v["QUERY"],
                 "/q?%s=key" % v["QUERY"], "/q?Key=" + v["QUERY"],
                 "/q?k%65y=" + v["QUERY"], "/q;key=" + v["QUERY"],
                 "/q?a=1;key=" + v["QUERY"], "/" + v["QUERY"]):
        refused("stub_wrong_slot", at, path)
    for twice in "key=own", "KEY=own", "%6bey=own", "key", "k%65y=":
        refused("slot_repeated", at, "/q?%s&key=%s" % (twice, v["QUERY"]))
        refused("slot_repeated", at, "/q?key=%s&%s" % (v["QUERY"], twice))
    refused("stub_wrong_host", at, "/q?key=" + v["QUERY"], host=B)


def a_path_gets_the_value_as_one_segment():
    at, v = box()
    line, _, _ = ask(at, "/bot/%s/send?x=1" % v["PATH"])
    want = urllib.parse.quote(ODD, "-._~")
    assert line == "GET /bot/%s/send?x=1 HTTP/1.1" % want, line
    refused("stub_wrong_slot", at, "/bot/x?key=" + v["PATH"])
    # Glued to what stands before it, as Telegram has it.
    for before in "b", "bot", "x-1_":
        at, v = box()           # each comes back, and the third would freeze
        line, _, _ = ask(at, "/bot/%s%s/send?x=1" % (before, v["PATH"]))
        assert line == "GET /bot/%s%s/send?x=1 HTTP/1.1" % (before, want), line
    at, v = box()
    line, _, _ = ask(at, "/bot/%s/bot%s" % (v["PATH"], v["PATH"]))
    assert line == "GET /bot/%s/bot%s HTTP/1.1" % (want, want), line
    at, v = box()
    line, _, _ = ask(at, "/bot/bot%s/%s" % (v["PATH"], v["PATH"]))
    assert line == "GET /bot/bot%s/%s HTTP/1.1" % (want, want), line
    for odd in ("%sx", "bot%sx", "bbxs%s"):
        at, v = box()           # guessing freezes a session
        refused("stub_unknown", at, "/bot/%s/send" % (odd % v["PATH"]))
    at, v = box()
    refused("stub_unknown", at, "/bot/%s/send" % (v["QUERY"] + v["PATH"]))
    refused("stub_wrong_slot", at, "/bot/bot%s/send" % v["QUERY"])
    refused("stub_unknown", at, "/bot/x?y=bot" + v["PATH"])
    refused("stub_wrong_host", at, "/bot/bot%s/send" % v["PATH"], host=B)
    refused("path_not_allowed", at, "/other/" + v["PATH"])


def a_body_gets_the_value_as_its_type_wants():
    at, v = box()
    s = v["BODY"]
    # A third value that comes back freezes a session.
    text = '{"a":{"k":"x %s y"},"n":[1,"%s"]}' % (s, s)
    _, head, body = ask(at, "/b", text.encode(), JSON)
    assert json.loads(body) == {"a": {"k": "x %s y" % ODD}, "n": [1, ODD]}
    assert "Content-Length: %d\r" % len(body) in head + "\r", head
    _, head, body = ask(at, "/b", text.encode(), "application/x.y+JSON")
    assert json.loads(body)["n"][1] == ODD
    at, v = box()
    s = v["BODY"]
    _, head, body = ask(at, "/b", ("a=b&k=%s&z=" % s).encode(), FORM)
    assert urllib.parse.parse_qs(body.decode(), True) == {
        "a": ["b"], "k": [ODD], "z": [""]}, body
    assert b"+" in body and b"%20" not in body
    _, _, body = ask(at, "/b", ("k: %s\n" % s).encode(), TEXT)
    assert body == ("k: %s\n" % ODD).encode()


def chunks_are_put_together_before_a_swap():
    at, v = box()
    text = '{"k":"%s"}' % v["BODY"]
    chunks = "".join("1\r\n%s\r\n" % c for c in text) + "0\r\n\r\n"
    HOST.seen.clear()
    s = E.connect("egress-bridge", (at, 443), A)
    s.sendall(("POST /b HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
               "Content-Type: application/json\r\nTransfer-Encoding: chunked"
               "\r\n\r\n%s" % (A, chunks)).encode())
    assert E.read(s).status == 200
    assert json.loads(HOST.bodies[-1]) == {"k": ODD}
    assert "ransfer-" not in HOST.seen[-1][1]


def a_body_that_is_too_long_is_refused():
    at, v = box()
    fill = b" " * ((1 << 20) - 2 - len(v["BODY"]))
    body = b'"' + v["BODY"].encode() + b'"' + fill
    _, _, got = ask(at, "/b", body, JSON)
    assert got.startswith(json.dumps(ODD).encode()) and got.endswith(fill)
    refused("body_over_limit", at, "/b", body + b" ", JSON, status=413)
    refused("body_over_limit", at, "/b", b" " * (3 << 20) + body, JSON,
            status=413)
    # A long body that holds none is nobody's business.
    _, _, got = ask(at, "/q?key=" + v["QUERY"], b"x" * (3 << 20), TEXT)
    assert got == b"x" * (3 << 20)


def other_types_escapes_and_slots_are_refused():
    at, v = box()
    s = v["BODY"]
    for kind in None, "multipart/form-data; boundary=x", "text/xml", "x", \
            "application/octet-stream", "application/jsonp":
        refused("stub_wrong_slot", at, "/b", s.encode(), kind)
    for text in (s.replace("b", "%62"), s.replace("b", "\\u0062")):
        refused("stub_wrong_slot", at, "/b", ('"%s"' % text).encode(), JSON)
        refused("stub_wrong_slot", at, "/b",
                ('"%s" "%s"' % (s, text)).encode(), JSON)
    refused("stub_wrong_slot", at, "/b?x=" + s, b"{}", JSON)
    refused("stub_wrong_slot", at, "/b", b"{}", JSON,
            headers=[("Authorization", "Bearer " + s)])
    refused("stub_wrong_slot", at, "/q", ('"%s"' % v["QUERY"]).encode(), JSON)
    refused("stub_unknown", at, "/b", ('"%sa"' % s).encode(), JSON)


def several_slots_of_one_request_are_all_swapped():
    at, v = box()
    line, head, body = ask(
        at, "/bot/%s/x?key=%s" % (v["PATH"], v["QUERY"]),
        ('["%s"]' % v["BODY"]).encode(), JSON)
    assert line.count(urllib.parse.quote(ODD, "-._~")) == 2, line
    assert json.loads(body) == [ODD] and "bbxs" not in head


def values_are_in_no_log():
    text = E.logs() + V.logged()
    for form in (ODD, urllib.parse.quote(ODD, "-._~"), json.dumps(ODD)[1:-1]):
        assert form not in text
    assert "Sanitizer" not in text and "runtime error" not in text, text


TESTS = [
    a_query_parameter_gets_the_value_percent_encoded,
    a_path_gets_the_value_as_one_segment,
    a_body_gets_the_value_as_its_type_wants,
    chunks_are_put_together_before_a_swap,
    a_body_that_is_too_long_is_refused,
    other_types_escapes_and_slots_are_refused,
    several_slots_of_one_request_are_all_swapped,
    values_are_in_no_log,
]

if __name__ == "__main__":
    with setting([A, B], answering(answer)) as (V, E, HOST, KEY):
        VLT = V.vault(KEY)
        for name, slots, more in (("QUERY", ["query:key"], {}),
                                  ("PATH", ["path"],
                                   {"path_prefixes": ["/bot"]}),
                                  ("BODY", ["body"], {"methods": ["POST"]})):
            V.credential(KEY, VLT, name, ODD, [A],
                         binding=[dict({"host": A, "slots": slots}, **more)])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
