#!/usr/bin/env python3
"""Incidents: what freezes a session of a real vault_svc at once, and how a
person lets it go on. Needs root (initdb runs as postgres)."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, new_id, refused  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
HEADER, BASIC, QUERY, PATH, BODY = 1, 2, 3, 4, 5


def opened():
    session = V.put_grant(KEY, ENV, [VLT])
    w = V.open(session)
    return session, w["address"], w["values"]["API_TOKEN"]


def use(at, stub, kind=HEADER, name="authorization", **kw):
    return V.authorize(at, stubs=[(kind, name, stub)], **kw)


def incidents(session, **kw):
    return V.call("ingress", "IncidentService/ListIncidents",
                  {"session_id": session, **kw}, V.as_key(KEY))["data"]


def resolve(incident, key=None):
    return V.call("ingress", "IncidentService/ResolveIncident",
                  {"incident_id": incident}, V.as_key(key or KEY))


def a_foreign_stub_in_a_declared_slot_freezes():
    session, at, stub = opened()
    _, _, foreign = opened()
    out = use(at, foreign)
    assert out["reason"] == "stub_foreign", out
    # At once, for every request, with its own stub and without.
    assert use(at, stub)["reason"] == "session_frozen"
    assert V.authorize(at, host="free.example.com")["reason"] \
        == "session_frozen"
    refused("denied", V.open, session)
    (i,) = incidents(session)
    assert (i["kind"], i["state"]) == ("stub_foreign", "open"), i
    detail = json.loads(i["detail_json"])
    assert detail["host"] == "api.example.com", detail
    text = json.dumps(i) + V.sql("SELECT string_agg(detail, ' ')"
                                 " FROM vault.audit")
    assert foreign not in text and stub not in text
    rows = V.sql("SELECT string_agg(action, ' ' ORDER BY seq) FROM vault.audit"
                 " WHERE session_id = '%s'" % session)
    assert "incident.opened egress.denied" in rows, rows


def a_planted_stub_freezes_nobody():
    """In a body, in a slot nobody declared, at a host nobody is bound to."""
    session, at, stub = opened()
    _, _, foreign = opened()
    for kw in ({"kind": BODY, "name": "json"}, {"kind": QUERY, "name": "q"},
               {"name": "cookie"}, {"host": "free.example.com"},
               {"kind": PATH, "name": ""}):
        assert use(at, foreign, **kw)["reason"] == "stub_foreign", kw
    assert use(at, stub)["verdict"] == 1
    assert incidents(session) == []


def a_person_lets_it_go_on():
    session, at, stub = opened()
    _, _, foreign = opened()
    use(at, foreign)
    (i,) = incidents(session)
    writer = V.key("--scopes=read,write")
    refused("denied", resolve, i["id"], writer)
    refused("not_found", resolve, new_id("inc"))
    got = resolve(i["id"])
    assert got["state"] == "resolved" and got["resolved_by"]
    assert use(at, stub)["verdict"] == 1
    refused("precondition", resolve, i["id"])
    assert incidents(session) == []
    assert len(incidents(session, include_resolved=True)) == 1
    use(at, foreign)
    assert use(at, stub)["reason"] == "session_frozen"


def the_third_answer_that_held_a_value_freezes():
    session, at, stub = opened()

    def hit(audit_id):
        V.call("egress", "EgressService/ReportScrub", {
            "audit_id": audit_id, "credential_id": "vcrd_x",
            "where": "body", "count": 5})

    first = use(at, stub)["audit_id"]
    for _ in range(4):
        hit(first)
    # One answer, however often and wherever it held the value.
    second = use(at, stub)["audit_id"]
    assert second
    hit(second)
    third = use(at, stub)
    assert third["verdict"] == 1
    hit(third["audit_id"])
    assert use(at, stub)["reason"] == "session_frozen"
    (i,) = incidents(session)
    assert i["kind"] == "scrub_hits", i
    resolve(i["id"])
    hit(use(at, stub)["audit_id"])
    assert use(at, stub)["verdict"] == 1


def guessing_stubs_freezes():
    session, at, stub = opened()
    for n in range(5):
        out = use(at, "bbxs" + "abcd"[n % 4] * 32, kind=BODY, name="text")
        assert out["reason"] == "stub_unknown"
    reasons = [use(at, "bbxs" + c * 32)["reason"] for c in "abcdefg"]
    assert reasons == ["stub_unknown"] * 5 + ["session_frozen"] * 2, reasons
    (i,) = incidents(session)
    assert i["kind"] == "stub_guessing"
    assert use(at, stub)["reason"] == "session_frozen"


def freezing_cannot_be_undone_in_the_database():
    session, at, stub = opened()
    _, _, foreign = opened()
    use(at, foreign)
    V.sql("UPDATE vault.session_grant SET frozen_us = NULL"
          " WHERE session_id = '%s'" % session)
    refused("corrupt|internal", use, at, stub)
    (i,) = incidents(session)
    refused("corrupt|internal", resolve, i["id"])


TESTS = [
    a_foreign_stub_in_a_declared_slot_freezes,
    a_planted_stub_freezes_nobody,
    a_person_lets_it_go_on,
    the_third_answer_that_held_a_value_freezes,
    guessing_stubs_freezes,
    freezing_cannot_be_undone_in_the_database,
]

if __name__ == "__main__":
    with Vault(args=["--unknown-stubs-per-minute=4"]) as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        V.credential(KEY, VLT, "API_TOKEN", SECRET, ["api.example.com"])
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
