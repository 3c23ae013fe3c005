// The page: sign in, list and start sessions, follow and steer one.
import { render } from "./vendor/preact.module.js";
import { useCallback, useEffect, useRef, useState }
  from "./vendor/hooks.module.js";
import { call, follow, forgetKey, list, savedKey, saveKey } from "./api.js";
import { Decisions, Inbox, StopForm, useWaiting } from "./decide.js";
import { Feed } from "./feed.js";
import { html } from "./html.js";
import { usePoll } from "./poll.js";

const NEW = "new:";
const LIST_MS = 5000;

// ---------------------------------------------------------------- sign in --

function SignIn({ onDone }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  async function submit(e) {
    e.preventDefault();
    setBusy(true);
    setError("");
    saveKey(key.trim());
    try {
      await list("/v1/agents?limit=1");
      onDone();
    } catch (err) {
      forgetKey();
      setError(err.message);
      setBusy(false);
    }
  }

  return html`<main class="sign-in">
    <form class="card" onSubmit=${submit}>
      <img src="icon.svg" alt="" width="44" height="44" />
      <h1>Brainbox</h1>
      <label for="key">API key</label>
      <input id="key" type="password" autocomplete="off" spellcheck="false"
        required autofocus value=${key}
        aria-describedby="key-hint" aria-invalid=${error ? "true" : "false"}
        onInput=${(e) => setKey(e.target.value)} />
      <p id="key-hint" class="hint">It stays in this tab and is forgotten when
        you close it.</p>
      ${error ? html`<p class="alert" role="alert">${error}</p>` : null}
      <button class="primary" disabled=${busy || !key.trim()}>
        ${busy ? "Signing in…" : "Sign in"}</button>
    </form>
  </main>`;
}

// ------------------------------------------------------------ new session --

function Choice({ id, label, items, fresh, value, onChange }) {
  return html`<label for=${id}>${label}</label>
    <select id=${id} value=${value} onChange=${(e) => onChange(e.target.value)}>
      ${items.map((item) => html`<option key=${item.id} value=${item.id}>
        ${item.name}${item.harness ? ` (${item.harness})` : ""}</option>`)}
      ${fresh.map(([v, text]) => html`<option key=${v} value=${NEW + v}>
        ${text}</option>`)}
    </select>`;
}

async function makeAgent(value) {
  if (!value.startsWith(NEW)) return value;
  const harness = value.slice(NEW.length);
  const agent = await call("POST", "/v1/agents",
                           { name: `Default ${harness} agent`, harness });
  return agent.id;
}

async function makeEnvironment(value) {
  if (!value.startsWith(NEW)) return value;
  const env = await call("POST", "/v1/environments",
                         { name: "Default environment" });
  return env.id;
}

function NewSession({ onCreated }) {
  const [agents, setAgents] = useState(null);
  const [environments, setEnvironments] = useState([]);
  const [agent, setAgent] = useState("");
  const [environment, setEnvironment] = useState("");
  const [title, setTitle] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  const load = useCallback(async () => {
    try {
      const [a, e] = await Promise.all([list("/v1/agents?limit=100"),
                                        list("/v1/environments?limit=100")]);
      setAgents(a.data);
      setEnvironments(e.data);
      // What was chosen meanwhile stays.
      setAgent((old) => old || (a.data[0]?.id ?? NEW + "native"));
      setEnvironment((old) => old || (e.data[0]?.id ?? NEW + "default"));
    } catch (err) {
      setError(err.message);
    }
  }, []);
  useEffect(() => { load(); }, []);

  async function submit(e) {
    e.preventDefault();
    setBusy(true);
    setError("");
    try {
      const body = { agent: await makeAgent(agent),
                     environment_id: await makeEnvironment(environment) };
      if (title.trim()) body.title = title.trim();
      const session = await call("POST", "/v1/sessions", body);
      setTitle("");
      setAgent(body.agent); // not made a second time
      setEnvironment(body.environment_id);
      await load();
      onCreated(session);
    } catch (err) {
      setError(err.message);
    }
    setBusy(false);
  }

  return html`<form class="new-session" onSubmit=${submit}
      aria-label="New session">
    <${Choice} id="agent" label="Agent" items=${agents ?? []} value=${agent}
      onChange=${setAgent} fresh=${[["native", "New agent: native"],
                                    ["runbook", "New agent: runbook"]]} />
    <${Choice} id="environment" label="Environment" items=${environments}
      value=${environment} onChange=${setEnvironment}
      fresh=${[["default", "New environment, no network"]]} />
    <label for="title">Title <span class="hint">(optional)</span></label>
    <input id="title" value=${title} maxlength="200"
      onInput=${(e) => setTitle(e.target.value)} />
    ${error ? html`<p class="alert" role="alert">${error}</p>` : null}
    <button class="primary" disabled=${busy || agents === null}>
      ${busy ? "Starting…" : "Start session"}</button>
  </form>`;
}

// --------------------------------------------------------------- sessions --

function SessionList({ sessions, more, current, onMore }) {
  if (sessions === null) return html`<p class="hint">Loading…</p>`;
  if (!sessions.length) return html`<p class="hint">No session yet.</p>`;
  return html`<ul class="sessions">
    ${sessions.map((s) => html`<li key=${s.id}>
      <a href=${"#/sessions/" + encodeURIComponent(s.id)}
          aria-current=${s.id === current ? "page" : null}>
        <span class="session-title">${s.title || s.agent?.name || s.id}</span>
        <span class=${"badge " + (s.status === "running" ? "on" : "")}>
          ${s.status}</span>
        <time>${new Date(s.created_at).toLocaleString()}</time>
      </a></li>`)}
  </ul>
  ${more ? html`<button onClick=${onMore}>Show more</button>` : null}`;
}

// ---------------------------------------------------------------- session --

function Connection({ state, onRetry }) {
  const text = {
    connecting: "Connecting…",
    live: "Live",
    waiting: `Connection lost, next try in ${state.seconds ?? 0} s`,
    ended: state.reason ?? "Ended",
  }[state.name];
  return html`<div class=${"connection " + state.name} role="status">
    <span class="dot" aria-hidden="true"></span>
    <span>${text}</span>
    ${state.name === "waiting"
      ? html`<button class="link" onClick=${onRetry}>Try now</button>` : null}
  </div>`;
}

/** What is seen of an event that comes about, with one delta more: the first
 *  that is seen, when the page came in the middle. */
const withDelta = (partial, { event_id: id, delta }) => ({
  id,
  type: delta?.type === "output_delta" ? "agent.tool_result" : "agent.message",
  text: (partial?.id === id ? partial.text : "")
    + String(delta?.content?.text ?? delta?.text ?? ""),
});

/** Events, the one that comes about, and the state of the connection. */
function useEvents(id, onStatus) {
  const [events, setEvents] = useState([]);
  const [partial, setPartial] = useState(null);
  const [state, setState] = useState({ name: "connecting" });
  const stream = useRef(null);

  useEffect(() => {
    // A long log arrives in bursts: one new array for each, not each event.
    const seen = new Set();
    let burst = [];
    let begun = ""; // the id of what comes about
    let timer = 0;
    const flush = () => {
      const batch = burst;
      burst = [];
      clearTimeout(timer);
      timer = 0;
      setEvents((old) => [...old, ...batch]);
    };
    setEvents([]);
    setPartial(null);
    const s = follow(id, {
      onState: setState,
      onEvent(e) {
        const type = String(e.type);
        if (type === "event_start") {
          begun = e.event?.id;
          setPartial({ id: begun, type: e.event?.type, text: "" });
        } else if (type === "event_delta") {
          begun = e.event_id;
          setPartial((old) => withDelta(old, e));
        } else if (!seen.has(e.id)) {
          seen.add(e.id);
          burst.push(e);
          timer ||= setTimeout(flush, 30);
          if (type === "session.status_idle" || e.id === begun) {
            setPartial(null);
            flush();
          }
          if (type.startsWith("session.status_"))
            onStatus(id, type.slice("session.status_".length));
        }
      },
    });
    stream.current = s;
    return () => {
      s.stop();
      clearTimeout(timer);
    };
  }, [id]);

  return { events, partial, state, retry: () => stream.current?.retry() };
}

function Composer({ id, running }) {
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  // One of each at a time: a message on its way holds back no interrupt.
  const [sending, setSending] = useState(false);
  const [stopping, setStopping] = useState(false);

  async function send(event, setBusy) {
    setBusy(true);
    setError("");
    try {
      await call("POST", `/v1/sessions/${encodeURIComponent(id)}/events`,
                 { events: [event] });
      if (event.type === "user.message") setText("");
    } catch (err) {
      setError(err.message);
    }
    setBusy(false);
  }

  const submit = (e) => {
    e.preventDefault();
    if (text.trim() && !sending)
      send({ type: "user.message", content: [{ type: "text", text }] },
           setSending);
  };
  const key = (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) submit(e);
  };

  return html`<form class="composer" onSubmit=${submit}>
    ${error ? html`<p class="alert" role="alert">${error}</p>` : null}
    <label for="message">Message</label>
    <textarea id="message" rows="3" value=${text} onKeyDown=${key}
      aria-describedby="send-hint"
      onInput=${(e) => setText(e.target.value)}></textarea>
    <div class="actions">
      <span id="send-hint" class="hint">Ctrl + Enter sends</span>
      <button type="button" disabled=${stopping || !running}
        onClick=${() => send({ type: "user.interrupt" }, setStopping)}
        >Interrupt</button>
      <button class="primary" disabled=${sending || !text.trim()}>Send</button>
    </div>
  </form>`;
}

function Session({ session, id, onStatus, waiting, onDecided }) {
  const { events, partial, state, retry } = useEvents(id, onStatus);
  const scroller = useRef(null);
  const stick = useRef(true);
  const [stopping, setStopping] = useState(false);

  // Stay at the end, unless the reader has scrolled up.
  useEffect(() => {
    const el = scroller.current;
    if (el && stick.current) el.scrollTop = el.scrollHeight;
  }, [events, partial, waiting]);
  const onScroll = () => {
    const el = scroller.current; // null: the page is at another session
    if (el) stick.current = el.scrollHeight - el.scrollTop - el.clientHeight < 80;
  };

  const last = events.findLast((e) =>
    String(e.type).startsWith("session.status_"));
  const running = last?.type === "session.status_running"
    || last?.type === "session.status_rescheduled";

  return html`<section class="session" aria-label="Session">
    <header>
      <a class="back" href="#/">Sessions</a>
      <h2>${session?.title || session?.agent?.name || "Session"}</h2>
      <code>${id}</code>
      <${Connection} state=${state} onRetry=${retry} />
      ${state.name === "ended" ? null
        : html`<button class="danger" aria-expanded=${stopping}
            onClick=${() => setStopping(!stopping)}>Stop…</button>`}
    </header>
    <div class="scroller" ref=${scroller} onScroll=${onScroll} tabindex="0">
      ${events.length || partial
        ? html`<${Feed} events=${events} partial=${partial} />`
        : html`<p class="hint empty">Nothing has happened yet.</p>`}
    </div>
    ${stopping ? html`<${StopForm} id=${id} onDone=${async () => {
      await onDecided();
      setStopping(false);
    }} />` : null}
    <${Decisions} id=${id} events=${events} waiting=${waiting}
      onDecided=${onDecided} />
    ${state.name === "ended" ? null
      : html`<${Composer} key=${id} id=${id} running=${running} />`}
  </section>`;
}

// -------------------------------------------------------------------- app --

const sessionInHash = () => {
  const m = /^#\/sessions\/([^/]+)$/.exec(location.hash);
  return m ? decodeURIComponent(m[1]) : "";
};

/** What is listed behind a page that was read anew, newest first. */
const older = (listed, page) => page.length
  ? (listed ?? []).filter((s) => s.created_at < page.at(-1).created_at) : [];

function Main({ onSignOut }) {
  const [sessions, setSessions] = useState(null);
  const [next, setNext] = useState(null);
  const [error, setError] = useState("");
  const [current, setCurrent] = useState(sessionInHash());
  const [waiting, readWaiting] = useWaiting();
  const known = useRef(null);
  known.current = sessions;

  const load = useCallback(async (page) => {
    try {
      const got = await list("/v1/sessions?limit=50"
        + (page ? `&page=${encodeURIComponent(page)}` : ""));
      setSessions((old) => page ? [...old, ...got.data]
        : [...got.data, ...older(old, got.data)]);
      // The list goes on where it did, unless its first page was all of it.
      setNext((old) => page || !older(known.current, got.data).length
        ? got.next_page : old);
      setError("");
    } catch (err) {
      if (err.status === 401) onSignOut();
      else setError(err.message);
    }
  }, []);
  const refresh = useCallback(() => load(), []);
  usePoll(refresh, LIST_MS);
  useEffect(() => {
    const onHash = () => setCurrent(sessionInHash());
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);

  const onStatus = useCallback((id, status) => setSessions((old) =>
    old?.map((s) => s.id === id ? { ...s, status } : s) ?? old), []);
  const onCreated = (session) => {
    setSessions((old) => [session, ...(old ?? [])]);
    location.hash = "#/sessions/" + encodeURIComponent(session.id);
  };

  return html`<div class=${"layout" + (current ? " has-session" : "")}>
    <aside>
      <header class="brand">
        <img src="icon.svg" alt="" width="28" height="28" />
        <h1>Brainbox</h1>
        <button class="link" onClick=${onSignOut}>Sign out</button>
      </header>
      <${Inbox} id=${current} waiting=${waiting} />
      <details class="card" open=${!current}>
        <summary>New session</summary>
        <${NewSession} onCreated=${onCreated} />
      </details>
      <nav aria-label="Sessions">
        <div class="nav-head">
          <h2>Sessions</h2>
          <button class="link" onClick=${() => load()}>Refresh</button>
        </div>
        ${error ? html`<p class="alert" role="alert">${error}</p>` : null}
        <${SessionList} sessions=${sessions} more=${next} current=${current}
          onMore=${() => load(next)} />
      </nav>
    </aside>
    <main>
      ${current
        ? html`<${Session} key=${current} id=${current} onStatus=${onStatus}
            waiting=${waiting} onDecided=${readWaiting}
            session=${sessions?.find((s) => s.id === current)} />`
        : html`<p class="hint empty">Start a session, or pick one.</p>`}
    </main>
  </div>`;
}

function App() {
  const [signedIn, setSignedIn] = useState(savedKey() !== "");
  const signOut = () => {
    forgetKey();
    setSignedIn(false);
  };
  return signedIn ? html`<${Main} onSignOut=${signOut} />`
                  : html`<${SignIn} onDone=${() => setSignedIn(true)} />`;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
