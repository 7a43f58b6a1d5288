/** The page in a real browser: read by keyboard, on a phone, in the dark, by axe; what came over a wire stays text. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { openRecorder } from "../../../agent/record/recorder.ts";
import type { ApprovalSummary, Decided } from "../../../controller/approvals/store.ts";
import { createController, type HostState } from "../../../controller/main.ts";
import { flow, sampleLog, sessionA } from "../../agent/record/sample.ts";
import { axe, openBrowser } from "./browser.ts";

const skip = existsSync("/usr/bin/chromium") ? false : "chromium is not installed: apt-get install chromium";
const proven = "019a0000-0000-7000-8000-0000000000ff";
const held: ApprovalSummary = {
  user: "ada",
  database: "app",
  target: "orders-db",
  process: "psql[7]",
  cgroup: "/weir/run-1",
  text: "DELETE FROM users -- <img src=x onerror=\"document.title='owned'\"> \u202e\u001b[31m",
  rule: "ask-first",
  reason: "deletes are asked for",
  session: sessionA,
  protocol: "postgres",
  host: "runner-1",
  job: "github:42",
  identity: null,
  approvers: [],
  risks: ["It changes every row: there is no WHERE that narrows it."],
  highlights: ["delete", "users"],
  language: "sql",
  digest: "d".repeat(64),
};
const hostile = 'apiVersion: weir/v1\n# <img src=x onerror="document.title=\'owned\'"> \u202e "x"\n';
const bundle = {
  ...{
    id: "default",
    version: 8,
    by: "root on desk",
    atMs: Date.now() - 60_000,
    signer: "key-1",
    digest: "ef".repeat(32),
  },
  files: [
    { file: "a.yaml", text: hostile },
    { file: "b.yaml", text: `# ${"long ".repeat(400)}` },
  ],
};
const policies: HostState["policies"] = {
  latest: () => [bundle],
  version: (_, version) => (version === bundle.version ? bundle : null),
};
const limits = { timeoutMs: 600_000, onTimeout: "deny" } as const;
let browser: Browser;

before(async () => {
  if (skip === false) browser = await openBrowser();
});
after(async () => {
  await browser?.close();
});

async function open(t: TestContext, options: { dark?: boolean; phone?: boolean } = {}) {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-browser-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  await sampleLog(stateDir);
  const recorder = await openRecorder({ stateDir });
  recorder.append(proven, {
    type: "session-start",
    flow: { ...flow(proven), identity: { subject: "bob", issuer: "https://id.example", groups: [] } },
    target: "app",
    protocol: "postgres",
  });
  await recorder.close();
  const ended: string[] = [];
  const state: HostState = {
    agents: () => [
      {
        id: "a".repeat(16),
        name: "runner-1",
        health: "alive",
        heardAtMs: Date.now(),
        record: null,
        version: "0.1.0",
        pid: 1,
        scope: "host",
        onFailure: "closed",
        sinceMs: Date.now() - 60_000,
        sessions: 1,
        memoryBytes: 120_000_000,
        policy: {
          digest: "ab".repeat(32),
          mode: "enforce",
          follows: "default",
          version: 7,
          files: [{ file: "p.yaml", text: hostile }],
        },
      },
      {
        ...{ id: "b".repeat(16), name: "runner-<b>2</b>", health: "silent", heardAtMs: Date.now() - 300_000 },
        ...{ version: "0.1.0", scope: "host", onFailure: "open", sessions: 2, memoryBytes: 1, firewallRestored: 2 },
        ...{ problems: ["The record cannot be written."], publish: { behind: 1_204, problem: "away" } },
        policy: { digest: "cd".repeat(32), mode: "enforce", follows: "default", version: 6, files: [] },
        record: { size: 9, signed: 8, removed: 0, missing: 9, broken: null, lastAtMs: Date.now() - 400_000 },
      },
      { ...{ id: "c3", name: "c3", health: "unknown", heardAtMs: null, record: null } },
    ],
    policies,
    live: () => (ended.length === 0 ? [sessionA] : []),
    end: (session) => ended.push(session) > 0,
    refusal: () => null,
    loggedOut: () => {},
    note: () => {},
    revoke: async ({ subject, issuer, by }) => void ended.push(`${subject} of ${issuer} by ${by}`),
  };
  const controller = await createController({ stateDir, listen: { host: "127.0.0.1", port: 0 }, state });
  t.after(() => controller.close());
  const context = await browser.newContext({
    colorScheme: options.dark === true ? "dark" : "light",
    viewport: options.phone === true ? { width: 360, height: 740 } : { width: 1200, height: 900 },
  });
  t.after(() => context.close());
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await page.goto(controller.url ?? "");
  await page.waitForSelector("#state:text-is('live')");
  return { controller, page, ended, problems };
}

const go = async (page: Page, view: string, heading: string) => {
  await page.evaluate(`location.hash = "#/${view}"`);
  await page.waitForSelector(`h2:text-is("${heading}")`);
};

test("a held statement appears by itself, and is approved with a reason by the keyboard alone", { skip }, async (t) => {
  const { controller, page, problems } = await open(t);
  const outcomes: Decided[] = [];
  await page.waitForSelector("text=Nothing waits.");
  controller.approvals.hold(held, limits, (outcome) => outcomes.push(outcome));
  const card = await page.waitForSelector("#approvals > .card");
  assert.match(await page.title(), /^\(1\) Weir/);
  assert.match((await card.textContent()) ?? "", /DELETE FROM users.*<img src=x.*\\u\{202e\}\\u\{1b\}\[31m/s);
  assert.equal(await page.locator("#approvals mark").first().textContent(), "DELETE");
  await page.locator("#approvals input").fill("agreed with ada");
  // Something else happens meanwhile: what was typed stays.
  controller.approvals.hold({ ...held, text: "SELECT 2", digest: null }, limits, () => {});
  await page.waitForSelector("#approvals > .card:nth-child(2)");
  assert.equal(await page.locator("#approvals input").first().inputValue(), "agreed with ada");
  await page.locator("body").press("Escape");
  await page.evaluate("document.activeElement.blur()");
  await page.keyboard.press("j");
  await page.keyboard.press("a");
  await page.waitForSelector("#approvals > .card:nth-child(2)", { state: "detached" });
  assert.deepEqual(
    outcomes.map(({ decision, reason }) => [decision, reason]),
    [["approved", "agreed with ada"]],
  );
  assert.equal(await page.evaluate(`document.querySelectorAll("img").length`), 0);
  assert.deepEqual(problems, []);
});

test("denied by the button; the decided list says so; granted ahead the next one does not wait", {
  skip,
}, async (t) => {
  const { controller, page } = await open(t);
  const outcomes: Decided[] = [];
  const hold = () => controller.approvals.hold(held, limits, (outcome) => outcomes.push(outcome));
  hold();
  await page.click("#approvals .deny");
  await page.waitForSelector(".small .deny-text:text-is('denied')");
  hold();
  await page.waitForSelector("#approvals > .card");
  await page.selectOption("#approvals select", "10");
  await page.click("#approvals .approve");
  await page.waitForSelector(".small .allow-text:text-is('approved')");
  hold();
  await page.waitForSelector(".small .allow-text >> nth=1");
  assert.deepEqual(
    outcomes.map(({ decision }) => decision),
    ["denied", "approved", "approved"],
  );
});

test("sessions are found, opened, replayed and ended", { skip }, async (t) => {
  const { page, ended, problems } = await open(t);
  await go(page, "sessions", "Sessions");
  await page.waitForSelector("main li.card");
  assert.equal(await page.locator("main li.card").count(), 3);
  await page.fill("input[type=search]", "verdict:deny");
  await page.press("input[type=search]", "Enter");
  await page.waitForSelector("main li.card >> nth=1", { state: "detached" });
  await page.fill("input[type=search]", "nobody-has-this");
  await page.press("input[type=search]", "Enter");
  await page.waitForSelector("text=No session fits.");
  await go(page, `session/${sessionA}`, "Session");
  await page.waitForSelector(".entry");
  const all = await page.locator(".entry").count();
  assert.ok(all >= 2);
  await page.click("text=Replay");
  await page.waitForSelector(`.entry >> nth=${all - 1}`);
  await page.click("text=End this session");
  await page.waitForSelector("text=End this session", { state: "detached" });
  assert.deepEqual(ended, [sessionA]);
  assert.deepEqual(problems, []);
});

test("an identity is revoked after a second look", { skip }, async (t) => {
  const { page, ended } = await open(t);
  await go(page, `session/${proven}`, "Session");
  await page.click("text=Revoke this identity");
  assert.deepEqual(ended, []);
  await page.click("text=Sure? All flows of bob end");
  await page.waitForSelector("text=bob is revoked.");
  assert.deepEqual(ended, ["bob of https://id.example by web page"]);
});

test("the policy in force: its version, who has it, and its text, which stays text", { skip }, async (t) => {
  const { page, problems } = await open(t);
  await go(page, "agents", "Agents");
  await page.click("section.card a >> nth=0");
  await page.waitForSelector("h2:text-is('Policy')");
  // The heading is there before what is asked for.
  await page.waitForSelector("section.policy >> nth=2");
  const cards = await page.locator("section.policy").allTextContents();
  assert.match(cards[0] ?? "", /default, version 8Published; no agent has said.*by root on desk.*signed bykey-1/s);
  assert.match(cards[1] ?? "", /default, version 7in force onrunner-1modeenforcedigest(ab){32}.*p\.yaml/s);
  assert.match(cards[2] ?? "", /default, version 6The text of version 6 is not here.*runner-<b>2<\/b> \(silent\)/s);
  // The only file of a policy is open; by the keyboard it is closed and opened.
  const text = page.locator("section.policy >> nth=1 >> pre");
  assert.match((await text.textContent()) ?? "", /weir\/v1\n# <img src=x onerror=.*> \\u\{202e\}/s);
  assert.ok(await text.isVisible());
  await page.focus("summary:has-text('p.yaml')");
  await page.keyboard.press("Enter");
  assert.ok(!(await text.isVisible()));
  await page.keyboard.press("Enter");
  assert.ok(await text.isVisible());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate("document.activeElement.tagName"), "PRE", "what scrolls is reached");
  assert.equal(await page.evaluate(`document.querySelectorAll("img").length`), 0);
  assert.notEqual(await page.title(), "owned");
  assert.deepEqual(problems, []);
});

test("the record is verified, and how each agent is", { skip }, async (t) => {
  const { page } = await open(t);
  await go(page, "record", "Record");
  await page.click("text=Verify the record");
  await page.waitForSelector("output:has-text('OK:')");
  await go(page, "agents", "Agents");
  await page.waitForSelector("section.card >> nth=2");
  const cards = await page.locator("section.card").allTextContents();
  assert.match(cards[0] ?? "", /alive, heard \d+ s ago.*version 7 of default/s);
  assert.match(cards[1] ?? "", /runner-<b>2<\/b>SILENT for 5 min.*The record cannot be written\./s);
  assert.match(cards[1] ?? "", /Entry 9 is not here.*version 6 of default.*1204 entries: away.*put back: 2/s);
  assert.match(cards[2] ?? "", /c3has never said how it is/);
});

for (const [name, options] of [
  ["light, wide", {}],
  ["dark, phone", { dark: true, phone: true }],
] as const) {
  test(`axe finds nothing against WCAG AA: ${name}`, { skip }, async (t) => {
    const { controller, page } = await open(t, options);
    controller.approvals.hold(held, limits, () => {});
    const done = controller.approvals.hold({ ...held, text: "SELECT 1" }, limits, () => {});
    controller.approvals.decide(done?.id ?? "", "denied", "web page", "no");
    await page.waitForSelector("#approvals > .card");
    assert.deepEqual(await axe(page), []);
    await page.evaluate("document.querySelector('#approvals .approve').textContent = ''");
    assert.match((await axe(page)).join(), /button-name/, "axe would have said so");
    for (const [view, heading] of [
      ["sessions", "Sessions"],
      [`session/${sessionA}`, "Session"],
      ["agents", "Agents"],
      ["policy", "Policy"],
      ["record", "Record"],
    ] as const) {
      await go(page, view, heading);
      if (view === "policy") await page.click("summary:has-text('b.yaml')");
      await page.waitForLoadState("networkidle", { timeout: 1 }).catch(() => {});
      assert.deepEqual(await axe(page), [], view);
      const wide = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth");
      assert.ok(wide <= 0, `${view} is ${wide} px wider than the screen`);
    }
  });
}
