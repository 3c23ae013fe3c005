#!/usr/bin/env python3
"""Ingress: real nginx with the module, in front of a brain and a vault that
are played by tests/support/fake_brain.c.  MODE=asan runs the other build."""
import base64
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_support import BUILD, MODE, Events, Ingress, main, \
    wait_for  # noqa: E402

RPC_CALL = os.path.join(BUILD, "tools", "rpc_call")

# error kind of lib/err.h: what ingress makes of it
KINDS = {
    "invalid": (400, "invalid_request_error"),
    "unauthenticated": (401, "authentication_error"),
    "denied": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "exists": (409, "conflict_error"),
    "conflict": (409, "conflict_error"),
    "precondition": (400, "invalid_request_error"),
    "limit": (429, "rate_limit_error"),
    "timeout": (504, "timeout_error"),
    "unavailable": (503, "overloaded_error"),
    "unimplemented": (501, "api_error"),
    "internal": (500, "api_error"),
}


def hasten(conf):
    """Short times, so that waiting is short."""
    conf = conf.replace("agent_heartbeat 15s", "agent_heartbeat 1s")
    return conf.replace("grpc_read_timeout 90s", "grpc_read_timeout 3s")


class Case(unittest.TestCase):
    edit = None

    @classmethod
    def setUpClass(cls):
        cls.i = Ingress(cls.edit)

    @classmethod
    def tearDownClass(cls):
        cls.i.stop()

    def refused(self, answer, status, kind, text=None):
        got, headers, body = answer
        self.assertEqual(got, status, body)
        self.assertEqual(set(body), {"type", "error", "request_id"})
        self.assertEqual(body["type"], "error")
        self.assertEqual(body["error"]["type"], kind)
        self.assertEqual(headers["request-id"], body["request_id"])
        self.assertRegex(body["request_id"], "^req_[0-9a-z]{26}$")
        if text:
            self.assertIn(text, body["error"]["message"])

    def ok(self, answer):
        self.assertEqual(answer[0], 200, answer[2])
        return answer[2]


class Routes(Case):
    def test_unknown_route_is_404_in_the_contract_s_form(self):
        for path in ("/v1/nope", "/v1/agents/", "/v1/agents/a/b/c",
                     "/platform/v1/x", "/v1/"):
            self.refused(self.i.ask("GET", path), 404, "not_found_error")

    def test_wrong_method_is_405_and_names_the_right_ones(self):
        answer = self.i.ask("PUT", "/v1/agents", {})
        self.refused(answer, 405, "invalid_request_error", "PUT")
        self.assertEqual(set(answer[1]["allow"].split(", ")),
                         {"GET", "POST"})

    def test_a_literal_segment_is_not_taken_for_a_parameter(self):
        self.refused(self.i.ask("GET", "/v1/sessions/sesn_0/events/x"),
                     404, "not_found_error")

    def test_path_parameters_are_decoded(self):
        self.refused(self.i.ask("GET", "/v1/agents/agent%5fstatus%5Fdenied"),
                     403, "permission_error", "on purpose")

    def test_health_and_openapi_need_no_key(self):
        self.assertEqual(self.i.ask("GET", "/healthz", key=None)[0], 200)
        doc = self.ok(self.i.ask("GET", "/openapi.json", key=None))
        self.assertIn("/v1/sessions/{session_id}/events/stream", doc["paths"])

    def test_dashboard_has_a_strict_policy(self):
        status, h, _ = self.i.ask("GET", "/", key=None)
        self.assertEqual(status, 200)
        self.assertEqual(
            h["content-security-policy"],
            "default-src 'none'; script-src 'self'; style-src 'self'; "
            "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'")
        self.assertEqual(h["x-content-type-options"], "nosniff")
        self.assertEqual(h["referrer-policy"], "no-referrer")


class Keys(Case):
    def test_without_a_key_it_is_401(self):
        self.refused(self.i.ask("GET", "/v1/agents", key=None), 401,
                     "authentication_error", "x-api-key")
        self.refused(self.i.ask("GET", "/v1/agents", key=None,
                                headers={"authorization": "Basic a2V5"}),
                     401, "authentication_error")
        self.refused(self.i.ask("GET", "/v1/agents", key="k" * 257), 401,
                     "authentication_error")

    def test_a_wrong_key_is_401_and_asked_for_once(self):
        before = len(self.i.calls("Resolve"))
        for _ in range(5):
            self.refused(self.i.ask("GET", "/v1/agents", key="key-wrong"),
                         401, "authentication_error", "invalid API key")
        self.assertEqual(len(self.i.calls("Resolve")), before + 1)

    def test_both_headers_carry_a_key_and_it_is_kept(self):
        self.i.move_generation()
        before = len(self.i.calls("Resolve"))
        for _ in range(5):
            self.ok(self.i.ask("GET", "/v1/agents"))
            self.ok(self.i.ask("GET", "/v1/agents", key=None, headers={
                "authorization": "Bearer key-good"}))
        self.assertEqual(len(self.i.calls("Resolve")), before + 1)

    def test_a_revoked_key_ends_when_the_generation_moves(self):
        self.ok(self.i.ask("GET", "/v1/agents", key="key-passing"))
        self.ok(self.i.ask("DELETE", "/platform/v1/keys/key_passing",
                           key="key-admin"))
        self.i.move_generation()
        self.refused(self.i.ask("GET", "/v1/agents", key="key-passing"), 401,
                     "authentication_error")

    def test_a_generation_file_made_anew_is_noticed(self):
        self.ok(self.i.ask("GET", "/v1/agents"))
        path = os.path.join(self.i.folder, "run/public/generation")
        os.unlink(path)
        self.i.move_generation()
        time.sleep(1.1)
        before = len(self.i.calls("Resolve"))
        self.ok(self.i.ask("GET", "/v1/agents"))
        self.assertEqual(len(self.i.calls("Resolve")), before + 1)

    def test_without_a_generation_file_nothing_is_kept(self):
        path = os.path.join(self.i.folder, "run/public/generation")
        os.rename(path, path + ".away")
        time.sleep(1.1)
        before = len(self.i.calls("Resolve"))
        for _ in range(3):
            self.ok(self.i.ask("GET", "/v1/agents"))
        self.assertEqual(len(self.i.calls("Resolve")), before + 3)
        os.rename(path + ".away", path)

    def test_a_scope_that_the_key_lacks_is_403(self):
        self.ok(self.i.ask("GET", "/v1/agents", key="key-read"))
        self.refused(self.i.ask("POST", "/v1/agents", {"name": "a"},
                                key="key-read"),
                     403, "permission_error", '"write"')
        self.refused(self.i.ask("GET", "/platform/v1/audit"), 403,
                     "permission_error", '"admin"')

    def test_services_see_the_assertion_and_nothing_of_the_caller(self):
        answer = self.i.ask("GET", "/v1/agents", headers={
            "cookie": "c=1", "x-custom": "1", "authorization": "Bearer x",
            "x-brainbox-assertion": "forged", "x-request-id": "forged"})
        self.ok(answer)
        call = self.i.calls("ListAgents")[-1]
        self.assertRegex(call["x-brainbox-assertion"], r"^fake\.key_good\.")
        self.assertEqual(call["x-request-id"], answer[1]["request-id"])
        for name in ("x-api-key", "authorization", "cookie", "x-custom",
                     "user-agent"):
            self.assertNotIn(name, call)

    def test_a_bound_route_gets_an_assertion_for_that_request(self):
        seen = set()
        for n in range(3):
            self.ok(self.i.ask("POST", "/v1/environments", {"name": "e%d" % n}))
            text = self.i.calls("CreateEnvironment")[-1]
            seen.add(text["x-brainbox-assertion"].split(".")[3])
        self.assertEqual(len(seen), 3)
        self.assertNotIn("", seen)

    def test_keys_stand_in_no_log(self):
        self.ok(self.i.ask("GET", "/v1/agents"))
        self.refused(self.i.ask("GET", "/v1/nope"), 404, "not_found_error")
        for name in ("ingress-access.log", "ingress-error.log"):
            self.assertNotIn("key-good", self.i.text("state/log/" + name))


class Input(Case):
    def bad(self, body, text, path="/v1/agents"):
        self.refused(self.i.ask("POST", path, body), 400,
                     "invalid_request_error", text)

    def test_malformed_json(self):
        self.bad('{"name": ', "body: JSON, line 1")
        self.bad('{"name": "a"} x', "body: JSON")
        self.bad('[1]', "body: must be an object, not an array")
        self.bad('"x"', "body: must be an object, not a string")

    def test_unknown_field_is_named(self):
        self.bad({"name": "a", "nmae": 1}, "nmae: unknown field")
        self.bad({"name": "a", "model_json": 1}, "model_json: unknown field")

    def test_wrong_type_is_named(self):
        self.bad({"name": 1}, "name: must be a string, not an integer")
        self.bad({"name": "a", "max_steps": "1"},
                 "max_steps: must be an integer, not a string")
        self.bad({"name": "a", "max_steps": 1.5}, "max_steps: must be an int")
        self.bad({"name": "a", "max_steps": 2 ** 31}, "max_steps: is out of")
        self.bad({"environment_ids": "e"}, "environment_ids: must be an array",
                 "/v1/sessions")
        self.bad({"environment_ids": ["e", 7]},
                 "environment_ids[1]: must be a string", "/v1/sessions")

    def test_duplicate_key(self):
        self.bad('{"name":"a","name":"b"}', "duplicate")
        self.bad('{"name":"a","metadata":{"x":"1","x":"2"}}', "duplicate")

    def test_nul_and_bad_utf8(self):
        self.bad('{"name":"a\\u0000b"}', "name: must not hold a NUL")
        self.bad('{"name":"a","metadata":{"k":["\\u0000"]}}',
                 "metadata.k[0]: must not hold a NUL")
        self.bad(b'{"name":"\xff"}', "body: must be UTF-8")

    def test_too_deep(self):
        self.bad('{"name":"a","metadata":' + "[" * 64 + "]" * 64 + "}",
                 "deeper than 64")
        self.bad("[" * 500000, "deeper than 64")
        body = '{"name":"a","metadata":' + "[" * 63 + "]" * 63 + "}"
        self.ok(self.i.ask("POST", "/v1/agents", body))

    def test_a_field_of_the_path_may_not_stand_in_the_body(self):
        self.bad({"session_id": "x", "events": []}, "session_id: is given",
                 "/v1/sessions/s/events")

    def test_body_too_large_by_length_and_in_chunks(self):
        big = b'{"name":"' + b"a" * (1 << 20) + b'"}'
        self.refused(self.i.ask("POST", "/v1/agents", big), 413,
                     "request_too_large")
        chunks = (big[k:k + 65536] for k in range(0, len(big), 65536))
        try:
            answer = self.i.ask("POST", "/v1/agents", body=chunks)
        except (BrokenPipeError, ConnectionResetError):
            self.skipTest("nginx closed before the answer could be read")
        self.refused(answer, 413, "request_too_large")

    def test_a_body_in_chunks_arrives(self):
        c = socket.create_connection(("127.0.0.1", self.i.port))
        c.sendall(b"POST /v1/agents HTTP/1.1\r\nhost: x\r\nx-api-key: key-good"
                  b"\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        for part in (b'{"na', b'me":"in ', b'pieces"}'):
            c.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(0.02)
        c.sendall(b"0\r\n\r\n")
        data = b""
        while True:
            more = c.recv(65536)
            if not more:
                break
            data += more
        c.close()
        self.assertIn(b'"name":"in pieces"', data)

    def test_empty_body_is_an_empty_object(self):
        agent = self.ok(self.i.ask("POST", "/v1/agents"))
        self.assertEqual(agent["name"], "")
        self.assertEqual(agent["harness"], "native")

    def test_a_body_on_get_is_refused_unless_empty(self):
        self.refused(self.i.ask("GET", "/v1/agents", '{"limit":1}'), 400,
                     "invalid_request_error", "body")
        self.ok(self.i.ask("GET", "/v1/agents", ""))

    def test_queries(self):
        def bad(query, text):
            self.refused(self.i.ask("GET", "/v1/agents?" + query), 400,
                         "invalid_request_error", text)
        bad("limt=1", "limt: unknown query parameter")
        bad("limit=a", "limit: must be an integer")
        bad("limit=1&limit=2", "limit: is given twice")
        bad("limit=99999999999", "limit: is out of range")
        bad("include_archived=1", "include_archived: must be true or false")
        bad("limit=%zz", "percent")
        self.ok(self.i.ask("GET", "/v1/agents?beta=true&limit=1&page=a%20b&"
                                  "include_archived=true"))
        self.i.ask("POST", "/v1/sessions/q/events", {"events": [
            {"type": "user.message", "content": []}]})
        for query in ("types[]=user.message&types[]=agent.message",
                      "types%5B%5D=user.message&types=agent.message"):
            got = self.ok(self.i.ask("GET", "/v1/sessions/q/events?" + query))
            self.assertEqual([e["type"] for e in got["data"]],
                             ["user.message", "agent.message"])

    def test_values_go_round_unchanged(self):
        body = {"name": "Ünïcode \U0001f600 \"quoted\" \\ \n",
                "description": "", "model": {"id": "m", "n": 2 ** 53 + 1},
                "metadata": {"k": "v", "": "\u2028"}, "tools": [], "system": None,
                "max_steps": 7}
        agent = self.ok(self.i.ask("POST", "/v1/agents", body))
        for k in ("name", "description", "model", "metadata", "max_steps"):
            self.assertEqual(agent[k], body[k])
        self.assertEqual(agent["tools"], [])
        self.assertIsNone(agent["archived_at"])
        self.assertEqual(agent["version"], 1)
        again = self.ok(self.i.ask("GET", "/v1/agents/" + agent["id"]))
        self.assertEqual(again, agent)

    def test_nginx_s_own_errors_have_the_contract_s_form(self):
        c = socket.create_connection(("127.0.0.1", self.i.port))
        c.sendall(b"POST /v1/agents HTTP/1.1\r\nhost: x\r\nx-api-key: key-good"
                  b"\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        data = c.recv(65536)
        c.close()
        self.assertTrue(data.startswith(b"HTTP/1.1 400"), data)
        self.assertIn(b'"type":"invalid_request_error"', data)


class Answers(Case):
    edit = staticmethod(hasten)

    def test_every_status_becomes_its_error(self):
        for kind, (status, name) in KINDS.items():
            self.refused(self.i.ask("GET", "/v1/agents/agent_status_" + kind),
                         status, name, "on purpose: 100 % \u00e9")

    def test_unknown_agent(self):
        self.refused(self.i.ask("GET", "/v1/agents/agent_none"), 404,
                     "not_found_error", "agent_id")

    def test_a_method_that_the_service_lacks(self):
        self.refused(self.i.ask("GET", "/v1/models"), 501, "api_error")

    def test_a_long_answer_is_whole(self):
        got = self.ok(self.i.ask("GET", "/v1/agents/agent_big"))
        self.assertEqual(got["name"], "x" * 1000000)

    def test_a_service_that_never_answers_is_504(self):
        self.refused(self.i.ask("GET", "/v1/agents/agent_slow"), 504,
                     "timeout_error")

    def test_delete_answers_with_what_is_gone(self):
        self.assertEqual(
            self.ok(self.i.ask("DELETE", "/v1/sessions/sesn_1")),
            {"id": "sesn_1", "type": "session_deleted"})

    def test_services_that_are_down_are_503_and_come_back(self):
        self.ok(self.i.ask("GET", "/v1/agents"))
        self.i.stop_fake()
        self.refused(self.i.ask("GET", "/v1/agents"), 503, "overloaded_error",
                     "cannot be reached")
        self.refused(self.i.ask("GET", "/v1/agents", key="key-read"), 503,
                     "overloaded_error", "keys cannot be checked")
        self.i.start_fake()
        self.ok(self.i.ask("GET", "/v1/agents"))
        self.ok(self.i.ask("GET", "/v1/agents", key="key-read"))


class Streams(Case):
    edit = staticmethod(hasten)

    def say(self, session, text):
        return self.ok(self.i.ask(
            "POST", "/v1/sessions/%s/events" % session, {"events": [
                {"type": "user.message",
                 "content": [{"type": "text", "text": text}]}]}))

    def stream(self, session, headers=None, query=""):
        s = Events(self.i, "/v1/sessions/%s/events/stream%s" % (
            session, query), headers)
        self.addCleanup(s.close)
        return s

    def test_events_arrive_as_they_happen(self):
        s = self.stream("live", {"accept": "application/json"})
        self.assertEqual((s.status, s.type), (200, "text/event-stream"))
        self.assertEqual(s.next()["event"], "ping")
        for n in range(3):
            self.say("live", "hello %d" % n)
            e = s.next_of("agent.message")
            self.assertRegex(e["id"], "^sevt_")
            data = json.loads(e["data"])
            self.assertEqual(data["content"][0]["text"],
                             "You said: hello %d" % n)
            self.assertEqual(data["id"], e["id"])

    def test_last_event_id_resumes_without_loss_or_repeat(self):
        self.say("resume", "a")
        self.say("resume", "b")
        s = self.stream("resume", query="?from_start=true")
        all_ids = [s.next_of(k)["id"] for k in (
            "user.message", "session.status_running", "agent.message",
            "session.status_idle") * 2]
        s.close()
        s = self.stream("resume", {"Last-Event-ID": all_ids[2]})
        rest = []
        while len(rest) < 5:
            e = s.next()
            if "id" in e:
                rest.append(e["id"])
        self.assertEqual(rest, all_ids[3:])

    def test_a_stream_that_fails_at_once_is_a_real_status(self):
        self.refused(
            self.i.ask("GET", "/v1/sessions/sesn_missing/events/stream"),
            404, "not_found_error", "no such session")

    def test_an_error_after_the_start_is_an_event(self):
        s = self.stream("sesn_broken")
        self.assertEqual(s.next(), {"event": "agent.message", "id": "sevt_1",
                                    "data": '{"n":\n1}'})
        e = s.next()
        self.assertEqual(e["event"], "error")
        data = json.loads(e["data"])
        self.assertEqual(data["error"], {"type": "overloaded_error", "message":
                                         "the brain is going down"})
        self.assertIsNone(s.next())

    def test_a_stream_that_ends_well_ends_without_an_error(self):
        s = self.stream("sesn_ends")
        self.assertEqual(s.next()["event"], "agent.message")
        self.assertIsNone(s.next())

    def test_a_brain_that_dies_is_an_error_event_and_an_end(self):
        s = self.stream("sesn_dies")
        self.assertEqual(s.next()["event"], "agent.message")
        e = s.next_of("error")
        self.assertEqual(json.loads(e["data"])["error"]["type"],
                         "overloaded_error")
        self.assertIsNone(s.next())
        wait_for("the end", lambda: self.i.fake.poll() is not None)
        self.i.fake_log.close()
        self.i.start_fake()

    def test_a_silent_stream_beats(self):
        s = self.stream("sesn_silent")
        self.assertEqual(s.next()["event"], "hello")
        start = time.monotonic()
        for _ in range(2):
            self.assertEqual(s.next(), {"event": "ping",
                                        "data": '{"type": "ping"}'})
        self.assertGreater(time.monotonic() - start, 1.5)
        self.assertLess(time.monotonic() - start, 6)

    def test_a_stream_over_http2_beats_too(self):
        out = subprocess.run(
            ["curl", "-sS", "-N", "-m", "3", "--http2-prior-knowledge", "-H",
             "x-api-key: key-good", "http://127.0.0.1:%d/v1/sessions/"
             "sesn_silent/events/stream" % self.i.grpc_port],
            capture_output=True)
        self.assertIn(b"event: hello\ndata: {\"type\":\"hello\"}\n\n",
                      out.stdout)
        self.assertGreaterEqual(out.stdout.count(b"event: ping\n"), 2)

    def test_a_slow_reader_holds_the_brain_back(self):
        def sent():
            rows = [json.loads(line) for line in
                    self.i.text("fake.log").splitlines()
                    if line.startswith('{"flood_sent"')]
            return rows[-1]["flood_sent"] if rows else 0
        base = sent()
        c = socket.create_connection(("127.0.0.1", self.i.port))
        self.addCleanup(c.close)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.sendall(b"GET /v1/sessions/sesn_flood/events/stream HTTP/1.1\r\n"
                  b"host: x\r\nx-api-key: key-good\r\n\r\n")
        wait_for("the flood", lambda: sent() > base)
        last = -1
        for _ in range(50):
            time.sleep(0.2)
            if sent() == last:
                break
            last = sent()
        else:
            self.fail("the flood never stood still")
        self.assertLess(last - base, 16 << 20)
        got = 0
        while got < last - base + (1 << 20):
            got += len(c.recv(1 << 20))
        wait_for("more", lambda: sent() > last)

    def test_a_reader_that_goes_away_ends_the_call(self):
        before = self.i.text("fake.log").count("follower_gone")
        s = self.stream("gone")
        self.assertEqual(s.next()["event"], "ping")
        s.close()
        wait_for("the end of the call", lambda: self.i.text("fake.log")
                 .count("follower_gone") > before)

    @unittest.skipIf(MODE == "asan", "ASan keeps freed memory")
    def test_a_long_stream_takes_no_more_memory(self):
        def rss():
            me = self.i.nginx.process.pid
            with open(f"/proc/{me}/task/{me}/children") as f:
                pids = f.read().split()
            out = []
            for pid in pids:
                with open(f"/proc/{pid}/status") as f:
                    out += [int(x.split()[1]) for x in f
                            if x.startswith("VmRSS")]
            return max(out)
        c = socket.create_connection(("127.0.0.1", self.i.port))
        c.sendall(b"GET /v1/sessions/sesn_flood/events/stream HTTP/1.1\r\n"
                  b"host: x\r\nx-api-key: key-good\r\n\r\n")

        def read(n):
            while n > 0:
                n -= len(c.recv(1 << 20))
        read(20 << 20)
        before = rss()
        read(200 << 20)
        after = rss()
        c.close()
        self.assertLess(after - before, 4096)

    def test_a_reload_loses_no_request_and_no_stream(self):
        s = self.stream("reload")
        self.assertEqual(s.next()["event"], "ping")
        stop, failed, done = threading.Event(), [], []

        def load():
            while not stop.is_set():
                status, _, body = self.i.ask("GET", "/v1/agents")
                (done if status == 200 else failed).append(body)
        threads = [threading.Thread(target=load) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(3):
            # Under ASan nginx is one process, which cannot reload.
            if MODE != "asan":
                self.i.nginx.signal(signal.SIGHUP)
            time.sleep(0.5)
        self.say("reload", "still there?")
        self.assertIsNotNone(s.next_of("agent.message"))
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual(failed, [])
        self.assertGreater(len(done), 20)


class GrpcCore(Case):
    """A client on gRPC core."""

    def call(self, method, message, *metadata, count=0):
        out = subprocess.run(
            [RPC_CALL, "-n", str(count), "127.0.0.1:%d" % self.i.grpc_port,
             "/agent.brain.v1." + method, json.dumps(message), *metadata],
            capture_output=True, text=True, timeout=30)
        return out.returncode, out.stdout, out.stderr

    def test_unary_calls_pass(self):
        rc, out, err = self.call("AgentService/CreateAgent", {"name": "core"},
                                 "authorization=Bearer key-good")
        self.assertEqual((rc, err), (0, ""))
        self.assertEqual(json.loads(out)["name"], "core")
        rc, out, err = self.call("EnvironmentService/CreateEnvironment",
                                 {"name": "bound"}, "x-api-key=key-good")
        self.assertEqual((rc, err), (0, ""))
        self.assertEqual(json.loads(out)["name"], "bound")

    def test_streams_pass(self):
        rc, out, err = self.call("EventService/StreamEvents",
                                 {"session_id": "sesn_ends"},
                                 "x-api-key=key-good")
        self.assertEqual((rc, err), (0, ""))
        self.assertEqual(json.loads(out)["event_id"], "sevt_1")

    def test_every_status_arrives(self):
        for kind in KINDS:
            _, _, err = self.call("AgentService/GetAgent", {
                "agent_id": "agent_status_" + kind}, "x-api-key=key-good")
            self.assertIn("on purpose: 100 % \u00e9", err)
        for _ in range(5):
            self.assertIn("status unauthenticated: an API key is needed",
                          self.call("AgentService/ListAgents", {})[2])
            self.assertIn("status denied: this needs an API key with scope",
                          self.call("AgentService/CreateAgent", {},
                                    "x-api-key=key-read")[2])
        self.assertIn("status unavailable: the brain is going down",
                      self.call("EventService/StreamEvents",
                                {"session_id": "sesn_broken"},
                                "x-api-key=key-good")[2])


def secret(n=36):
    """Of the shape github-personal, and as random as one."""
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "ghp_" + "".join(random.sample(letters, n))


def message(text):
    return {"events": [{"type": "user.message", "content": [
        {"type": "text", "text": text}]}]}


def frame(text):
    """A SendEventsRequest with this message."""
    event = json.dumps(message(text)["events"][0]).encode().ljust(200)
    return (b"\x0a\x06sesn_a\x12" + bytes([len(event) & 127 | 128,
                                           len(event) >> 7]) + event)


class Inbound(Case):
    EVENTS = "/v1/sessions/sesn_a/events"

    def taken(self):
        return [c for c in self.i.calls()
                if c["call"] in ("SendEvents", "CreateAgent")]

    def test_a_pasted_credential_reaches_nobody(self):
        value = secret()
        before = self.taken()
        for path, body in (
                (self.EVENTS, message("use " + value)),
                (self.EVENTS, message("a line\n" + value + "\nanother")),
                ("/v1/agents", {"name": "a", "system": "key=" + value})):
            answer = self.i.ask("POST", path, body)
            self.refused(answer, 400, "invalid_request_error",
                         "(shape github-personal)")
            self.assertIn("put it into a vault", answer[2]["error"]["message"])
        self.assertEqual(self.taken(), before)
        for name in ("fake.log", "state/log/ingress-error.log",
                     "state/log/ingress-access.log"):
            self.assertNotIn(value, self.i.text(name))
        self.assertIn('a credential of shape "github-personal"',
                      self.i.text("state/log/ingress-error.log"))

    def test_what_only_looks_a_little_like_one_passes(self):
        for text in ("ghp_" + "x" * 36, secret()[:-1], "x" + secret(),
                     "ya29." + secret()[4:] + secret()):  # only=log
            self.ok(self.i.ask("POST", self.EVENTS, message(text)))

    def test_the_vault_gets_credentials(self):
        body = {"auth": {"type": "environment_variable", "secret_name": "T",
                         "secret_value": secret()}}
        answer = self.i.ask("POST", "/v1/vaults/vlt_a/credentials", body)
        self.assertNotIn("(shape", json.dumps(answer[2]), answer)

    def test_grpc_calls_are_looked_through_too(self):
        path = "/agent.brain.v1.EventService/SendEvents"
        got = Grpc.call(self, path, frame("x " + secret()))
        self.assertEqual(got["grpc-status"], "3", got)
        self.assertIn("shape github-personal", got["grpc-message"])
        self.assertEqual(Grpc.call(self, path, frame("x"))["grpc-status"], "0")


def only_log(conf):
    return conf.replace("agent_heartbeat 15s;",
                        "agent_heartbeat 15s; agent_inbound_secrets log;")


class InboundLog(Case):
    edit = staticmethod(only_log)

    def test_a_line_in_the_log_is_all(self):
        value = secret()
        self.ok(self.i.ask("POST", Inbound.EVENTS, message(value)))
        log = self.i.text("state/log/ingress-error.log")
        self.assertIn('a credential of shape "github-personal"', log)
        self.assertNotIn(value, log)


def limit(conf):
    """One request a minute and key, and two more."""
    zone = ("limit_req_zone $agent_key_hash zone=by_key:1m rate=1r/m;"
            "limit_req_status 429; limit_req zone=by_key burst=2 nodelay;")
    return conf.replace("upstream brain {", zone + "upstream brain {", 1)


class Limits(Case):
    edit = staticmethod(limit)

    def burst(self, key, headers=None):
        return [self.i.ask("GET", "/v1/agents", key=key, headers=headers)
                for _ in range(12)]

    def test_what_is_over_a_limit_is_the_contract_s_429(self):
        answers = self.burst("key-good")
        self.ok(answers[0])
        self.refused(answers[-1], 429, "rate_limit_error", "too many requests")
        self.assertEqual(answers[-1][1]["retry-after"], "1")
        # Each key has its own, however it is sent.
        bearer = {"authorization": "Bearer key-read"}
        self.ok(self.i.ask("GET", "/v1/agents", key=None, headers=bearer))
        self.refused(self.burst("key-read")[-1], 429, "rate_limit_error")

    def test_grpc_clients_get_their_status(self):
        path = "/agent.brain.v1.AgentService/ListAgents"
        got = [Grpc.call(self, path, key="key-write") for _ in range(12)][-1]
        self.assertEqual(got["grpc-status"], "8", got)
        self.assertEqual(got["retry-after"], "1", got)

    def test_a_refusal_logs_no_key(self):
        self.burst("key-none")
        log = self.i.text("state/log/ingress-error.log")
        self.assertIn('limiting requests, excess: ', log)
        self.assertNotIn("key-none", log)


class Grpc(Case):
    """curl as a gRPC client: it can send what a good client would not."""

    def call(self, path, message=b"", key="key-good", headers=()):
        frame = b"\0" + struct.pack(">I", len(message)) + message
        args = ["curl", "-sS", "-m", "10", "--http2-prior-knowledge", "-D",
                "-", "-o", "/dev/null", "-X", "POST", "--data-binary", "@-",
                "-H", "content-type: application/grpc", "-H", "te: trailers",
                "-H", "user-agent: grpc-test"]
        if key:
            args += ["-H", "x-api-key: " + key]
        for h in headers:
            args += ["-H", h]
        args.append("http://127.0.0.1:%d%s" % (self.i.grpc_port, path))
        # When the answer is out before the body is in, nginx ends the stream
        # with RST_STREAM(NO_ERROR), as RFC 9113 8.1 says; curl 7.88 takes
        # that for an error (92) and, by chance, shows no headers then.
        for _ in range(50):
            out = subprocess.run(args, input=frame, capture_output=True)
            if out.returncode != 92:
                break
        self.assertEqual(out.returncode, 0, out.stderr)
        lines = out.stdout.decode().split("\r\n")
        fields = [x.split(": ", 1) for x in lines if ": " in x]
        return {name.lower(): value for name, value in fields}

    def test_a_call_passes_with_the_assertion(self):
        got = self.call("/agent.brain.v1.AgentService/ListAgents", headers=(
            "x-brainbox-assertion: forged", "x-custom: 1",
            "grpc-timeout: 5S"))
        self.assertEqual(got["grpc-status"], "0", got)
        call = self.i.calls("ListAgents")[-1]
        self.assertRegex(call["x-brainbox-assertion"], r"^fake\.key_good\.")
        self.assertNotIn("x-api-key", call)
        self.assertNotIn("x-custom", call)
        self.assertEqual(call["x-request-id"], got["request-id"])

    def test_refusals_are_grpc_statuses(self):
        path = "/agent.brain.v1.AgentService/"
        self.assertEqual(self.call(path + "ListAgents", key=None)
                         ["grpc-status"], "16")
        self.assertEqual(self.call(path + "ListAgents", key="no")
                         ["grpc-status"], "16")
        got = self.call(path + "CreateAgent", key="key-read")
        self.assertEqual(got["grpc-status"], "7")
        self.assertEqual(got[":status"] if ":status" in got else "200", "200")

    def test_the_field_that_is_wrong_is_in_the_details(self):
        got = self.call("/agent.brain.v1.SessionService/CreateSession",
                        b"\x0a\x01x")
        self.assertEqual(got["grpc-status"], "3", got)
        status = base64.b64decode(got["grpc-status-details-bin"] + "===")
        self.assertIn(b"google.rpc.ErrorInfo", status)
        self.assertIn(b"\x0a\x0eenvironment_id\x12\x0bis required",
                      status[status.index(b"google.rpc.BadRequest"):])

    def test_only_methods_with_a_route_are_there(self):
        for path in ("/agent.brain.v1.AgentService/Nope",
                     "/agent.vault.v1.GrantService/PutGrant",
                     "/agent.vault.v1.EgressService/Authorize",
                     "/agent.sandbox.v1.SandboxService/Execute"):
            self.assertEqual(self.call(path)["grpc-status"], "12", path)
        before = len(self.i.calls("Resolve"))
        got = self.call("/agent.vault.v1.IdentityService/Resolve")
        self.assertNotEqual(got.get("grpc-status"), "0")
        self.assertEqual(len(self.i.calls("Resolve")), before)

    def test_a_bound_method_is_hashed_as_it_came(self):
        path = "/agent.brain.v1.EnvironmentService/CreateEnvironment"
        got = self.call(path, b"\x0a\x03abc")
        self.assertEqual(got["grpc-status"], "0", got)
        # compressed flag: not what the hash would be of
        out = subprocess.run(
            ["curl", "-sS", "-m", "10", "--http2-prior-knowledge", "-D", "-",
             "-o", "/dev/null", "--data-binary", "@-", "-H",
             "content-type: application/grpc", "-H", "x-api-key: key-good",
             "http://127.0.0.1:%d%s" % (self.i.grpc_port, path)],
            input=b"\1\0\0\0\1x", capture_output=True)
        self.assertIn(b"grpc-status: 3", out.stdout)

    def test_rest_over_http2_works_too(self):
        out = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "-H",
             "x-api-key: key-good", "-d", '{"name":"h2"}',
             "http://127.0.0.1:%d/v1/agents" % self.i.grpc_port],
            capture_output=True)
        self.assertEqual(json.loads(out.stdout)["name"], "h2")


if __name__ == "__main__":
    main()
