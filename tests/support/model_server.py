#!/usr/bin/env python3
"""A model gateway for tests: speaks /v1/chat/completions, /v1/responses and
/v1/messages, streaming, and follows a script.

usage: model_server.py DIR [PORT]

Listens on 127.0.0.1 and writes DIR/port. Each request is appended to
DIR/model.jsonl, its body also as it came (`raw`). The script is
DIR/script.json, read anew for each request: a list of answers, used in order,
one a request (the last one again and again); an answer is an object with any of

  text         the text of the answer, sent in pieces
  thinking     thought before it, with a signature where the wire has one
  tools        list of {name, arguments (object, or a string sent as it is)}
  finish       "length" or "content_filter", in the wire's own words; another
               word is sent as it is (default: as the answer is)
  usage        {input, cache_read, cache_write, output, reasoning}, counted as
               the wire counts
  cost         the x-litellm-response-cost header
  status       an HTTP error instead, with `message` and `headers`
  fail_model   with `status`: only for this model
  cut          end the connection after so many pieces
  delay_ms     wait before each piece
  stall_ms     wait once, before piece `stall_at` (the first)
  endless      true: the text again and again
  broken       true: pieces that are no JSON
  error        an error object in mid-stream, after the pieces
  runbook      true: take the fenced sh blocks of the user's message and call
               the two tools for them, one a request, then answer in words

A request for a summary (its last message begins with "Write a summary") is
answered with "SUMMARY" and how many messages it was shown, or with nothing when
one of them says "NO SUMMARY".

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


def text_of(content):
    if isinstance(content, str):
        return content
    return "".join(b.get("text", "") for b in content or [])


# ---- requests, as one list of {role, text, calls} -----------------------------

def from_chat(body):
    return [{"role": m["role"], "text": text_of(m.get("content")),
             "calls": m.get("tool_calls") or []} for m in body["messages"]]


def from_responses(body):
    out = []
    for item in body["input"]:
        kind = item["type"]
        if kind == "message":
            out.append({"role": item["role"],
                        "text": text_of(item["content"]), "calls": []})
        elif kind == "function_call_output":
            out.append({"role": "tool", "text": text_of(item["output"]),
                        "calls": []})
        elif kind == "function_call":
            if not out or out[-1]["role"] != "assistant":
                out.append({"role": "assistant", "text": "", "calls": []})
            out[-1]["calls"].append(item)
    return out


def from_messages(body):
    out = []
    for m in body["messages"]:
        if m["role"] == "assistant":
            out.append({"role": "assistant", "text": text_of(
                [b for b in m["content"] if b["type"] == "text"]),
                "calls": [b for b in m["content"]
                          if b["type"] == "tool_use"]})
            continue
        for b in m["content"]:
            if b["type"] == "tool_result":
                out.append({"role": "tool", "text": text_of(b["content"]),
                            "calls": []})
            else:
                out.append({"role": "user", "text": b.get("text", ""),
                            "calls": []})
    return out


# ---- what to answer ------------------------------------------------------------

def runbook_answer(messages):
    """The next step, judged by the calls behind the last user message."""
    last = max(i for i, m in enumerate(messages) if m["role"] == "user")
    steps = fenced(messages[last]["text"])
    calls = [c for m in messages[last:] for c in m["calls"]]
    results = [m for m in messages[last:] if m["role"] == "tool"]
    if not calls:
        return {"tools": [{"name": "sandbox_provision", "arguments":
                           {"task_description": "run the steps"}}]}
    if results and len(calls) > 1:
        try:
            if json.loads(results[-1]["text"]).get("exit_code"):
                return {"text": f"Step {len(calls) - 1} failed."}
        except ValueError:
            return {"text": f"Step {len(calls) - 1} failed."}
    done = len(calls) - 1
    if done < len(steps):
        return {"tools": [{"name": "sandbox_execute",
                           "arguments": {"command": steps[done]}}]}
    return {"text": f"All {len(steps)} steps succeeded."}


def scripted(folder, messages):
    if messages[-1]["text"].startswith("Write a summary"):
        if any("NO SUMMARY" in m["text"] for m in messages):
            return {}
        return {"text": f"SUMMARY of {len(messages) - 1}, "
                        f"{time.monotonic_ns()}. Odd: \0 \\u0000."}
    for i in range(len(messages) - 1, -1, -1):
        text = messages[i]["text"]
        if messages[i]["role"] == "user" and "SCRIPT:" in text:
            script = json.loads(text.split("SCRIPT:", 1)[1])
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


def cut_up(text, n):
    return [text[i:i + n] for i in range(0, len(text), n)]


def arguments_of(tool):
    arguments = tool.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def call_id(k):
    return f"call_{time.monotonic_ns()}_{k}"


# ---- answers: each wire yields the pieces, then how it ends --------------------

def chat_pieces(answer, usage):
    def piece(delta, finish=None):
        return {"choices": [{"index": 0, "delta": delta,
                             "finish_reason": finish}]}
    yield piece({"role": "assistant", "content": ""})
    thinking = answer.get("thinking", "")
    for part in cut_up(thinking, 7):
        yield piece({"reasoning_content": part})
    if thinking:
        yield piece({"thinking_blocks": [
            {"type": "thinking", "thinking": "", "signature": "sig-chat"}]})
    for part in cut_up(answer.get("text", ""), 7):
        yield piece({"content": part})
    for k, tool in enumerate(answer.get("tools", [])):
        yield piece({"tool_calls": [{
            "index": k, "id": call_id(k), "type": "function",
            "function": {"name": tool["name"], "arguments": ""}}]})
        for part in cut_up(arguments_of(tool), 9):
            yield piece({"tool_calls": [{"index": k, "function": {
                "arguments": part}}]})
    if answer.get("error"):
        yield {"error": answer["error"]}
        return
    yield piece({}, answer.get("finish") or (
        "tool_calls" if answer.get("tools") else "stop"))
    yield {"choices": [], "usage": {
        "prompt_tokens": usage["input"], "completion_tokens": usage["output"],
        "prompt_tokens_details": {
            "cached_tokens": usage["cache_read"],
            "cache_creation_tokens": usage["cache_write"]},
        "completion_tokens_details": {
            "reasoning_tokens": usage["reasoning"]}}}
    yield "[DONE]"


def responses_pieces(answer, usage):
    def event(kind, **more):
        return {"type": kind, **more}
    yield event("response.created", response={"status": "in_progress"})
    at = 0
    if answer.get("thinking"):
        item = {"type": "reasoning", "id": f"rs_{at}", "summary": [],
                "encrypted_content": "sealed-thought"}
        yield event("response.output_item.added", output_index=at, item=item)
        for part in cut_up(answer["thinking"], 7):
            yield event("response.reasoning_summary_text.delta",
                        output_index=at, delta=part)
        yield event("response.output_item.done", output_index=at, item=item)
        at += 1
    if answer.get("text"):
        yield event("response.output_item.added", output_index=at,
                    item={"type": "message", "role": "assistant"})
        for part in cut_up(answer["text"], 7):
            yield event("response.output_text.delta", output_index=at,
                        delta=part)
        at += 1
    for k, tool in enumerate(answer.get("tools", [])):
        item = {"type": "function_call", "call_id": call_id(k),
                "name": tool["name"], "arguments": ""}
        yield event("response.output_item.added", output_index=at, item=item)
        for part in cut_up(arguments_of(tool), 9):
            yield event("response.function_call_arguments.delta",
                        output_index=at, delta=part)
        yield event("response.output_item.done", output_index=at, item=item)
        at += 1
    if answer.get("error"):
        yield event("error", **answer["error"])
        return
    total = {"input_tokens": usage["input"],
             "input_tokens_details": {"cached_tokens": usage["cache_read"]},
             "output_tokens": usage["output"],
             "output_tokens_details": {
                 "reasoning_tokens": usage["reasoning"]}}
    finish = answer.get("finish")
    if finish in ("length", "content_filter"):
        yield event("response.incomplete", response={
            "incomplete_details": {"reason": "content_filter" if finish ==
                                   "content_filter" else "max_output_tokens"},
            "usage": total})
    else:
        yield event("response.completed", response={"usage": total})


def messages_pieces(answer, usage):
    def event(kind, **more):
        return {"type": kind, **more}
    yield event("message_start", message={"usage": {
        "input_tokens": usage["input"], "output_tokens": 1,
        "cache_read_input_tokens": usage["cache_read"],
        "cache_creation_input_tokens": usage["cache_write"]}})
    yield event("ping")
    blocks = []
    if answer.get("thinking"):
        blocks.append(({"type": "thinking", "thinking": ""}, [
            {"type": "thinking_delta", "thinking": part}
            for part in cut_up(answer["thinking"], 7)] + [
            {"type": "signature_delta", "signature": "sig-messages"}]))
    if answer.get("text"):
        blocks.append(({"type": "text", "text": ""}, [
            {"type": "text_delta", "text": part}
            for part in cut_up(answer["text"], 7)]))
    for k, tool in enumerate(answer.get("tools", [])):
        blocks.append(({"type": "tool_use", "id": call_id(k),
                        "name": tool["name"], "input": {}}, [
            {"type": "input_json_delta", "partial_json": part}
            for part in cut_up(arguments_of(tool), 9)]))
    for at, (block, deltas) in enumerate(blocks):
        yield event("content_block_start", index=at, content_block=block)
        for delta in deltas:
            yield event("content_block_delta", index=at, delta=delta)
        yield event("content_block_stop", index=at)
    if answer.get("error"):
        yield event("error", error=answer["error"])
        return
    words = {"length": "max_tokens", "content_filter": "refusal"}
    finish = answer.get("finish")
    yield event("message_delta", delta={
        "stop_reason": words.get(finish, finish) or (
            "tool_use" if answer.get("tools") else "end_turn")},
        usage={"output_tokens": usage["output"]})
    yield event("message_stop")


WIRES = {"/v1/chat/completions": (from_chat, chat_pieces),
         "/v1/responses": (from_responses, responses_pieces),
         "/v1/messages": (from_messages, messages_pieces)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a piece goes out when it is written
    folder = "."

    def log_message(self, *args):
        pass

    def chunk(self, value):
        data = value if isinstance(value, str) else json.dumps(value)
        head = f"event: {value['type']}\n" if isinstance(
            value, dict) and "type" in value else ""
        data = f"{head}data: {data}\n\n".encode()
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

    def stream(self, answer, pieces, prompt_tokens):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        if "cost" in answer:
            self.send_header("x-litellm-response-cost", str(answer["cost"]))
        self.end_headers()
        usage = {"input": prompt_tokens, "cache_read": 0, "cache_write": 0,
                 "output": 1 + len(answer.get("text", "")) // 4,
                 "reasoning": 0, **answer.get("usage", {})}
        for i, piece in enumerate(pieces(answer, usage)):
            if answer.get("cut") == i:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            time.sleep(answer.get("delay_ms", 0) / 1000)
            if answer.get("stall_at", 0) == i:
                time.sleep(answer.get("stall_ms", 0) / 1000)
            self.chunk(piece if not answer.get("broken") else "{broken")
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        at = time.time()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = json.loads(body)
        with LOCK, open(os.path.join(self.folder, "model.jsonl"), "a") as f:
            f.write(json.dumps({"path": self.path, "headers": dict(
                self.headers.items()), "body": request,
                "raw": body.decode(), "at": at}) + "\n")
        if self.path not in WIRES:
            self.refuse({"status": 404, "message": "no such path"})
            return
        read, pieces = WIRES[self.path]
        messages = read(request)
        answer = scripted(self.folder, messages)
        if answer.get("runbook"):
            answer = {**answer, **runbook_answer(messages)}
        if answer.get("endless"):
            answer = {**answer, "text": answer["text"] * 100000}
        try:
            if "status" in answer and answer.get(
                    "fail_model", request["model"]) == request["model"]:
                self.refuse(answer)
            else:
                self.stream(answer, pieces, len(body) // 4)
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
    http.server.ThreadingHTTPServer.request_queue_size = 1024
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    # A caller that leaves is no news.
    server.handle_error = lambda *_: None
    part = os.path.join(folder, "port.part")
    with open(part, "w") as f:
        f.write(str(server.server_port))
    os.rename(part, os.path.join(folder, "port"))
    server.serve_forever()


if __name__ == "__main__":
    main()
