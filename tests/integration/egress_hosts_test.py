#!/usr/bin/env python3
"""Hosts that misbehave, a vault that freezes or dies while requests are under
way, and a full disk: what a sandbox gets is a whole answer, an end or a clear
error, never a value, and egress goes on. Real nginx, real vault. Needs root."""
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting, wait_for  # noqa: E402
from vault_support import main  # noqa: E402

SECRET = "misbehave-value-0123456789-abcdefg"
A = "api.example.com"
OK = b"HTTP/1.1 200 OK\r\n"


def endless(c, piece):
    """Sends until nobody takes it; how much was taken."""
    sent = 0
    try:
        while sent < 1 << 30:
            c.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def answer(host, c, head):
    path = head.split(" ")[1]
    value = SECRET.encode()
    fixed = {
        "/garbage": os.urandom(4000) + value,
        "/binary": b"\x16\x03\x01\x00\x05hello" + value,
        "/nothing": b"",
        "/half-status": b"HTTP/1.",
        "/half-headers": OK + b"X-A: " + value,
        "/bad-length": OK + b"Content-Length: " + value + b"\r\n\r\n",
        "/two-lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n"
                             b"abcd",
        "/negative": OK + b"Content-Length: -1\r\n\r\n",
        "/huge-length": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        "/bad-status": b"HTTP/1.1 999999 " + value + b"\r\n\r\n",
        "/short": OK + b"Content-Length: 900\r\n\r\nonly this",
        "/bad-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + value,
        "/huge-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n"
                            b"ffffffffffffffffff\r\n" + value,
        "/cut-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\nabc",
    }
    if path in fixed:
        c.sendall(fixed[path])
        return False
    if path == "/endless-headers":
        host.taken = endless(c, b"X-H: " + b"y" * 1000 + b"\r\n")
        return False
    if path == "/endless-line":
        host.taken = endless(c, b"y" * 4096)
        return False
    if path == "/endless-body":
        c.sendall(OK + b"\r\n")
        host.taken = endless(c, b"y" * 65536)
        host.is_over.set()
        return False
    if path == "/ws":
        assert "Upgrade: websocket" in head and "Connection: upgrade" in head
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  b"Connection: Upgrade\r\n\r\n")
        for _ in range(2):
            c.sendall(b"frame " + c.recv(100))
        return False
    if path == "/hang":
        time.sleep(30)
        return False
    c.sendall(OK + b"Content-Length: 2\r\n\r\nok")
    return True


def box():
    w = V.open(V.put_grant(KEY, ENV, [VLT]))
    return w["address"], [("Authorization",
                           "Bearer " + w["values"]["API_TOKEN"])]


def is_served(at, headers):
    a = E.ask(at, path="/fine", headers=headers)
    assert a.status == 200 and a.body == b"ok", a.raw


def what_is_no_answer_becomes_an_error():
    for path in ("/garbage", "/binary", "/nothing", "/half-status",
                 "/half-headers", "/bad-status"):
        at, headers = box()
        a = E.ask(at, path=path, headers=headers)
        assert SECRET.encode() not in a.raw, (path, a.raw)
        assert a.status == 502, (path, a.raw[:300])
        is_served(at, headers)


def wrong_lengths_end_the_answer_or_are_refused():
    for path in ("/short", "/bad-chunk", "/huge-chunk", "/cut-chunk",
                 "/bad-length", "/two-lengths", "/negative", "/huge-length"):
        at, headers = box()
        a = E.ask(at, path=path, headers=headers)
        assert SECRET.encode() not in a.raw, (path, a.raw)
        if path == "/short":
            assert len(a.body) < 900, a.raw
        elif path.endswith("-chunk") and a.status == 200:
            assert not a.raw.endswith(b"0\r\n\r\n"), (path, a.raw)
        is_served(at, headers)


def endless_heads_are_given_up():
    for path in "/endless-headers", "/endless-line":
        at, headers = box()
        HOST.taken = None
        a = E.ask(at, path=path, headers=headers)
        assert a.status == 502 or len(a.raw) < 1 << 20, a.raw[:200]
        wait_for("the host to notice", lambda: HOST.taken is not None)
        assert HOST.taken < 8 << 20, HOST.taken
        is_served(at, headers)


def memory(kind):
    out = 0
    for line in open("/proc/%d/task/%d/children" % (E.proc.pid, E.proc.pid)):
        for pid in line.split():
            with open("/proc/%s/status" % pid) as f:
                out += sum(int(x.split()[1]) for x in f if x.startswith(kind))
    return out


def an_endless_body_is_taken_as_fast_as_it_is_read():
    """A reader that stops stops the host, and memory does not grow."""
    at, headers = box()
    HOST.is_over.clear()
    before = memory("VmRSS")
    s = E.connect("egress-bridge", (at, 443), A)
    E.write(s, "GET", "/endless-body", A, headers)
    got = 0
    while got < 200 << 20:
        got += len(s.recv(1 << 20))
    time.sleep(1)
    assert not HOST.is_over.is_set()
    assert memory("VmRSS") - before < 20000, (before, memory("VmRSS"))
    s.close()
    wait_for("the host to notice", HOST.is_over.is_set)
    is_served(at, headers)


def a_websocket_passes_to_a_host_that_nothing_is_bound_to():
    w = V.open(V.put_grant(KEY, ENV))
    s = E.connect("egress-bridge", (w["address"], 443), A)
    s.sendall(("GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"
               "Upgrade: websocket\r\n\r\n" % A).encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += s.recv(1000)
    assert got.startswith(b"HTTP/1.1 101 "), got
    for text in b"one", b"two":
        s.sendall(text)
        assert s.recv(100) == b"frame " + text
    assert s.recv(100) == b""
    s.close()
    # With a credential of the session bound to the host it is refused.
    at, headers = box()
    a = E.ask(at, path="/ws", headers=headers + [
        ("Upgrade", "websocket"), ("Connection", "upgrade")])
    assert a.status == 403 and a.reason == "upgrade_refused", a.raw


def a_client_that_leaves_leaves_nothing_behind():
    at, headers = box()
    for _ in range(20):
        s = E.connect("egress-bridge", (at, 443), A)
        E.write(s, "GET", "/hang", A, headers)
        time.sleep(0.02)
        s.close()
    is_served(at, headers)


def nothing_is_sent_while_the_vault_is_frozen():
    at, headers = box()
    HOST.seen.clear()
    os.kill(V.procs["vault"].pid, signal.SIGSTOP)
    answers = []

    def one():
        a = E.ask(at, path="/frozen", headers=headers)
        answers.append((a.status, a.reason))

    try:
        threads = [threading.Thread(target=one) for _ in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)
    finally:
        os.kill(V.procs["vault"].pid, signal.SIGCONT)
    assert answers == [(503, "vault_unavailable")] * 10, answers
    assert not HOST.seen, HOST.seen
    wait_for("the vault", lambda: E.ask(at, path="/fine",
                                        headers=headers).status == 200)


def nothing_is_sent_when_the_vault_dies_meanwhile():
    at, headers = box()
    HOST.seen.clear()
    os.kill(V.procs["vault"].pid, signal.SIGSTOP)
    answers = []

    def one():
        a = E.ask(at, path="/died", headers=headers)
        answers.append((a.status, a.reason))

    threads = [threading.Thread(target=one) for _ in range(10)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    V.stop("vault", "kill")
    for t in threads:
        t.join(20)
    V.start_vault()
    assert answers == [(503, "vault_unavailable")] * 10, answers
    assert not HOST.seen, HOST.seen
    is_served(at, headers)


def a_full_disk_refuses_large_bodies_alone():
    folder = E.state + "/egress-body"
    at, headers = box()
    HOST.seen.clear()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder],
                   check=True)
    try:
        a = E.ask(at, path="/large", headers=headers, method="POST",
                  body=b"x" * (3 << 20))
        assert a.status == 500, a.raw[:300]
        assert not HOST.seen
        is_served(at, headers)
        a = E.ask(at, path="/small", headers=headers, method="POST",
                  body=b"x" * 500000)
        assert a.status == 200, a.raw[:300]
    finally:
        subprocess.run(["umount", folder], check=True)
    a = E.ask(at, path="/large", headers=headers, method="POST",
              body=b"x" * (3 << 20))
    assert a.status == 200, a.raw[:300]


def values_are_in_no_log():
    text = E.logs() + V.logged()
    assert SECRET not in text and SECRET[4:-4] not in text
    assert "signal 11" not in text and "signal 6" not in text
    assert "Sanitizer" not in text and "runtime error" not in text, text


TESTS = [
    what_is_no_answer_becomes_an_error,
    wrong_lengths_end_the_answer_or_are_refused,
    endless_heads_are_given_up,
    an_endless_body_is_taken_as_fast_as_it_is_read,
    a_client_that_leaves_leaves_nothing_behind,
    a_websocket_passes_to_a_host_that_nothing_is_bound_to,
    nothing_is_sent_while_the_vault_is_frozen,
    nothing_is_sent_when_the_vault_dies_meanwhile,
    a_full_disk_refuses_large_bodies_alone,
    values_are_in_no_log,
]

if __name__ == "__main__":
    with setting([A], answering(answer)) as (V, E, HOST, KEY):
        HOST.is_over = threading.Event()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, [A])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
