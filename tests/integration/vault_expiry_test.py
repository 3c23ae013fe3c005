#!/usr/bin/env python3
"""When credentials expire, as a person said: listed, changed, warned of. Needs
root (initdb runs as postgres)."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, refused, wait_for  # noqa: E402

SECRET = "sekret-value-0123456789abcdef-XYZ"
API = "api.example.com"


def day(n):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(
        time.time() + n * 86400))


def create(expires_at):
    req = {"vault_id": VLT, "auth_json": json.dumps({
        "type": "environment_variable", "secret_name": "T",
        "secret_value": SECRET, "networking": {
            "type": "limited", "allowed_hosts": [API]}})}
    if expires_at is not None:
        req["expires_at"] = expires_at
    return V.call("ingress", "VaultService/CreateCredential", req,
                  V.as_key(KEY))


def update(cred, expires_at):
    return V.call("ingress", "VaultService/UpdateCredential", {
        "vault_id": VLT, "credential_id": cred, "expires_at": expires_at},
        V.as_key(KEY))


def listed(cred):
    (c,) = [c for c in V.call("ingress", "VaultService/ListCredentials", {
        "vault_id": VLT, "limit": 100}, V.as_key(KEY))["data"]
        if c["id"] == cred]
    return c["expires_at"]


def it_is_listed_and_changed():
    at = day(40)
    c = create(at)
    assert c["expires_at"].startswith(at[:19]), c
    assert listed(c["id"]).startswith(at[:19])
    assert listed(create(None)["id"]) is None
    later = day(50)
    update(c["id"], later)
    assert listed(c["id"]).startswith(later[:19])
    update(c["id"], "")
    assert listed(c["id"]) is None


def what_is_no_time_is_refused():
    for bad in ("tomorrow", "2027-01-31", "2027-13-31T00:00:00Z",
                "2027-01-31T12:00:00Z;", "1970-01-01T00:00:00Z"):
        assert "expires_at" in refused("invalid", create, bad)
    c = create(day(40))["id"]
    assert "expires_at" in refused("invalid", update, c, "never")


def the_log_warns_of_what_ends_soon():
    soon, gone, far = create(day(5))["id"], create(day(-3))["id"], \
        create(day(40))["id"]
    archived = create(day(5))["id"]
    V.call("ingress", "VaultService/ArchiveCredential", {
        "vault_id": VLT, "credential_id": archived}, V.as_key(KEY))

    def lines(event, cred):
        return [x for x in V.logged().split("\n") if event in x and cred in x]
    wait_for("both warnings", lambda: lines("credential.expires_soon", soon)
             and lines("credential.has_expired", gone))
    time.sleep(1)
    before = len(lines("expires_soon", archived))
    time.sleep(1)
    assert '"days":4' in lines("expires_soon", soon)[0], lines("", soon)
    assert '"days":3' in lines("has_expired", gone)[0]
    assert not lines("expire", far)
    # It is archived, and not spoken of any more.
    assert len(lines("expires_soon", archived)) == before


def the_time_is_authenticated():
    c = create(day(40))["id"]
    V.sql("UPDATE vault.credential SET expires_us = NULL WHERE id = '%s'" % c)
    refused("corrupt|internal", V.call, "ingress",
            "VaultService/GetCredential",
            {"vault_id": VLT, "credential_id": c}, V.as_key(KEY))
    V.sql("DELETE FROM vault.credential WHERE id = '%s'" % c)


TESTS = [
    it_is_listed_and_changed,
    what_is_no_time_is_refused,
    the_log_warns_of_what_ends_soon,
    the_time_is_authenticated,
]

if __name__ == "__main__":
    with Vault(args=["--expiry-check-ms=200"]) as V:
        KEY = V.key()
        VLT = V.vault(KEY)
        main(TESTS)
