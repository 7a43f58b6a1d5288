/** The page's HTTP: who may ask, what is decided once, and that text from a wire stays text. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Decided } from "../../controller/approvals/store.ts";
import { createController } from "../../controller/main.ts";
import { sampleLog, sessionA } from "../agent/record/sample.ts";

const summary = {
  session: sessionA,
  protocol: "postgres",
  host: "runner-1",
  job: null,
  identity: null,
  approvers: [],
  risks: [],
  highlights: [],
  language: "sql" as const,
  digest: null,
  user: "ada",
  database: "app",
  target: "app",
  process: "psql[7]",
  cgroup: "/secret-cgroup",
  text: "DELETE FROM users",
  rule: "ask-first",
  reason: "deletes are asked for",
};
const limits = { timeoutMs: 60_000, onTimeout: "deny" } as const;

async function open(t: TestContext) {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-page-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const controller = await createController({ stateDir, listen: { host: "127.0.0.1", port: 0 } });
  t.after(() => controller.close());
  const [base, token] = (controller.url ?? "").split("#") as [string, string];
  const api = (path: string, options: RequestInit = {}, bearer: string | null = token) =>
    fetch(new URL(path, base), {
      ...options,
      headers: { ...(bearer === null ? {} : { Authorization: `Bearer ${bearer}` }), ...options.headers },
    });
  return { stateDir, controller, base, token, api };
}

test("without the token, or with a wrong one, everything but the empty page is 401", async (t) => {
  const { api, controller, token } = await open(t);
  const outcomes: Decided[] = [];
  const held = controller.approvals.hold(summary, limits, (outcome) => outcomes.push(outcome));
  const paths = [
    "/api/approvals",
    "/api/sessions",
    `/api/sessions/${sessionA}`,
    "/api/verify",
    "/api/events",
    "/x",
    "/../agent-key.pem",
  ];
  for (const bearer of [null, "", "wrong", token.slice(1), `${token}x`, token.toUpperCase()]) {
    for (const path of paths) assert.equal((await api(path, {}, bearer)).status, 401, `${path} with ${bearer}`);
    for (const verb of ["approve", "deny"])
      assert.equal((await api(`/api/approvals/${held?.id}/${verb}`, { method: "POST" }, bearer)).status, 401);
  }
  assert.deepEqual(outcomes, []);
  const page = await api("/", {}, null);
  assert.equal(page.status, 200);
  assert.ok(!(await page.text()).includes(token));
});

test("who is not signed in may not ask for ever: who asks is looked up after the limit", async (t) => {
  const { api } = await open(t);
  const statuses: number[] = [];
  for (let asked = 0; asked < 1_300; asked += 100)
    statuses.push(
      ...(await Promise.all(Array.from({ length: 100 }, async () => (await api("/api/sessions", {}, null)).status))),
    );
  assert.deepEqual([statuses[0], statuses.at(-1)], [401, 429]);
  assert.equal(statuses.filter((status) => status === 401).length, 1_200);
});

test("a token in the query does not count, and the token is not guessable", async (t) => {
  const { api, token } = await open(t);
  assert.equal((await api(`/api/approvals?token=${token}`, {}, null)).status, 401);
  assert.ok(Buffer.from(token, "base64url").length >= 24);
});

test("decided once: the second one is told 409, an unknown one 404", async (t) => {
  const { api, controller } = await open(t);
  const outcomes: Decided[] = [];
  const held = controller.approvals.hold(summary, limits, (outcome) => outcomes.push(outcome));
  const post = (id: string, verb: string, body = '{"reason":"fine"}') =>
    api(`/api/approvals/${id}/${verb}`, { method: "POST", body });
  const answers = await Promise.all([1, 2, 3, 4].map((n) => post(held?.id ?? "", n % 2 ? "approve" : "deny")));
  assert.deepEqual(
    answers.map((answer) => answer.status).toSorted((a, b) => a - b),
    [200, 409, 409, 409],
  );
  assert.equal(outcomes.length, 1);
  assert.equal(outcomes[0]?.reason, "fine");
  assert.equal((await post("aaaaaaaa", "approve")).status, 404);
  assert.equal((await post("AAAAAAAA", "approve")).status, 405);
  assert.equal((await api(`/api/approvals/${held?.id}/approve`)).status, 404);
});

test("bodies: too long, no JSON, no text", async (t) => {
  const { api, controller } = await open(t);
  const outcomes: Decided[] = [];
  const held = controller.approvals.hold(summary, limits, (outcome) => outcomes.push(outcome));
  const post = (body: string) => api(`/api/approvals/${held?.id}/approve`, { method: "POST", body });
  assert.equal((await post(JSON.stringify({ reason: "x".repeat(100_000) }))).status, 413);
  for (const body of ["{", "null", '"x"', "[]", '{"reason":1}', '{"reason":null,'])
    assert.equal((await post(body)).status, 400, body);
  assert.deepEqual(outcomes, []);
  assert.equal((await post("")).status, 200);
});

test("headers: no script but our own, no framing, no storing, no sniffing", async (t) => {
  const { api } = await open(t);
  for (const path of ["/", "/page.js", "/page.css", "/api/approvals", "/nothing"]) {
    const { headers } = await api(path);
    const policy = headers.get("content-security-policy") ?? "";
    for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"])
      assert.ok(policy.includes(part), `${path}: ${policy}`);
    assert.ok(!policy.includes("unsafe"));
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("cache-control"), "no-store");
    assert.equal(headers.get("access-control-allow-origin"), null);
  }
});

test("text from a wire is sent as JSON, and the page writes it as text", async (t) => {
  const { api, controller } = await open(t);
  const text = "SELECT '<img src=x onerror=alert(1)>' -- \u202e</script>";
  controller.approvals.hold({ ...summary, text }, limits, () => {});
  const answer = await api("/api/approvals");
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
  const [approval] = (await answer.json()) as Record<string, unknown>[];
  assert.equal(approval?.["text"], text);
  assert.ok(!("cgroup" in (approval ?? {})));
  const script = readFileSync(join(import.meta.dirname, "../../controller/web/page.js"), "utf8");
  assert.doesNotMatch(
    script,
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setTimeout\("/,
  );
});

test("odd requests end in a status, not in a crash", async (t) => {
  const { base, token } = await open(t);
  const { port } = new URL(base);
  for (const path of ["//", "http://", "/%", "/api/sessions/%2e%2e", "*", "/\\..\\"]) {
    const status = await new Promise<number>((resolve, reject) => {
      request({ host: "127.0.0.1", port, path, headers: { Authorization: `Bearer ${token}` } }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .on("error", reject)
        .end();
    });
    assert.ok(status >= 400 && status < 500, `${path}: ${status}`);
  }
});

test("sessions, one session, and the verification come from the record", async (t) => {
  const { api, stateDir } = await open(t);
  assert.deepEqual(await (await api("/api/sessions")).json(), []);
  await sampleLog(stateDir);
  const sessions = (await (await api("/api/sessions")).json()) as { id: string; denied: number }[];
  assert.deepEqual(
    sessions.map(({ denied }) => denied),
    [1, 0],
  );
  const entries = (await (await api(`/api/sessions/${sessionA}`)).json()) as unknown[];
  assert.equal(entries.length, 5);
  assert.equal((await api("/api/sessions/00000000-0000-0000-0000-000000000000")).status, 404);
  assert.equal(((await (await api("/api/verify")).json()) as { ok: boolean }).ok, true);
});

test("an open page is told of a new approval and of its decision", async (t) => {
  const { api, controller } = await open(t);
  const response = await api("/api/events");
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  let heard = "";
  const until = async (what: RegExp) => {
    while (!what.test(heard)) heard += Buffer.from((await reader.read()).value ?? []).toString();
  };
  await until(/: open/);
  const held = controller.approvals.hold(summary, limits, () => {});
  await until(/"status":"pending"/);
  held?.withdraw("the client left");
  await until(/"status":"withdrawn"/);
  await reader.cancel();
});
