#!/usr/bin/python3
"""Requests a second through egress with authorisation, audit row, swap and
scrub, beside a plain nginx TLS proxy, in interleaved rounds. Real vault, real
PostgreSQL, a host that answers only to the real token. Needs root.

    egress_bench.py          run by tests/bench/run.sh; ROUNDS, SECONDS
"""
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from egress_support import Dns, Egress, Vault, free_port, \
    make_ca, wait_for  # noqa: E402
from vault_support import BUILD  # noqa: E402

ROUNDS = os.environ.get("ROUNDS", "3")
SECONDS = os.environ.get("SECONDS", "5")
CONNECTIONS = "32"
NAME = "api.example.com"
TOKEN = "real-token-0123456789-abcdefghijkl"

# The host, and plain proxies to it: with connections to the host that are
# kept, and (as egress) with one for each request.
NGINX = """
pid {0}/nginx.pid; worker_processes 2; error_log {0}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {0}/access.log; client_body_temp_path {0}/b;
    proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;
    scgi_temp_path {0}/s; ssl_certificate {0}/up.pem;
    ssl_certificate_key {0}/up.key; keepalive_requests 1000000;
    upstream kept {{ server 127.0.0.1:{1}; keepalive 32; }}
    upstream dialled {{ server 127.0.0.1:{1}; }}
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $http_host; proxy_ssl_server_name on;
    proxy_ssl_name {2}; proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {0}/up-ca.pem;
    server {{ listen unix:{0}/kept.sock ssl;
        location / {{ proxy_pass https://kept; }} }}
    server {{ listen unix:{0}/dialled.sock ssl;
        location / {{ proxy_pass https://dialled; }} }}
    server {{ listen 127.0.0.1:{1} ssl; access_log off;
        if ($http_authorization != "Bearer {3}") {{ return 401; }}
        default_type application/json; root {0}/host; }}
}}
"""


def load(socket, ca, workload, token):
    """(requests a second, median of one in milliseconds)."""
    out = subprocess.run(
        [BUILD + "/tools/egress_load", socket, NAME, ca, workload,
         CONNECTIONS, SECONDS, "Authorization: Bearer " + token],
        check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(out[0]), float(out[1]) / 1000


def figure(name, value, unit):
    print(f"figure {name} {value} {unit}", flush=True)


def measure(folder, v, e, workload, stub):
    ways = {"swap": (e.sock("egress-bridge"), v.path("ca.pem"), workload,
                     stub),
            "plain": (folder + "/kept.sock", folder + "/up-ca.pem", "-",
                      TOKEN),
            "plain_dial": (folder + "/dialled.sock", folder + "/up-ca.pem",
                           "-", TOKEN)}
    rps = {k: [] for k in ways}
    for _ in range(int(ROUNDS)):
        for k, way in ways.items():
            rps[k].append(load(*way)[0])
    middle = {k: statistics.median(x) for k, x in rps.items()}
    for k, x in middle.items():
        figure(f"egress.{k}_rps", f"{x:.0f}", "1/s")
    figure("egress.swap_vs_nginx", f"{middle['swap'] / middle['plain']:.3f}",
           "ratio")
    figure("egress.swap_vs_nginx_dial",
           f"{middle['swap'] / middle['plain_dial']:.3f}", "ratio")


def main():
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bbe", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        make_ca(folder, [NAME])
        os.mkdir(folder + "/host")
        with open(folder + "/host/answer.json", "w") as f:
            f.write('{"text":"' + "x" * 900 + '"}\n')
        with open(folder + "/nginx.conf", "w") as f:
            f.write(NGINX.format(folder, port, NAME, TOKEN))
        nginx = subprocess.Popen(
            ["nginx", "-p", folder, "-c", folder + "/nginx.conf", "-e",
             folder + "/error.log", "-g", "daemon off;"],
            stderr=subprocess.DEVNULL)
        try:
            wait_for("nginx", lambda: os.path.exists(folder + "/kept.sock"))
            with Vault(f"destination {NAME}:443 address=127.0.0.1:{port} "
                       f"ca={folder}/up-ca.pem\n",
                       args=["--scrub-hits-max=0"]) as v:
                key = v.key()
                vault = v.vault(key)
                v.credential(key, vault, "API_TOKEN", TOKEN, [NAME])
                environment = v.put_policy(key, ["*.example.com"])
                session = v.put_grant(key, environment, [vault])
                w = v.open(session)
                e = Egress(v, Dns({}))
                try:
                    measure(folder, v, e, w["address"],
                            w["values"]["API_TOKEN"])
                    rows = v.sql("SELECT count(*) FROM vault.audit WHERE "
                                 f"session_id = '{session}'")
                    assert int(rows) > 100, f"{rows} audit rows"
                finally:
                    e.stop()
        finally:
            nginx.terminate()
            nginx.wait(10)


if __name__ == "__main__":
    main()
