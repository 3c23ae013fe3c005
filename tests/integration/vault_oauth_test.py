#!/usr/bin/env python3
"""OAuth refresh: vault_svc, keeper, vault_bridge and PostgreSQL, with a token
endpoint on loopback that has a CA of its own."""
import concurrent.futures
import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from egress_support import make_ca  # noqa: E402
from vault_support import (BUILD, Vault, main, refused,  # noqa: E402
                           wait_for)

HOST = "idp.example.com"
URL = f"https://{HOST}/token"


def at(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(
        time.time() + seconds))


class Endpoint:
    """Gives a token for each refresh token once, and counts."""

    def __init__(self):
        self.asked, self.refresh, self.how, self.life = [], "", "good", 3600
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                n = int(self.headers["content-length"])
                outer.answer(self, dict(urllib.parse.parse_qsl(
                    self.rfile.read(n).decode())))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(DIR + "/up.pem", DIR + "/up.key")
        self.server.socket = ctx.wrap_socket(self.server.socket,
                                             server_side=True)
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def answer(self, h, form):
        self.asked.append(form)
        time.sleep(30 if self.how == "slow" else 0.2)
        n = len(self.asked)
        out = {"access_token": "access-token-%08d" % n, "expires_in":
               self.life, "token_type": "Bearer",
               "refresh_token": "refresh-token-%08d" % n}
        status, body = 200, json.dumps(out).encode()
        if form.get("refresh_token") != self.refresh or form.get(
                "client_secret") != "the-client-secret":
            status, body = 400, b'{"error":"invalid_grant"}'
        elif self.how == "garbage":
            body = b"\x00\xff{not json" * 100
        elif self.how == "endless":
            body = b" " * (1 << 20) + body
        elif self.how == "short":
            body = b'{"access_token":"short","expires_in":60}'
        elif self.how == "refuses":
            status = 503
        else:
            self.refresh = out["refresh_token"]
        try:
            h.send_response(status)
            h.send_header("content-length", str(len(body)))
            h.end_headers()
            h.wfile.write(body)
        except OSError:
            pass


class World:
    def __init__(self, *args):
        self.idp = Endpoint()
        port = self.idp.server.server_address[1]
        self.v = v = Vault(
            deployment=f"destination {HOST}:443 address=127.0.0.1:{port} "
            f"ca={DIR}/up-ca.pem\n", start=False,
            args=["--oauth-timeout-ms=1000", *args])
        v.args.append("--bridge=" + v.path("bridge.sock"))
        v.start_vault()
        self.start_bridge()
        self.key = v.key()
        self.vault = v.vault(self.key)

    def start_bridge(self):
        v = self.v
        v.procs["bridge"] = subprocess.Popen(
            [BUILD + "/bin/vault_bridge", "--user=", "--peer-user=",
             "--listen=" + v.path("bridge.sock"),
             "--deployment=" + v.path("deployment.conf")], stderr=v.log)
        wait_for("bridge", lambda: os.path.exists(v.path("bridge.sock")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if os.environ.get("VERBOSE"):
            print(self.v.logged()[-3000:])
        self.idp.server.shutdown()
        self.v.__exit__()

    def create(self, seconds, url=URL, **more):
        self.idp.refresh = "refresh-token-first"
        auth = {"type": "oauth2_refresh", "secret_name": "TOKEN",
                "access_token": "access-token-first",
                "expires_at": at(seconds),
                "refresh": {"token_endpoint": url, "client_id": "me",
                            "refresh_token": "refresh-token-first",
                            "token_endpoint_auth": {
                                "type": "client_secret_post",
                                "client_secret": "the-client-secret"}},
                "networking": {"type": "limited",
                               "allowed_hosts": ["api.example.com"]}, **more}
        out = self.v.call("ingress", "VaultService/CreateCredential", {
            "vault_id": self.vault, "auth_json": json.dumps(auth)},
            self.v.as_key(self.key))
        v = self.v
        env = v.put_policy(self.key, ["api.example.com"])
        session = v.put_grant(self.key, env, [self.vault])
        box = v.open(session, env=env)
        self.address, self.stub = box["address"], box["values"]["TOKEN"]
        return out

    def ask(self):
        return self.v.authorize(self.address, stubs=[
            (1, "authorization", self.stub)])

    def value(self):
        out = self.ask()
        assert out["reason"] == "allowed", out
        return out["swaps"][0]["value"]

    def fails(self):
        out = self.ask()
        assert out["reason"] == "token_refresh_failed", out
        assert out["http_status"] == 503 and not out.get("swaps"), out

    def no_value_in_log(self):
        log = self.v.logged()
        for word in "access-token-", "refresh-token-", "the-client-secret":
            assert word not in log, word


def a_token_that_lasts_is_used_as_it_is():
    with World() as w:
        shown = json.dumps(w.create(3600))
        assert "me" in shown and URL in shown
        for word in "access-token-", "refresh-token-", "the-client-secret":
            assert word not in shown
        assert w.value() == "access-token-first"
        assert w.idp.asked == []


def many_at_once_refresh_once_and_a_restart_knows_the_new_refresh_token():
    with World() as w:
        w.create(30)                    # within oauth_ahead_seconds
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            got = list(pool.map(lambda _: w.value(), range(20)))
        assert all(g == "access-token-00000001" for g in got), got
        assert len(w.idp.asked) == 1, w.idp.asked
        form = w.idp.asked[0]
        assert form["grant_type"] == "refresh_token" and (
            form["client_id"] == "me"), form
        w.v.stop("vault")
        w.v.args.append("--clock-offset-seconds=3590")
        w.v.start_vault()
        assert w.value() == "access-token-00000002"
        assert w.idp.asked[1]["refresh_token"] == "refresh-token-00000001"
        w.no_value_in_log()
        p = w.v.run_vault("audit", "verify", check=False)
        assert p.returncode == 0, p.stderr


def an_ended_token_is_never_sent():
    with World("--oauth-retry-ms=0") as w:
        w.create(-5)
        for w.idp.how in "garbage", "endless", "short", "refuses", "slow":
            w.fails()
        w.idp.how = "good"
        w.v.stop("bridge")
        if os.path.exists(w.v.path("bridge.sock")):
            os.unlink(w.v.path("bridge.sock"))
        w.fails()
        w.start_bridge()
        assert w.value()
        w.no_value_in_log()


def a_token_that_still_lasts_is_sent_when_the_endpoint_fails():
    with World() as w:
        w.create(30)
        w.idp.how = "refuses"
        for _ in range(5):
            assert w.value() == "access-token-first"
        assert len(w.idp.asked) == 1    # oauth_retry_ms


def what_cannot_work_is_refused_when_it_is_made():
    with World() as w:
        for url in ("https://other.example.com/token", "http://" + HOST,
                    f"https://{HOST}:8443/token", f"https://me@{HOST}/token",
                    "token", ""):
            assert "token_endpoint" in refused("invalid", w.create,
                                               30, url), url
        for more in ({"expires_at": ""}, {"expires_at": "soon"},
                     {"access_token": "short"}, {"refresh": None},
                     {"signing": {}}):
            said = refused("invalid", w.create, 30, **more)
            assert "refresh-token-first" not in said, said


TESTS = [a_token_that_lasts_is_used_as_it_is,
         many_at_once_refresh_once_and_a_restart_knows_the_new_refresh_token,
         an_ended_token_is_never_sent,
         a_token_that_still_lasts_is_sent_when_the_endpoint_fails,
         what_cannot_work_is_refused_when_it_is_made]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bbvo", dir="/tmp") as DIR:
        os.chmod(DIR, 0o755)
        make_ca(DIR, [HOST])
        main(TESTS)
