#!/usr/bin/env python3
"""One agent session from beginning to end, over the public REST API.

usage: demo.py HOST_DIR [RUNBOOK]

HOST_DIR is api_host.py's folder. Prints each event as it happens with the time
since the message was sent, then what was checked; exits 0 only if every check
held. Needs BRAINBOX_URL and BRAINBOX_KEY.
"""
import hashlib
import json
import os
import secrets
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
URL = os.environ["BRAINBOX_URL"]
KEY = os.environ["BRAINBOX_KEY"]


def request(method, path, body=None, timeout=60):
    data = None if body is None else json.dumps(body).encode()
    req = urllib.request.Request(URL + path, data, method=method, headers={
        "x-api-key": KEY, "content-type": "application/json"})
    return urllib.request.urlopen(req, timeout=timeout)


def call(method, path, body=None):
    try:
        with request(method, path, body) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        sys.exit(f"demo: {method} {path}: {e.code} {e.read().decode()}")


def events(session):
    """Yields the session's events, from the first, as they are stored."""
    with request("GET", f"/v1/sessions/{session}/events/stream"
                 "?from_start=true", timeout=180) as stream:
        for line in stream:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] != "ping":
                yield event


def short(text, lines=6):
    rows = text.rstrip("\n").split("\n")
    if len(rows) > lines:
        rows = rows[:lines] + [f"… {len(rows) - lines} more lines"]
    return rows


def describe(event):
    """What to print of an event: one line, and lines below it."""
    kind = event["type"]
    text = "".join(b.get("text", "") for b in event.get("content") or [])
    if kind == "agent.tool_use":
        command = event["input"].get("command")
        return event["name"], short(command) if command else []
    if kind == "agent.tool_result":
        try:
            result = json.loads(text)
        except ValueError:
            return "error", short(text)
        if "exit_code" not in result:
            return f"sandbox {result.get('sandbox_id')}", []
        below = short(result["stdout"] + result["stderr"])
        return f"exit {result['exit_code']} in {result['wall_ms']} ms", below
    if kind == "session.error":
        return event["error"]["message"], []
    if kind == "user.message":
        return f"{len(text)} bytes of Markdown", []
    return text, []


def follow(session, started, out, done):
    for event in events(session):
        ms = (time.monotonic() - started[0]) * 1000 if started else 0
        head, below = describe(event)
        print(f"{ms:8.0f} ms  {event['type']:<24} {head}", flush=True)
        for row in below:
            print(f"{'':38}{row}")
        out.append(event)
        if event["type"] == "session.status_idle":
            break
    done.set()


def run_session(token, runbook):
    environment = call("POST", "/v1/environments", {
        "name": "demo", "config": {"type": "cloud", "networking": {
            "type": "limited",
            "allowed_hosts": ["api.demo.test", "other.demo.test"]}}})
    vault = call("POST", "/v1/vaults", {"display_name": "demo"})
    call("POST", f"/v1/vaults/{vault['id']}/credentials", {"auth": {
        "type": "environment_variable", "secret_name": "DEMO_TOKEN",
        "secret_value": token, "networking": {
            "type": "limited", "allowed_hosts": ["api.demo.test"]}}})
    agent = call("POST", "/v1/agents", {
        "name": "demo", "metadata": {"brainbox.harness": "runbook"}})
    session = call("POST", "/v1/sessions", {
        "agent": agent["id"], "environment_id": environment["id"],
        "vault_ids": [vault["id"]], "title": "demo"})
    print(f"session {session['id']}, agent {agent['id']} "
          f"(harness {agent['harness']})\n", flush=True)
    started, seen, done = [], [], threading.Event()
    threading.Thread(target=follow, daemon=True,
                     args=(session["id"], started, seen, done)).start()
    started.append(time.monotonic())
    call("POST", f"/v1/sessions/{session['id']}/events", {"events": [
        {"type": "user.message",
         "content": [{"type": "text", "text": runbook}]}]})
    if not done.wait(150):
        sys.exit("demo: the session did not come to an end within 150 s")
    return session["id"], seen


def check(session, seen, host_dir, token):
    results = [e for e in seen if e["type"] == "agent.tool_result"]
    texts = ["".join(b["text"] for b in e["content"]) for e in results]
    everything = json.dumps(seen)
    try:
        with open(os.path.join(host_dir, "requests.jsonl")) as f:
            arrived = [json.loads(line) for line in f]
    except FileNotFoundError:
        arrived = []
    audit = call("GET", f"/platform/v1/audit?session_id={session}&limit=100")
    actions = [row["action"] for row in audit["data"]]
    digest = hashlib.sha256(token.encode()).hexdigest()
    return [
        ("the program was built and its test passed",
         any("sum: 1 passed, 0 failed" in t for t in texts)),
        ("the sandbox held a stub, not the token",
         any("DEMO_TOKEN is a stub" in t for t in texts)
         and token not in everything),
        ("the bound host got the real token",
         any(r["host"] == "api.demo.test" and
             r["headers"].get("authorization") == f"Bearer {token}"
             for r in arrived)
         and any(digest in t for t in texts)),
        ("its echo of the token was taken out of the answer",
         any("x-echo" in t.lower() and token not in t for t in texts)),
        ("the other host was refused and saw nothing",
         not any(r["host"] == "other.demo.test" for r in arrived)
         and any("stub_wrong_host" in t for t in texts)),
        ("both decisions stand in the audit log",
         "egress.allowed" in actions and "egress.denied" in actions),
        ("every step succeeded", results and
         not any(e["is_error"] for e in results)),
        ("the session came to an end",
         seen[-1]["type"] == "session.status_idle"),
    ]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    host_dir = sys.argv[1]
    path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE,
                                                              "runbook.md")
    token = "demo_" + secrets.token_hex(24)
    with open(path) as f:
        runbook = f.read()
    session, seen = run_session(token, runbook)
    print()
    ok = True
    for what, held in check(session, seen, host_dir, token):
        print(f"  {'ok    ' if held else 'FAILED'}  {what}")
        ok = ok and held
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
