#!/usr/bin/python3
"""Figures of a whole instance: memory, a turn's own time, requests a second.

    platform_bench.py        all; run by tests/bench/run.sh
    TEST=api …               only the parts whose name holds the word

SESSIONS, TURNS, ROUNDS and SECONDS make it shorter for a try. Fails when an
answer is not what it should be: a fast error is no figure.
"""
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "e2e"))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), env={"BRAINBOX_LOG_LEVEL": "warn"})
SESSIONS = int(os.environ.get("SESSIONS", "1000"))
TURNS = int(os.environ.get("TURNS", "100"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS", "5"))
CONNECTIONS = 32
TRUE = "```sh\ntrue\n```\n"


def figure(name, value, unit):
    print(f"figure {name} {value} {unit}", flush=True)


def percentiles(name, seconds):
    seconds = sorted(seconds)
    for q in (50, 99):
        at = min(len(seconds) - 1, len(seconds) * q // 100)
        figure(f"{name}_p{q}_ms", f"{seconds[at] * 1000:.2f}", "ms")


def pid_of(service):
    return int(subprocess.run(
        ["s6-svstat", "-o", "pid", f"{p.run}/services/{service}"],
        check=True, capture_output=True, text=True).stdout)


def rss_mb(service):
    with open(f"/proc/{pid_of(service)}/status") as f:
        kib = int(re.search(r"VmRSS:\s*(\d+)", f.read()).group(1))
    return f"{kib / 1024:.1f}"


class Line:
    """One connection to ingress that is kept open."""

    def __init__(self):
        host, port = p.url[len("http://"):].split(":")
        self.c = http.client.HTTPConnection(host, int(port), timeout=60)

    def call(self, method, path, body=None):
        self.c.request(method, path, json.dumps(body) if body else None,
                       {"x-api-key": p.key, "content-type":
                        "application/json"})
        answer = self.c.getresponse()
        data = answer.read()
        assert answer.status == 200, (answer.status, data[:300])
        return json.loads(data)

    def send(self, session, text):
        self.call("POST", f"/v1/sessions/{session}/events", {"events": [
            {"type": "user.message",
             "content": [{"type": "text", "text": text}]}]})

    def stream(self, session):
        """Yields events, the first one when the stream is open."""
        self.c.request("GET", f"/v1/sessions/{session}/events/stream",
                       headers={"x-api-key": p.key})
        answer = self.c.getresponse()
        assert answer.status == 200, answer.status
        yield None
        for line in iter(answer.readline, b""):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def own_turn(post, session):
    """(wall, wall less the command's own time) of one turn, in seconds."""
    watch = Line().stream(session)
    next(watch)
    start = time.monotonic()
    post.send(session, TRUE)
    command = None
    for e in watch:
        if e["type"] == "agent.tool_result" and "wall_ms" in str(e["content"]):
            result = json.loads(e["content"][0]["text"])
            assert result["exit_code"] == 0, result
            command = result["wall_ms"] / 1000
        if e["type"] == "session.status_idle":
            break
    wall = time.monotonic() - start
    assert command is not None, "the turn ran no command"
    return wall, wall - command


# First of all: sandboxes that end in the background slow a turn down.
@p.test
def turn_time():
    figure("brain.rss_start_mb", rss_mb("brain_svc"), "MB")
    line, walls, owns = Line(), [], []
    agent, environment = p.agent(), p.environment()
    for _ in range(TURNS):
        session = p.session(agent, environment)
        wall, own = own_turn(line, session)
        walls.append(wall)
        owns.append(own)
        time.sleep(0.1)  # for the pool to be full again
    percentiles("brain.turn_wall", walls)
    percentiles("brain.turn", owns)


@p.test
def brain_memory():
    agent, environment = p.agent(), p.environment()
    left = list(range(SESSIONS))
    wrong = []

    def work():
        line = Line()
        while not wrong:
            try:
                left.pop()
            except IndexError:
                return
            try:
                s = line.call("POST", "/v1/sessions", {
                    "agent": agent, "environment_id": environment})["id"]
                own_turn(line, s)
            except Exception as e:
                wrong.append(e)

    start = time.monotonic()
    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong, wrong[0]
    took = time.monotonic() - start
    figure(f"brain.rss_{SESSIONS}_mb", rss_mb("brain_svc"), "MB")
    figure("brain.sessions_per_s", f"{SESSIONS / took:.1f}", "1/s")


def wrk(url, *headers):
    """Requests a second; fails on any answer that is not 2xx."""
    out = subprocess.run(
        ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{SECONDS}s",
         *[x for h in headers for x in ("-H", h)], url],
        check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    return float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1))


PROXY = """
pid {0}/{1}.pid; worker_processes auto; error_log {0}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {0}/{1}-access.log; client_body_temp_path {0}/b;
    proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;
    scgi_temp_path {0}/s;
    {2}
}}
"""
FRONT = """
    upstream peer {{ server unix:{0}/peer.sock; keepalive 32; }}
    server {{ listen 127.0.0.1:{1}; location / {{
        proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_pass http://peer; }} }}
"""
PEER = """
    server {{ listen unix:{0}/peer.sock; location / {{
        default_type application/json; access_log off; root {0}; }} }}
"""


class Nginx:
    """An nginx of the distribution, without the module."""

    def __init__(self, folder, name, http_block):
        conf = f"{folder}/{name}.conf"
        with open(conf, "w") as f:
            f.write(PROXY.format(folder, name, http_block))
        self.p = subprocess.Popen(
            ["nginx", "-p", folder, "-c", conf, "-e", f"{folder}/error.log",
             "-g", "daemon off; user root;"], stderr=subprocess.DEVNULL)

    def stop(self):
        self.p.terminate()
        self.p.wait(10)


@p.test
def api_get():
    path = f"/v1/agents/{p.agent()}"
    with p.open("GET", path) as answer:
        body = answer.read()
    figures = {"get": [], "proxy_pass": [], "health": []}
    with tempfile.TemporaryDirectory(prefix="bbb", dir="/tmp") as folder:
        port = bb.free_port()
        with open(folder + "/answer.json", "wb") as f:
            f.write(body)
        both = [Nginx(folder, "peer", PEER.format(folder)),
                Nginx(folder, "front", FRONT.format(folder, port))]
        try:
            bb.wait_for("nginx", lambda: not subprocess.run(
                ["curl", "-sf", f"http://127.0.0.1:{port}/answer.json"],
                capture_output=True).returncode)
            for _ in range(ROUNDS):
                figures["proxy_pass"].append(
                    wrk(f"http://127.0.0.1:{port}/answer.json"))
                figures["get"].append(
                    wrk(p.url + path, f"x-api-key: {p.key}"))
                figures["health"].append(wrk(p.url + "/healthz"))
        finally:
            for n in both:
                n.stop()
    middle = {k: statistics.median(v) for k, v in figures.items()}
    for k, v in middle.items():
        figure(f"api.{k}_rps", f"{v:.0f}", "1/s")
    figure("api.get_vs_proxy_pass",
           f"{middle['get'] / middle['proxy_pass']:.3f}", "ratio")


p.main()
