// What waits for a person: calls of tools whose policy says so, and requests
// that an environment's network policy does not name.
import { useCallback, useEffect, useState } from "./vendor/hooks.module.js";
import { call, list } from "./api.js";
import { html } from "./html.js";

const POLL_MS = 2000;
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

/**
 * Requests of all sessions that wait for an answer, read again and again while
 * the page is seen. With a key that may not see them there are none.
 */
export function useApprovals() {
  const [approvals, setApprovals] = useState([]);
  const load = useCallback(async () => {
    if (document.visibilityState === "hidden") return true;
    try {
      const got = (await list("/platform/v1/approvals?limit=100")).data;
      setApprovals((old) => old.length || got.length ? got : old);
    } catch (err) {
      return err.status !== 401 && err.status !== 403;
    }
    return true;
  }, []);

  useEffect(() => {
    let timer = 0;
    const again = async () => {
      if (await load() && timer !== null) timer = setTimeout(again, POLL_MS);
    };
    again();
    return () => {
      clearTimeout(timer);
      timer = null;
    };
  }, []);
  return [approvals, load];
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
    <pre>${detail}</pre>
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

/** Of one session; nothing when nothing waits. */
export function Decisions({ id, events, approvals, onDecided }) {
  const calls = openCalls(events);
  if (!calls.length && !approvals.length) return null;
  return html`<section class="decisions" aria-label="Waiting for you"
      aria-live="polite">
    ${calls.map((e) => html`<${CallQuestion} key=${e.id} id=${id} e=${e} />`)}
    ${approvals.map((a) => html`<${RequestQuestion} key=${a.id} a=${a}
      onDone=${onDecided} />`)}
  </section>`;
}

/** Requests of other sessions, with the way there. */
export function Inbox({ approvals }) {
  if (!approvals.length) return null;
  return html`<nav class="card" aria-label="Waiting for you elsewhere">
    <h2>Waiting for you</h2>
    <ul class="sessions">
      ${approvals.map((a) => html`<li key=${a.id}>
        <a href=${"#/sessions/" + encodeURIComponent(a.session_id)}>
          <span class="session-title">${a.method} ${a.host}${a.path}</span>
          <time>${new Date(a.created_at).toLocaleTimeString()}</time>
        </a></li>`)}
    </ul>
  </nav>`;
}
