/**
 * The approver's story in a real browser, before a real agent: a bulk read in psql, a tool of an MCP server and a prompt
 * are held, seen, approved; the rows come masked; the session is replayed, the record verified; a live psql is ended.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { openBrowser } from "../controller/web/browser.ts";
import { startTestAgent, type TestAgent } from "../support/agent.ts";
import { type Aimock, readLines, sdkKeys, sdkMissing, sdkWords, startAimock } from "../support/aimock.ts";
import { type McpServers, mcpMissing, mcpUrls, mcpWords, readMcpLines, startMcpServers } from "../support/mcp.ts";
import { people } from "../support/mcp-customers.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const missing = existsSync("/usr/bin/chromium") ? (mcpMissing() ?? sdkMissing()) : "chromium is not installed";
const skip = process.getuid?.() === 0 ? (missing ?? false) : "needs root";

const policy = (caFile: string): string => `apiVersion: weir/v1
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
  mcp: { protocol: mcp, hosts: [mcp.internal], ports: [443], tls: { verify: full, ca: ${caFile} } }
rules:
  - { name: ask-for-bob, match: { tool: describe_customer }, verdict: hold, reason: "Somebody looks at it." }
  - name: big-read
    match: { target: orders, relation: customers }
    mask: [{ detector: credit-card, with: redact }]
    limit: { rows: 20, then: hold }
    record: result
  - { name: no-mail, match: { target: mcp }, mask: [{ detector: [email, ssn, credit-card], with: redact }] }
`;

/** The page of this agent, seen from its own namespace. */
async function openPage(agent: TestAgent, namespace: string): Promise<{ browser: Browser; page: Page }> {
  const url = /page: (\S+)/.exec(agent.output())?.[1] ?? "";
  const browser = await openBrowser(namespace);
  const page = await browser.newPage();
  await page.goto(url);
  await page.waitForSelector("#state:text-is('live')");
  return { browser, page };
}

const press = async (page: Page, verb: "approve" | "deny", reason: string): Promise<string> => {
  const card = await page.waitForSelector("#approvals > .card");
  const text = (await card.textContent()) ?? "";
  await page.fill("#approvals input", reason);
  await page.click(`#approvals .${verb}`);
  return text;
};

describe("the approver's page", { skip }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let servers: McpServers;
  let agent: TestAgent;
  let browser: Browser;
  let page: Page;

  before(async () => {
    net = await makeNamespacePair("page");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin(
      "CREATE TABLE customers AS SELECT i AS id, 'paid with 4111111111111111' AS note FROM generate_series(1, 60) i",
    );
    servers = await startMcpServers(net.b);
    agent = await startTestAgent({ namespace: net.a, policy: policy(servers.caFile), wrap: servers.withNames([]) });
    ({ browser, page } = await openPage(agent, net.a.name));
  });

  after(async () => {
    await browser?.close();
    await agent?.remove();
    await servers?.stop();
    await server?.stop();
    await net?.remove();
  });

  const psql = (sql: string) => agent.start(["psql", "-X", "-A", "-t", "-c", sql], { env: clientEnvironment(server) });

  test("a bulk read is held at the threshold, approved by a click, and the rows flow masked", async () => {
    const { done } = psql("SELECT id, note FROM customers ORDER BY id");
    const card = await press(page, "approve", "month end");
    assert.match(card, /More than 20 rows came: the rest waits\./);
    assert.match(card, /SELECT id, note FROM customers ORDER BY id/);
    assert.match(card, /processpsql\[\d+\]/);
    const { code, stdout } = await done;
    assert.equal(code, 0);
    assert.equal(stdout.trim().split("\n").length, 60);
    assert.doesNotMatch(stdout, /4111/);
  });

  test("a denial by a click reaches psql with its reason", async () => {
    const { done } = psql("SELECT count(*), note FROM customers c JOIN customers d USING (note) GROUP BY note, c.id");
    await press(page, "deny", "not before the weekend");
    const { code, stderr } = await done;
    assert.notEqual(code, 0);
    assert.match(stderr, /not before the weekend/);
  });

  test("the session is found, replayed with its masked rows, and the record verifies", async () => {
    await page.evaluate("location.hash = '#/sessions'");
    await page.fill("input[type=search]", "target:orders customers");
    await page.press("input[type=search]", "Enter");
    // Newest first: the last one is the read that was approved.
    await page.locator("main li.card a").last().click();
    await page.waitForSelector(".entry");
    await page.selectOption("select[aria-label=Speed]", "20");
    await page.click("text=Replay");
    await page.waitForSelector(".entry:has-text('end:')");
    const text = (await page.textContent(".entries")) ?? "";
    assert.match(text, /approved by web page: month end/);
    assert.match(text, /paid with \*{16}/);
    assert.doesNotMatch(text, /4111 ?1111/);
    await page.evaluate("location.hash = '#/record'");
    await page.click("text=Verify the record");
    await page.waitForSelector("output:has-text('OK:')");
  });

  test("a tool of an MCP server is held, approved, and its result comes masked", async () => {
    await page.evaluate("location.hash = '#/approvals'");
    const ran = agent.run(
      servers.withNames(mcpWords("mcp-sdk2.mjs", mcpUrls.customers, ["call", "describe_customer", '{"id":2}'])),
    );
    const card = await press(page, "approve", "support case 7");
    assert.match(card, /describe_customer/);
    const { code, stdout, stderr } = await ran;
    assert.equal(code, 0, stderr);
    const lines = readMcpLines(stdout);
    assert.ok(lines.length > 0 && lines.every(({ ok }) => ok), stdout);
    for (const { email, ssn, card: number } of people)
      for (const canary of [email, ssn, number]) assert.ok(!stdout.includes(canary));
  });

  test("a live psql is ended from the page, in words of its protocol", async () => {
    const { done } = psql("SELECT pg_sleep(600)");
    await page.evaluate("location.hash = '#/sessions'");
    // A session of the tests before may still be shown as live, and end meanwhile.
    const its = page.locator("li.card:has(.tag.live):has-text('orders')");
    await until(async () => {
      await page.fill("input[type=search]", "pg_sleep");
      await page.press("input[type=search]", "Enter");
      return (await its.count()) === 1;
    });
    await its.locator("a").click();
    await page.click("text=End this session");
    const { code, stderr } = await done;
    assert.notEqual(code, 0);
    assert.match(stderr, /WEIR_SESSION_ENDED|ended by web page/);
  });
});

describe("a prompt before the approver", { skip }, () => {
  let net: NamespacePair;
  let mock: Aimock;
  let agent: TestAgent;

  after(async () => {
    await agent?.remove();
    await mock?.stop();
    await net?.remove();
  });

  test("is held, and answered once somebody has read it", async (t) => {
    net = await makeNamespacePair("pagellm");
    mock = await startAimock(net.b);
    agent = await startTestAgent({
      namespace: net.a,
      wrap: mock.withNames([]),
      policy: `apiVersion: weir/v1
targets:
  openai: { protocol: openai, hosts: [api.openai.com], tls: { ca: ${mock.caFile} } }
rules:
  - { name: somebody-reads, match: { protocol: llm }, verdict: hold, reason: "Prompts are read first." }
`,
    });
    const { browser, page } = await openPage(agent, net.a.name);
    t.after(() => browser.close());
    const ran = agent.run(sdkWords("openai.mjs", ["chat"]), { env: { ...process.env, ...sdkKeys } });
    const card = await press(page, "approve", "fine");
    assert.match(card, /rule somebody-reads: Prompts are read first\./);
    assert.match(card, /tokens go to/);
    const lines = readLines((await ran).stdout);
    assert.ok(lines.length > 0 && lines.every(({ ok }) => ok), JSON.stringify(lines));
  });
});
