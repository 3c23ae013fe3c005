#!/usr/bin/env python3
"""The module beside foreign sites, in a copy of the distribution's stock
nginx.conf: loading it, using it, reloading under traffic and removing it
leave their answers as they were, byte for byte."""
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_support import MODE, MODULE, NGINX, Nginx, free_port, \
    main, nginx_env, wait_for  # noqa: E402

SITES = """
server {
    listen 127.0.0.1:@A@;
    root @DIR@/a;
    location /old { return 301 /new; }
    location /deny { deny all; }
    location /echo { return 200 "$request_method $http_x_api_key $args\\n"; }
    location /proxied/ { proxy_pass http://127.0.0.1:@B@/; }
    location /dead/ { proxy_pass http://127.0.0.1:1/; }
    location /upload { client_max_body_size 10; proxy_pass http://127.0.0.1:@B@/; }
    error_page 404 /missing.html;
}
server {
    listen 127.0.0.1:@B@;
    root @DIR@/b;
    gzip_types *;
    add_header X-Site b always;
    location /ssi { ssi on; }
    location /v1/ { return 200 "a foreign api\\n"; }
    location /sub { add_after_body /tail.txt; }
}
"""

OURS = """
agent_key_zone keys:1m;
agent_generation @DIR@/generation;
agent_identity /_resolve;
server {
    listen 127.0.0.1:@C@;
    location /v1/ {
        agent_api brain=127.0.0.1:1 vault=127.0.0.1:1;
        grpc_pass grpc://$agent_upstream;
    }
    location = /numbers { agent_metrics ingress; }
    location = /_resolve { internal; grpc_pass grpc://127.0.0.1:1; }
}
"""

PAGES = ["/", "/page.html", "/big.bin", "/none", "/old", "/deny", "/echo?a=1",
         "/proxied/page.html", "/proxied/v1/agents", "/dead/x", "/v1/agents",
         "/ssi/index.html", "/sub/index.html", "/upload"]


def ask(port, verb, path, headers=None, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    c.request(verb, path, body, dict(headers or {}))
    r = c.getresponse()
    data = r.read()
    c.close()
    head = [(k, v) for k, v in r.getheaders() if k.lower() != "date"]
    return r.status, r.reason, head, data


class Stock(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="bbs-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        self.a, self.b, self.c = free_port(), free_port(), free_port()
        for site in "ab":
            for sub in ("", "ssi", "sub"):
                os.makedirs(os.path.join(self.dir, site, sub), exist_ok=True)
                self.put(f"{site}/{sub}/index.html", f"<p>site {site}</p>" * 20)
            self.put(f"{site}/page.html", f"<h1>{site}</h1>" * 99)
            self.put(f"{site}/big.bin", "0123456789" * 30000)
            self.put(f"{site}/tail.txt", "the tail")
        self.put("a/missing.html", "not here")
        self.put("b/ssi/index.html", 'x <!--#include virtual="/page.html" -->')
        self.put("generation", "\x01\0\0\0\0\0\0\0")
        os.makedirs(os.path.join(self.dir, "conf.d"))
        os.makedirs(os.path.join(self.dir, "modules-enabled"))
        os.makedirs(os.path.join(self.dir, "tmp"))
        self.put("conf.d/sites.conf", SITES)
        with open("/etc/nginx/nginx.conf") as f:
            conf = f.read()
        # The stock file, with its folders and its user moved to ours.
        conf = conf.replace("/etc/nginx/modules-enabled/*.conf",
                            self.dir + "/modules-enabled/*.conf")
        conf = conf.replace("/etc/nginx/conf.d/*.conf",
                            self.dir + "/conf.d/*.conf")
        conf = conf.replace("include /etc/nginx/sites-enabled/*;", "".join(
            f"{k}_temp_path {self.dir}/tmp/{k};\n" for k in (
                "client_body", "proxy", "fastcgi", "uwsgi", "scgi")))
        conf = conf.replace("/run/nginx.pid", self.dir + "/nginx.pid")
        conf = conf.replace("/var/log/nginx", self.dir)
        conf = conf.replace("user www-data;", "user root;")
        self.assertIn(self.dir + "/conf.d", conf)
        self.put("nginx.conf", conf)

    def put(self, name, text):
        for key, value in (("@A@", self.a), ("@B@", self.b), ("@C@", self.c),
                           ("@DIR@", self.dir)):
            text = text.replace(key, str(value))
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def install(self):
        self.put("modules-enabled/50-agent.conf", f"load_module {MODULE};\n")
        self.put("conf.d/agent.conf", OURS)

    def remove(self):
        os.unlink(os.path.join(self.dir, "modules-enabled/50-agent.conf"))
        os.unlink(os.path.join(self.dir, "conf.d/agent.conf"))

    def config_test(self):
        conf = os.path.join(self.dir, "nginx.conf")
        out = subprocess.run([NGINX, "-t", "-p", self.dir, "-c", conf],
                             capture_output=True, text=True, env=nginx_env())
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("test is successful", out.stderr)
        return out.stderr

    def start(self):
        n = Nginx(self.dir, os.path.join(self.dir, "nginx.conf"), self.a)
        self.addCleanup(n.stop)
        return n

    def answers(self):
        """Everything that both sites say, to many kinds of requests."""
        out = {}
        kinds = [("GET", {}, None), ("HEAD", {}, None),
                 ("GET", {"accept-encoding": "gzip"}, None),
                 ("GET", {"range": "bytes=3-9"}, None),
                 ("GET", {"if-modified-since":
                          "Fri, 01 Jan 2038 00:00:00 GMT"}, None),
                 ("POST", {"x-api-key": "k"}, "a body of some length"),
                 ("PUT", {}, "x")]
        for port, name in ((self.a, "a"), (self.b, "b")):
            for path in PAGES:
                for n, (verb, headers, body) in enumerate(kinds):
                    out[name, path, n] = ask(port, verb, path, headers, body)
        return out

    def test_foreign_sites_stay_as_they_are(self):
        self.config_test()
        nginx = self.start()
        before = self.answers()
        self.assertEqual(before["a", "/page.html", 0][0], 200)
        self.assertEqual(before["a", "/upload", 5][0], 413)
        self.assertEqual(before["b", "/v1/agents", 0][3], b"a foreign api\n")
        self.assertIn(b"<h1>b</h1>", before["b", "/ssi/index.html", 0][3])
        nginx.stop()

        self.install()
        self.config_test()
        nginx = self.start()
        self.assertEqual(self.answers(), before)
        status, _, _, body = ask(self.c, "GET", "/v1/nope")
        self.assertEqual(status, 404)
        self.assertIn(b'"not_found_error"', body)
        status, _, _, body = ask(self.c, "GET", "/v1/agents",
                                 {"x-api-key": "k"})
        self.assertEqual(status, 503)
        self.assertEqual(self.answers(), before)
        _, _, _, body = ask(self.c, "GET", "/numbers")
        self.assertIn(b'brainbox_ingress_requests_total{code="206"}', body)
        nginx.stop()

        self.remove()
        self.config_test()
        nginx = self.start()
        self.assertEqual(self.answers(), before)
        nginx.stop()
        with open(os.path.join(self.dir, "error.log")) as f:
            self.assertEqual(re.findall(r".*\[(?:alert|emerg|crit)\].*",
                                        f.read()), [])

    @unittest.skipIf(MODE == "asan", "a reload needs a master process")
    def test_install_reload_and_remove_under_traffic(self):
        nginx = self.start()
        want = {p: ask(self.a, "GET", p) for p in ("/page.html", "/big.bin",
                                                   "/proxied/page.html")}
        stop, wrong, count = threading.Event(), [], [0]

        def load(path):
            while not stop.is_set():
                try:
                    got = ask(self.a, "GET", path)
                except (OSError, http.client.HTTPException) as e:
                    wrong.append(e)
                    continue
                count[0] += 1
                # A worker that ends says "Connection: close"; that is nginx's.
                if (got[0], got[3]) != (want[path][0], want[path][3]):
                    wrong.append(got[:3])
        threads = [threading.Thread(target=load, args=(p,)) for p in want]
        for t in threads:
            t.start()

        def ours():
            try:
                return ask(self.c, "GET", "/v1/nope")[0]
            except OSError:
                return None
        try:
            for _ in range(2):
                self.install()
                nginx.signal(signal.SIGHUP)
                wait_for("our site", lambda: ours() == 404)
                self.remove()
                nginx.signal(signal.SIGHUP)
                wait_for("our site to go", lambda: ours() is None)
                time.sleep(0.2)
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(wrong, [])
        self.assertGreater(count[0], 50)

    def test_a_configuration_that_lacks_its_zone_is_refused(self):
        self.install()
        for line, want in (("agent_key_zone keys:1m;", "need"),
                           ("agent_generation @DIR@/generation;", "need"),
                           ("agent_identity /_resolve;", "need")):
            self.refused(OURS.replace(line, ""), want)

    def test_a_wrong_directive_names_what_would_be_right(self):
        self.install()
        place = "location = /numbers {"
        self.assertIn(place, OURS)
        for line, want in (
                ("agent_admit admin nobody;", "names no scope"),
                ("agent_admit read; agent_admit admin;", "is duplicate"),
                ("agent_metrics ingress;", "is duplicate"),
                ("} location /x { agent_metrics mine;",
                 "must be ingress or egress"),
                ("agent_admit read; agent_api brain=127.0.0.1:1;",
                 "is duplicate, or stands beside")):
            self.refused(OURS.replace(place, place + line), want)

    def refused(self, conf, want):
        self.put("conf.d/agent.conf", conf)
        out = subprocess.run(
            [NGINX, "-t", "-p", self.dir, "-c",
             os.path.join(self.dir, "nginx.conf")],
            capture_output=True, text=True, env=nginx_env())
        self.assertNotEqual(out.returncode, 0, conf)
        self.assertIn(want, out.stderr)


if __name__ == "__main__":
    main()
