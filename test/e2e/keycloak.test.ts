/**
 * Sign-in by Keycloak as companies run it, from its login form in a real browser to a live psql: OpenID Connect and SAML
 * to the page, the device flow, logout by its administrator, and a new signing key.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, Page } from "playwright-core";
import { openBrowser } from "../controller/web/browser.ts";
import { collect, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { type Keycloak, keycloakMissing, passwordOf, startKeycloak } from "../support/keycloak.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const missing = existsSync("/usr/bin/chromium") ? keycloakMissing() : "chromium is not installed";
const skip = process.getuid?.() === 0 ? (missing ?? false) : "needs root";

const listen = "127.0.0.1:8080";
const origin = `http://${listen}`;

const policyOf = ({ issuer, caPath }: Keycloak): string => `apiVersion: weir/v1
identity:
  issuers:
    - { issuer: "${issuer}", audience: weir, ca: ${caPath}, subjectClaim: preferred_username, login: { clientId: weir } }
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
rules:
  - { name: ask, match: { target: orders, relation: salaries }, verdict: hold, approvers: { groups: [dba] } }
  - { name: staff, match: { target: orders, groups: [dba, developers] }, verdict: allow }
  - { name: no-strangers, match: { target: orders }, verdict: deny, reason: "Only known people come here." }
`;

const signInOf = ({ issuer, caPath }: Keycloak, dir: string): string => `origin: ${origin}
groups: [dba, developers]
oidc:
  issuer: ${issuer}
  clientId: weir-page
  clientSecret: s3cret-of-the-page
  subjectClaim: preferred_username
  logoutClients: [weir]
  ca: ${caPath}
saml:
  entryPoint: ${issuer}/protocol/saml
  idpIssuer: ${issuer}
  idpCertificates: ${dir}/idp.pem
  decryption: { key: ${dir}/saml.key, certificate: ${dir}/saml.pem }
`;

describe("Keycloak", { skip }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let keycloak: Keycloak;
  let agent: TestAgent;
  let browser: Browser;
  let alice: Page;
  let bob: Page;
  let dir: string;

  before(async (t) => {
    dir = mkdtempSync(join(tmpdir(), "weir-keycloak-test-"));
    chmodSync(dir, 0o755);
    net = await makeNamespacePair("keycloak");
    const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=weir", "-days", "2"];
    execFileSync("openssl", [...words, "-keyout", join(dir, "saml.key"), "-out", join(dir, "saml.pem")], {
      stdio: "ignore",
    });
    [keycloak, server] = await Promise.all([
      startKeycloak(net.a, origin),
      startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 }),
    ]);
    await server.admin("CREATE TABLE salaries AS SELECT 5000 AS amount");
    writeFileSync(join(dir, "idp.pem"), await keycloak.certificate());
    writeFileSync(join(dir, "sign-in.yaml"), signInOf(keycloak, dir));
    const args = ["--listen-ui", listen, "--sign-in", join(dir, "sign-in.yaml")];
    agent = await startTestAgent({ namespace: net.a, policy: policyOf(keycloak), args });
    browser = await openBrowser(net.a.name);
    if ("diagnostic" in t) t.diagnostic(`Keycloak was ready after ${Math.round(keycloak.readyMs)} ms`);
  });

  after(async () => {
    await browser?.close();
    await agent?.remove();
    await keycloak?.stop();
    await server?.stop();
    await net?.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  const freshPage = async (): Promise<Page> => {
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true, reducedMotion: "reduce" })).newPage();
    page.setDefaultTimeout(120_000);
    return page;
  };
  const fillIn = async (page: Page, login: string): Promise<void> => {
    await page.fill("input[name=username]", login);
    await page.fill("input[name=password]", passwordOf(login));
    await page.click("[type=submit]");
  };
  /** A browser of one's own, through Keycloak's form, to the page. */
  const as = async (login: string, link: "Sign in" | "Sign in by SAML"): Promise<Page> => {
    const page = await freshPage();
    await page.goto(origin);
    await page.click(`a:text-is('${link}')`);
    await fillIn(page, login);
    await page.waitForURL(`${origin}/**`);
    return page;
  };
  const status = (page: Page): Promise<{ person: { subject: string; issuer: string; groups: string[] } | null }> =>
    page.evaluate("fetch('/auth/status').then((answer) => answer.json())");
  const psql = (sql: string, options: readonly string[], uid = 0) => {
    const user = uid === 0 ? [] : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
    const words = ["run", "--trust", "env", ...options, "--", "psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose"];
    return collect(
      spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...user, weirCommand, ...words, "-c", sql], {
        env: clientEnvironment(server, {
          WEIR_STATE: agent.stateDir,
          HOME: "/nonexistent",
          // Java, a browser and a database at once: a small machine takes its time.
          PGCONNECT_TIMEOUT: "120",
        }),
      }),
    );
  };
  const tokenFile = async (login: string): Promise<string[]> => {
    const file = join(dir, login);
    writeFileSync(file, await keycloak.token(login));
    return ["--identity-token-file", file];
  };
  const began = async (sql: string): Promise<void> => {
    await until(() => server.statementLog().includes(sql));
  };
  const userId = async (login: string): Promise<string> => {
    const [user] = (await keycloak.admin("GET", `/users?exact=true&username=${login}`)) as { id: string }[];
    return user?.id ?? "";
  };

  test("OpenID Connect: through its form to the page, and a held statement is approved by group", async () => {
    const done = psql("SELECT amount FROM salaries", await tokenFile("carol"));
    alice = await as("alice", "Sign in");
    const { person } = await status(alice);
    assert.deepEqual([person?.subject, person?.issuer, person?.groups], ["alice", keycloak.issuer, ["dba"]]);
    const card = await alice.waitForSelector("#approvals > .card");
    assert.match((await card.textContent()) ?? "", /carol/);
    bob = await as("bob", "Sign in");
    await bob.click("#approvals .approve");
    await bob.waitForSelector("#state:text('Only dba may decide this')");
    await alice.click("#approvals .approve");
    const ran = await done;
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(ran.stdout.trim(), "5000");
  });

  test("SAML: the same person as by OpenID Connect, so he cannot approve his own that way", async () => {
    const done = psql("SELECT amount + 1 FROM salaries", await tokenFile("carol"));
    const carol = await as("carol", "Sign in by SAML");
    const { person } = await status(carol);
    assert.deepEqual([person?.subject, person?.issuer], ["carol", keycloak.issuer]);
    assert.deepEqual(person?.groups.toSorted(), ["contractors", "dba"]);
    await carol.click("#approvals .approve");
    await carol.waitForSelector("#state:text('Nobody approves his own')");
    await alice.click("#approvals .approve");
    const ran = await done;
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(ran.stdout.trim(), "5001");
  });

  test("SAML with an encrypted assertion", async () => {
    type Client = { id: string; attributes: Record<string, string> };
    const path = `/clients?clientId=${encodeURIComponent(`${origin}/auth/saml`)}`;
    const [client] = (await keycloak.admin("GET", path)) as Client[];
    assert.ok(client);
    const certificate = readFileSync(join(dir, "saml.pem"), "utf8").replace(/-----[^-]+-----|\s/g, "");
    Object.assign(client.attributes, { "saml.encrypt": "true", "saml.encryption.certificate": certificate });
    await keycloak.admin("PUT", `/clients/${client.id}`, client);
    const page = await freshPage();
    let response = "";
    page.on("request", (request) => {
      response = new URLSearchParams(request.postData() ?? "").get("SAMLResponse") ?? response;
    });
    await page.goto(origin);
    await page.click("a:text-is('Sign in by SAML')");
    await fillIn(page, "alice");
    await page.waitForURL(`${origin}/**`);
    const xml = Buffer.from(response, "base64").toString();
    assert.match(xml, /EncryptedAssertion/);
    assert.doesNotMatch(xml, /alice/);
    assert.equal((await status(page)).person?.subject, "alice", (await page.textContent("body")) ?? "");
  });

  test("weir login: through its form for devices; its administrator's logout ends the live psql", async () => {
    const words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", weirCommand, "login"];
    const login = spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words], {
      env: clientEnvironment(server, { WEIR_STATE: agent.stateDir, HOME: "/nonexistent" }),
    });
    const done = collect(login);
    const address = await new Promise<string>((resolve, reject) => {
      let said = "";
      login.stdout.on("data", (piece) => {
        said += String(piece);
        const [, found] = /open (\S+)\nthe code/.exec(said) ?? [];
        if (found !== undefined) resolve(found);
      });
      login.once("exit", () => reject(new Error("weir login ended")));
    }).catch(async (error: unknown) => {
      throw new Error((await done).stderr, { cause: error });
    });
    const page = await freshPage();
    await page.goto(address);
    await fillIn(page, "nina");
    await page.click("[name=accept]");
    const ran = await done;
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /you are nina \[developers\] until/);
    assert.equal((await psql("SELECT 42", [], 65534)).stdout.trim(), "42");

    const live = psql("SELECT pg_sleep(600)", [], 65534);
    await began("pg_sleep(600)");
    await keycloak.admin("POST", `/users/${await userId("nina")}/logout`);
    const { stderr } = await live;
    assert.match(stderr, /FATAL: {2}57P01.*logged out at the issuer/);
    assert.match(stderr, /WEIR_IDENTITY_REVOKED/);
    assert.match((await psql("SELECT 42", [], 65534)).stderr, /logged out at the issuer/);
    const again = await psql("SELECT 43", await tokenFile("nina"));
    assert.equal(again.stdout.trim(), "43", again.stderr);
  });

  test("its administrator's logout ends the session of the page", async () => {
    assert.equal((await status(bob)).person?.subject, "bob");
    await keycloak.admin("POST", `/users/${await userId("bob")}/logout`);
    await until(async () => (await status(bob)).person === null);
    assert.equal((await status(alice)).person?.subject, "alice", "nobody else's");
  });

  test("its administrator's logout ends a session that began by SAML", async () => {
    const page = await as("bob", "Sign in by SAML");
    assert.equal((await status(page)).person?.subject, "bob");
    await keycloak.admin("POST", `/users/${await userId("bob")}/logout`);
    await until(
      async () => (await status(page)).person === null,
      () => agent.output().slice(-2_000),
    );
    assert.equal((await status(alice)).person?.subject, "alice", "nobody else's");
  });

  test("a new signing key: OpenID Connect goes on, SAML wants its certificate", async () => {
    await keycloak.admin("POST", "/components", {
      ...{ name: "rotated", providerId: "rsa-generated", providerType: "org.keycloak.keys.KeyProvider" },
      config: { priority: ["200"], algorithm: ["RS256"], keySize: ["2048"], enabled: ["true"], active: ["true"] },
    });
    const file = await tokenFile("alice");
    // Unknown keys are asked for at most twice a minute.
    for (let tries = 0; ; tries += 1) {
      const { stdout, stderr } = await psql("SELECT 42", file);
      if (stdout.trim() === "42") break;
      assert.match(stderr, /has no key with its key id/);
      assert.ok(tries < 100, stderr);
      await sleep(500);
    }
    const page = await freshPage();
    await page.goto(`${origin}/auth/login`);
    await fillIn(page, "alice");
    // And by the page's library once a minute; the browser is signed in at Keycloak by now.
    for (let tries = 0; (await status(page)).person === null; tries += 1) {
      assert.ok(tries < 150, (await page.textContent("body")) ?? "");
      await sleep(500);
      await page.goto(`${origin}/auth/login`);
    }
    await page.goto(`${origin}/auth/saml/login`);
    await page.waitForURL(`${origin}/auth/saml/acs`);
    assert.match((await page.textContent("body")) ?? "", /The sign-in was not accepted: Invalid.* signature/i);
  });

  test("the record of all that verifies", async () => {
    const ran = await agent.weir(["verify"]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    const { stdout } = await agent.weir(["export"]);
    for (const canary of [passwordOf("alice"), passwordOf("carol"), "s3cret-of-the-page"])
      assert.ok(!stdout.includes(canary));
  });
});
