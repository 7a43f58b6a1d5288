/** People sign in to the page at a real provider, in a real browser; approvers are who the rule says, and nobody his own. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Page } from "playwright-core";
import { createController } from "../../../controller/main.ts";
import { freePort } from "../../support/free-ports.ts";
import { startOidcHere } from "../../support/oidc-server.ts";
import { openBrowser } from "./browser.ts";

const skip = existsSync("/usr/bin/chromium") ? false : "chromium is not installed: apt-get install chromium";

async function open(t: TestContext) {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-signin-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const client = {
    ...{ client_id: "page", client_secret: "a-secret-of-the-page", redirect_uris: [`${origin}/auth/callback`] },
    ...{ response_types: ["code"], grant_types: ["authorization_code"] },
  };
  const groups = { alice: ["dba"], mallory: ["developers"], ada: ["dba"] };
  const provider = await startOidcHere({ host: "127.0.0.1", port: 0, clients: [client], groups });
  t.after(() => provider.close());
  const controller = await createController({
    stateDir,
    listen: { host: "127.0.0.1", port },
    signIn: {
      origin,
      oidc: {
        ...{ issuer: provider.issuer, clientId: "page", clientSecret: "a-secret-of-the-page", ca: null },
        ...{ scope: "openid", subjectClaim: "sub", groupsClaim: "groups", logoutClients: [] },
      },
      ...{ saml: null, groups: [] },
    },
  });
  t.after(() => controller.close());
  const browser = await openBrowser();
  t.after(() => browser.close());
  /** A browser of one's own. */
  const as = async (name: string): Promise<Page> => {
    const context = await browser.newContext();
    // The provider's own login page wants a font from elsewhere.
    await context.route(
      (url) => url.hostname !== "127.0.0.1",
      (route) => route.abort(),
    );
    const page = await context.newPage();
    await page.goto(origin);
    await page.click("a:text-is('Sign in')");
    await page.fill("input[name=login]", name);
    await page.fill("input[name=password]", "any");
    await page.click("button[type=submit]");
    await page.click("button[type=submit]");
    await page.waitForSelector(`header >> text=${name} of the test`);
    return page;
  };
  return { controller, provider, as, origin };
}

test("only the rule's approvers decide, nobody his own, and who signed out sees nothing", { skip }, async (t) => {
  const { controller, provider, as, origin } = await open(t);
  const outcomes: string[] = [];
  const held = controller.approvals.hold(
    {
      ...{ user: "ada", database: "app", target: "db", process: "psql[7]", cgroup: "/x", text: "DELETE FROM t" },
      ...{ rule: "ask", reason: "asked for", session: "s", protocol: "postgres", host: "h", job: null },
      ...{ identity: { subject: "ada", issuer: provider.issuer }, approvers: ["dba"], risks: [], highlights: [] },
      ...{ language: "sql", digest: null },
    },
    { timeoutMs: 600_000, onTimeout: "deny" },
    ({ decision, by }) => outcomes.push(`${decision} by ${by}`),
  );
  for (const [name, said] of [
    ["mallory", /Only dba may decide this/],
    ["ada", /Nobody approves his own/],
  ] as const) {
    const page = await as(name);
    await page.click("#approvals .approve");
    await page.waitForSelector("#state:not(:text-is('live'))");
    assert.match((await page.textContent("#state")) ?? "", said);
  }
  assert.deepEqual(outcomes, []);
  const alice = await as("alice");
  await alice.click("#approvals .approve");
  await alice.waitForSelector("#approvals > .card", { state: "detached" });
  assert.deepEqual(outcomes, [`approved by alice of ${provider.issuer}`]);
  assert.equal(controller.approvals.get(held?.id ?? "")?.decidedBy, `alice of ${provider.issuer}`);
  await alice.click("text=Sign out");
  await alice.waitForSelector("a:text-is('Sign in')");
  assert.equal((await fetch(`${origin}/api/approvals`)).status, 401);
});

test("a form of another page cannot press the button: the cookie alone is not enough", { skip }, async (t) => {
  const { as, origin } = await open(t);
  const page = await as("alice");
  const cookies = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const headers = { Cookie: cookies };
  assert.equal((await fetch(`${origin}/api/approvals`, { headers })).status, 200);
  const body = JSON.stringify({ subject: "bob" });
  assert.equal((await fetch(`${origin}/api/revocations`, { method: "POST", headers, body })).status, 403);
});
