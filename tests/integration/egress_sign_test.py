#!/usr/bin/env python3
"""Requests that the vault signs, through real nginx and the real vault; the
host's side of each signature is computed here anew. Needs root."""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import Upstream, setting  # noqa: E402
from vault_support import main, refused  # noqa: E402

AWS = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HMAC = "hmac-key-0123456789abcdef-ABCDEF"
HOST = "api.example.com"


def credential(name, value, signing, **more):
    auth = {"type": "environment_variable", "secret_name": name,
            "secret_value": value, "signing": signing,
            "networking": {"type": "limited", "allowed_hosts": [HOST]}}
    vault = V.vault(KEY)
    req = {"vault_id": vault, "auth_json": json.dumps(auth)}
    if "binding" in more:
        req["binding_json"] = json.dumps(more["binding"])
    out = V.call("ingress", "VaultService/CreateCredential", req,
                 V.as_key(KEY))
    assert value not in json.dumps(out)
    w = V.open(V.put_grant(KEY, ENV, [vault]))
    return w["address"], w["values"][name]


def sent(at, **kw):
    """What arrived at the host."""
    UP.seen.clear()
    got = E.ask(at, **kw)
    assert got.status == 200, got.raw
    return UP.seen[-1], got


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def sigv4(seen, key, region, service):
    """The signature that AWS would compute for what arrived."""
    h = seen["headers"]
    words = dict(x.split("=", 1) for x in
                 h["authorization"].split(" ", 1)[1].split(", "))
    names = words["SignedHeaders"].split(";")
    path, _, query = seen["path"].partition("?")
    params = sorted((urllib.parse.quote(k, safe="-._~"),
                     urllib.parse.quote(v, safe="-._~")) for k, v in
                    urllib.parse.parse_qsl(query, keep_blank_values=True))
    canonical = "\n".join(
        [seen["method"], path if service == "s3"
         else urllib.parse.quote(path, safe="/-._~"),
         "&".join("%s=%s" % x for x in params),
         "".join("%s:%s\n" % (n, " ".join(h[n].split())) for n in names),
         ";".join(names), hashlib.sha256(seen["body"]).hexdigest()])
    date = h["x-amz-date"]
    scope = "%s/%s/%s/aws4_request" % (date[:8], region, service)
    k = ("AWS4" + key).encode()
    for part in (date[:8], region, service, "aws4_request"):
        k = mac(k, part)
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope,
                      hashlib.sha256(canonical.encode()).hexdigest()])
    assert words["Credential"] == "AKIDEXAMPLE/" + scope, words
    return mac(k, text).hex(), words["Signature"], names


def aws_requests_are_signed_anew():
    at, stub = credential("AWS_ACCESS_KEY_ID", AWS, {
        "type": "aws_sigv4", "access_key_id": "AKIDEXAMPLE",
        "region": "us-east-1", "service": "execute-api"})
    theirs = [("Authorization", "AWS4-HMAC-SHA256 Credential=%s/20200101/x/y/"
               "aws4_request, SignedHeaders=host, Signature=00" % stub),
              ("X-Amz-Date", "20200101T000000Z"),
              ("X-Amz-Target", "Thing.Do"),
              ("Content-Type", "application/json")]
    for kw in ({"path": "/v1/a%20b/c?b=2&a=x%2Fy&a=1&flag"},
               {"method": "POST", "body": b'{"a": 1}'},
               {"method": "PUT", "body": b"x" * 100000, "path": "/big"}):
        seen, got = sent(at, headers=theirs, **kw)
        want, have, names = sigv4(seen, AWS, "us-east-1", "execute-api")
        assert want == have, kw
        assert names == ["content-type", "host", "x-amz-content-sha256",
                         "x-amz-date", "x-amz-target"], names
        assert abs(time.mktime(time.strptime(
            seen["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ"))
            - time.timezone - time.time()) < 30
        assert AWS.encode() not in got.raw and stub not in str(seen)


def s3_paths_are_taken_as_they_are():
    at, stub = credential("S3_KEY", AWS, {
        "type": "aws_sigv4", "access_key_id": "AKIDEXAMPLE",
        "region": "eu-central-1", "service": "s3"})
    seen, _ = sent(at, path="/bucket/a%20b.txt", headers=[
        ("Authorization", "AWS4-HMAC-SHA256 Credential=" + stub)])
    want, have, _ = sigv4(seen, AWS, "eu-central-1", "s3")
    assert want == have


def hmac_and_its_time_are_set():
    at, stub = credential("SIGN_KEY", HMAC, {
        "type": "hmac_sha256", "header": "X-Signature",
        "timestamp_header": "X-Time", "encoding": "base64",
        "template": "{timestamp}.{method}.{path}?{query}.{body_sha256}"},
        binding=[{"host": HOST, "slots": ["header:X-Signature"]}])
    seen, _ = sent(at, path="/hook?a=b", method="POST", body=b"hello",
                   headers=[("X-Signature", stub)])
    h = seen["headers"]
    text = "%s.POST./hook?a=b.%s" % (
        h["x-time"], hashlib.sha256(b"hello").hexdigest())
    assert h["x-signature"] == base64.b64encode(
        mac(HMAC.encode(), text)).decode(), h


def bodies_that_went_to_a_file_are_signed():
    at, stub = credential("S3_BIG", AWS, {
        "type": "aws_sigv4", "access_key_id": "AKIDEXAMPLE",
        "region": "eu-central-1", "service": "s3"})
    headers = [("Authorization", "AWS4-HMAC-SHA256 Credential=" + stub)]
    for size in ((1 << 20) - 1, 1 << 20, (1 << 20) + 1, (7 << 20) + 12345,
                 64 << 20):
        body = os.urandom(1 << 16) * (size >> 16) + b"z" * (size & 0xffff)
        seen, _ = sent(at, path="/bucket/big", method="PUT", body=body,
                       headers=headers)
        assert seen["body"] == body
        want, have, _ = sigv4(seen, AWS, "eu-central-1", "s3")
        assert want == have, size
    # A stub that is far behind in such a body is found as ever.
    UP.seen.clear()
    got = E.ask(at, path="/bucket/big", method="PUT", headers=headers,
                body=b"x" * (3 << 20) + stub.encode() + b"x")
    assert got.status == 403 and not UP.seen, got.raw


def others_have_their_turn_while_a_body_is_read():
    """One that leaves in the middle takes nothing with it."""
    at, stub = credential("S3_GONE", AWS, {
        "type": "aws_sigv4", "access_key_id": "AKIDEXAMPLE",
        "region": "eu-central-1", "service": "s3"})
    for _ in range(20):
        s = E.connect("egress-bridge", (at, 443), HOST)
        E.write(s, "PUT", "/b", HOST, [("Authorization", "AWS4-HMAC-SHA256"
                                        " Credential=" + stub)],
                b"y" * (16 << 20))
        s.close()
    seen, _ = sent(at, path="/after", headers=[
        ("Authorization", "AWS4-HMAC-SHA256 Credential=" + stub)])
    assert "/after" in [x["path"] for x in UP.seen]
    text = E.logs() + V.logged()
    assert "Sanitizer" not in text and "[alert]" not in text


def jwts_are_made_and_do_not_come_back():
    key = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
         "rsa_keygen_bits:2048"], check=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True).stdout
    at, stub = credential("JWT", key, {
        "type": "jwt_bearer", "algorithm": "RS256", "key_id": "k7",
        "claims": {"iss": "brainbox", "aud": "api"}, "lifetime_seconds": 60})
    seen, got = sent(at, headers=[("Authorization", "Bearer " + stub)])
    token = seen["headers"]["authorization"].split(" ")[1]
    head, claims, sig = token.split(".")

    def decode(s):
        return base64.urlsafe_b64decode(s + "=" * (-len(s) % 4))

    assert json.loads(decode(head)) == {"alg": "RS256", "typ": "JWT",
                                        "kid": "k7"}
    c = json.loads(decode(claims))
    assert c["iss"] == "brainbox" and c["exp"] - time.time() < 65, c
    with tempfile.TemporaryDirectory() as d:
        for name, data in (("key", key.encode()), ("sig", decode(sig)),
                           ("msg", (head + "." + claims).encode())):
            with open(d + "/" + name, "wb") as f:
                f.write(data)
        out = subprocess.run(
            ["openssl", "dgst", "-sha256", "-prverify", d + "/key",
             "-signature", d + "/sig", d + "/msg"], stdout=subprocess.PIPE,
            text=True).stdout
    assert "Verified OK" in out, out
    # The host reflects the header: the token is a credential, too.
    assert token.encode() not in got.raw and b"Bearer ***" in got.raw


def keys_that_sign_leave_the_vault_in_no_form():
    at, stub = credential("K2", HMAC, {
        "type": "hmac_sha256", "header": "X-Signature", "template": "{path}"},
        binding=[{"host": HOST, "slots": ["header:X-Signature",
                                          "header:X-Other", "query:q"]}])
    UP.seen.clear()
    for kw in ({"headers": [("X-Other", stub)]}, {"path": "/?q=" + stub},
               {"headers": [("X-Signature", stub), ("X-Other", stub)]}):
        got = E.ask(at, **kw)
        assert (got.status, got.reason) == (403, "stub_wrong_slot"), got.raw
    assert not UP.seen
    got = E.ask(at)
    assert got.reason == "credential_required", got.raw
    out = V.call("egress", "EgressService/Authorize", {
        "workload_address": at, "scheme": "https", "host": HOST, "port": 443,
        "method": "GET", "path": "/", "stubs": [
            {"kind": 1, "name": "x-signature", "stub": stub}],
        "to_sign": {"host": "evil.example.com",
                    "body_sha256": {"hex": "00" * 32}}})
    assert out["reason"] == "destination_mismatch", out
    ok = V.call("egress", "EgressService/Authorize", {
        "workload_address": at, "scheme": "https", "host": HOST, "port": 443,
        "method": "GET", "path": "/", "stubs": [
            {"kind": 1, "name": "x-signature", "stub": stub}],
        "to_sign": {"host": HOST, "body_sha256": {"hex": "00" * 32}}})
    assert ok["verdict"] == 1 and HMAC not in json.dumps(ok), ok
    assert HMAC not in E.logs() + V.logged()


def bad_signing_is_refused_without_the_key():
    for signing in ({"type": "rot13"}, {"type": "aws_sigv4", "region": "x"},
                    {"type": "jwt_bearer", "algorithm": "RS256",
                     "claims": {}}):
        text = refused("invalid", credential, "BAD", HMAC, signing)
        assert "auth.signing" in text and HMAC not in text, text


TESTS = [
    aws_requests_are_signed_anew,
    s3_paths_are_taken_as_they_are,
    hmac_and_its_time_are_set,
    bodies_that_went_to_a_file_are_signed,
    others_have_their_turn_while_a_body_is_read,
    jwts_are_made_and_do_not_come_back,
    keys_that_sign_leave_the_vault_in_no_form,
    bad_signing_is_refused_without_the_key,
]

if __name__ == "__main__":
    with setting([HOST], Upstream,
                 args=["--scrub-hits-max=0"]) as (V, E, UP, KEY):
        ENV = V.put_policy(KEY, [HOST])
        main(TESTS)
