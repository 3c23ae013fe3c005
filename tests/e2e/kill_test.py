#!/usr/bin/env python3
"""Faults at seeded moments of a session: kill -9 of each process, a database
that restarts or stands still, a model that stands still, fails or is cut, a
full disk.

After each: the session reaches an end, no event is lost or doubled, no command
was run twice (the loopback host counts), no sandbox is left over, and the next
session works. A command whose end nobody saw is an event, and ends a runbook's
turn. At the end every session is replayed, and a table is printed.

  SEEDS=50 kill_test.py      seeds for each fault (2; `make fault`: 50)
  SEED=brain_svc:7           that one alone
  FAULTS="disk_full …"       these alone
"""
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), state_mb=700)
STEPS = 4
COMMAND = ("curl -sS --fail --retry 0 -m 20 -X POST "
           "https://api.demo.test/v1/count/%s-%d && sleep 0.05")
PROCESSES = ("brain_svc", "sandbox_svc", "launcher", "bridge", "vault_svc",
             "vault_keeper", "egress", "ingress", "postgres")


def pid_of(name):
    if name in ("ingress", "egress"):
        out = subprocess.run(["pgrep", "-f", "nginx: master process nginx -c "
                              f"{p.run}/{name}.conf"],
                             capture_output=True, text=True).stdout.split()
        return int(out[0]) if out else None
    out = subprocess.run(["s6-svstat", "-o", "pid",
                          f"{p.run}/services/{name}"],
                         capture_output=True, text=True).stdout.strip()
    return int(out) if out not in ("", "-1") else None


def patiently(fn, seconds=40):
    """Calls fn until it is served: a restart shows as 503 or a refusal."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fn()
        except (bb.Refused, OSError, subprocess.CalledProcessError) as e:
            if isinstance(e, bb.Refused) and e.status not in (502, 503, 504):
                raise
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def new_session(agent=None):
    return p.session(agent or AGENT, ENVIRONMENT)


def counts():
    out = {}
    for r in p.requests():
        out[r["path"]] = out.get(r["path"], 0) + 1
    return out


def gapless(session):
    """Rows as (count, first seq, last seq, next_seq) of the log."""
    sql = ("SELECT count(*), min(e.seq), max(e.seq), max(s.next_seq), "
           "count(DISTINCT e.id) FROM brain.session s JOIN brain.event e "
           f"ON e.session_id = s.id WHERE s.id = '{session}'")
    out = subprocess.run(["psql", "-qXAt", "-h", p.run + "/pg", "-U",
                          "postgres", "-d", "brainbox", "-c", sql],
                         capture_output=True, text=True, check=True).stdout
    n, first, last, following, ids = map(int, out.split("|"))
    return first == 1 and n == last == following - 1 == ids


def ended(session):
    try:
        events = p.events(session)
    except (bb.Refused, OSError):
        return None
    return events if events[-1]["type"] == "session.status_idle" else None


# ---- faults ----------------------------------------------------------------------

def stand_still(pid, seconds):
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def postgres_restart(_):
    """A fast shutdown; the supervisor starts it again."""
    os.kill(bb.wait_for("postgres", lambda: pid_of("postgres")),
            signal.SIGINT)


def postgres_still(rand):
    """Every backend stops for a while: a disk that hangs."""
    pids = subprocess.run(["pgrep", "-u", "postgres", "-f", p.run],
                          capture_output=True, text=True).stdout.split()
    pids += subprocess.run(
        ["pgrep", "-P", str(pid_of("postgres"))], capture_output=True,
        text=True).stdout.split()
    seconds = rand.uniform(0.5, 3)
    for pid in pids:
        os.kill(int(pid), signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        os.kill(int(pid), signal.SIGCONT)


def model_still(rand):
    (pid,) = subprocess.run(
        ["pgrep", "-f", "model_server.py " + p.model], capture_output=True,
        text=True, check=True).stdout.split()
    stand_still(int(pid), rand.uniform(0.5, 3))


def nothing(_):
    """The script of the model is the fault."""


def disk_full(rand):
    path = p.state + "/fill"
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * (1 << 20))
        except OSError:
            pass
    time.sleep(rand.uniform(0.5, 2))
    os.unlink(path)


def kill(name):
    def fault(_):
        os.kill(bb.wait_for(f"{name} to run", lambda: pid_of(name)), 9)
    return fault


FAULTS = {**{name: kill(name) for name in PROCESSES},
          "postgres_restart": postgres_restart,
          "postgres_still": postgres_still, "model_still": model_still,
          "model_fails": nothing, "model_cut": nothing,
          "disk_full": disk_full}


def message(fault, session, rand):
    """What the user says: a runbook, or a script for the model."""
    commands = [COMMAND % (session, k) for k in range(STEPS)]
    if not fault.startswith("model_"):
        return "".join("```sh\n" + c + "\n```\n" for c in commands)
    answers = [{"tools": [{"name": "sandbox_provision",
                           "arguments": {"task_description": "x"}}]}]
    answers += [{"text": "next", "tools": [
        {"name": "sandbox_execute", "arguments": {"command": c}}]}
        for c in commands]
    answers.append({"text": f"All {STEPS} steps succeeded."})
    broken = answers[rand.randrange(len(answers))]
    if fault == "model_fails":
        broken["status"] = rand.choice([500, 503, 429])
    elif fault == "model_cut":
        broken["cut"] = rand.randrange(1, 4)
    return "SCRIPT:" + json.dumps(answers)


def sandboxes():
    """Of sessions: a pool keeps some that are nobody's."""
    return subprocess.run(
        ["psql", "-qXAt", "-h", p.run + "/pg", "-U", "postgres", "-d",
         "brainbox", "-c", "SELECT count(*) FROM brain.run WHERE owner IS NOT"
         " NULL AND lease_until > now() + interval '1 minute'"],
        capture_output=True, text=True, check=True).stdout.strip()


def fault_once(name, seed):
    """(what was said, seconds from the fault to the end)"""
    rand = random.Random(f"{name}:{seed}")
    moment = rand.uniform(0, 0.9)
    agent = NATIVE if name.startswith("model_") else AGENT
    session = patiently(lambda: new_session(agent))
    text = message(name, session, rand)
    sent = patiently(lambda: p.send(session, text))
    time.sleep(moment)
    FAULTS[name](rand)
    began = time.monotonic()
    events = bb.wait_for(f"end of {session} after {name}:{seed}",
                         lambda: ended(session), 60)
    took = time.monotonic() - began
    assert any(e["id"] == sent for e in events), "the message is lost"
    assert patiently(lambda: gapless(session)), "a gap, or a doubled event"
    done = [counts().get(f"/v1/count/{session}-{k}", 0) for k in range(STEPS)]
    assert max(done) <= 1, f"a command ran twice: {done}"
    said = (bb.texts(events) or [""])[-1]
    if said == f"All {STEPS} steps succeeded.":
        assert done == [1] * STEPS, done
    else:
        assert any(e["type"] == "session.error" or e.get("is_error")
                   for e in events), said
    check = patiently(new_session)
    patiently(lambda: p.send(check, "```sh\necho next\n```"))
    events = bb.wait_for("the next session", lambda: ended(check), 60)
    assert bb.result_of(events)[1]["stdout"] == "next\n", events[-3:]
    assert sandboxes() == "0", "a lease is left over"
    return f"at {moment * 1000:.0f} ms: {said or 'ended with an error'}", took


def table(results):
    print(f"\n  {'fault':<18}{'runs':>6}{'failed':>8}{'finished':>10}"
          f"{'p50 s':>8}{'worst s':>9}")
    for name, rows in results.items():
        good = [r for r in rows if r is not None]
        times = sorted(t for _, t in good) or [0]
        whole = sum("succeeded" in said for said, _ in good)
        print(f"  {name:<18}{len(rows):>6}{len(rows) - len(good):>8}"
              f"{whole:>10}{times[len(times) // 2]:>8.1f}{times[-1]:>9.1f}")
    print()


def main():
    global AGENT, NATIVE, ENVIRONMENT
    AGENT, NATIVE, ENVIRONMENT = p.agent(), p.agent("native"), p.environment()
    only = os.environ.get("SEED", "")
    seeds = int(os.environ.get("SEEDS", "2"))
    names = os.environ.get("FAULTS", "").split() or list(FAULTS)
    runs = [(n, s) for n in names for s in range(seeds)]
    if only:
        name, _, seed = only.partition(":")
        runs = [(name, int(seed))]
    results, passed, failed = {}, 0, 0
    for name, seed in runs:
        start = time.monotonic()
        try:
            said, took = fault_once(name, seed)
            passed += 1
            results.setdefault(name, []).append((said, took))
            print(f"ok      {name}:{seed} {said} "
                  f"({time.monotonic() - start:.1f} s)", flush=True)
        except Exception as e:
            failed += 1
            results.setdefault(name, []).append(None)
            print(f"FAILED  SEED={name}:{seed}: {type(e).__name__}: {e}",
                  flush=True)
    table(results)
    try:
        print(f"ok      {p.replay_all()} sessions replay to their logs")
        passed += 1
    except AssertionError as e:
        failed += 1
        print(f"FAILED  replay: {e}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
