// What waits for a person: calls of tools whose policy says so, requests that an
// environment's network policy does not name, sessions that are frozen or
// stopped.
import { useCallback, useRef, useState } from "./vendor/hooks.module.js";
import { call, list } from "./api.js";
import { html } from "./html.js";
import { usePoll } from "./poll.js";

const POLL_MS = 3000;
const ANSWERS = new Set(["user.tool_confirmation", "user.custom_tool_result"]);

/** Calls that the session waits for, as their events. */
export function openCalls(events) {
  const at = events.findLastIndex((e) =>
    String(e.type).startsWith("session.status_"));
  const reason = events[at]?.stop_reason;
  if (reason?.type !== "requires_action" || !Array.isArray(reason.event_ids))
    return [];
  const answered = new Set(events.slice(at).filter((e) => ANSWERS.has(e.type))
    .map((e) => e.tool_use_id ?? e.custom_tool_use_id));
  const wanted = reason.event_ids.filter((id) => !answered.has(id));
  return events.filter((e) => wanted.includes(e.id));
}

const LISTS = {
  approvals: "/platform/v1/approvals?limit=100",
  incidents: "/platform/v1/incidents?limit=100",
  stops: "/platform/v1/stops",
};

/**
 * Approvals, incidents and stops of all sessions, read again and again while the
 * page is seen. What the key may not see is empty.
 */
export function useWaiting() {
  const [waiting, setWaiting] = useState({
    approvals: [], incidents: [], stops: [] });
  const denied = useRef(new Set());
  const load = useCallback(async () => {
    await Promise.all(Object.entries(LISTS).map(async ([name, path]) => {
      if (denied.current.has(name)) return;
      try {
        const { data } = await list(path);
        setWaiting((old) => old[name].length || data.length
          ? { ...old, [name]: data } : old);
      } catch (err) {
        if (err.status === 401 || err.status === 403) denied.current.add(name);
      }
    }));
  }, []);

  usePoll(load, POLL_MS);
  return [waiting, load];
}

/** `answers`: [text of the button, what it sends]. */
function Question({ title, detail, hint, answers, onDone, children }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");

  async function answer(send) {
    setBusy(true);
    setError("");
    try {
      await send();
      await onDone?.();
    } catch (err) {
      setError(err.message);
    }
    setBusy(false);
  }

  return html`<div class="question" role="group" aria-label=${title}>
    <p class="item-title">${title}</p>
    ${detail ? html`<pre>${detail}</pre>` : null}
    ${hint ? html`<p class="hint">${hint}</p>` : null}
    ${children}
    ${error ? html`<p class="alert" role="alert">${error}</p>` : null}
    <div class="actions">
      ${answers.map(([text, send], i) => html`<button type="button" key=${text}
        class=${i ? "" : "primary"} disabled=${busy}
        onClick=${() => answer(send)}>${text}</button>`)}
    </div>
  </div>`;
}

function CallQuestion({ id, e }) {
  const [why, setWhy] = useState("");
  const command = e.input?.command;
  const detail = typeof command === "string"
    ? command : JSON.stringify(e.input, null, 2) ?? "";

  if (e.type === "agent.custom_tool_use")
    return html`<${Question} title=${"Waits for your program: " + String(e.name)}
      detail=${detail} answers=${[]}
      hint="A client of the API runs this tool and sends its result." />`;

  const confirm = (result) => () => call("POST",
    `/v1/sessions/${encodeURIComponent(id)}/events`, { events: [{
      type: "user.tool_confirmation", tool_use_id: e.id, result,
      ...(result === "deny" && why.trim() ? { deny_message: why.trim() } : {}),
    }] });
  const input = "why-" + e.id;
  return html`<${Question} title=${"May the agent call " + String(e.name) + "?"}
      detail=${detail} answers=${[["Allow", confirm("allow")],
                                  ["Deny", confirm("deny")]]}>
    <label for=${input}>Why not <span class="hint">(optional, the agent reads
      it)</span></label>
    <input id=${input} value=${why} maxlength="500"
      onInput=${(ev) => setWhy(ev.target.value)} />
  <//>`;
}

function RequestQuestion({ a, onDone }) {
  const decide = (decision, scope) => () => call("POST",
    `/platform/v1/approvals/${encodeURIComponent(a.id)}/decide`,
    { decision, ...(scope ? { scope } : {}) });
  const carried = a.credential_ids?.length ?? 0;
  return html`<${Question} title=${`May the agent reach ${String(a.host)}?`}
    detail=${`${a.method} ${a.scheme}://${a.host}:${a.port}${a.path}`}
    hint=${carried ? `It would carry ${a.credential_ids.join(", ")}.`
                   : "It would carry no credential."}
    answers=${[["Allow once", decide("approve")],
               ["Allow for this session", decide("approve", "session")],
               ["Deny", decide("deny")]]}
    onDone=${onDone} />`;
}

const KINDS = {
  stub_foreign: "it used a credential of another session",
  stub_guessing: "it guesses at credentials",
  scrub_hits: "answers held values of credentials too often",
  known_value_out: "a value of a credential was on its way out",
};

function Frozen({ incident, onDone }) {
  const kind = String(incident.kind);
  return html`<${Question}
    title=${"This session is frozen: " + (KINDS[kind] ?? kind)}
    detail=${JSON.stringify(incident.detail, null, 2) ?? ""}
    hint="Nothing of it leaves until a person lets it go on."
    answers=${[["Let it go on", () => call("POST",
      `/platform/v1/incidents/${encodeURIComponent(incident.id)}/resolve`,
      {})]]}
    onDone=${onDone} />`;
}

function Stopped({ stop, onDone }) {
  const ofOne = stop.scope === "session";
  const resume = () => call("POST", "/platform/v1/stops/resume",
                            ofOne ? { session_id: stop.session_id } : {});
  return html`<${Question}
    title=${ofOne ? "This session is stopped" : "All sessions are stopped"}
    detail=${String(stop.reason)}
    answers=${stop.scope === "all" ? [] : [["Resume", resume]]}
    onDone=${onDone} />`;
}

/** Asks why, then stops the session at once. */
export function StopForm({ id, onDone }) {
  const [why, setWhy] = useState("");
  const stop = async () => {
    if (!why.trim()) throw new Error("Say why: whoever resumes it reads that.");
    await call("POST", "/platform/v1/stops",
               { session_id: id, reason: why.trim() });
  };
  return html`<section class="decisions" aria-label="Stop">
    <${Question} title="Stop this session?"
        hint="Its turn ends at once, and it takes no messages until it is resumed."
        answers=${[["Stop it", stop], ["Leave it", async () => {}]]}
        onDone=${onDone}>
      <label for="stop-why">Why</label>
      <input id="stop-why" value=${why} maxlength="200"
        onInput=${(e) => setWhy(e.target.value)} />
    <//>
  </section>`;
}

const isOf = (id) => (x) => x.session_id === id;

/** Of one session; nothing when nothing waits. */
export function Decisions({ id, events, waiting, onDecided }) {
  const calls = openCalls(events);
  const frozen = waiting.incidents.filter(isOf(id));
  const stops = waiting.stops.filter((s) =>
    s.scope !== "session" || s.session_id === id);
  const asks = waiting.approvals.filter(isOf(id));
  if (!calls.length && !frozen.length && !stops.length && !asks.length)
    return null;
  return html`<section class="decisions" aria-label="Waiting for you"
      aria-live="polite">
    ${stops.map((s) => html`<${Stopped} key=${s.scope} stop=${s}
      onDone=${onDecided} />`)}
    ${frozen.map((i) => html`<${Frozen} key=${i.id} incident=${i}
      onDone=${onDecided} />`)}
    ${calls.map((e) => html`<${CallQuestion} key=${e.id} id=${id} e=${e} />`)}
    ${asks.map((a) => html`<${RequestQuestion} key=${a.id} a=${a}
      onDone=${onDecided} />`)}
  </section>`;
}

/** Of all sessions but this one, with the way there. */
export function Inbox({ id, waiting }) {
  const there = [
    ...waiting.incidents.map((i) => ({ ...i, what: "Frozen: "
      + (KINDS[i.kind] ?? String(i.kind)) })),
    ...waiting.approvals.map((a) => ({ ...a,
      what: `${a.method} ${a.host}${a.path}` })),
  ].filter((x) => x.session_id !== id);
  if (!there.length) return null;
  return html`<nav class="card" aria-label="Waiting for you elsewhere">
    <h2>Waiting for you</h2>
    <ul class="sessions">
      ${there.map((x) => html`<li key=${x.id}>
        <a href=${"#/sessions/" + encodeURIComponent(x.session_id)}>
          <span class="session-title">${x.what}</span>
          <time>${new Date(x.created_at).toLocaleTimeString()}</time>
        </a></li>`)}
    </ul>
  </nav>`;
}
