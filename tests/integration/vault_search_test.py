#!/usr/bin/env python3
"""What egress searches requests for: a tenant's fingerprints, their
confirmation, and what follows when a value was found. Needs root (initdb runs
as postgres)."""
import base64
import hashlib
import json
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, new_id, refused, wait_for  # noqa: E402

SECRET = 'sekret+value/0123456789"abcdef?XYZ'
OTHER = "ghp_" + "Ab3dE6gH" * 5
SHORT = "exactly-16-bytes"


# ---- the hash, written a second time (lib/fingerprint.c is the first) -------
class Hash:
    def __init__(self, key):
        self.table = []
        for i in range(64):
            h = hashlib.sha256(key + b"brainbox-fingerprint-v1\0"
                               + bytes([i])).digest()
            self.table += [int.from_bytes(h[8 * k:8 * k + 8], "big")
                           for k in range(4)]

    def of(self, window):
        h = 0
        for c in window:
            h = ((h << 1 | h >> 63) & 2**64 - 1) ^ self.table[c]
        return h


def raw(v):
    return bytes.fromhex(v["hex"]) if isinstance(v, dict) else v.encode()


class Table:
    def __init__(self, at, **kw):
        out = V.call("egress", "EgressService/Fingerprints",
                     {"workload_address": at, **kw})
        self.out, self.key = out, raw(out["key"])
        fp, spans = raw(out["fingerprints"]), raw(out["spans"])
        n = len(fp) // 8
        assert len(spans) == 4 * n
        self.list = [fp[8 * i:8 * i + 8] for i in range(n)]
        self.entries = {
            int.from_bytes(fp[8 * i:8 * i + 8], "little"):
            (int.from_bytes(spans[4 * i:4 * i + 2], "little"),
             int.from_bytes(spans[4 * i + 2:4 * i + 4], "little"))
            for i in range(n)}
        self.hash = Hash(self.key)

    def search(self, data):
        """Every hit in `data` with what Confirm needs of it."""
        for i in range(len(data) - 15):
            h = self.hash.of(data[i:i + 16])
            if h in self.entries:
                before, after = self.entries[h]
                if i >= before and i + 16 + after <= len(data):
                    yield h, data[i - before:i + 16 + after]


def opened(env=None):
    session = V.put_grant(KEY, env or ENV, [VLT])
    w = V.open(session)
    return session, w["address"], w["values"]


def confirm(at, hit, **kw):
    return V.call("egress", "EgressService/Confirm", {
        **({"workload_address": at} if at else {}),
        "fingerprint": {"hex": hit[0].to_bytes(8, "little").hex()},
        "data": {"hex": hit[1].hex()}, "where": "body", "scheme": "https",
        "host": "evil.example.com", "port": 443, "method": "POST",
        "request_id": "req_7", **kw})


def incidents(session):
    return V.call("ingress", "IncidentService/ListIncidents",
                  {"session_id": session}, V.as_key(KEY))["data"]


def audit(session, action):
    return V.call("ingress", "AuditService/ListAudit",
                  {"session_id": session, "action": action},
                  V.as_key(KEY))["data"]


def number(at):
    return V.authorize(at, host="free.example.com")["fingerprints"]


def a_value_is_found_in_every_form_and_confirmed():
    b64 = base64.b64encode
    text = SECRET.encode()
    forms = [text, b"x" + text + b"y", b64(text), b64(b"u:" + text),
             b64(b"us:" + text + b"\n"), b64(b"abcde" + text),
             base64.urlsafe_b64encode(b"?" + text), text.hex().encode(),
             text.hex().upper().encode(),
             urllib.parse.quote(SECRET, safe="").encode(),
             json.dumps({"a": SECRET}).encode()]
    for form in forms:
        session, at, _ = opened()
        hits = list(Table(at).search(b"before " + form + b" after"))
        assert hits, form
        out = confirm(at, hits[0])
        assert out["is_known"] and out["credential_id"] == CRED, out
        assert SECRET not in json.dumps(out)
        (i,) = incidents(session)
        assert i["kind"] == "known_value_out", i
        assert SECRET not in json.dumps(i)
        assert V.authorize(at, host="free.example.com")["reason"] \
            == "session_frozen"
        (row,) = audit(session, "egress.value_found")
        assert row["id"] == out["audit_id"]
        assert json.loads(row["detail_json"])["credential"] == CRED, row


def short_values_and_those_of_other_sessions_are_found():
    session, at, _ = opened()
    table = Table(at)
    for value in OTHER, SHORT:
        (hit,) = table.search(b"--" + value.encode() + b"--")
        out = confirm(at, hit)
        assert out["is_known"], value


def what_only_looks_alike_is_not_confirmed():
    session, at, _ = opened()
    table = Table(at)
    (hit,) = table.search(SECRET.encode())
    for i in range(len(hit[1])):
        wrong = hit[1][:i] + bytes([hit[1][i] ^ 1]) + hit[1][i + 1:]
        if i % 7 == 0:
            assert not confirm(at, (hit[0], wrong))["is_known"], i
    for data in hit[1][:-1], hit[1] + b"x", b"", b"\0" * 16:
        assert not confirm(at, (hit[0], data))["is_known"]
    assert not confirm(at, (hit[0] ^ 1, hit[1]))["is_known"]
    refused("invalid", confirm, at, (hit[0], b"x" * 9000))
    assert not incidents(session)
    assert V.authorize(at, host="free.example.com")["verdict"] == 1


def a_brain_is_refused_and_not_frozen():
    session, at, _ = opened()
    (hit,) = Table(at).search(SECRET.encode())
    out = confirm("", hit, session_id=session)
    assert out["is_known"] and not incidents(session)
    assert len(audit(session, "egress.value_found")) == 1


def another_tenant_has_a_table_of_its_own():
    session, at, _ = opened()
    env = V.put_policy(THEIRS, ["*.example.com"])
    theirs = V.open(V.put_grant(THEIRS, env))["address"]
    mine, table = Table(at), Table(theirs)
    assert table.out["tenant"] == "other" and table.key != mine.key
    assert not table.entries
    (hit,) = mine.search(SECRET.encode())
    assert not confirm(theirs, hit)["is_known"]
    refused("not_found", Table, "fd00::1")
    refused("invalid", V.call, "egress", "EgressService/Fingerprints", {})


def the_table_is_read_in_parts_and_not_again_when_unchanged():
    _, at, _ = opened()
    whole = Table(at)
    assert whole.list == sorted(whole.list,
                                key=lambda b: int.from_bytes(b, "little"))
    assert whole.out["total"] == len(whole.list) > 10
    n, parts = whole.out["number"], []
    while len(parts) < whole.out["total"]:
        kw = {"number": n, "begin": len(parts)} if parts else {}
        part = Table(at, limit=4, **kw)
        assert part.out["begin"] == len(parts)
        parts += part.list
    assert parts == whole.list
    again = Table(at, number=n)
    assert again.out["is_unchanged"] and not again.list
    assert number(at) == n
    old = Table(at, number=n - 1, begin=3)
    assert old.out["begin"] == 0 and old.list == whole.list


def changes_move_the_number_and_the_table():
    session, at, _ = opened()
    before, value = number(at), "new-value-that-is-not-there-yet"
    cred = V.credential(KEY, VLT, "LATER", value, ["api.example.com"])["id"]
    assert number(at) > before
    data = b"[" + value.encode() + b"]"
    wait_for("the new value", lambda: list(Table(at).search(data)))
    V.call("ingress", "VaultService/UpdateCredential",
           {"vault_id": VLT, "credential_id": cred, "auth_json": json.dumps(
               {"type": "environment_variable",
                "secret_value": value[::-1]})}, V.as_key(KEY))
    wait_for("the newer value",
             lambda: list(Table(at).search(data[::-1])))
    assert not list(Table(at).search(data))
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": VLT, "credential_id": cred}, V.as_key(KEY))
    wait_for("nothing", lambda: not list(Table(at).search(data[::-1])))


def numbers_are_not_used_again_after_a_restart():
    _, at, _ = opened()
    before, key = number(at), Table(at).key
    V.stop("vault")
    V.start_vault()
    assert number(at) > before
    assert Table(at).key == key


def the_environment_says_what_happens_to_unknown_credentials():
    for word, want in ((None, 1), ("block", 1), ("mask", 2), ("log", 3)):
        more = {"outbound": word} if word else {}
        env = V.put_policy(KEY, ["*.example.com"], **more)
        _, at, _ = opened(env)
        out = V.authorize(at, host="free.example.com")
        assert out["outbound"] == want and out["tenant"] == "default", out
    message = refused("invalid", V.put_policy, KEY, [], outbound="drop")
    assert "outbound" in message and "mask" in message, message


def a_row_that_was_edited_is_left_out_and_logged():
    vault = V.vault(KEY)
    value = "a-value-whose-row-is-edited-later"
    cred = V.credential(KEY, vault, "EDITED", value, ["b.example.com"])["id"]
    V.sql("UPDATE vault.credential SET binding = '[]' WHERE id = '%s'" % cred)
    _, at, _ = opened()
    V.credential(KEY, vault, "AFTER", value[::-1], ["b.example.com"])
    wait_for("the table",
             lambda: list(Table(at).search(value[::-1].encode())))
    assert not list(Table(at).search(value.encode()))
    assert '"fingerprints.skipped"' in V.logged()
    V.sql("DELETE FROM vault.credential WHERE id = '%s'" % cred)


TESTS = [
    a_value_is_found_in_every_form_and_confirmed,
    short_values_and_those_of_other_sessions_are_found,
    what_only_looks_alike_is_not_confirmed,
    a_brain_is_refused_and_not_frozen,
    another_tenant_has_a_table_of_its_own,
    the_table_is_read_in_parts_and_not_again_when_unchanged,
    changes_move_the_number_and_the_table,
    numbers_are_not_used_again_after_a_restart,
    the_environment_says_what_happens_to_unknown_credentials,
    a_row_that_was_edited_is_left_out_and_logged,
]

if __name__ == "__main__":
    with Vault(args=["--fingerprints-ms=50"]) as V:
        V.run_vault("--migrate", "--tenant=other")
        KEY = V.key()
        VLT = V.vault(KEY)
        CRED = V.credential(KEY, VLT, "API_TOKEN", SECRET,
                            ["api.example.com"])["id"]
        ELSE = V.vault(KEY)
        V.credential(KEY, ELSE, "GH", OTHER, ["gh.example.com"])
        V.credential(KEY, ELSE, "SHORT", SHORT, ["s.example.com"])
        ENV = V.put_policy(KEY, ["*.example.com"])
        wait_for("the tenant", lambda: "tenant.loaded" in V.logged())
        THEIRS = V.key("--tenant=other")
        main(TESTS)
