#!/usr/bin/env python3
"""kill -9 of each process at seeded moments of a session.

After each: the session reaches an end, no event is lost or doubled, no command
was run twice (the loopback host counts), and the next session works. A command
whose end nobody saw is an event, and ends a runbook's turn.

  SEEDS=20 kill_test.py      seeds for each process (2)
  SEED=brain_svc:7           that one alone
"""
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), model=False)
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


def new_session():
    return p.session(AGENT, ENVIRONMENT)


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


def kill_once(name, seed):
    moment = random.Random(f"{name}:{seed}").uniform(0, 0.9)
    session = patiently(new_session)
    text = "".join("```sh\n" + COMMAND % (session, k) + "\n```\n"
                   for k in range(STEPS))
    sent = patiently(lambda: p.send(session, text))
    time.sleep(moment)
    os.kill(bb.wait_for(f"{name} to run", lambda: pid_of(name)), 9)
    events = bb.wait_for(f"end of {session} after {name}:{seed}",
                         lambda: ended(session), 60)
    assert any(e["id"] == sent for e in events), "the message is lost"
    assert patiently(lambda: gapless(session)), "a gap, or a doubled event"
    done = [counts().get(f"/v1/count/{session}-{k}", 0) for k in range(STEPS)]
    assert max(done) <= 1, f"a command ran twice: {done}"
    said = bb.texts(events)[-1]
    if said == f"All {STEPS} steps succeeded.":
        assert done == [1] * STEPS, done
    else:
        assert any(e["type"] == "session.error" for e in events), said
    check = patiently(new_session)
    patiently(lambda: p.send(check, "```sh\necho next\n```"))
    events = bb.wait_for("the next session", lambda: ended(check), 60)
    assert bb.result_of(events)[1]["stdout"] == "next\n", events[-3:]
    return f"killed at {moment * 1000:.0f} ms: {said}"


def main():
    global AGENT, ENVIRONMENT
    AGENT, ENVIRONMENT = p.agent(), p.environment()
    only = os.environ.get("SEED", "")
    seeds = int(os.environ.get("SEEDS", "2"))
    runs = [(n, s) for n in PROCESSES for s in range(seeds)]
    if only:
        name, _, seed = only.partition(":")
        runs = [(name, int(seed))]
    passed = failed = 0
    for name, seed in runs:
        start = time.monotonic()
        try:
            said = kill_once(name, seed)
            passed += 1
            print(f"ok      {name}:{seed} {said} "
                  f"({time.monotonic() - start:.1f} s)", flush=True)
        except Exception as e:
            failed += 1
            print(f"FAILED  SEED={name}:{seed}: {type(e).__name__}: {e}",
                  flush=True)
    try:
        print(f"ok      {p.replay_all()} sessions replay to their logs")
        passed += 1
    except AssertionError as e:
        failed += 1
        print(f"FAILED  replay: {e}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
