// How events become a feed. Whatever comes from an agent is only ever the
// child of an element, so it is text; nothing of it becomes an attribute.
import { html } from "./html.js";

const LONG = 4000;

const timeOf = (at) => {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString();
};

export const textOf = (content) => {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((block) => typeof block?.text === "string"
    ? block.text : `[${String(block?.type ?? "block")}]`).join("");
};

const pretty = (value) => JSON.stringify(value, null, 2) ?? "";

function Output({ text }) {
  if (text.length <= LONG) return html`<pre>${text}</pre>`;
  return html`<details>
    <summary>${text.length.toLocaleString()} characters</summary>
    <pre>${text}</pre>
  </details>`;
}

function Item({ kind, title, at, children }) {
  return html`<li class=${"item " + kind}>
    <div class="item-head">
      <span class="item-title">${title}</span>
      <time>${timeOf(at)}</time>
    </div>
    ${children}
  </li>`;
}

function Line({ text, at, kind = "" }) {
  return html`<li class=${"line " + kind}>
    <span>${text}</span> <time>${timeOf(at)}</time>
  </li>`;
}

function ToolResult({ e }) {
  const text = textOf(e.content);
  let result = null;
  try {
    result = JSON.parse(text);
  } catch {
    // Any text is a result.
  }
  const isExec = result !== null && typeof result === "object"
    && ("stdout" in result || "exit_code" in result);
  const failed = e.is_error === true
    || (isExec && result.exit_code !== 0 && result.exit_code !== undefined);
  return html`<${Item} kind=${failed ? "result failed" : "result"} at=${e.processed_at}
      title=${isExec ? `Result, exit code ${String(result.exit_code)}` : "Result"}>
    ${isExec ? html`
      ${result.stdout ? html`<${Output} text=${String(result.stdout)} />` : null}
      ${result.stderr ? html`<div class="stderr">
        <${Output} text=${String(result.stderr)} /></div>` : null}`
    : html`<${Output} text=${text} />`}
  <//>`;
}

function ToolUse({ e }) {
  const command = e.input?.command;
  return html`<${Item} kind="tool" at=${e.processed_at}
      title=${"Tool: " + String(e.name)}>
    ${typeof command === "string"
      ? html`<${Output} text=${command} />`
      : html`<${Output} text=${pretty(e.input)} />`}
  <//>`;
}

const REASONS = {
  end_turn: "Done",
  requires_action: "Waits for an answer",
  budget_reached: "Done: the budget is used up",
};

const STATUS = {
  "session.status_running": "Working",
  "session.status_rescheduled": "Will go on shortly",
  "session.status_terminated": "The session has ended",
  "session.deleted": "The session was deleted",
};

function one(e) {
  const type = String(e.type);
  if (type === "user.message")
    return html`<${Item} kind="user" title="You" at=${e.processed_at}>
      <p class="text">${textOf(e.content)}</p><//>`;
  if (type === "agent.message")
    return html`<${Item} kind="agent" title="Agent" at=${e.processed_at}>
      <p class="text">${textOf(e.content)}</p><//>`;
  if (type === "user.interrupt")
    return html`<${Line} text="You interrupted" at=${e.processed_at} />`;
  if (type === "agent.tool_use" || type === "agent.custom_tool_use"
      || type === "agent.mcp_tool_use")
    return html`<${ToolUse} e=${e} />`;
  if (type === "agent.tool_result" || type === "agent.mcp_tool_result")
    return html`<${ToolResult} e=${e} />`;
  if (type === "session.error")
    return html`<${Item} kind="error" title="Error" at=${e.processed_at}>
      <p class="text">${String(e.error?.message ?? "no reason given")}</p><//>`;
  if (type === "session.status_idle") {
    const why = String(e.stop_reason?.type ?? "");
    return html`<${Line} at=${e.processed_at}
      text=${REASONS[why] ?? "Done: " + why} />`;
  }
  if (STATUS[type])
    return html`<${Line} text=${STATUS[type]} at=${e.processed_at} />`;
  if (type.startsWith("span.") || type.endsWith("thinking")) return null;
  return html`<${Item} kind="other" title=${type} at=${e.processed_at}>
    <details><summary>Details</summary><pre>${pretty(e)}</pre></details><//>`;
}

/** An event that comes about: {type, text so far}. */
function Partial({ type, text }) {
  if (type === "agent.thinking")
    return html`<li class="line partial"><span>Thinking…</span></li>`;
  const isOutput = type === "agent.tool_result";
  return html`<li class=${(isOutput ? "item result" : "item agent") + " partial"}>
    <div class="item-head">
      <span class="item-title">${isOutput ? "Output so far" : "Agent"}</span>
    </div>
    ${isOutput ? html`<pre>${text.slice(-LONG)}</pre>`
      : html`<p class="text">${text}</p>`}
  </li>`;
}

/** `events`: stored ones in order; `partial`: the one that comes about. */
export function Feed({ events, partial }) {
  return html`<ol class="feed" role="log" aria-label="Events of the session"
      aria-live="polite">
    ${events.map((e) => html`<${One} key=${e.id} e=${e} />`)}
    ${partial ? html`<${Partial} ...${partial} />` : null}
  </ol>`;
}

function One({ e }) {
  return one(e);
}
