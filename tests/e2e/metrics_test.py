#!/usr/bin/env python3
"""What Prometheus scrapes, and health: numbers move with what was done."""
import os
import signal
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "support")]
import bb  # noqa: E402
import faults  # noqa: E402
import prometheus  # noqa: E402

bb_ = bb.enter(os.path.abspath(__file__))
test = bb_.test
SERVICES = ("brain", "vault", "sandbox")
GATEWAYS = ("ingress", "egress")


def scrape(service):
    with bb_.open("GET", f"/platform/v1/metrics/{service}") as answer:
        assert answer.headers["content-type"] == (
            "text/plain; version=0.0.4; charset=utf-8"), answer.headers
        return prometheus.parse(answer.read().decode())


def value(numbers, name, **labels):
    return numbers.get(name, {}).get(tuple(sorted(labels.items())), 0)


def total(numbers, name, **labels):
    """Of all series that have these labels among theirs."""
    return sum(v for k, v in numbers.get(name, {}).items()
               if set(labels.items()) <= set(k))


@test
def numbers_move_with_a_turn():
    old = {s: scrape(s) for s in SERVICES}
    s = bb_.session()
    bb_.turn(s, "```sh\necho hello\n```\n")
    new = {s: scrape(s) for s in SERVICES}

    def moved(service, name, **labels):
        return (value(new[service], name, **labels)
                - value(old[service], name, **labels))
    assert moved("brain", "brainbox_brain_turns_total", reason="end_turn") == 1
    assert moved("brain", "brainbox_brain_events_total") >= 4
    for part in ("wall", "own", "model", "vault", "provision", "execute"):
        assert moved("brain", "brainbox_brain_turn_seconds_count",
                     part=part) == 1, part
    assert moved("brain", "brainbox_brain_turn_seconds_sum",
                 part="execute") > 0
    assert moved("sandbox", "brainbox_sandbox_provisioned_total") == 1
    assert moved("sandbox", "brainbox_sandbox_commands_total",
                 outcome="EXITED") == 1
    claims = (moved("sandbox", "brainbox_sandbox_claims_total", start="warm")
              + moved("sandbox", "brainbox_sandbox_claims_total",
                      start="cold"))
    assert claims == 1, claims
    assert moved("vault", "brainbox_vault_audit_batches_total",
                 outcome="written") >= 1
    assert moved("vault", "brainbox_vault_audit_rows_total",
                 action="grant.put") == 1
    assert value(new["vault"], "brainbox_vault_tenants") == 1


def turns():
    return sum(scrape("brain").get("brainbox_brain_turns_total", {}).values())


@test
def run_that_finds_nothing_to_do_is_no_turn():
    s = bb_.session()
    before = turns()
    for _ in range(20):
        bb_.interrupt(s)
    bb_.turn(s, "```sh\ntrue\n```\n")
    assert turns() == before + 1, (before, turns())
    ended = [e for e in bb.read_lines(bb_.state + "/log/brain_svc/current")
             if e["event"] == "turn.ended" and e["session"] == s]
    assert len(ended) == 1, ended


@test
def model_calls_are_counted_by_wire_and_outcome():
    old = scrape("brain")
    bb_.turn(bb_.session(agent=bb_.agent(harness="native")), "hello")
    new = scrape("brain")
    name = "brainbox_brain_model_calls_total"
    ok = sum(v - old.get(name, {}).get(k, 0) for k, v in new[name].items()
             if ("outcome", "ok") in k)
    assert ok >= 1, new[name]
    name = "brainbox_brain_tokens_total"
    assert (value(new, name, direction="output")
            > value(old, name, direction="output"))
    # The same by the names of OpenTelemetry's conventions.
    labels = dict(gen_ai_operation_name="chat", gen_ai_provider_name="openai")
    for name, more in (
            ("gen_ai_client_operation_duration_seconds", {"error_type": ""}),
            ("gen_ai_client_token_usage", {"gen_ai_token_type": "input"}),
            ("gen_ai_client_token_usage", {"gen_ai_token_type": "output"})):
        assert (total(new, name + "_count", **labels, **more)
                > total(old, name + "_count", **labels, **more)), (name, more)
        assert (total(new, name + "_sum", **labels, **more)
                > total(old, name + "_sum", **labels, **more)), (name, more)


@test
def a_listener_is_a_number():
    s = bb_.session()
    before = value(scrape("brain"), "brainbox_brain_listeners")
    with bb_.open("GET", f"/v1/sessions/{s}/events/stream"):
        bb.wait_for("the listener", lambda: value(
            scrape("brain"), "brainbox_brain_listeners") == before + 1)
    bb.wait_for("its end", lambda: value(
        scrape("brain"), "brainbox_brain_listeners") == before)


@test
def each_request_of_any_worker_is_counted_by_ingress():
    """Behind its answer, by the worker that had it: hence the wait, and
    statuses that no request before these has."""
    name = "brainbox_ingress_requests_total"
    count = "brainbox_ingress_request_seconds_count"
    old = scrape("ingress")
    for _ in range(40):  # a connection each: all workers get some
        bb_.refused(401, "GET", "/v1/agents?limit=1", key="bbx_none")
        bb_.refused(404, "GET", "/v1/agents/agent_none")

    def refusals(numbers):
        return [value(numbers, name, code=code) for code in ("401", "404")]

    def settled():
        new = scrape("ingress")
        return (value(new, count) == sum(new[name].values())
                and refusals(new) >= expected and new)
    expected = [n + 40 for n in refusals(old)]
    new = bb.wait_for("40 of each", settled)
    assert refusals(new) == expected, (new[name], expected)
    for what in ("sent", "received"):
        what = f"brainbox_ingress_{what}_bytes_total"
        assert value(new, what) > value(old, what) + 80 * 100, what
    assert value(new, "brainbox_ingress_connections", state="writing") >= 1


def outcomes():
    seen = scrape("egress")["brainbox_egress_outcomes_total"]
    return {k[0][1]: int(v) for k, v in seen.items()}


@test
def egress_counts_what_became_of_requests():
    vault, _ = bb_.vault("API_TOKEN", "Zx8" * 12)
    s = bb_.session(vaults=[vault])
    old = outcomes()
    bb_.turn(s, """```sh
curl -sS https://other.demo.test/v1/echo
auth="Authorization: Bearer $API_TOKEN"
curl -sS -H "$auth" https://api.demo.test/v1/whoami
curl -sS -H "$auth" https://other.demo.test/v1/echo
curl -sS -H "Host: api.demo.test" https://other.demo.test/v1/echo
```
""")
    bb.wait_for("four requests", lambda: sum(outcomes().values())
                >= sum(old.values()) + 4)
    new = outcomes()
    assert {k: new[k] - old[k] for k in new} == {
        "plain": 1, "credentialed": 1, "denied": 1, "refused": 1,
        "failed": 0}, (old, new)


@test
def egress_counts_a_host_that_is_away():
    old = outcomes()
    agent = bb_.agent(harness="native")

    def has_failed():
        bb_.turn(bb_.session(agent=agent), "hello")
        return outcomes()["failed"] > old["failed"]
    down = bb.in_background(faults.model_down, bb_,
                            faults.chance("model_down", 0))
    bb.wait_for("a call to a model that is away", has_failed)
    down.join()


@test
def gateways_go_on_counting_after_a_reload():
    name = "brainbox_ingress_requests_total"
    before = value(scrape("ingress"), name, code="404")
    assert before >= 40, before
    pid = subprocess.run(["pgrep", "-f", "nginx: master process nginx -c "
                          f"{bb_.run}/ingress.conf"], check=True,
                         capture_output=True, text=True).stdout
    workers = children(pid)
    os.kill(int(pid), signal.SIGHUP)
    bb.wait_for("new workers", lambda: children(pid)
                and not children(pid) & workers, 40)
    bb_.refused(404, "GET", "/v1/agents/agent_none")
    bb.wait_for("one more", lambda: value(scrape("ingress"), name,
                                          code="404") == before + 1)


def children(pid):
    return set(subprocess.run(["pgrep", "-P", pid.strip()],
                              capture_output=True, text=True).stdout.split())


@test
def metrics_are_of_all_tenants_and_need_an_admin_or_a_monitor():
    key = bb_.call("POST", "/platform/v1/keys",
                   {"name": "r", "scopes": ["read", "write"]})
    for s in SERVICES + GATEWAYS:
        path = f"/platform/v1/metrics/{s}"
        bb_.refused(403, "GET", path, key=key["secret"])
        bb_.refused(401, "GET", path, key="bbx_none")
        bb_.refused(401, "GET", path, key="")
    bb_.refused(404, "GET", "/platform/v1/metrics/none")
    monitor = bb_.call("POST", "/platform/v1/keys",
                       {"name": "m", "role_id": "role_monitor"})["secret"]
    for s in SERVICES + GATEWAYS:
        with bb_.open("GET", f"/platform/v1/metrics/{s}",
                      key=monitor) as answer:
            assert answer.status == 200, (s, answer.status)
    bb_.refused(403, "GET", "/platform/v1/audit", key=monitor)
    bb_.refused(403, "GET", "/v1/agents", key=monitor)


def sandbox_pid():
    """Of this run's: the binary is the same in others."""
    socket = os.path.join(bb_.run, "sandbox-brain")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if (os.path.basename(words[0]) == b"sandbox_svc"
                and any(socket.encode() in w or bb_.run.encode() in w
                        or bb_.state.encode() in w for w in words)):
            return int(pid)
    raise AssertionError("no sandbox_svc of this run")


@test
def health_names_what_is_down():
    h = bb_.call("GET", "/platform/v1/health")
    assert h["status"] == "ok", h
    assert [p["name"] for p in h["parts"]] == ["database", "vault",
                                               "sandbox"], h
    assert all(p["ok"] for p in h["parts"]), h
    pid = sandbox_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        e = bb_.refused(503, "GET", "/platform/v1/health")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "sandbox" in e["message"], e
    assert "vault" not in e["message"] and "database" not in e["message"], e
    assert bb_.call("GET", "/platform/v1/health")["status"] == "ok"


bb_.main()
