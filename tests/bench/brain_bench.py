#!/usr/bin/python3
"""Figures of the brain, on a whole instance with a scripted model server.

    brain_bench.py           all; run by tests/bench/run.sh
    TEST=listeners …         only the parts whose name holds the word

TURNS, IDLE, WAITING, LISTENERS and LONG make it shorter for a try. Fails when
an answer is not what it should be.
"""
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "e2e"))
import bb  # noqa: E402
import http.client  # noqa: E402

p = bb.enter(os.path.abspath(__file__))
TURNS = int(os.environ.get("TURNS", "200"))
IDLE = int(os.environ.get("IDLE", "10000"))
WAITING = int(os.environ.get("WAITING", "1000"))
LISTENERS = int(os.environ.get("LISTENERS", "5000"))
LONG = int(os.environ.get("LONG", "2500"))
SECONDS = int(os.environ.get("SECONDS", "8"))


def figure(name, value, unit):
    print(f"figure {name} {value} {unit}", flush=True)


def percentiles(name, values, unit="ms", digits=2):
    values = sorted(values)
    for q in (50, 99):
        at = min(len(values) - 1, len(values) * q // 100)
        figure(f"{name}_p{q}_{unit}", f"{values[at]:.{digits}f}", unit)


def pid_of(service):
    return int(subprocess.run(
        ["s6-svstat", "-o", "pid", f"{p.run}/services/{service}"],
        check=True, capture_output=True, text=True).stdout)


def rss_kib(*pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            total += int(re.search(r"VmRSS:\s*(\d+)", f.read()).group(1))
    return total


def brain_kib():
    return rss_kib(pid_of("brain_svc"))


def ingress_pids():
    return [int(x) for x in subprocess.run(
        ["pgrep", "-u", "brainbox-ingress"], capture_output=True,
        text=True).stdout.split()]


class Line:
    """One connection to ingress that is kept open."""

    def __init__(self):
        host, port = p.url[len("http://"):].split(":")
        self.c = http.client.HTTPConnection(host, int(port), timeout=120)

    def call(self, method, path, body=None):
        self.c.request(method, path, json.dumps(body) if body else None,
                       {"x-api-key": p.key,
                        "content-type": "application/json"})
        answer = self.c.getresponse()
        data = answer.read()
        assert answer.status == 200, (answer.status, data[:300])
        return json.loads(data)

    def send(self, session, text):
        return self.call("POST", f"/v1/sessions/{session}/events", {"events": [
            {"type": "user.message",
             "content": [{"type": "text", "text": text}]}]})


def together(n, fn):
    """fn(line, i) for each i, over four connections."""
    left, wrong = list(range(n)), []

    def work():
        line = Line()
        while left and not wrong:
            try:
                i = left.pop()
            except IndexError:
                return
            try:
                fn(line, i)
            except Exception as e:
                wrong.append(e)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    if wrong:
        raise wrong[0]


def turns_logged(session=None):
    """Fields of each turn.ended of the brain's log."""
    out = []
    with open(f"{p.state}/log/brain_svc/current") as f:
        for line in f:
            if '"turn.ended"' not in line:
                continue
            e = json.loads(line[line.index("{"):])
            if session is None or e["session"] == session:
                out.append(e)
    return out


def await_turns(n, session=None, seconds=300):
    bb.wait_for(f"{n} turns", lambda: len(turns_logged(session)) >= n, seconds)
    return turns_logged(session)


def new_sessions(n, agent, environment):
    out = [None] * n

    def one(line, i):
        out[i] = line.call("POST", "/v1/sessions", {
            "agent": agent, "environment_id": environment})["id"]
    together(n, one)
    return out


def has_ended(line, session):
    last = line.call("GET",
                     f"/v1/sessions/{session}/events?limit=1&order=desc")
    return last["data"][0]["type"] == "session.status_idle"


@p.test
def own_time_of_a_turn():
    agent, environment = p.agent("native"), p.environment()
    script = "SCRIPT:" + json.dumps([
        {"tools": [{"name": "sandbox_provision",
                    "arguments": {"task_description": "x"}}]},
        {"tools": [{"name": "sandbox_execute",
                    "arguments": {"command": "true"}}]},
        {"text": "Done."}])
    line, starts = Line(), []
    for s in new_sessions(TURNS, agent, environment):
        starts.append(time.time())
        line.send(s, script)
        # Nothing is asked while the turn goes on: what it says of itself is
        # read at the end.
        time.sleep(0.25)
        while not has_ended(line, s):
            time.sleep(0.1)
    asked = [r["at"] for r in p.model_requests()]
    wire = [(min(t for t in asked if t >= at) - at) * 1000 for at in starts]
    os.truncate(p.model + "/model.jsonl", 0)
    turns = await_turns(TURNS)[-TURNS:]
    percentiles("brain.turn_own", [t["own_us"] / 1000 for t in turns])
    for part in "model", "vault", "provision", "execute", "destroy":
        figure(f"brain.turn_{part}_p50_ms", "%.2f" % statistics.median(
            t[part + "_us"] / 1000 for t in turns), "ms")
    percentiles("brain.post_to_model", wire)


@p.test
def memory_of_idle_sessions():
    figure("brain.rss_begin_mb", f"{brain_kib() / 1024:.1f}", "MB")
    new_sessions(IDLE, p.agent(), p.environment())
    figure("brain.rss_idle10k_mb", f"{brain_kib() / 1024:.1f}", "MB")


@p.test
def memory_of_runs_that_wait_for_a_model():
    before = brain_kib()
    sessions = new_sessions(WAITING, p.agent("native"), p.environment())
    script = 'SCRIPT:[{"text": "a b c", "stall_at": 1, "stall_ms": 60000}]'
    together(WAITING, lambda line, i: line.send(sessions[i], script))
    bb.wait_for("requests", lambda: len(p.model_requests()) >= WAITING, 120)
    time.sleep(1)
    figure("brain.rss_waiting_mb", f"{brain_kib() / 1024:.1f}", "MB")
    figure("brain.waiting_each_kib",
           f"{(brain_kib() - before) / WAITING:.1f}", "KiB")
    together(WAITING, lambda line, i: line.call(
        "POST", f"/v1/sessions/{sessions[i]}/events",
        {"events": [{"type": "user.interrupt"}]}))
    bb.wait_for("the end", lambda: not any(
        e["type"] != "session.status_idle" for e in
        [p.events(s)[-1] for s in sessions[-20:]]), 60)
    os.truncate(p.model + "/model.jsonl", 0)


@p.test
def long_sessions():
    """Turns that say nothing, four sessions at once: what the 10,000th event
    costs beside the 10th, and what is left in memory."""
    sessions = new_sessions(4, p.agent(), p.environment())
    costs, memory = {s: [] for s in sessions}, []

    def drive(s):
        line = Line()
        for n in range(LONG):
            began = time.monotonic()
            line.send(s, "nothing to run")
            while not has_ended(line, s):
                pass
            costs[s].append(time.monotonic() - began)
            if s == sessions[0] and n in (LONG // 10, LONG - 1):
                memory.append(brain_kib())
    threads = [threading.Thread(target=drive, args=(s,)) for s in sessions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    k = max(10, LONG // 50)
    first = [x for s in sessions for x in costs[s][2:2 + k]]
    last = [x for s in sessions for x in costs[s][-k:]]
    figure("brain.long_session_events", 4 * LONG, "count")
    figure("brain.turn_late_vs_early",
           f"{statistics.median(last) / statistics.median(first):.3f}",
           "ratio")
    figure("brain.rss_after_turns_ratio", f"{memory[-1] / memory[0]:.3f}",
           "ratio")
    figure("brain.turns_per_s",
           "%.0f" % (4 * LONG / max(sum(c) for c in costs.values())), "1/s")


async def listen(session, ready, got):
    host, port = p.url[len("http://"):].split(":")
    r, w = await asyncio.open_connection(host, int(port))
    w.write((f"GET /v1/sessions/{session}/events/stream HTTP/1.1\r\n"
             f"Host: x\r\nx-api-key: {p.key}\r\n\r\n").encode())
    head = await r.readuntil(b"\r\n\r\n")
    assert b" 200 " in head[:20], head
    ready()
    while True:
        line = await r.readline()
        if not line:
            raise AssertionError("a stream ended")
        if b'"user.message"' in line:
            got.append(time.monotonic())
            return w


@p.test
def listeners():
    sessions = new_sessions(50, p.agent(), p.environment())
    before = brain_kib(), rss_kib(*ingress_pids())

    async def run():
        n, got = [0], []

        def ready():
            n[0] += 1
        tasks = []
        for i in range(LISTENERS):
            tasks.append(asyncio.create_task(
                listen(sessions[i % len(sessions)], ready, got)))
            if i % 100 == 99:
                await asyncio.sleep(0.05)
        while n[0] < LISTENERS:
            for t in tasks:
                if t.done():
                    t.result()
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        after = brain_kib(), rss_kib(*ingress_pids())
        figure("api.stream_brain_kb",
               f"{(after[0] - before[0]) / LISTENERS:.1f}", "kB")
        figure("api.stream_nginx_kb",
               f"{(after[1] - before[1]) / LISTENERS:.1f}", "kB")
        line, delays = Line(), []
        for s in sessions:
            del got[:]
            began = time.monotonic()
            await asyncio.to_thread(line.send, s, "nothing to run")
            each = LISTENERS // len(sessions)
            while len(got) < each:
                await asyncio.sleep(0.001)
            delays += [(t - began) * 1000 for t in got]
        percentiles("api.stream_delay", delays)
        for t in tasks:
            (await t).close()
    asyncio.run(run())


INSERT = """
\\set s random(1, 50)
BEGIN;
SELECT set_config('brainbox.tenant', 'default', true);
INSERT INTO brain.bench (tenant, session_id, seq, id, type, body)
SELECT 'default', 'sesn_' || :s, nextval('brain.bench_seq'), i, t, b::json
FROM unnest(ARRAY['x' || random() || clock_timestamp()], ARRAY['agent.message'],
            ARRAY['{"type":"agent.message","content":[{"type":"text",
                    "text":"some words of an answer"}]}']) AS u (i, t, b);
COMMIT;
"""
APPEND = """
\\set s random(1, 50)
BEGIN;
SELECT set_config('brainbox.tenant', 'default', true);
SELECT brain.event_append('default', 'sesn_bench' || :s, 1,
    ARRAY['x' || random() || clock_timestamp()], ARRAY['agent.message'],
    ARRAY['{"type":"agent.message","content":[{"type":"text",
            "text":"some words of an answer"}]}']);
COMMIT;
"""


# The same of 16 sessions in one transaction; each client has its own.
GROUP = """
BEGIN;
SELECT set_config('brainbox.tenant', 'default', true);
SELECT count(*) FROM (SELECT brain.events_append(
    array_agg('default'::text), array_agg('sesn_bench' || n),
    array_agg(1::bigint),
    array_agg(1), array_agg('x' || random() || clock_timestamp()),
    array_agg('agent.message'::text),
    array_agg('{"type":"agent.message","content":[{"type":"text",
               "text":"some words of an answer"}]}'::text),
    array_fill(0::bigint, ARRAY[160]), array_fill(1::bigint, ARRAY[16]))
    FROM generate_series(:client_id * 16 + 1, :client_id * 16 + 16) n) x;
COMMIT;
"""


def pgbench(script):
    path = f"{p.state}/bench.sql"
    with open(path, "w") as f:
        f.write(script)
    out = subprocess.run(
        ["pgbench", "-h", p.run + "/pg", "-U", "postgres", "-n", "-c", "4",
         "-j", "2", "-T", str(SECONDS), "-M", "prepared", "-f", path,
         "brainbox"], check=True, capture_output=True, text=True).stdout
    assert "number of failed transactions: 0" in out, out
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


@p.test
def durable_append():
    """The SQL of an append (lease checked, seq given, usage counted) beside a
    bare INSERT of the same row into a table of the same form."""
    s = p.session()
    p.sql("CREATE TABLE brain.bench (LIKE brain.event INCLUDING ALL);"
          "CREATE SEQUENCE brain.bench_seq;"
          "INSERT INTO brain.session SELECT (jsonb_populate_record(s,"
          " jsonb_build_object('id', 'sesn_bench' || n))).* FROM brain.session s,"
          f" generate_series(1, 64) n WHERE s.id = '{s}';"
          "INSERT INTO brain.run (tenant, session_id, fence, owner, lease_until)"
          " SELECT 'default', 'sesn_bench' || n, 1, 'brain-1',"
          " now() + interval '1 hour' FROM generate_series(1, 64) n"
          " ON CONFLICT (session_id) DO UPDATE SET fence = 1")
    bare, append, group = [], [], []
    for _ in range(3):
        bare.append(pgbench(INSERT))
        append.append(pgbench(APPEND))
        group.append(16 * pgbench(GROUP))
    figure("brain.append_per_s", f"{statistics.median(append):.0f}", "1/s")
    figure("brain.append_vs_insert",
           f"{statistics.median(append) / statistics.median(bare):.3f}",
           "ratio")
    figure("brain.append_group_vs_single",
           f"{statistics.median(group) / statistics.median(append):.2f}",
           "ratio")


p.main()
