#!/usr/bin/env python3
"""What goes out is searched: for the tenant's values, which freeze the session,
and for credentials of known shapes, about which the environment decides. Real
nginx, real vault, a host that keeps what it gets. Needs root."""
import base64
import gzip
import json
import os
import signal
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import answering, setting  # noqa: E402
from vault_support import main, new_id, wait_for  # noqa: E402

VALUE = "q7Zp-4sVw/9tKx+2mBn\"8dRf 1gHj"
NEXT = "next-5f1c9a7e3b2d4f60817"
A, B = "api.example.com", "git.example.com"
SHAPE = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6"
OTHER = "glpat-Zx9_yW8vU7tS6rQ5pO4n"
JWT = ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
       "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U")


def answer(_, c, __):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return True


def box(env=None):
    session = V.put_grant(KEY, env or ENV, [VLT])
    return dict(V.open(session), session=session)


def send(at, path="/x", body=b"", headers=(), host=A):
    HOST.seen.clear()
    HOST.bodies.clear()
    return E.ask(at, host, path=path, method="POST" if body else "GET", body=body,
                 headers=list(headers))


def passes(*args, **kw):
    a = send(*args, **kw)
    assert a.status == 200, a.raw
    return HOST.seen[-1][1], HOST.bodies[-1]


def refused(reason, *args, **kw):
    a = send(*args, **kw)
    assert a.status == 403 and a.reason == reason, a.raw
    assert not HOST.seen, HOST.seen
    return a


def rows(action, session):
    return [(r.split("|", 1)[0], json.loads(r.split("|", 1)[1]))
            for r in V.sql("SELECT object, detail FROM vault.audit WHERE"
                           f" action = '{action}' AND session_id ="
                           f" '{session}' ORDER BY seq").splitlines()]


def a_value_is_refused_wherever_it_goes_and_freezes_the_session():
    raw = VALUE.encode()
    quoted = urllib.parse.quote(VALUE, "")
    forms = [
        dict(body=b"a=" + raw),
        dict(body=json.dumps({"k": [VALUE]}).encode()),
        dict(body=b"x" * (3 << 20) + raw),            # in a file
        dict(body=raw + b"y" * (3 << 20)),
        dict(body=b"n" * ((1 << 20) - 9) + raw),      # over two slices
        dict(headers=[("X-Note", "see " + VALUE)]),
        dict(path="/x?q=" + quoted),
        dict(path="/" + quoted + "/x"),
        dict(body=raw.hex().encode()),
    ] + [dict(body=base64.b64encode(b"p" * n + raw)) for n in (0, 1, 2)] + [
        dict(headers=[("Authorization", "Basic " + base64.b64encode(
            b"me:" + raw).decode())]),
    ]
    for form in forms:
        w = box()
        a = refused("known_value_out", w["address"], **form)
        assert VALUE not in a.raw.decode("latin-1")
        a = send(w["address"])
        assert a.status == 403 and a.reason == "session_frozen", a.raw
        kinds = V.sql("SELECT kind FROM vault.incident WHERE session_id ="
                      f" '{w['session']}'")
        assert kinds.strip() == "known_value_out", (form, kinds)


def what_only_resembles_a_value_passes():
    at = box()["address"]
    for body in (VALUE[:-1], VALUE[1:], VALUE.replace("-", "_"),
                 VALUE.lower(), "x".join(VALUE)):
        passes(at, body=body.encode() + b"\n")


def a_value_that_is_new_is_looked_for_soon():
    w = box()
    passes(w["address"], body=NEXT.encode())
    V.credential(KEY, VLT, "NEXT", NEXT, [B])

    def found():
        a = send(w["address"], body=NEXT.encode())
        return a.status == 403 and a.reason == "known_value_out"
    wait_for("the new value", found)


def a_value_of_another_tenant_is_not_ours_to_tell():
    at = box()["address"]
    passes(at, body=FOREIGN.encode())


def a_shape_is_refused_by_default():
    w = box()
    for form in (dict(body=b"k=" + SHAPE.encode()),
                 dict(body=b"x " * (1 << 20) + SHAPE.encode()),
                 dict(headers=[("X-Key", SHAPE)]),
                 dict(headers=[("Authorization", "Bearer " + OTHER)]),
                 dict(headers=[("Referer", "https://x/?" + SHAPE)]),
                 dict(path="/x?key=" + SHAPE), dict(path="/" + SHAPE)):
        a = refused("credential_in_request", w["address"], **form)
        text = a.raw.decode("latin-1")
        assert SHAPE not in text and OTHER not in text
        assert "github-personal" in text or "gitlab" in text, text

    def told():
        return len(rows("egress.refused", w["session"])) >= 5
    wait_for("rows of the audit", told)
    for _, d in rows("egress.refused", w["session"]):
        assert d["reason"] == "credential_in_request"
        assert d["shape"] in ("github-personal", "gitlab"), d
    # Nothing was frozen, and nothing else is held against it.
    passes(w["address"], body=b"ghp_ is the prefix of a token")


def a_stub_is_no_credential():
    w = box()
    assert w["values"]["GITHUB"].startswith("ghp_"), w["values"]
    head, _ = passes(w["address"], headers=[
        ("Authorization", "Bearer " + w["values"]["GITHUB"])], host=B)
    assert GITHUB in head


def a_shape_is_masked_where_the_environment_says_so():
    w = box(V.put_policy(KEY, [A], outbound="mask"))
    n = len(SHAPE)
    for size in (0, 3 << 20):
        fill = b"x " * (size // 2)
        _, body = passes(w["address"],
                         body=fill + SHAPE.encode() + b"&z=" + OTHER.encode())
        assert body == fill + b"*" * n + b"&z=" + b"*" * len(OTHER), body[-99:]
    head, _ = passes(w["address"], headers=[("X-Key", "a %s b" % SHAPE)])
    assert "a %s b" % ("*" * n) in head and SHAPE not in head, head
    # In a path it would change what was asked for.
    refused("credential_in_request", w["address"], path="/x?key=" + SHAPE)
    # More than are remembered are refused.
    refused("credential_in_request", w["address"],
            body=b" ".join([SHAPE.encode()] * 40))

    def told():
        return [d["shape"] for _, d in rows("egress.flagged", w["session"])
                if d["reason"] == "credential_masked"]
    wait_for("rows of the audit", told)


def a_shape_is_only_noted_where_the_environment_says_so():
    w = box(V.put_policy(KEY, [A], outbound="log"))
    _, body = passes(w["address"], body=SHAPE.encode())
    assert body == SHAPE.encode()

    def told():
        return [d["shape"] for _, d in rows("egress.flagged", w["session"])]
    wait_for("rows of the audit", told)
    assert told() == ["github-personal"], told()


def tokens_that_honest_clients_send_are_only_noted():
    w = box()
    head, _ = passes(w["address"], headers=[("Authorization",
                                             "Bearer " + JWT)])
    assert JWT in head

    def told():
        return [d["shape"] for _, d in rows("egress.flagged", w["session"])]
    wait_for("rows of the audit", told)
    assert told() == ["json-web-token"], told()


def what_cannot_be_read_passes_and_is_documented():
    """Compressed bodies are not unpacked: docs/threat-model.md says so."""
    at = box()["address"]
    passes(at, body=gzip.compress(VALUE.encode()))


def nothing_goes_out_while_the_vault_cannot_confirm():
    w = box()
    passes(w["address"], body=b"the table is there now")
    V.procs["vault"].send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        a = send(w["address"], body=VALUE.encode())
        assert a.status == 503 and not HOST.seen, a.raw
        assert time.monotonic() - began < 60
    finally:
        V.procs["vault"].send_signal(signal.SIGCONT)
    passes(box()["address"], body=b"and again")


def values_are_in_no_log():
    text = E.logs() + V.logged()
    for form in (VALUE, urllib.parse.quote(VALUE, ""), NEXT, SHAPE, OTHER):
        assert form not in text, form
    assert "Sanitizer" not in text and "runtime error" not in text, text


TESTS = [
    a_value_is_refused_wherever_it_goes_and_freezes_the_session,
    what_only_resembles_a_value_passes,
    a_value_that_is_new_is_looked_for_soon,
    a_value_of_another_tenant_is_not_ours_to_tell,
    a_shape_is_refused_by_default,
    a_stub_is_no_credential,
    a_shape_is_masked_where_the_environment_says_so,
    a_shape_is_only_noted_where_the_environment_says_so,
    tokens_that_honest_clients_send_are_only_noted,
    what_cannot_be_read_passes_and_is_documented,
    nothing_goes_out_while_the_vault_cannot_confirm,
    values_are_in_no_log,
]

if __name__ == "__main__":
    with setting([A, B], answering(answer)) as (V, E, HOST, KEY):
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "SECRET", VALUE, ["other.example.com"])
        GITHUB = "ghp_" + SHAPE[:3:-1] + "-longer"
        V.credential(KEY, VLT, "GITHUB", GITHUB, [B])
        FOREIGN = "foreign-" + new_id("x")
        V.run_vault("--migrate", "--tenant=theirs")
        wait_for("the tenant", lambda: "tenant.loaded" in V.logged())
        THEIRS = V.key("--tenant=theirs")
        V.credential(THEIRS, V.vault(THEIRS), "X", FOREIGN, [B])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
