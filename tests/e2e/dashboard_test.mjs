// The dashboard in the distribution's chromium, against a running platform.
//
//   BRAINBOX_URL=http://127.0.0.1:8080 BRAINBOX_KEY=… node dashboard_test.mjs
//
// The browser talks through a proxy of this process, so that a test can cut
// the connection as a bad network would. CHROMIUM names another browser.
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, test as run } from "node:test";
import { chromium } from "playwright-core";

const target = new URL(process.env.BRAINBOX_URL ?? "http://127.0.0.1:8080");
const key = process.env.BRAINBOX_KEY ?? "";
const WAIT = 30000;

/** A TCP proxy that can go away and come back. */
class Wire {
  sockets = new Set();
  isCut = false;

  async open() {
    this.server = net.createServer((c) => {
      if (this.isCut) return c.destroy();
      const s = net.connect(target.port || 80, target.hostname);
      for (const [a, b] of [[c, s], [s, c]]) {
        this.sockets.add(a);
        a.on("error", () => {});
        a.on("close", () => { this.sockets.delete(a); b.destroy(); });
        a.pipe(b);
      }
      return undefined;
    });
    await new Promise((r) => this.server.listen(0, "127.0.0.1", r));
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  cut() {
    this.isCut = true;
    for (const s of this.sockets) s.destroy();
  }

  mend() { this.isCut = false; }

  close() { this.cut(); this.server.close(); }
}

const wire = new Wire();
let browser, page, base;
const complaints = [];

const api = async (method, path, body) => {
  const r = await fetch(new URL(path, target), {
    method, body: body && JSON.stringify(body),
    headers: { "x-api-key": key, "content-type": "application/json" } });
  assert.equal(r.status, 200, `${method} ${path}: ${await r.clone().text()}`);
  return r.json();
};

const sessionId = () => decodeURIComponent(
  new URL(page.url()).hash.replace("#/sessions/", ""));
const say = async (text) => {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
};
const live = () => page.locator(".connection.live").waitFor({ timeout: WAIT });
/** Waits until as many turns have ended. */
const turns = (n) => page.waitForFunction((want) =>
  [...document.querySelectorAll(".feed .line")]
    .filter((e) => e.textContent.trim().startsWith("Done")).length >= want,
  n, { timeout: WAIT });

/** What the session's log and the page say, for a failure. */
const state = async () => {
  const id = sessionId();
  const log = id && await api("GET", `/v1/sessions/${id}/events?limit=100`);
  return "log: " + JSON.stringify(log.data?.slice(-12)) + "\npage: "
    + JSON.stringify(await page.locator("body").innerText());
};
const test = (name, ...more) => run(name, ...more.slice(0, -1), async (t) => {
  const fn = more.at(-1);
  try {
    await fn(t);
  } catch (e) {
    t.diagnostic(await state().catch((why) => `no state: ${why}`));
    throw e;
  }
});
const canInterrupt = () => page.waitForFunction(() =>
  [...document.querySelectorAll("button")]
    .some((b) => b.textContent === "Interrupt" && !b.disabled), null,
  { timeout: WAIT });

before(async () => {
  base = await wire.open();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless=new", "--no-sandbox", "--disable-gpu",
           "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update",
           "--disable-sync"],
  });
  page = await browser.newPage();
  page.setDefaultTimeout(WAIT);
  page.on("pageerror", (e) => complaints.push(String(e)));
  page.on("console", (m) => {
    if (/Content Security Policy|Refused to/.test(m.text()))
      complaints.push(m.text());
  });
});

after(async () => {
  await browser?.close();
  wire.close();
});

test("a wrong key is refused, and says so", async () => {
  await page.goto(base);
  await page.getByLabel("API key").fill("key-of-nobody");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /key/i);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("a right key signs in and stays in this tab only", async () => {
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Sessions" }).waitFor();
  const where = await page.evaluate(() => [localStorage.length,
    document.cookie, sessionStorage.length]);
  assert.deepEqual(where, [0, "", 1]);
});

test("a session starts with an agent that is made on the way", async () => {
  await page.getByLabel("Agent", { exact: true }).selectOption("new:runbook");
  const env = page.getByLabel("Environment", { exact: true });
  await env.selectOption("new:default");
  await page.getByLabel("Title").fill("From the <i>browser</i>");
  await page.getByRole("button", { name: "Start session" }).click();
  await live();
  await page.getByRole("heading", { name: "From the <i>browser</i>" })
    .waitFor();
  const session = await api("GET", `/v1/sessions/${sessionId()}`);
  assert.equal(session.title, "From the <i>browser</i>");
  await page.locator(".sessions a[aria-current=page]").waitFor();
});

test("what is said and answered is shown, as text", async () => {
  const evil = "<img src=x onerror=\"window.pwned=1\"><b id=\"evil\">x</b>";
  await say("A step:\n\n```sh\necho '" + evil + "'\n```\n");
  await turns(1);
  const feed = await page.locator(".feed").innerText();
  assert.ok(feed.includes(evil), feed);
  assert.equal(await page.locator("#evil, .feed img").count(), 0);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.ok(await page.locator(".item.agent, .item.result").count() > 0);
});

test("after a cut connection the page resumes without loss or repeat",
     async () => {
  wire.cut();
  await page.locator(".connection.waiting").waitFor();
  assert.match(await page.locator(".connection").innerText(), /lost/);
  await api("POST", `/v1/sessions/${sessionId()}/events`, { events: [
    { type: "user.message", content: [{ type: "text",
      text: "while you were away\n\n```sh\necho gone-and-back\n```" }] }] });
  await new Promise((r) => setTimeout(r, 1500));
  assert.ok(!(await page.locator(".feed").innerText()).includes("away"));
  wire.mend();
  await live();
  await turns(2);
  assert.equal(await page.locator(".item.user").filter({
    hasText: "while you were away" }).count(), 1);
  const stored = await api("GET", `/v1/sessions/${sessionId()}/events`
    + "?limit=100&types[]=user.message&types[]=agent.message"
    + "&types[]=agent.tool_use&types[]=agent.tool_result");
  const shown = await page.locator(
    ".item.user, .item.agent, .item.tool, .item.result").count();
  assert.equal(shown, stored.data.length);
});

test("a turn can be interrupted", async () => {
  const stop = page.getByRole("button", { name: "Interrupt" });
  assert.ok(await stop.isDisabled());
  await say("```sh\nsleep 600\n```");
  await canInterrupt();
  await stop.click();
  await page.getByText("You interrupted").waitFor();
  await turns(3);
  assert.ok(await stop.isDisabled());
});

test("a message that is being sent holds back no interrupt", async () => {
  let answer;
  const answered = new Promise((r) => { answer = r; });
  await page.route(/\/events$/, async (route) => {
    const response = await route.fetch();
    await answered;
    await route.fulfill({ response });
  }, { times: 1 });
  await say("```sh\nsleep 600\n```");
  await canInterrupt();
  await page.getByRole("button", { name: "Interrupt" }).click();
  await turns(4);
  answer();
  await page.waitForFunction(() =>
    document.querySelector("#message").value === "", null, { timeout: WAIT });
});

/** A session that this key made elsewhere. */
const make = async (agent, environment, more) => {
  const session = await api("POST", "/v1/sessions", {
    agent: (await api("POST", "/v1/agents", {
      name: "asks", metadata: { "brainbox.harness": "runbook" }, ...agent })).id,
    environment_id: (await api("POST", "/v1/environments", {
      name: "asks", ...environment })).id, ...more });
  return session.id;
};
const tell = (id, text) => api("POST", `/v1/sessions/${id}/events`, { events: [
  { type: "user.message", content: [{ type: "text", text }] }] });
const open = (id) => page.goto(base + "/#/sessions/" + id);
// What stands in for the brain in ingress's own tests runs nothing.
const brain = { skip: !process.env.BRAINBOX_MODEL && "needs a brain" };
/** In a session of its own; then the page is where it was. */
const aside = (name, fn) => test(name, brain, async () => {
  const before_ = page.url();
  await fn();
  await page.goto(before_);
  await live();
});
const question = (name) => page.getByRole("group", { name });

aside("a command's output is shown while it runs", async () => {
  await open(await make());
  await live();
  await say("```sh\necho '<b>so far'; sleep 600\n```");
  await page.waitForFunction(() => document.querySelector(
    ".item.result.partial pre")?.textContent === "<b>so far\n", null,
    { timeout: WAIT });
  await page.getByRole("button", { name: "Interrupt" }).click();
  await turns(1);
  assert.equal(await page.locator(".partial").count(), 0);
});

aside("a call that waits is allowed or denied", async () => {
  const id = await make({ tools: [{ type: "agent_toolset_20260401",
    default_config: { permission_policy: { type: "always_ask" } } }] });
  await tell(id, "```sh\necho may-i\n```\n```sh\necho never\n```");
  await open(id);
  const ask = question("May the agent call sandbox_execute?");
  await ask.filter({ hasText: "echo may-i" }).waitFor();
  await ask.getByRole("button", { name: "Allow" }).click();
  await ask.filter({ hasText: "echo never" }).waitFor();
  assert.ok((await page.locator(".item.result").last().innerText())
    .includes("may-i"));
  await ask.getByLabel("Why not").fill("I said so");
  await ask.getByRole("button", { name: "Deny" }).click();
  await page.locator(".item.result.failed").filter({ hasText: "I said so" })
    .waitFor();
  await turns(1);
  assert.equal(await ask.count(), 0);
});

aside("a request that the policy does not name is answered, from anywhere",
      async () => {
  const id = await make({}, {
    config: { type: "cloud", networking: {
      type: "limited", allowed_hosts: ["other.demo.test"] } },
    metadata: { "brainbox.network": JSON.stringify({ mode: "ask" }) } });
  await tell(id, "```sh\ncurl -sS -o /dev/null -w '%{http_code}' "
    + "https://api.demo.test/v1/echo; echo\n```");
  const inbox = page.getByRole("navigation",
                               { name: "Waiting for you elsewhere" });
  await inbox.getByRole("link", { name: "GET api.demo.test/v1/echo" }).click();
  assert.equal(sessionId(), id);
  await page.locator(`.sessions a[href$="${id}"][aria-current=page]`)
    .getByText("running").waitFor(); // though another page made it
  const ask = question("May the agent reach api.demo.test?");
  await ask.getByText("GET https://api.demo.test:443/v1/echo").waitFor();
  await ask.getByRole("button", { name: "Allow once" }).click();
  await turns(1);
  assert.equal((await page.locator(".item.result pre").last().innerText())
    .trim(), "200");
  assert.equal(await ask.count() + await inbox.count(), 0);
});

aside("a session is stopped and resumed by a person", async () => {
  await open(await make());
  await live();
  await say("```sh\nsleep 600\n```");
  await canInterrupt();
  await page.getByRole("button", { name: "Stop…" }).click();
  const ask = question("Stop this session?");
  await ask.getByRole("button", { name: "Stop it" }).click();
  assert.match(await ask.getByRole("alert").innerText(), /Say why/);
  await ask.getByLabel("Why").fill("it runs <b>wild");
  await ask.getByRole("button", { name: "Stop it" }).click();
  const stopped = question("This session is stopped");
  await stopped.getByText("it runs <b>wild").waitFor();
  assert.equal(await ask.count(), 0);
  await turns(1);
  await say("are you there?");
  await page.locator(".composer").getByRole("alert").waitFor();
  await stopped.getByRole("button", { name: "Resume" }).click();
  await stopped.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await turns(2);
});

aside("a frozen session is seen from anywhere, and let go on", async () => {
  const hosts = { type: "limited", allowed_hosts: ["api.demo.test"] };
  const vault = await api("POST", "/v1/vaults", { display_name: "mine" });
  await api("POST", `/v1/vaults/${vault.id}/credentials`, { auth: {
    type: "environment_variable", secret_name: "API_TOKEN",
    secret_value: "a value of some length", networking: hosts } });
  const one = () => make({}, { config: { type: "cloud", networking: hosts } },
                         { vault_ids: [vault.id] });
  const other = await one();
  await open(other);
  await live();
  await say("```sh\necho $API_TOKEN\n```");
  await turns(1);
  const stub = (await page.locator(".item.result pre").last().innerText())
    .trim();
  const id = await one();
  await tell(id, `\`\`\`sh\ncurl -sS -H "Authorization: Bearer ${stub}" `
    + "https://api.demo.test/v1/echo\n```");
  await page.getByRole("navigation", { name: "Waiting for you elsewhere" })
    .getByRole("link", { name: "Frozen: it used a credential of another" })
    .click();
  assert.equal(sessionId(), id);
  const ask = question("This session is frozen");
  await ask.getByText("api.demo.test").waitFor();
  await ask.getByRole("button", { name: "Let it go on" }).click();
  await ask.waitFor({ state: "detached" });
  await turns(1);
  await say("```sh\necho thawed\n```");
  await page.locator(".item.result").filter({ hasText: "thawed" }).waitFor();
});

test("the keyboard sends, and everything has a name", async () => {
  const box = page.getByLabel("Message", { exact: true });
  await box.fill("by keyboard");
  await box.press("Control+Enter");
  await page.locator(".item.user").filter({ hasText: "by keyboard" })
    .waitFor();
  await turns(5);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("input, select, textarea, button, a")]
      .filter((e) => !(e.labels?.length || e.textContent.trim()
        || e.getAttribute("aria-label"))).map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);
});

test("a reload shows the same session again", async () => {
  const before_ = await page.locator(".feed .item").count();
  await page.reload();
  await live();
  await turns(5);
  assert.equal(await page.locator(".feed .item").count(), before_);
});

test("what is chosen before the lists are there stays chosen", async () => {
  let go;
  const held = new Promise((r) => { go = r; });
  await page.route(/\/v1\/agents\?limit=100$/, async (route) => {
    await held;
    await route.continue();
  }, { times: 1 });
  await page.reload();
  const agent = page.getByLabel("Agent", { exact: true });
  await page.getByText("New session", { exact: true }).click();
  await agent.selectOption("new:runbook");
  const answered = page.waitForResponse(/\/v1\/agents\?limit=100$/);
  go();
  await answered;
  await page.waitForFunction(() =>
    document.querySelectorAll("#agent option").length > 2, null,
    { timeout: WAIT });
  assert.equal(await agent.inputValue(), "new:runbook");
});

test("it fits a narrow screen", async () => {
  await page.setViewportSize({ width: 390, height: 800 });
  assert.ok(await page.evaluate(() =>
    document.documentElement.scrollWidth <= innerWidth));
  await page.getByRole("link", { name: "Sessions" }).click();
  await page.getByRole("heading", { name: "Sessions" }).waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
});

test("signing out forgets the key", async () => {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("nothing broke the content policy on the way", () => {
  assert.deepEqual(complaints, []);
});
