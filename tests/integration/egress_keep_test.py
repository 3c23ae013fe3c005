#!/usr/bin/env python3
"""Egress keeps connections to hosts: for one workload, one name and one vetted
address each, and no longer than they are good for. Real nginx, real vault, a
host that counts its connections. Needs root."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "kept-value-0123456789-abcdefghijkl"
A, B = "api.example.com", "other.example.com"
TOGETHER = threading.Barrier(60)


def answer(host, c, head):
    path = head.split(" ")[1]
    body = b"ok " + path.encode()
    out = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
    if path == "/last":
        out += b"Connection: close\r\n"
    out += b"\r\n" + body
    if path == "/together":
        TOGETHER.wait(30)
    if path == "/more":
        out += b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    c.sendall(out)
    if path == "/late":
        time.sleep(0.1)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
    return path not in ("/leave", "/last")


class Box:
    """A workload with a connection to egress that stays."""

    def __init__(self, host=A, session=None):
        session = session or V.put_grant(KEY, ENV, [VLT])
        w = V.open(session)
        self.session, self.host = session, host
        self.at, self.stub = w["address"], w["values"]["API_TOKEN"]
        self.s = self.connect()

    def connect(self):
        return E.connect("egress-bridge", (self.at, 443), self.host)

    def ask(self, path, method="GET", body=b"", s=None):
        headers = [("Authorization", "Bearer " + self.stub)]
        return E.turn(s or self.s, path, self.host,
                      headers if self.host == A else (), method, body)


def used(mark):
    """Numbers of the host's connections since `mark`, in order of use."""
    return [n for n, _ in HOST.seen[mark:]]


def one_connection_serves_many_requests():
    mark, box = len(HOST.seen), Box()
    for i in range(5):
        a = box.ask("/%d" % i, *(("POST", b"x" * 10) if i % 2 else ()))
        assert a.status == 200 and a.body == b"ok /%d" % i, a.raw
    assert len(set(used(mark))) == 1, used(mark)
    for _, head in HOST.seen[mark:]:
        assert "Authorization: Bearer " + SECRET in head


def each_workload_has_its_own():
    # Many connections each, so that both workers have some of both.
    mark, boxes = len(HOST.seen), [Box() for _ in range(3)]
    for box in boxes:
        for i in range(12):
            s = box.connect()
            assert box.ask("/w%d" % boxes.index(box), s=s).status == 200
            s.close()
    of = {}
    for n, head in HOST.seen[mark:]:
        of.setdefault(n, set()).add(head.split(" ")[1])
    assert all(len(x) == 1 for x in of.values()), of
    assert 3 <= len(of) < 36, of


def two_workloads_of_a_session_share_nothing():
    mark, one = len(HOST.seen), Box()
    two = Box(session=one.session)
    for i in range(8):
        for box, path in ((one, "/one"), (two, "/two")):
            s = box.connect()
            assert box.ask(path, s=s).status == 200
            s.close()
    of = {}
    for n, head in HOST.seen[mark:]:
        of.setdefault(n, set()).add(head.split(" ")[1])
    assert all(len(x) == 1 for x in of.values()), of


def each_name_has_its_own():
    """Both names lead to one address; a certificate was checked for one."""
    mark, box = len(HOST.seen), Box()
    other = Box(host=B, session=box.session)
    other.at = box.at
    for i in range(8):
        for b in box, other:
            s = b.connect()
            assert b.ask("/n", s=s).status == 200
            s.close()
    of = {}
    for n, head in HOST.seen[mark:]:
        of.setdefault(n, set()).update(
            x for x in head.split("\r\n") if x.startswith("Host:"))
    assert all(len(x) == 1 for x in of.values()), of


def what_the_host_closed_is_dialled_anew():
    mark, box = len(HOST.seen), Box()
    for path in "/leave", "/a", "/last", "/b":
        for kind in (), ("POST", b"body"):
            assert box.ask(path, *kind).status == 200
    n = used(mark)
    assert len(set(n)) == 5, n


def an_answer_nobody_asked_for_is_never_read():
    for path in "/more", "/late":
        mark, box = len(HOST.seen), Box()
        assert box.ask(path).body == b"ok " + path.encode()
        if path == "/late":
            time.sleep(0.3)
        for i in range(3):
            assert box.ask("/next").body == b"ok /next"
        n = used(mark)
        assert n[0] not in n[1:], n


def an_idle_connection_ends():
    mark, box = len(HOST.seen), Box()
    box.ask("/idle")
    n = used(mark)[0]
    wait_for("the end of an idle connection", lambda: n in HOST.ended, 15)


def a_workload_keeps_no_more_than_its_share():
    mark, box = len(HOST.seen), Box()
    threads = [threading.Thread(target=lambda: box.ask("/together",
                                                       s=box.connect()))
               for _ in range(TOGETHER.parties)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    made = set(used(mark))
    assert len(made) == TOGETHER.parties, len(made)
    # Two workers keep 16 each; one worker may have had all of them.
    wait_for("the others to end", lambda: len(made & set(HOST.ended))
             >= TOGETHER.parties - 32, 3)


TESTS = [
    one_connection_serves_many_requests,
    each_workload_has_its_own,
    two_workloads_of_a_session_share_nothing,
    each_name_has_its_own,
    what_the_host_closed_is_dialled_anew,
    an_answer_nobody_asked_for_is_never_read,
    a_workload_keeps_no_more_than_its_share,
    an_idle_connection_ends,
]

if __name__ == "__main__":
    with setting([A, B], answering(answer)) as (V, E, HOST, KEY):
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, [A])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
