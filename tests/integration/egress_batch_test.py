#!/usr/bin/env python3
"""Requests that egress asks the vault about in one call: each gets its own
answer, and who goes away takes nobody along. Real nginx, real vault, a host that
echoes the path. Needs root."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting  # noqa: E402
from vault_support import main, refused  # noqa: E402

SECRET = "batch-value-0123456789-abcdefghijkl"
HOST_NAME, OTHER = "api.example.com", "other.example.net"


def answer(host, c, head):
    body = head.split(" ")[1].encode()
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
              + body)
    return True


class Box:
    def __init__(self):
        self.session = V.put_grant(KEY, ENV, [VLT])
        w = V.open(self.session)
        self.at, self.stub = w["address"], w["values"]["API_TOKEN"]

    def send(self, path, stub=None, host=HOST_NAME):
        s = E.connect("egress-bridge", (self.at, 443), host)
        E.write(s, "GET", path, host, [
            ("Authorization", "Bearer " + (stub or self.stub))])
        return s

    def rows(self):
        return [json.loads(x) for x in V.sql(
            "SELECT json_build_object('action', action, 'detail', detail)"
            f" FROM vault.audit WHERE session_id = '{self.session}'"
            " AND action LIKE 'egress.%'").split("\n") if x]


def stop_vault():
    """A moment of the vault's is made long, so that many fall into it."""
    V.procs["vault"].send_signal(signal.SIGSTOP)


def go_on():
    V.procs["vault"].send_signal(signal.SIGCONT)


def batches():
    """Commits of audit rows so far."""
    for line in V.call("admin", "OpsService/GetMetrics", {})["text"].split(
            "\n"):
        if line.startswith("brainbox_vault_audit_batches_total") \
                and '"written"' in line:
            return int(float(line.split(" ")[1]))
    return 0


def each_of_many_gets_its_own_answer():
    boxes = [Box() for _ in range(3)]
    for b in boxes:
        assert E.read(b.send("/first")).status == 200
    before = batches()
    stop_vault()
    sent = [(b, i, b.send("/%d/%d" % (k, i)))
            for i in range(10) for k, b in enumerate(boxes)]
    time.sleep(0.5)
    go_on()
    for b, i, s in sent:
        a = E.read(s)
        assert a.status == 200, a.raw
        assert a.body == b"/%d/%d" % (boxes.index(b), i), a.body
    for k, b in enumerate(boxes):
        asked = [json.loads(r["detail"]) for r in b.rows()]
        assert sorted(d["path"] for d in asked if d["path"] != "/first") \
            == sorted("/%d/%d" % (k, i) for i in range(10)), asked
        assert len({d["request_id"] for d in asked}) == len(asked)
    # Two workers have two calls each on their way, the rest goes together.
    assert batches() - before <= 12, batches() - before


def allowed_and_refused_stand_side_by_side():
    one, two = Box(), Box()
    stop_vault()
    sent = [(200, one.send("/ok")), (200, two.send("/ok"))]
    for _ in range(4):
        sent += [(403, one.send("/foreign", stub="unknownbbxs" + "a" * 32)),
                 (200, two.send("/fine")),
                 (403, one.send("/host", host=OTHER)),
                 (200, one.send("/fine"))]
    time.sleep(0.3)
    go_on()
    got = [(want, E.read(s).status) for want, s in sent]
    assert all(a == b for a, b in got), got


def who_goes_away_takes_nobody_along():
    box = Box()
    E.read(box.send("/warm"))
    stop_vault()
    try:
        # Enough that each worker has its calls on their way and some wait.
        first = [box.send("/left/%d" % i) for i in range(12)]
        time.sleep(0.2)
        then = [box.send("/stays/%d" % i) for i in range(12)]
        time.sleep(0.2)
        # One after another leads, and leaves.
        for s in first:
            s.close()
            time.sleep(0.02)
    finally:
        go_on()
    got = [E.read(s) for s in then]
    assert [a.status for a in got] == [200] * 12, [a.raw for a in got]
    assert [a.body for a in got] == [b"/stays/%d" % i for i in range(12)]


def without_the_vault_nobody_is_served():
    box, mark = Box(), len(HOST.seen)
    E.read(box.send("/warm"))
    stop_vault()
    try:
        sent = [box.send("/never/%d" % i) for i in range(10)]
        got = [E.read(s) for s in sent]
    finally:
        go_on()
    assert [a.status for a in got] == [503] * 10, [a.raw for a in got]
    assert b"vault_unavailable" in got[0].body
    assert not any("/never/" in h for _, h in HOST.seen[mark:])


def question(box, path, **more):
    return {"workload_address": box.at, "scheme": "https", "host": HOST_NAME,
            "port": 443, "method": "GET", "path": path, "request_id": "req_x",
            "stubs": [{"kind": 1, "name": "authorization",
                       "stub": box.stub}], **more}


def the_vault_bounds_a_batch():
    box = Box()
    for n in 0, 65:
        said = refused("invalid", V.call, "egress",
                       "EgressService/AuthorizeBatch",
                       {"requests": [question(box, "/")] * n})
        assert "must be 1 to 64" in said, said


def what_cannot_be_decided_has_no_verdict():
    box = Box()
    got = V.call("egress", "EgressService/AuthorizeBatch", {"requests": [
        question(box, "/a"), question(box, "/b", port=0),
        question(box, "/c")]})["responses"]
    # The first field, verdict: ALLOW is 1; none is an empty message.
    assert len(got) == 3 and got[1] == "" and got[0] != "", got
    assert sorted(json.loads(r["detail"])["path"] for r in box.rows()) \
        == ["/a", "/c"]


TESTS = [
    each_of_many_gets_its_own_answer,
    allowed_and_refused_stand_side_by_side,
    who_goes_away_takes_nobody_along,
    without_the_vault_nobody_is_served,
    the_vault_bounds_a_batch,
    what_cannot_be_decided_has_no_verdict,
]

if __name__ == "__main__":
    with setting([HOST_NAME], answering(answer)) as (V, E, HOST, KEY):
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, [HOST_NAME])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
