#!/usr/bin/env python3
"""Callers who do anything at any time: messages, interrupts, answers to what is
asked, was asked or never was, stops, new agent versions, streams that are left.
Nothing crashes, nothing is lost or doubled, and every session comes to rest.

SEED (default 1), SESSIONS (6) and STEPS (40 of each) say what is done; a failure
prints its seed.
"""
import collections
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bb  # noqa: E402

p = bb.enter(os.path.abspath(__file__))
SEED = int(os.environ.get("SEED", "1"))
SESSIONS = int(os.environ.get("SESSIONS", "6"))
STEPS = int(os.environ.get("STEPS", "40"))
PROVISION = {"name": "sandbox_provision",
             "arguments": {"task_description": "x"}}
TICKET = {"type": "custom", "name": "ticket", "description": "Opens a ticket.",
          "input_schema": {"type": "object", "properties": {
              "title": {"type": "string"}}}}
ASK = {"type": "agent_toolset_20260401",
       "default_config": {"permission_policy": {"type": "always_ask"}}}
NOBODY = "sevt_" + "0" * 26


def run(command):
    return {"name": "sandbox_execute", "arguments": {"command": command}}


def ticket():
    return {"name": "ticket", "arguments": {"title": "x"}}


ANSWERS = [
    [{"text": "Nothing to do."}],
    [{"tools": [PROVISION, run("echo one")]}, {"text": "Done."}],
    [{"tools": [PROVISION, run("sleep 0.3"), run("echo two")]},
     {"tools": [run("exit 3")]}, {"text": "Done."}],
    [{"tools": [ticket(), PROVISION]}, {"text": "Thanks."}],
    [{"tools": [ticket(), ticket(), run("true")]}, {"text": "Thanks."}],
    [{"text": "Long. " * 50, "delay_ms": 5}, {"text": "Done."}],
    [{"status": 400, "message": "as scripted"}],
    [{"text": "cut", "cut": 1}],
    [{"tools": [{"name": "none", "arguments": {}}]}, {"text": "Oh."}],
    [{"tools": [{"name": "sandbox_execute", "arguments": "{broken"}]},
     {"text": "Oh."}],
]


class Caller:
    """One session, and what was said to it."""

    def __init__(self, n):
        self.random = random.Random(SEED * 1000 + n)
        kind = n % 3
        self.agent = p.agent("runbook" if kind == 0 else "native", tools=[
            TICKET, *([ASK] if kind == 2 else [])] if kind else [])
        self.session = p.session(self.agent)
        self.sent, self.statuses = 0, collections.Counter()
        self.failure = None

    def post(self, *events):
        self.ask("POST", f"/v1/sessions/{self.session}/events",
                 {"events": list(events)})

    def ask(self, method, path, body=None):
        try:
            with p.open(method, path, body) as answer:
                self.statuses[answer.status] += 1
                return json.load(answer)
        except bb.Refused as e:
            self.statuses[e.status] += 1
            assert e.status in (400, 404, 409), f"{method} {path}: {e}"
            assert e.error["message"], e.body
            return None

    # ---- what a caller may do ----------------------------------------------
    def message(self):
        self.sent += 1
        text = f"message {self.sent} "
        text += self.random.choice([
            "", "```sh\necho x >>f; sleep 0.1\n```\n", "SCRIPT:" + json.dumps(
                self.random.choice(ANSWERS))])
        before = self.statuses[200]
        self.post({"type": "user.message", "content": [
            {"type": "text", "text": text}]})
        if self.statuses[200] == before:
            self.sent -= 1

    def interrupt(self):
        self.post({"type": "user.interrupt"})

    def answer(self):
        """A result or a permission, asked for or not, perhaps twice."""
        events = p.events(self.session)
        calls = [e["id"] for e in events if "tool_use" in e["type"]]
        call = self.random.choice([NOBODY, *calls[-4:]])
        self.post(self.random.choice([
            {"type": "user.custom_tool_result", "custom_tool_use_id": call,
             "content": [{"type": "text", "text": "7"}]},
            {"type": "user.tool_confirmation", "tool_use_id": call,
             "result": "allow"},
            {"type": "user.tool_confirmation", "tool_use_id": call,
             "result": "deny", "deny_message": "no"}]))

    def leave_a_stream(self):
        if not p.events(self.session):
            return  # it would wait for a heartbeat
        with p.open("GET", f"/v1/sessions/{self.session}/events/stream"
                    "?from_start=true") as stream:
            stream.read1(self.random.randrange(1, 400))

    def stop_and_resume(self):
        if self.ask("POST", "/platform/v1/stops", {
                "session_id": self.session, "reason": "a whim"}) is not None:
            time.sleep(self.random.random() / 10)
        self.ask("POST", "/platform/v1/stops/resume",
                 {"session_id": self.session})

    def change_the_agent(self):
        got = self.ask("GET", f"/v1/agents/{self.agent}")
        self.ask("POST", f"/v1/agents/{self.agent}", {
            "version": got["version"] - self.random.randrange(2),
            "name": f"test {self.random.random()}"})

    def wait(self):
        time.sleep(self.random.random() / 4)

    def nonsense(self):
        self.post(self.random.choice([
            {"type": "user.message"}, {"type": "agent.message", "content": []},
            {"type": "session.status_idle"}, {"type": "user.interrupt", "x": 1},
            {"type": "user.message", "content": []}]))

    STEPS = [message] * 5 + [interrupt] * 3 + [answer] * 4 + [wait] * 4 + [
        leave_a_stream, stop_and_resume, change_the_agent, nonsense]

    def run(self):
        try:
            for _ in range(STEPS):
                self.random.choice(self.STEPS)(self)
        except Exception as e:  # noqa: BLE001: told by the test's thread
            self.failure = e

    def come_to_rest(self):
        """Interrupts until nothing is waited for."""
        def rests():
            self.post({"type": "user.interrupt"})
            time.sleep(0.1)
            got = p.call("GET", f"/v1/sessions/{self.session}")
            last = p.events(self.session)[-1:]
            return got["status"] == "idle" and (
                not last or last[0]["type"] in ("session.status_idle",
                                                "user.interrupt"))
        bb.wait_for(f"rest of {self.session}", rests, 30)


def brain_pid():
    return subprocess.run(
        ["s6-svstat", "-o", "pid", p.run + "/services/brain_svc"], check=True,
        stdout=subprocess.PIPE, text=True).stdout.strip()


@p.test
def callers_who_keep_no_order_break_nothing():
    pid = brain_pid()
    callers = [Caller(n) for n in range(SESSIONS)]
    threads = [threading.Thread(target=c.run) for c in callers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for c in callers:
        assert c.failure is None, f"SEED={SEED}: {c.failure!r}"
        c.come_to_rest()
    assert brain_pid() == pid, f"SEED={SEED}: the brain began again"
    statuses = sum((c.statuses for c in callers), collections.Counter())
    assert statuses[200] > SESSIONS * STEPS / 4 and statuses[400], statuses
    for c in callers:
        said = [b["text"].split(" ")[1] for e in p.events(c.session)
                if e["type"] == "user.message" for b in e["content"]]
        assert said == [str(i + 1) for i in range(c.sent)], (SEED, c.session,
                                                             said, c.sent)
    errors = [e for e in bb.read_lines(p.state + "/log/brain_svc/current")
              if e["level"] == "error"]
    assert not errors, f"SEED={SEED}: {errors[:3]}"


@p.test
def what_they_did_replays_to_its_log():
    n = p.replay_all()
    assert n > SESSIONS / 2, n


if __name__ == "__main__":
    p.main()
