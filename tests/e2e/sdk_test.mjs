// The published client, unmodified, against a running platform.
//
//   BRAINBOX_URL=http://127.0.0.1:8080 BRAINBOX_KEY=… node sdk_test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const options = {
  baseURL: process.env.BRAINBOX_URL ?? "http://127.0.0.1:8080",
  apiKey: process.env.BRAINBOX_KEY ?? "", maxRetries: 0,
};
const client = new Anthropic(options);
let agent, environment, session;

test("agents are made, read and listed", async () => {
  agent = await client.beta.agents.create({
    name: "from the SDK", model: "claude-test",
    metadata: { "brainbox.harness": "runbook" },
  });
  assert.match(agent.id, /^agent_/);
  assert.equal(agent.type, "agent");
  assert.equal((await client.beta.agents.retrieve(agent.id)).id, agent.id);
  const ids = [];
  for await (const a of client.beta.agents.list({ limit: 100 })) {
    ids.push(a.id);
    if (a.id === agent.id) break;
  }
  assert.ok(ids.includes(agent.id));
});

test("an environment and a session are made", async () => {
  environment = await client.beta.environments.create({ name: "from the SDK" });
  assert.match(environment.id, /^env_/);
  session = await client.beta.sessions.create({
    agent: agent.id, environment_id: environment.id, title: "sdk" });
  assert.match(session.id, /^sesn_/);
  assert.equal(session.status, "idle");
  const again = await client.beta.sessions.retrieve(session.id);
  assert.equal(again.title, "sdk");
});

test("a stream shows a turn from start to end", async () => {
  const stream = await client.beta.sessions.events.stream(session.id);
  const sent = await client.beta.sessions.events.send(session.id, { events: [
    { type: "user.message", content: [{ type: "text", text: "hello" }] }] });
  assert.equal(sent.data.length, 1);
  assert.match(sent.data[0].id, /^sevt_/);
  const seen = [];
  for await (const e of stream) {
    seen.push(e.type);
    if (e.type === "session.status_idle") break;
  }
  assert.ok(seen.includes("user.message"), seen);
  assert.ok(seen.includes("agent.message"), seen);
});

test("events are listed, and filtered by type", async () => {
  const types = [];
  for await (const e of client.beta.sessions.events.list(session.id, {
    types: ["user.message"], limit: 50 })) types.push(e.type);
  assert.deepEqual(types, ["user.message"]);
});

// What stands in for the brain in ingress's own tests asks no model.
const asksModel = Boolean(process.env.BRAINBOX_MODEL);
test("a custom tool is run by the client, a command is allowed by it",
     { skip: !asksModel && "needs a brain" }, async () => {
  const helper = await client.beta.agents.create({
    name: "with tools", model: "test-model",
    metadata: { "brainbox.harness": "native" },
    tools: [
      { type: "custom", name: "ticket", description: "Opens a ticket.",
        input_schema: { type: "object", properties: {} } },
      { type: "agent_toolset_20260401",
        default_config: { permission_policy: { type: "always_ask" } } },
    ],
  });
  const s = await client.beta.sessions.create({
    agent: helper.id, environment_id: environment.id });
  const { events } = client.beta.sessions;
  const stream = await events.stream(s.id);
  const script = [{ tools: [{ name: "ticket", arguments: {} },
    { name: "sandbox_execute", arguments: { command: "echo allowed" } }] },
    { text: "Done." }];
  await events.send(s.id, { events: [{ type: "user.message", content: [
    { type: "text", text: "SCRIPT:" + JSON.stringify(script) },
    { type: "image", source: { type: "base64", media_type: "image/gif",
      data: "R0lGODlhAQABAAAAACwAAAAAAQABAAA=" } }] }] });
  const calls = {};
  const said = [];
  for await (const e of stream) {
    if (e.type.endsWith("tool_use")) calls[e.id] = e;
    if (e.type === "agent.message") said.push(e.content[0].text);
    if (e.type !== "session.status_idle") continue;
    if (e.stop_reason.type === "end_turn") break;
    assert.equal(e.stop_reason.type, "requires_action");
    const answers = e.stop_reason.event_ids.map((id) =>
      calls[id].type === "agent.custom_tool_use"
        ? { type: "user.custom_tool_result", custom_tool_use_id: id,
            content: [{ type: "text", text: "T-1" }] }
        : { type: "user.tool_confirmation", tool_use_id: id,
            result: "allow" });
    assert.equal(answers.length, 2);
    await events.send(s.id, { events: answers });
  }
  assert.deepEqual(said, ["Done."]);
});

test("errors are the client's own classes", async () => {
  await assert.rejects(client.beta.agents.retrieve("agent_none"), (e) => {
    assert.ok(e instanceof Anthropic.NotFoundError);
    assert.equal(e.error.error.type, "not_found_error");
    assert.match(e.requestID, /^req_/);
    return true;
  });
  await assert.rejects(
    new Anthropic({ ...options, apiKey: "nobody" }).beta.agents.list(),
    (e) => e instanceof Anthropic.AuthenticationError);
  await assert.rejects(client.beta.agents.create({ nmae: 1 }), (e) => {
    assert.ok(e instanceof Anthropic.BadRequestError);
    assert.match(e.message, /nmae: unknown field/);
    return true;
  });
});
