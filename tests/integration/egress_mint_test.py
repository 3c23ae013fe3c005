#!/usr/bin/env python3
"""Answers in which a host mints credentials, through real nginx and the real
vault: what the sandbox gets, what it can do with it, and what is not passed
on. Needs root."""
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "client-secret-0123456789-abcdef"
TOKEN = "minted-\"quoted\"/token+0123456789"
SECOND = "minted-refresh-token-abcdefgh"
AUTH, API = "auth.example.com", "api.example.com"
STUB = re.compile(r"([a-z]+_)?bbxs[a-z2-7]{32}")
BODY, HEAD, PIECES = b"", "200 OK\r\nContent-Type: application/json", 0


def answer(host, c, head):
    """API gives back what it got; AUTH the answer of the test."""
    auth = re.search("(?i)authorization: (.*)", head)
    if "Host: " + API in head or "host: " + API in head:
        body = ("got " + (auth.group(1) if auth else "")).encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                  + body)
        return True
    if PIECES:
        out = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i:i + PIECES]),
                                          BODY[i:i + PIECES])
                       for i in range(0, len(BODY), PIECES)) + b"0\r\n\r\n"
        c.sendall(("HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n"
                   % HEAD).encode())
        for i in range(0, len(out), 5):
            c.sendall(out[i:i + 5])
            if i < 2000:
                time.sleep(0.001)
        return True
    c.sendall(("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n"
               % (HEAD, len(BODY))).encode() + BODY)
    return True


class Box:
    def __init__(self):
        self.vault = V.vault(KEY)
        self.cred = V.credential(
            KEY, self.vault, "CLIENT_SECRET", SECRET, [AUTH],
            location={"body": True}, binding=[{
                "host": AUTH, "slots": ["body"], "methods": ["POST"],
                "mint": [{"pointer": "/access_token", "host": API},
                         {"pointer": "/more/1/token", "host": AUTH,
                          "slots": ["body"]}]}])["id"]
        self.session = V.put_grant(KEY, ENV, [self.vault])
        w = V.open(self.session)
        self.at, self.stub = w["address"], w["values"]["CLIENT_SECRET"]

    def token(self, body, head=None, pieces=0, **kw):
        global BODY, HEAD, PIECES
        BODY = body if isinstance(body, bytes) else body.encode()
        PIECES = pieces
        HEAD = head or "200 OK\r\nContent-Type: application/json"
        got = E.ask(self.at, AUTH, "/token", [(
            "Content-Type", "application/x-www-form-urlencoded")],
            method=kw.pop("method", "POST"),
            body=b"client_secret=" + self.stub.encode())
        for value in TOKEN, SECOND, SECRET:
            for form in value, json.dumps(value)[1:-1]:
                assert form.encode() not in got.raw, got.raw
                assert form not in E.logs() + V.logged()
        return got

    def use(self, stub, host=API):
        return E.ask(self.at, host, "/x", [("Authorization",
                                            "Bearer " + stub)])


def a_minted_token_arrives_as_a_stub_and_works():
    b = Box()
    for pieces in 0, 3, 1000:
        got = b.token(json.dumps(
            {"token_type": "bearer", "access_token": TOKEN, "n": 1.50,
             "more": [1, {"token": SECOND}], "text": "späť"},
            ensure_ascii=pieces == 3), pieces=pieces)
        assert got.status == 200, got.raw
        assert int(got.headers["content-length"]) == len(got.body)
        out = json.loads(got.body)
        assert STUB.fullmatch(out["access_token"]), out
        assert STUB.fullmatch(out["more"][1]["token"]), out
        assert out["access_token"] != out["more"][1]["token"]
        assert (out["token_type"], out["n"], out["text"]) == (
            "bearer", 1.5, "späť")
        mark = len(HOST.seen)
        got = b.use(out["access_token"])
        assert got.status == 200 and b"****" in got.body, got.raw
        assert "Bearer " + TOKEN in HOST.seen[mark][1]
        assert b.use(out["access_token"], AUTH).reason == "stub_wrong_host"


def all_else_stays_as_it_was_written():
    b = Box()
    text = '{ "a" : 1e2,\n\t"access_token":  "%s" , "z":"\\u00e9"}\n' \
        % SECOND
    got = b.token(text).body.decode()
    stub = json.loads(got)["access_token"]
    assert got == text.replace(SECOND, stub), got


def copies_of_it_are_taken_out_of_the_answer():
    b = Box()
    got = b.token(json.dumps({"access_token": TOKEN, "copy": "x" + TOKEN,
                              "url": "?t=" + SECOND,
                              "more": [0, {"token": SECOND}]}),
                  "200 OK\r\nX-Token: " + TOKEN + "\r\nSet-Cookie: t="
                  + SECOND)
    out = json.loads(got.body)
    assert STUB.fullmatch(out["access_token"])
    assert out["copy"].startswith("x***") and "***" in out["url"], out
    assert got.headers["x-token"] == "*" * len(TOKEN), got.head
    assert not V.call("ingress", "IncidentService/ListIncidents",
                      {"session_id": b.session}, V.as_key(KEY))["data"]


def answers_that_mint_nothing_pass():
    b = Box()
    pending = '{"error":"authorization_pending"}'
    assert b.token(pending).body.decode() == pending
    for body in '{"access_token":null}', '{"access_token":{"a":1}}', "[]":
        assert b.token(body).body.decode() == body
    got = b.token("<h1>no</h1>", "400 Bad Request")
    assert (got.status, got.body) == (400, b"<h1>no</h1>")
    got = b.token(json.dumps({"access_token": TOKEN}), "400 Bad Request")
    assert got.status == 400 and STUB.search(got.body.decode())
    assert b.token("", "204 No Content").status == 204
    assert b.token("", "200 OK").body == b""


def what_cannot_be_read_is_not_passed_on():
    b = Box()
    doubled = '{"access_token":"%s","access_token":"%s"}' % (SECOND, SECOND)
    for body in ("access_token=" + TOKEN + "&x=y", doubled,
                 '{"access_token":"%s"' % SECOND,
                 json.dumps({"access_token": "too-short"}),
                 json.dumps({"access_token": "x" * 70000}),
                 json.dumps({"access_token": SECOND, "pad": "x" * 1100000})):
        got = b.token(body, "200 OK\r\nX-Token: " + TOKEN)
        assert got.status == 502 and got.reason == "mint_failed", got.raw[:300]
        assert "x-token" not in got.headers, got.head
    got = b.token(json.dumps({"access_token": SECOND, "pad": "x" * 3000000}),
                  pieces=60000)
    assert got.status == 502 and got.reason == "mint_failed", got.raw[:300]
    got = b.token(b"\x1f\x8b\x08" + b"\0" * 30,
                  "200 OK\r\nContent-Encoding: gzip")
    assert got.status == 502, got.raw
    rows = V.call("ingress", "AuditService/ListAudit",
                  {"session_id": b.session, "action": "egress.refused"},
                  V.as_key(KEY))["data"]
    assert "mint_failed" in json.dumps(rows), rows


def a_vault_that_is_away_leaves_nothing_behind():
    b = Box()
    got = b.token(json.dumps({"access_token": TOKEN}))
    stub = json.loads(got.body)["access_token"]
    V.stop("vault")
    try:
        assert b.use(stub).status == 503
    finally:
        V.start_vault()
    assert b.use(stub).status == 200


def a_session_that_is_frozen_meanwhile_gets_nothing():
    b = Box()
    V.sql("UPDATE vault.credential SET archived_us = 1 WHERE id = '%s'"
          % b.cred)
    # What is kept in memory still allows it; Mint reads the rows anew.
    got = b.token(json.dumps({"access_token": TOKEN}))
    assert got.status in (502, 403, 503), got.raw


TESTS = [
    a_minted_token_arrives_as_a_stub_and_works,
    all_else_stays_as_it_was_written,
    copies_of_it_are_taken_out_of_the_answer,
    answers_that_mint_nothing_pass,
    what_cannot_be_read_is_not_passed_on,
    a_vault_that_is_away_leaves_nothing_behind,
    a_session_that_is_frozen_meanwhile_gets_nothing,
]

if __name__ == "__main__":
    with setting([AUTH, API], answering(answer),
                 args=["--scrub-hits-max=0"]) as (V, E, HOST, KEY):
        ENV = V.put_policy(KEY, [AUTH, API])
        main(TESTS)
