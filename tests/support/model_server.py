#!/usr/bin/env python3
"""A model gateway for tests: speaks /v1/chat/completions with streaming, tool
calls and usage, and follows a script.

usage: model_server.py DIR [PORT]

Listens on 127.0.0.1 and writes DIR/port. Each request is appended to
DIR/model.jsonl. The script is DIR/script.json, read anew for each request: a
list of answers, used in order, one a request (the last one again and again); an
answer is an object with any of

  text         the text of the answer, sent in pieces
  tools        list of {name, arguments (object, or a string sent as it is)}
  finish       finish_reason (default: "tool_calls" or "stop")
  status       an HTTP error instead, with `message` and `headers`
  cut          end the connection after so many pieces
  delay_ms     wait before each piece
  error        an error object in mid-stream, after the pieces
  runbook      true: take the fenced sh blocks of the user's message and call
               the two tools for them, one a request, then answer in words

A request whose last message holds "SCRIPT:" and a JSON list is answered by that
list instead, counted by the number of assistant messages behind it.
"""
import http.server
import json
import os
import re
import socket
import sys
import threading
import time

LOCK = threading.Lock()
COUNT = {"n": 0}


def fenced(text):
    return re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", text,
                      re.S | re.M)


def runbook_answer(messages):
    """The next step, judged by the calls behind the last user message."""
    last = max(i for i, m in enumerate(messages) if m["role"] == "user")
    steps = fenced(messages[last]["content"])
    calls = [c for m in messages[last:] if m["role"] == "assistant"
             for c in m.get("tool_calls") or []]
    results = [m for m in messages[last:] if m["role"] == "tool"]
    if not calls:
        return {"tools": [{"name": "sandbox_provision", "arguments":
                           {"task_description": "run the steps"}}]}
    if results and len(calls) > 1:
        try:
            if json.loads(results[-1]["content"]).get("exit_code"):
                return {"text": f"Step {len(calls) - 1} failed."}
        except ValueError:
            return {"text": f"Step {len(calls) - 1} failed."}
    done = len(calls) - 1
    if done < len(steps):
        return {"tools": [{"name": "sandbox_execute",
                           "arguments": {"command": steps[done]}}]}
    return {"text": f"All {len(steps)} steps succeeded."}


def scripted(folder, messages):
    for i in range(len(messages) - 1, -1, -1):
        content = messages[i].get("content") or ""
        if messages[i]["role"] == "user" and "SCRIPT:" in content:
            script = json.loads(content.split("SCRIPT:", 1)[1])
            n = sum(m["role"] == "assistant" for m in messages[i:])
            return script[min(n, len(script) - 1)]
    try:
        with open(os.path.join(folder, "script.json")) as f:
            script = json.load(f)
    except FileNotFoundError:
        script = [{"runbook": True}]
    with LOCK:
        n = COUNT["n"]
        COUNT["n"] += 1
    return script[min(n, len(script) - 1)]


def pieces(answer):
    """The deltas of an answer."""
    out = [{"role": "assistant", "content": ""}]
    text = answer.get("text", "")
    out += [{"content": text[i:i + 7]} for i in range(0, len(text), 7)]
    for k, tool in enumerate(answer.get("tools", [])):
        arguments = tool.get("arguments", {})
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        out.append({"tool_calls": [{
            "index": k, "id": f"call_{time.monotonic_ns()}_{k}",
            "type": "function",
            "function": {"name": tool["name"], "arguments": ""}}]})
        out += [{"tool_calls": [{"index": k, "function": {
            "arguments": arguments[i:i + 9]}}]}
            for i in range(0, len(arguments), 9)]
    return out


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = "."

    def log_message(self, *args):
        pass

    def chunk(self, value):
        data = value if isinstance(value, str) else json.dumps(value)
        data = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def refuse(self, answer):
        body = json.dumps({"error": {"message": answer.get(
            "message", "as scripted"), "type": "scripted"}}).encode()
        self.send_response(answer["status"])
        for k, v in answer.get("headers", {}).items():
            self.send_header(k, v)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, answer, prompt_tokens):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas = pieces(answer)
        for i, delta in enumerate(deltas):
            if answer.get("cut") == i:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            time.sleep(answer.get("delay_ms", 0) / 1000)
            self.chunk({"choices": [{"index": 0, "delta": delta,
                                     "finish_reason": None}]})
        if answer.get("error"):
            self.chunk({"error": answer["error"]})
        else:
            finish = answer.get("finish") or (
                "tool_calls" if answer.get("tools") else "stop")
            self.chunk({"choices": [{"index": 0, "delta": {},
                                     "finish_reason": finish}]})
            self.chunk({"choices": [], "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": len(deltas),
                "prompt_tokens_details": {"cached_tokens": 0}}})
            self.chunk("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = json.loads(body)
        with LOCK, open(os.path.join(self.folder, "model.jsonl"), "a") as f:
            f.write(json.dumps({"path": self.path, "headers": dict(
                self.headers.items()), "body": request}) + "\n")
        if self.path != "/v1/chat/completions":
            self.refuse({"status": 404, "message": "no such path"})
            return
        answer = scripted(self.folder, request["messages"])
        if answer.get("runbook"):
            answer = {**answer, **runbook_answer(request["messages"])}
        try:
            if "status" in answer:
                self.refuse(answer)
            else:
                self.stream(answer, len(body) // 4)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_GET(self):
        self.refuse({"status": 404, "message": "no such path"})


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    handler = type("ScriptHandler", (Handler,), {"folder": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    part = os.path.join(folder, "port.part")
    with open(part, "w") as f:
        f.write(str(server.server_port))
    os.rename(part, os.path.join(folder, "port"))
    server.serve_forever()


if __name__ == "__main__":
    main()
