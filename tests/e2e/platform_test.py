#!/usr/bin/env python3
"""The whole platform through its public API: sessions, both drivers, and every
kind of bad input, each followed by a request that must be served."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

bb_ = bb.enter(os.path.abspath(__file__))
test = bb_.test
FENCE = "```sh\n%s\n```\n"


def runbook(*steps):
    return "".join(FENCE % s for s in steps)


def alive():
    """The platform still serves: a session runs to its end."""
    s = bb_.session()
    events = bb_.turn(s, runbook("echo alive"))
    assert bb.result_of(events)[1]["stdout"] == "alive\n"


# ---- what works ----------------------------------------------------------

@test
def runbook_runs_steps_in_order_in_one_sandbox():
    s = bb_.session()
    events = bb_.turn(s, runbook("cd /workspace && echo one > f",
                                 "cat f; echo two >&2; echo 2 >> f",
                                 "wc -l < f"))
    kinds = [e["type"] for e in events]
    assert kinds[:2] == ["user.message", "session.status_running"], kinds
    assert kinds[-2:] == ["agent.message", "session.status_idle"], kinds
    assert kinds.count("agent.tool_use") == 4
    assert bb.result_of(events, 2)[1]["stdout"] == "one\n"
    assert bb.result_of(events, 2)[1]["stderr"] == "two\n"
    assert bb.result_of(events, 3)[1]["stdout"].strip() == "2"
    assert events[-1]["stop_reason"] == {"type": "end_turn"}


@test
def first_failure_ends_the_turn_and_says_what_failed():
    s = bb_.session()
    events = bb_.turn(s, runbook("true", "exit 7", "echo never"))
    assert bb.texts(events)[-1] == "Step 2 of 3 failed: exit code 7"
    assert any(e["type"] == "session.error" for e in events)
    assert not any("never" in json.dumps(e) for e in events
                   if e["type"] == "agent.tool_use")


@test
def workspace_outlives_the_sandbox_and_nothing_else_does():
    s = bb_.session()
    bb_.turn(s, runbook("echo kept > /workspace/k; echo gone > /tmp/g"))
    events = bb_.turn(s, runbook("cat /workspace/k; test ! -e /tmp/g"), 2)
    assert bb.result_of(events)[1]["stdout"] == "kept\n"
    assert bb.result_of(events)[1]["exit_code"] == 0


@test
def swapping_the_harness_is_the_only_change():
    text = runbook("echo same > r", "cat r")
    seen = {}
    for harness in ("runbook", "native"):
        s = bb_.session(bb_.agent(harness))
        events = bb_.turn(s, text)
        seen[harness] = [(e["name"], e["input"].get("command")) for e in events
                         if e["type"] == "agent.tool_use"]
        assert bb.result_of(events)[1]["stdout"] == "same\n"
        assert bb.texts(events)[-1] == "All 2 steps succeeded."
    assert seen["runbook"] == seen["native"], seen


@test
def native_streams_deltas_and_counts_tokens():
    s = bb_.session(bb_.agent("native"))
    script = [{"text": "a longer answer in many pieces", "delay_ms": 20}]
    out = []
    stream = bb_.stream(s,
                        query="?event_deltas[]=agent.message&from_start=true")

    def follow():
        for event_id, event in stream:
            out.append((event_id, event))
            if event["type"] == "session.status_idle":
                return
    t = bb.in_background(follow)
    bb_.turn(s, "SCRIPT:" + json.dumps(script))
    t.join(60)
    deltas = [e for i, e in out if e["type"] == "event_delta"]
    assert "".join(d["delta"]["content"]["text"] for d in deltas) == \
        script[0]["text"]
    final = [e for i, e in out if e["type"] == "agent.message"]
    assert final[0]["id"] == deltas[0]["event_id"]
    assert all(i is None for i, e in out if e["type"] == "event_delta")
    assert bb_.call("GET", f"/v1/sessions/{s}")["usage"]["output_tokens"] > 0


@test
def native_runs_parallel_tool_calls_and_returns_each_result():
    s = bb_.session(bb_.agent("native"))
    script = [{"text": "Two things.", "tools": [
        {"name": "sandbox_provision", "arguments": {"task_description": "x"}},
        {"name": "sandbox_execute", "arguments": {"command": "echo first"}},
        {"name": "sandbox_execute", "arguments": {"command": "echo second"}}]},
        {"text": "Done."}]
    events = bb_.turn(s, "SCRIPT:" + json.dumps(script))
    results = [bb.result_of(events, i)[1] for i in range(3)]
    assert [r.get("stdout") for r in results] == [None, "first\n", "second\n"]
    asked = bb_.model_requests()[-1]["body"]["messages"]
    assert [m["role"] for m in asked[-4:]] == ["assistant"] + ["tool"] * 3
    assert len(asked[-4]["tool_calls"]) == 3


@test
def model_gets_the_real_key_and_the_brain_never_had_it():
    bb_.turn(bb_.session(bb_.agent("native")), 'SCRIPT:[{"text": "hi"}]')
    headers = {k.lower(): v
               for k, v in bb_.model_requests()[-1]["headers"].items()}
    assert headers["authorization"] == "Bearer model-key-0123456789abcdef"
    assert "x-brainbox-session" not in headers
    with open(f"/proc/{bb_.pid('brain_svc')}/environ", "rb") as f:
        assert b"model-key" not in f.read()


@test
def credential_reaches_only_its_host():
    token = "tok_" + "s3cr3tvalue" * 3
    v, _ = bb_.vault("API_TOKEN", token)
    s = bb_.session(vaults=[v])
    curl = "curl -sS -w ' %%{http_code}' -H \"Authorization: Bearer " \
           "$API_TOKEN\" https://%s/v1/echo"
    events = bb_.turn(s, runbook(curl % "api.demo.test",
                                 curl % "other.demo.test",
                                 "echo $API_TOKEN",
                                 "curl -sS -u x:$API_TOKEN "
                                 "https://api.demo.test/v1/whoami"))
    assert token not in json.dumps(events)
    good, bad = bb.result_of(events, 1)[1], bb.result_of(events, 2)[1]
    assert good["stdout"].endswith(" 200"), good
    assert bad["stdout"].endswith(" 403"), bad
    assert "stub_wrong_host" in bad["stdout"], bad
    arrived = bb_.requests()
    assert any(r["host"] == "api.demo.test" and
               r["headers"].get("authorization") == "Bearer " + token
               for r in arrived)
    assert not any(token in json.dumps(r) for r in arrived
                   if r["host"] == "other.demo.test")
    basic = [r for r in arrived if r["path"] == "/v1/whoami"][-1]
    import base64
    assert base64.b64decode(basic["headers"]["authorization"].split()[1]) == \
        b"x:" + token.encode()


@test
def a_stub_of_another_session_freezes_and_a_person_lets_go_on():
    v, _ = bb_.vault("API_TOKEN", "tok_" + "an0thervalue" * 3)
    show = runbook("echo $API_TOKEN")
    one, two = bb_.session(vaults=[v]), bb_.session(vaults=[v])
    stub = bb.result_of(bb_.turn(two, show), 1)[1]["stdout"].strip()
    assert "bbxs" in stub, stub
    start = time.monotonic()
    events = bb_.turn(one, runbook(
        f"curl -sS -H 'Authorization: Bearer {stub}'"
        " https://api.demo.test/v1/echo; sleep 60", "echo never"))
    assert time.monotonic() - start < 30
    text = json.dumps(events)
    assert "was frozen (stub_foreign)" in text, text
    assert sum(e["type"] == "agent.tool_use" for e in events) == 1 + \
        ("sandbox_provision" in text), text
    (i,) = bb_.call("GET", f"/platform/v1/incidents?session_id={one}")["data"]
    assert i["kind"] == "stub_foreign" and i["detail"]["host"] == \
        "api.demo.test", i
    # Nothing opens for it until somebody says so.
    events = bb_.turn(one, show, 2)
    assert "frozen" in json.dumps(events[-4:]), events[-4:]
    bb_.call("POST", f"/platform/v1/incidents/{i['id']}/resolve", {})
    events = bb_.turn(one, show, 3)
    assert "bbxs" in json.dumps(events[-4:]), events[-4:]


@test
def a_person_decides_about_a_request_while_the_turn_waits():
    # By the metadata, as typed clients write it.
    env = bb_.environment(("other.demo.test",), metadata={
        "brainbox.network": json.dumps({"mode": "ask"})})
    s = bb_.session(environment=env)
    curl = "curl -sS -w ' %%{http_code}' https://api.demo.test/v1/%s"
    bb_.send(s, runbook(curl % "echo", curl % "whoami"))

    def pending():
        return bb_.call("GET",
                        f"/platform/v1/approvals?session_id={s}")["data"]

    def explained(url):
        return bb_.call("POST", "/platform/v1/explain", {
            "session_id": s, "url": url})["verdict"]

    bb.wait_for("a question", pending)
    (a,) = pending()
    assert (a["host"], a["path"], a["method"]) == (
        "api.demo.test", "/v1/echo", "GET"), a
    assert explained("https://api.demo.test/v1/echo") == "ask"
    assert explained("https://other.demo.test/") == "allow"
    bb_.call("POST", f"/platform/v1/approvals/{a['id']}/decide",
             {"decision": "approve"})
    bb.wait_for("the next question", lambda: [
        x for x in pending() if x["path"] == "/v1/whoami"])
    bb_.call("POST", f"/platform/v1/approvals/{pending()[0]['id']}/decide",
             {"decision": "deny"})
    bb.wait_for("the turn's end", lambda: any(
        e["type"] == "session.status_idle" for e in bb_.events(s)))
    events = bb_.events(s)
    one, two = bb.result_of(events, 1)[1], bb.result_of(events, 2)[1]
    assert one["stdout"].endswith(" 200"), one
    assert two["stdout"].endswith(" 403") and \
        "approval_denied" in two["stdout"], two
    p = bb_.call("GET", f"/platform/v1/environments/{env}/proposed_policy")
    assert p["networking"]["allowed_hosts"] == ["other.demo.test"], p


@test
def stream_resumes_behind_last_event_id():
    s = bb_.session()
    bb_.turn(s, runbook("echo 1", "echo 2"))
    all_ids = [e["id"] for e in bb_.events(s)]
    first = []
    for event_id, event in bb_.stream(s, query="?from_start=true"):
        first.append(event_id)
        if len(first) == 3:
            break
    rest = []
    for event_id, event in bb_.stream(s, last=first[-1]):
        rest.append(event_id)
        if event["type"] == "session.status_idle":
            break
    assert first + rest == all_ids


@test
def pages_hold_every_event_once():
    s = bb_.session()
    bb_.turn(s, runbook(*["true"] * 12))
    events = bb_.events(s)
    got, page = [], ""
    while page is not None:
        r = bb_.call("GET", f"/v1/sessions/{s}/events?limit=5" +
                     (f"&page={page}" if page else ""))
        got += [e["id"] for e in r["data"]]
        page = r["next_page"]
    assert got == [e["id"] for e in events] and len(set(got)) == len(got)


@test
def message_while_the_agent_works_is_answered_in_the_same_turn():
    s = bb_.session()
    bb_.send(s, runbook("touch began; until test -e go; do sleep 0.1; done; "
                        "echo slow"))
    work = f"{bb_.state}/work/{s}"
    bb.wait_for("the command", lambda: os.path.exists(work + "/began"))
    bb_.send(s, runbook("echo second message"))
    with open(work + "/go", "w"):
        pass
    events = bb_.idle(s)
    outs = [bb.result_of(events, i)[1].get("stdout") for i in range(1, 3)]
    assert outs == ["slow\n", "second message\n"], outs
    assert sum(e["type"] == "session.status_idle" for e in events) == 1


@test
def interrupt_stops_the_command_at_once():
    s = bb_.session()
    bb_.send(s, runbook("sleep 60", "echo never"))
    bb.wait_for("the command", lambda: any(
        e["type"] == "agent.tool_use" and e["name"] == "sandbox_execute"
        for e in bb_.events(s)))
    time.sleep(0.3)
    start = time.monotonic()
    bb_.interrupt(s)
    events = bb_.idle(s, seconds=10)
    assert time.monotonic() - start < 5
    assert bb.result_of(events)[0]["is_error"]
    alive()


@test
def agents_have_versions_and_sessions_pin_them():
    a = bb_.agent(system="one")
    s = bb_.session(a)
    new = bb_.call("POST", f"/v1/agents/{a}", {"system": "two", "version": 1})
    assert (new["version"], new["system"]) == (2, "two")
    assert bb_.call("GET", f"/v1/sessions/{s}")["agent"]["system"] == "one"
    assert bb_.call("GET", f"/v1/agents/{a}?version=1")["system"] == "one"
    error = bb_.refused(409, "POST", f"/v1/agents/{a}", {"version": 1})
    assert "version 2" in error["message"]


@test
def archived_session_takes_no_message_and_its_stream_ends():
    s = bb_.session()
    bb_.turn(s, runbook("true"))
    assert bb_.call("POST", f"/v1/sessions/{s}/archive",
                    {})["status"] == "terminated"
    bb_.refused(400, "POST", f"/v1/sessions/{s}/events", {"events": [
        {"type": "user.message", "content": [{"type": "text", "text": "x"}]}]})
    assert [e["type"] for _, e in bb_.stream(s, query="?from_start=true",
                                             timeout=30)][-1] == \
        "session.status_idle"


# ---- bad input, from callers -------------------------------------------------

@test
def unknown_route_and_wrong_method():
    bb_.refused(404, "GET", "/v1/nothing")
    bb_.refused(405, "PUT", "/v1/agents", {})
    alive()


@test
def malformed_json_unknown_field_wrong_type():
    e = bb_.refused(400, "POST", "/v1/agents", raw=b'{"name": ')
    assert "JSON" in e["message"]
    e = bb_.refused(400, "POST", "/v1/agents", {"name": "x", "nmae": "y"})
    assert "nmae" in e["message"]
    e = bb_.refused(400, "POST", "/v1/agents", {"name": 7})
    assert "name" in e["message"]
    e = bb_.refused(400, "POST", "/v1/agents",
                    raw=b'{"name": "x", "name": "y"}')
    assert "duplicate" in e["message"]
    e = bb_.refused(400, "POST", "/v1/agents", {"name": "x", "harness": "no"})
    assert "runbook" in e["message"]
    deep = b'{"name":"x","tools":' + b"[" * 90 + b"]" * 90 + b"}"
    e = bb_.refused(400, "POST", "/v1/agents", raw=deep)
    assert "deep" in e["message"]


@test
def body_too_large():
    bb_.refused(413, "POST", "/v1/agents", raw=b'{"name":"' + b"x" * 2000000 +
                b'"}')
    alive()


@test
def missing_and_wrong_key():
    assert bb_.refused(401, "GET", "/v1/agents", key="")["type"] == \
        "authentication_error"
    e = bb_.refused(401, "GET", "/v1/agents", key="bbx_" + "x" * 40)
    assert "xxxx" not in e["message"]


@test
def key_without_scope_is_refused():
    key = bb_.call("POST", "/platform/v1/keys",
                   {"name": "reader", "scopes": ["read"]})
    bb_.call("GET", "/v1/agents", key=key["secret"])
    bb_.refused(403, "POST", "/v1/agents", {"name": "x"}, key=key["secret"])
    bb_.refused(403, "GET", "/platform/v1/keys", key=key["secret"])
    bb_.call("DELETE", f"/platform/v1/keys/{key['id']}")
    bb.wait_for("revocation", lambda: revoked(key["secret"]))


@test
def a_role_changes_all_of_its_keys_at_once():
    roles = "/platform/v1/roles"
    role = bb_.call("POST", roles, {"name": "sessions only",
                                    "scopes": ["sessions"]})
    keys = [bb_.call("POST", "/platform/v1/keys",
                     {"name": "r", "role_id": role["id"]})
            for _ in range(2)]
    for k in keys:
        assert k["role_id"] == role["id"] and k["scopes"] == []
        bb_.call("GET", "/v1/sessions", key=k["secret"])
        for verb, path, body in (("GET", "/v1/agents", None),
                                 ("POST", "/v1/agents", {"name": "x"}),
                                 ("GET", "/v1/vaults", None),
                                 ("GET", roles, None)):
            bb_.refused(403, verb, path, body, key=k["secret"])
    agent = bb_.call("POST", "/v1/agents", {"name": "a", "harness": "runbook"})
    env = bb_.call("POST", "/v1/environments", {"name": "of a role"})
    session = bb_.call("POST", "/v1/sessions", {
        "agent": agent["id"], "environment_id": env["id"]},
        key=keys[0]["secret"])
    bb_.call("GET", f"/v1/sessions/{session['id']}/events",
             key=keys[1]["secret"])
    path = f"{roles}/{role['id']}"
    assert bb_.call("POST", path, {"scopes": ["read"]})["version"] == 2
    for k in keys:
        bb_.call("GET", "/v1/agents", key=k["secret"])
        bb_.refused(403, "DELETE", "/v1/sessions/" + session["id"],
                    key=k["secret"])
    assert "2 keys have this role" in bb_.refused(400, "DELETE", path)[
        "message"]
    bb_.call("DELETE", path + "?force=true")
    for k in keys:
        bb_.refused(401, "GET", "/v1/agents", key=k["secret"])
    bb_.refused(404, "GET", path)
    bb_.call("DELETE", "/v1/sessions/" + session["id"])


def revoked(secret):
    try:
        bb_.call("GET", "/v1/agents", key=secret)
        return False
    except bb.Refused as e:
        return e.status == 401


@test
def ids_of_another_tenant_do_not_exist():
    other = bb_.new_tenant("other")
    a, e = bb_.agent(), bb_.environment()
    s, (v, c) = bb_.session(a, e), bb_.vault("X", "value-0123456789abcdef")
    for path in (f"/v1/agents/{a}", f"/v1/environments/{e}",
                 f"/v1/sessions/{s}", f"/v1/sessions/{s}/events",
                 f"/v1/vaults/{v}", f"/v1/vaults/{v}/credentials/{c}"):
        bb_.refused(404, "GET", path, key=other)
    assert bb_.call("GET", "/v1/agents", key=other)["data"] == []
    bb_.refused(404, "POST", "/v1/sessions",
                {"agent": a, "environment_id": e}, key=other)
    mine_a = bb_.call("POST", "/v1/agents", {"name": "o"}, key=other)["id"]
    mine_e = bb_.call("POST", "/v1/environments", {"name": "o"},
                      key=other)["id"]
    bb_.refused(404, "POST", "/v1/sessions", {
        "agent": mine_a, "environment_id": mine_e, "vault_ids": [v]},
        key=other)


@test
def unknown_agent_and_environment():
    e = bb_.refused(404, "POST", "/v1/sessions", {
        "agent": "agent_" + "0" * 26, "environment_id": bb_.environment()})
    assert "agent" in e["message"]
    bb_.refused(400, "POST", "/v1/sessions", {
        "agent": "nonsense", "environment_id": bb_.environment()})
    bb_.refused(404, "POST", "/v1/sessions", {
        "agent": bb_.agent(), "environment_id": "env_" + "0" * 26})


@test
def hosts_that_are_none_and_values_too_short():
    for bad in ("*.com", "10.0.0.1", "a b", "", "*", "http://x.test"):
        bb_.refused(400, "POST", "/v1/environments", {
            "name": "x", "config": {"type": "cloud", "networking": {
                "type": "limited", "allowed_hosts": [bad]}}})
    v = bb_.call("POST", "/v1/vaults", {"display_name": "x"})["id"]
    e = bb_.refused(400, "POST", f"/v1/vaults/{v}/credentials", {"auth": {
        "type": "environment_variable", "secret_name": "X",
        "secret_value": "short-s3cret", "networking": {
            "type": "limited", "allowed_hosts": ["a.test"]}}})
    assert "short-s3cret" not in e["message"]


def message(text):
    return {"events": [{"type": "user.message", "content": [
        {"type": "text", "text": text}]}]}


@test
def pasted_credential_is_refused_and_stands_nowhere():
    s = bb_.session()
    token = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3hJ6"
    e = bb_.refused(400, "POST", f"/v1/sessions/{s}/events",
                    message(f"use {token}, please"))
    assert "shape github-personal" in e["message"], e
    assert token not in e["message"] and bb_.events(s) == []
    # Where it belongs it is taken, and bound to its host.
    v = bb_.call("POST", "/v1/vaults", {"display_name": "test"})["id"]
    bb_.call("POST", f"/v1/vaults/{v}/credentials", {"auth": {
        "type": "environment_variable", "secret_name": "GITHUB_TOKEN",
        "secret_value": token, "networking": {
            "type": "limited", "allowed_hosts": ["api.github.com"]}}})
    for folder, _, names in os.walk(bb_.state + "/log"):
        for name in names:
            with open(os.path.join(folder, name), errors="replace") as f:
                assert token not in f.read(), name


@test
def lists_of_large_things_come_in_pages_that_fit():
    s = bb_.session()
    text = "x" * 900_000
    for _ in range(20):
        bb_.interrupt(s)
        bb_.send(s, text)
    bb.wait_for("the end of the turns", lambda: bb_.call(
        "GET", f"/v1/sessions/{s}")["status"] == "idle" and [
            e for e in bb_.events(s) if e["type"] == "session.status_idle"])
    events = bb_.events(s)
    assert len([e for e in events if e["type"] == "user.message"]) == 20
    first = bb_.call("GET", f"/v1/sessions/{s}/events?limit=100")
    assert first["next_page"] and 1 <= len(first["data"]) < 20
    assert first["data"] == events[:len(first["data"])]
    last = bb_.call("GET", f"/v1/sessions/{s}/events?limit=100&order=desc")
    assert last["data"] == events[:-len(last["data"]) - 1:-1]
    # A stream has all of it, too, and in order.
    seen = []
    for _, e in bb_.stream(s, query="?from_start=true"):
        seen.append(e)
        if len(seen) == len(events):
            break
    assert seen == events

    names = [f"large {i}" for i in range(40)]
    for name in names:
        bb_.agent(name=name, system=text[:100_000])
    listed, page = [], ""
    while page is not None:
        got = bb_.call("GET", "/v1/agents?limit=100" + page)
        assert sum(len(json.dumps(a)) for a in got["data"]) < 3_500_000
        listed += [a["name"] for a in got["data"]]
        page = got["next_page"] and f"&page={got['next_page']}"
    assert set(names) <= set(listed)


@test
def message_of_ten_megabytes_is_refused():
    s = bb_.session()
    bb_.refused(413, "POST", f"/v1/sessions/{s}/events",
                message("x" * 10_000_000))
    assert bb_.events(s) == []
    alive()


@test
def text_that_is_no_utf8_is_refused():
    s = bb_.session()
    for bad in (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\\ud800"):
        raw = json.dumps(message("@")).encode().replace(b"@", bad)
        bb_.refused(400, "POST", f"/v1/sessions/{s}/events", raw=raw)
    assert bb_.events(s) == []


@test
def nul_in_a_message_is_refused():
    s = bb_.session()
    e = bb_.refused(400, "POST", f"/v1/sessions/{s}/events", message("a\0b"))
    assert "NUL" in e["message"], e
    assert bb_.events(s) == []


@test
def nul_from_a_model_and_a_client_harms_nothing():
    ask = {"type": "agent_toolset_20260401", "default_config": {
        "permission_policy": {"type": "always_ask"}}}
    s = bb_.session(bb_.agent("native", tools=[ask]))
    bb_.send(s, "SCRIPT:" + json.dumps([
        {"text": "a\0b", "tools": [{"name": "sandbox_execute", "arguments": {
            "command": "echo '\0' \\u0000"}}] * 2}, {"text": "Done."}]))
    ids = bb_.idle(s)[-1]["stop_reason"]["event_ids"]
    for i, (call, answer) in enumerate(zip(ids, (
            {"result": "allow"}, {"result": "deny", "deny_message": "no"}))):
        bb_.call("POST", f"/v1/sessions/{s}/events", {"events": [
            {"type": "user.tool_confirmation", "tool_use_id": call, **answer}]})
        events = bb_.idle(s, i + 2)
    assert "NUL" in bb.result_of(events, 0)[1], bb.result_of(events, 0)
    assert "denied it: no" in bb.result_of(events, 1)[1]
    assert bb.texts(events)[0] == "a\0b"
    assert bb.texts(events)[-1] == "Done."


@test
def events_out_of_order_are_refused_or_do_nothing():
    s = bb_.session()
    bb_.interrupt(s)
    time.sleep(0.3)
    assert [e["type"] for e in bb_.events(s)] == ["user.interrupt"]
    assert bb_.call("GET", f"/v1/sessions/{s}")["status"] == "idle"
    for event in ({"type": "agent.message", "content": []},
                  {"type": "session.status_idle"},
                  {"type": "user.custom_tool_result", "custom_tool_use_id":
                   bb_.events(s)[0]["id"]},
                  {"type": "user.message", "content": [], "id": "x"}):
        bb_.refused(400, "POST", f"/v1/sessions/{s}/events",
                    {"events": [event]})
    bb_.refused(400, "POST", f"/v1/sessions/{s}/events", {"events": []})
    bb_.turn(s, runbook("true"))


@test
def agent_that_is_edited_while_it_runs_stays_as_it_was():
    a = bb_.agent("native", system="Version one.")
    s = bb_.session(a)
    before = len(bb_.model_requests())
    bb_.send(s, "SCRIPT:" + json.dumps([
        {"tools": [{"name": "sandbox_provision", "arguments": {
            "task_description": "x"}}, {"name": "sandbox_execute",
                                        "arguments": {"command": "sleep 1"}}]},
        {"text": "Done."}]))
    bb.wait_for("the turn", lambda: len(bb_.model_requests()) > before)
    bb_.call("POST", f"/v1/agents/{a}", {
        "system": "Version two.", "version": 1,
        "metadata": {"brainbox.harness": "runbook"}})
    events = bb_.idle(s)
    assert bb.texts(events) == ["Done."]
    bb_.turn(s, 'SCRIPT:[{"text": "Still one."}]', 2)
    raws = [r["raw"] for r in bb_.model_requests()[before:]]
    assert len(raws) == 3 and all("Version one." in r for r in raws)
    other = bb_.session(a)
    assert bb_.call("GET", f"/v1/sessions/{other}")["agent"]["version"] == 2


# ---- bad input, from a model ---------------------------------------------

def native(script, **more):
    s = bb_.session(bb_.agent("native", **more))
    return bb_.turn(s, "SCRIPT:" + json.dumps(script))


@test
def unknown_tool_and_broken_arguments_are_told_to_the_model():
    events = native([{"tools": [
        {"name": "rm_rf", "arguments": {}},
        {"name": "sandbox_execute", "arguments": "{\"command\": "},
        {"name": "sandbox_execute", "arguments": {"cmd": "x"}},
        {"name": "sandbox_execute", "arguments": {"command": "true"}}]},
        {"text": "I see."}])
    got = [bb.result_of(events, i) for i in range(4)]
    assert all(e["is_error"] for e, _ in got)
    assert "unknown tool \"rm_rf\"" in got[0][1]
    assert "not a JSON object" in got[1][1]
    assert "cmd" in got[2][1]
    assert bb.texts(events)[-1] == "I see."


@test
def model_that_calls_tools_for_ever_meets_the_step_limit():
    events = native([{"tools": [{"name": "sandbox_provision", "arguments": {
        "task_description": "again"}}]}], max_steps=3)
    error = [e for e in events if e["type"] == "session.error"][-1]
    assert "3 model calls" in error["error"]["message"]
    alive()


@test
def turn_has_a_time_limit():
    events = native([{"tools": [
        {"name": "sandbox_provision", "arguments": {"task_description": "x"}},
        {"name": "sandbox_execute", "arguments": {"command": "sleep 60"}}]}],
        max_turn_seconds=2)
    error = [e for e in events if e["type"] == "session.error"][-1]
    assert "time limit of 2 s" in error["error"]["message"]
    alive()


@test
def model_errors_are_events_of_the_session():
    for script, word in (
            ([{"status": 500, "message": "broken inside"}], "broken inside"),
            ([{"text": "half of it", "cut": 2}], "model"),
            ([{"text": "x", "error": {"message": "mid-stream"}}],
             "mid-stream"),
            ([{}], "empty"),
            ([{"text": "cut", "finish": "length"}], "length")):
        events = native(script)
        error = [e for e in events if e["type"] == "session.error"][-1]
        assert word in error["error"]["message"], error
        assert events[-1]["type"] == "session.status_idle"
    alive()


@test
def rate_limit_is_retried_before_the_first_token():
    before = len(bb_.model_requests())
    events = native([{"status": 429, "headers": {"Retry-After": "0"}}])
    assert len(bb_.model_requests()) - before == 3
    error = [e for e in events if e["type"] == "session.error"][-1]["error"]
    assert error["type"] == "model_rate_limited_error"


# ---- bad input, from a sandbox -------------------------------------------

@test
def command_that_never_ends_is_killed_with_all_it_started():
    mark = f"sleep {1000 + os.getpid()}"
    events = native([{"tools": [
        {"name": "sandbox_provision", "arguments": {"task_description": "x"}},
        {"name": "sandbox_execute", "arguments": {
            "command": f"{mark} & setsid {mark} & {mark}",
            "timeout_seconds": 1}}]}, {"text": "ok"}])
    result = bb.result_of(events)[1]
    assert result["outcome"] == "timed_out", result
    assert subprocess.run(["pgrep", "-f", mark]).returncode == 1


@test
def command_that_prints_a_gigabyte():
    s = bb_.session()
    events = bb_.turn(s, runbook("yes 0123456789abcdef | head -c 1000000000"))
    event, result = bb.result_of(events)
    assert result["outcome"] == "limit_reached" and result["limit"] == "output"
    assert len(json.dumps(event)) < 200000
    alive()


@test
def command_that_forks_without_end():
    s = bb_.session()
    bb_.turn(s, runbook("f() { f | f & }; f; sleep 2"), seconds=90)
    alive()


@test
def command_that_kills_its_parent():
    s = bb_.session()
    bb_.turn(s, runbook("kill -9 $PPID; kill -9 1; kill -9 -1"))
    alive()


# ---- operations ----------------------------------------------------------

@test
def services_see_no_listener_of_the_host():
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 20):
            pass
        for name in ("brain_svc", "sandbox_svc", "vault_svc", "vault_keeper",
                     "bridge", "launcher"):
            probe = subprocess.run(
                ["nsenter", f"--net=/proc/{bb_.pid(name)}/ns/net",
                 sys.executable, "-c",
                 "import socket; socket.create_connection("
                 f"('127.0.0.1', {port}), 20)"], capture_output=True, text=True)
            assert "ConnectionRefusedError" in probe.stderr, (name, probe)


@test
def sockets_lie_in_folders_that_only_the_caller_can_enter():
    import pwd
    import stat
    for callee, caller in (("vault", "brain"), ("vault", "sandbox"),
                           ("vault", "egress"), ("vault", "ingress"),
                           ("sandbox", "brain"), ("brain", "ingress"),
                           ("keeper", "vault"), ("egress", "bridge")):
        st = os.stat(f"{bb_.run}/{callee}-{caller}")
        assert stat.S_IMODE(st.st_mode) == 0o710, (callee, caller)
        assert st.st_uid == pwd.getpwnam(f"brainbox-{callee}").pw_uid
        assert st.st_gid == pwd.getpwnam(f"brainbox-{caller}").pw_gid


def served():
    try:
        return bb_.call("GET", "/v1/agents") is not None
    except bb.Refused as e:
        assert e.status == 503, e
        return False


@test
def database_that_goes_away_and_comes_back():
    scan = f"{bb_.run}/services/postgres"
    s = bb_.session()
    bb_.send(s, runbook("sleep 1; echo before", "echo after"))
    time.sleep(0.3)
    subprocess.run(["s6-svc", "-wd", "-T", "60000", "-d", scan], check=True)
    error = bb_.refused(503, "GET", "/v1/agents")
    assert error["type"] == "overloaded_error"
    subprocess.run(["s6-svc", "-u", scan], check=True)
    bb.wait_for("the database", served, 60)
    events = bb_.idle(s, seconds=30)
    assert bb.texts(events)[-1] == "All 2 steps succeeded."
    assert len({e["id"] for e in events}) == len(events)
    alive()


@test
def model_server_that_is_down_is_an_event():
    with open(bb_.state + "/deployment.conf") as f:
        assert "clear-text" in f.read()
    # A port where nobody listens, by a model that the policy allows: stop it.
    port = int(open(bb_.model + "/port").read())
    pid = subprocess.check_output(
        ["pgrep", "-f", f"model_server.py {bb_.model}"], text=True).split()[0]
    os.kill(int(pid), 19)
    os.kill(int(pid), 9)
    bb.wait_for("the model to be gone", lambda: refused(port))
    s = bb_.session(bb_.agent("native"))
    events = bb_.turn(s, "hello")
    error = [e for e in events if e["type"] == "session.error"][-1]
    assert error["error"]["retry_status"]["type"] == "exhausted"
    alive()


def refused(port):
    import socket
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return False
    except ConnectionRefusedError:
        return True


@test
def nothing_is_left_of_finished_sandboxes():
    def sandboxes():
        # Only the pool's own, which serve no session.
        out = subprocess.run(
            [bb_.bin + "/../tools/sandbox_call", "list",
             f"unix:{bb_.run}/sandbox-brain/sandbox-brain.sock"],
            capture_output=True, text=True)
        return out.stdout
    bb.wait_for("sandboxes to be gone", lambda: "sesn_" not in sandboxes())


@bb_.test
def every_session_above_replays_to_its_log():
    bb_.replay_all()


bb_.main()
