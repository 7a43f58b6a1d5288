/** The real page with sign-in: who may approve is who the issuer says, and the printed address goes on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Decided } from "../../../controller/approvals/store.ts";
import { createController } from "../../../controller/main.ts";
import { sessionA } from "../../agent/record/sample.ts";
import { tempDir } from "../../agent/tls/pki.ts";
import { Browser } from "../../support/browser.ts";
import { freePort } from "../../support/free-ports.ts";
import { signIn, startOidcHere } from "../../support/oidc-server.ts";

const summary = {
  ...{ session: sessionA, protocol: "postgres", host: "runner-1", job: null, risks: [], highlights: [], digest: null },
  ...{ language: "sql" as const, user: "app", database: "app", target: "orders", process: "psql[7]", cgroup: "/x" },
  ...{ text: "DELETE FROM users", rule: "ask-first", reason: "deletes are asked for" },
};
const limits = { timeoutMs: 60_000, onTimeout: "deny" } as const;

test("approvals by people who signed in: their groups count, nobody approves his own, and the record names them", async (t) => {
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const client = {
    ...{ client_id: "page", token_endpoint_auth_method: "none", redirect_uris: [`${origin}/auth/callback`] },
    ...{ response_types: ["code"], grant_types: ["authorization_code"] },
  };
  const groups = { alice: ["dba"], bob: ["developers"], carol: ["dba"] };
  const provider = await startOidcHere({ host: "127.0.0.1", port: 0, clients: [client], groups });
  t.after(() => provider.close());
  const { issuer } = provider;
  const oidc = {
    issuer,
    clientId: "page",
    clientSecret: null,
    scope: "openid",
    subjectClaim: "sub",
    groupsClaim: "groups",
    logoutClients: [],
    ca: null,
  };
  const controller = await createController({
    stateDir: tempDir(t),
    listen: { host: "127.0.0.1", port },
    signIn: { origin, oidc, saml: null, groups: [] },
  });
  t.after(() => controller.close());
  const outcomes: Decided[] = [];
  const identity = { subject: "carol", issuer, groups: ["dba"] };
  const held = controller.approvals.hold({ ...summary, identity, approvers: ["dba"] }, limits, (o) => outcomes.push(o));
  assert.ok(held !== null);

  const approveAs = async (login: string) => {
    const browser = new Browser();
    await signIn(browser, `${origin}/auth/login`, login);
    const { csrf } = JSON.parse((await browser.ask(`${origin}/auth/status`)).text) as { csrf: string };
    const path = `${origin}/api/approvals/${held.id}/approve`;
    assert.equal((await browser.ask(path, { method: "POST" })).status, 403, "without the token");
    return browser.ask(path, { method: "POST", headers: { "x-weir-csrf": csrf } });
  };
  assert.equal((await fetch(`${origin}/api/approvals`)).status, 401);
  const bob = await approveAs("bob");
  assert.deepEqual([bob.status, JSON.parse(bob.text)], [403, { error: "Only dba may decide this." }]);
  assert.match((await approveAs("carol")).text, /Nobody approves his own/);
  assert.equal(outcomes.length, 0);
  assert.equal((await approveAs("alice")).status, 200);
  assert.equal(outcomes[0]?.by, `alice of ${issuer}`);

  const token = controller.url?.split("#")[1] ?? "";
  const local = await fetch(`${origin}/api/approvals`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(local.status, 200, "the printed address goes on");
});

test("without settings there is no sign-in: the printed address is the only way", async (t) => {
  const controller = await createController({ stateDir: tempDir(t), listen: { host: "127.0.0.1", port: 0 } });
  t.after(() => controller.close());
  const [origin = ""] = (controller.url ?? "").split("/#");
  for (const path of ["/auth/login", "/auth/callback?code=x&state=y", "/auth/saml/login"])
    assert.equal((await fetch(`${origin}${path}`)).status, 401, path);
});
