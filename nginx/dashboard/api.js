// The platform's API as the page uses it: JSON calls, and an event stream that
// resumes by itself. The key lives in sessionStorage of this tab and goes into
// one header, nowhere else.

const KEY = "brainbox.key";

export const savedKey = () => sessionStorage.getItem(KEY) || "";
export const saveKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

export class ApiError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

async function errorOf(response) {
  let type = "api_error";
  let message = `The server answered ${response.status}.`;
  try {
    const body = await response.json();
    type = body.error.type;
    message = body.error.message;
  } catch {
    // Not an envelope: a proxy in between, perhaps.
  }
  return new ApiError(response.status, type, message);
}

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: {
        "x-api-key": savedKey(),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      redirect: "error",
    });
  } catch {
    throw new ApiError(0, "network", "The server cannot be reached.");
  }
  if (!response.ok) throw await errorOf(response);
  return response.json();
}

export const list = (path) => call("GET", path);

/** Cuts the text of an event stream into {event, id, data}. */
export class EventParser {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.clear();
  }

  clear() {
    this.event = "";
    this.id = undefined;
    this.data = [];
  }

  push(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.line(line.replace(/\r$/, ""));
  }

  line(line) {
    if (line === "") {
      if (this.data.length)
        this.onEvent({ event: this.event || "message", id: this.id,
                       data: this.data.join("\n") });
      this.clear();
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.event = value;
    else if (name === "id") this.id = value;
    else if (name === "data") this.data.push(value);
  }
}

const SILENCE_MS = 45000; // three heartbeats of the server
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15000];
const FINAL = new Set([400, 401, 403, 404]);

/**
 * Follows the events of a session from the first on, again and again from
 * where it broke, until `stop()`.
 *
 *   onEvent(object)        each event once, in order; deltas have no id
 *   onState({name, …})     "connecting", "live", "waiting" {seconds},
 *                          "ended" {reason}
 */
export function follow(sessionId, { onEvent, onState }) {
  const path = `/v1/sessions/${encodeURIComponent(sessionId)}/events/stream`;
  let lastId = "";
  let stopped = false;
  let failures = 0;
  let abort = null;
  let wake = () => {};

  async function once() {
    abort = new AbortController();
    const query = "?event_deltas[]=agent.message"
      + "&event_deltas[]=agent.thinking&event_deltas[]=agent.tool_result"
      + (lastId ? "" : "&from_start=true");
    const headers = { "x-api-key": savedKey(), accept: "text/event-stream" };
    if (lastId) headers["last-event-id"] = lastId;
    onState({ name: "connecting" });
    const response = await fetch(path + query, {
      headers, signal: abort.signal, credentials: "omit", cache: "no-store",
    });
    if (!response.ok) throw await errorOf(response);
    onState({ name: "live" });

    let over = false;
    const parser = new EventParser(({ event, id, data }) => {
      failures = 0;
      if (event === "ping") return;
      const value = JSON.parse(data);
      if (event === "error")
        throw new ApiError(0, value.error?.type, value.error?.message);
      if (id) lastId = id;
      if (event === "session.deleted" || event === "session.status_terminated")
        over = true;
      onEvent(value);
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const timer = setTimeout(() => abort.abort(), SILENCE_MS);
      const { value, done } = await reader.read()
        .finally(() => clearTimeout(timer));
      if (done) return over;
      parser.push(decoder.decode(value, { stream: true }));
    }
  }

  function pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  (async () => {
    while (!stopped) {
      try {
        if (await once()) {
          onState({ name: "ended", reason: "The session has ended." });
          return;
        }
      } catch (e) {
        if (stopped) return;
        if (e instanceof ApiError && FINAL.has(e.status)) {
          onState({ name: "ended", reason: e.message });
          return;
        }
      } finally {
        abort?.abort();
      }
      if (stopped) return;
      const ms = BACKOFF_MS[Math.min(failures++, BACKOFF_MS.length - 1)];
      onState({ name: "waiting", seconds: ms / 1000 });
      await pause(ms * (0.75 + Math.random() / 2));
    }
  })();

  return {
    stop() {
      stopped = true;
      abort?.abort();
      wake();
    },
    /** Do not wait any longer. */
    retry() {
      wake();
    },
  };
}
