#!/usr/bin/env python3
"""Two brains over one database: when one dies in the middle of a turn, the other
goes on with it; and when one is drained, too."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__), model=False,
             env={"BRAINBOX_BRAIN_OPTIONS": "--lease-ms=1500 "
                  "--claim-poll-ms=600000"})
STEP = ("```sh\ncurl -sS --fail -X POST https://api.demo.test/v1/count/%s-%d"
        " && sleep 0.3\n```\n")


class Brain:
    """A second brain, on a socket of its own."""

    def __init__(self, poll_ms=600000):
        self.poll_ms = poll_ms

    def __enter__(self):
        folder = p.run + "/brain2"
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["chown", "brainbox-brain", folder], check=True)
        self.p = subprocess.Popen(
            ["unshare", "--net", "--", p.bin + "/brain_svc",
             "--user=brainbox-brain", "--instance=brain-2", "--lease-ms=1500",
             f"--claim-poll-ms={self.poll_ms}",
             f"--listen-ingress={folder}/brain.sock",
             f"--vault=unix:{p.run}/vault-brain/vault-brain.sock",
             f"--sandbox=unix:{p.run}/sandbox-brain/sandbox-brain.sock",
             f"--database=host={p.run}/pg dbname=brainbox user=brain_run",
             f"--assertion-key={p.run}/public/assertion.pub",
             f"--ca-file={p.run}/public/ca.pem"],
            stderr=open(p.state + "/log/brain-2.log", "a"))
        return self

    def __exit__(self, *exc):
        self.p.send_signal(signal.SIGTERM)
        assert self.p.wait(20) == 0


def owner(session):
    return p.sql(f"SELECT owner FROM brain.run WHERE session_id = '{session}'")


def last_event(session):
    return p.sql("SELECT type FROM brain.event WHERE session_id = "
                 f"'{session}' ORDER BY seq DESC LIMIT 1")


def begin():
    s = p.session(AGENT, ENVIRONMENT)
    p.send(s, "".join(STEP % (s, k) for k in range(4)))
    bb.wait_for("the turn", lambda: owner(s) == "brain-1")
    time.sleep(0.5)
    return s


def ended_by_the_other(s):
    with open(p.state + "/log/brain-2.log") as f:
        return any('"turn.ended"' in line and s in line for line in f)


def finished_elsewhere(s):
    bb.wait_for("the other brain", lambda: ended_by_the_other(s), 20)
    bb.wait_for("the end", lambda: last_event(s) == "session.status_idle", 30)
    counts = [sum(r["path"] == f"/v1/count/{s}-{k}" for r in p.requests())
              for k in range(4)]
    assert max(counts) <= 1, counts
    n, ids, top = p.sql("SELECT count(*), count(DISTINCT id), max(seq) FROM "
                        f"brain.event WHERE session_id = '{s}'").split("|")
    assert n == ids == top, (n, ids, top)


@p.test
def brain_that_is_killed_is_replaced_by_the_other():
    scan = p.run + "/services/brain_svc"
    s = begin()
    # The dead tell nobody: their runs are found by the poll.
    with Brain(poll_ms=500):
        pid = int(subprocess.check_output(["s6-svstat", "-o", "pid", scan]))
        subprocess.run(["s6-svc", "-O", scan], check=True)
        os.kill(pid, signal.SIGKILL)
        finished_elsewhere(s)
    subprocess.run(["s6-svc", "-uwU", "-T", "20000", scan], check=True)


@p.test
def brain_that_is_drained_hands_over_in_a_second():
    scan = p.run + "/services/brain_svc"
    s = begin()
    with Brain():
        start = time.monotonic()
        subprocess.run(["s6-svc", "-wD", "-T", "20000", "-d", scan],
                       check=True)
        assert time.monotonic() - start < 4
        finished_elsewhere(s)
    subprocess.run(["s6-svc", "-uwU", "-T", "20000", scan], check=True)


@p.test
def brain_hears_what_was_said_to_the_other():
    """A run that brain-2 holds, and an interrupt that brain-1 is sent."""
    scan = p.run + "/services/brain_svc"
    s = p.session(AGENT, ENVIRONMENT)
    p.send(s, "```sh\nsleep 2\n```\n```sh\nsleep 60\n```\n")
    bb.wait_for("the turn", lambda: owner(s) == "brain-1")
    with Brain():
        subprocess.run(["s6-svc", "-wD", "-T", "20000", "-d", scan],
                       check=True)
        bb.wait_for("the other brain", lambda: owner(s) == "brain-2")
        subprocess.run(["s6-svc", "-uwU", "-T", "20000", scan], check=True)
        bb.wait_for("brain-1", p.alive)
        p.interrupt(s)
        p.idle(s, seconds=10)
        assert ended_by_the_other(s)


@p.test
def turn_that_changed_hands_shows_it():
    scan = p.run + "/services/brain_svc"
    s = begin()
    subprocess.run(["s6-svc", "-wR", "-T", "20000", "-r", scan], check=True)
    bb.wait_for("the end", lambda: last_event(s) == "session.status_idle", 30)
    bb.wait_for("brain-1", p.alive)
    kinds = [e["type"] for e in p.events(s)]
    at = kinds.index("session.status_rescheduled")
    assert kinds[at + 1] == "session.status_running", kinds
    assert kinds.count("session.status_rescheduled") == 1, kinds


def post(session, owner_, lease_ms):
    """As a brain does; gives the fencing number (0: not claimed) and the rows
    that a run begins with."""
    body = ('{"id": "%s", "type": "user.interrupt", '
            '"processed_at": "2026-01-01T00:00:00Z"}')
    event = "sevt_" + os.urandom(10).hex()
    rows = p.sql(
        "SELECT p.fence, r.harness, r.seq FROM brain.event_post('default', "
        f"'{session}', ARRAY['{event}'], ARRAY['user.interrupt'], "
        f"ARRAY['{body % event}'], '{owner_}', {lease_ms}) p "
        "LEFT JOIN LATERAL brain.run_read("
        f"CASE WHEN p.fence > 0 THEN '{session}' END, '{{}}', 10) r ON true")
    return [row.split("|") for row in rows.split("\n")]


@p.test
def message_claims_a_run_that_nobody_holds_and_no_other():
    s = p.session(AGENT, ENVIRONMENT)
    rows = post(s, "brain-x", 60000)
    assert rows == [["1", "runbook", ""], ["1", "", "1"]], rows
    assert owner(s) == "brain-x"
    assert post(s, "brain-y", 60000) == [["0", "", ""]]
    assert owner(s) == "brain-x"
    # The lease ran out: the next message takes the run, under a new number.
    p.sql("UPDATE brain.run SET lease_until = now() - interval '1 s' "
          f"WHERE session_id = '{s}'")
    rows = post(s, "brain-y", 60000)
    assert [r[0] for r in rows] == ["2"] * 4 and owner(s) == "brain-y", rows
    # A brain that is being drained claims nothing: another hears of it.
    p.sql("UPDATE brain.run SET lease_until = now() - interval '1 s' "
          f"WHERE session_id = '{s}'")
    assert post(s, "", 60000) == [["0", "", ""]]
    bb.wait_for("brain-1", lambda: owner(s) in ("brain-1", ""))
    bb.wait_for("the end", lambda: owner(s) == "")


AGENT, ENVIRONMENT = p.agent(), p.environment()


@p.test
def every_session_above_replays_to_its_log():
    p.replay_all()


p.main()
