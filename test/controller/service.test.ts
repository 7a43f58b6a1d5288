/** Agent and controller over a real broker with SASL and access rules: records, approvals, revocations; and who lies. */
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { after, before, test } from "node:test";
import type { GivenPolicy, PolicyOrigin } from "../../agent/act/policy-in-force.ts";
import type { HoldRequest } from "../../agent/act/ports.ts";
import { joinKafka, type KafkaJoin } from "../../agent/commands/kafka-join.ts";
import { runPublish } from "../../agent/commands/policy-publish.ts";
import { run as verify } from "../../agent/commands/verify.ts";
import { type AgentConfig, readConfig } from "../../agent/config.ts";
import { WeirError } from "../../agent/errors.ts";
import { aclsOf, applyAcls } from "../../agent/kafka/acls.ts";
import { createTopics } from "../../agent/kafka/admin.ts";
import { type ApprovalDecision, approvalMessage, requestDigest } from "../../agent/kafka/approval-messages.ts";
import { type HealthWord, healthMessage } from "../../agent/kafka/health-messages.ts";
import { kafkajsClient } from "../../agent/kafka/kafkajs.ts";
import { type LogoutWord, logoutMessage } from "../../agent/kafka/logout-messages.ts";
import { judgePolicy, type PolicyBundle, policyMessage } from "../../agent/kafka/policy-messages.ts";
import { receiptMessage } from "../../agent/kafka/receipt-messages.ts";
import { revocationMessage } from "../../agent/kafka/revocation-messages.ts";
import { topics } from "../../agent/kafka/topics.ts";
import { openTransport, type Transport } from "../../agent/kafka/transport.ts";
import type { Agent } from "../../agent/main.ts";
import { readReceipts } from "../../agent/record/receipts.ts";
import { openRecorder, type Recorder } from "../../agent/record/recorder.ts";
import { type Approval, ApprovalStore } from "../../controller/approvals/store.ts";
import { parseCheckpoint } from "../../controller/audit/checkpoint.ts";
import type { PolicyInForce } from "../../controller/http/policy-routes.ts";
import type { AgentState } from "../../controller/http/state-routes.ts";
import { type ControllerService, startService } from "../../controller/service.ts";
import { openSqliteStore } from "../../controller/store/sqlite.ts";
import type { Store } from "../../controller/store/store.ts";
import { fill, sessionA, sessionB } from "../agent/record/sample.ts";
import { startKafka, type TestKafka, users } from "../support/kafka.ts";
import { readTopic } from "../support/kafka-read.ts";
import { until as untilHeld } from "../support/until.ts";

interface Revoked {
  readonly what: string;
  readonly issuer: string | null;
  readonly reason: string;
}

let dir: string;
let kafka: TestKafka;
let service: ControllerService;
let store: Store;
let recorder: Recorder;
let join_: KafkaJoin;
let approvals: ApprovalStore;
let forge: Transport;
let controllerKey: KeyObject;
const logs: string[] = [];
const revoked: Revoked[] = [];
const restored: string[] = [];
const loggedOut: LogoutWord[] = [];
const refusedPolicies: string[] = [];
let ids = 0;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "weir-service-"));
  kafka = await startKafka({ sasl: true, acls: true });
  await createTopics(kafka.settings, { partitions: 3, replicas: 1 });
  await applyAcls(kafka.settings, aclsOf({ agent: "agent", controller: "controller" }));
  const stateDir = join(dir, "controller");
  store = openSqliteStore(join(stateDir, "store"));
  const log = (_: string, message: string): void => void logs.push(message);
  service = await startService({
    kafka: kafka.settingsFor("controller"),
    store,
    stateDir,
    listen: { host: "127.0.0.1", port: 0 },
    policyDigest: () => null,
    publishOcsf: true,
    log,
  });
  controllerKey = createPrivateKey(readFileSync(join(stateDir, "controller-key.pem")));
  const config: AgentConfig = readConfig(
    [
      ...["--state", join(dir, "agent"), "--kafka", kafka.brokers.join(","), "--kafka-user", "agent"],
      ...["--controller-key", service.publicKeyPath, "--policy", "kafka"],
    ],
    { policyDir: dir, env: { WEIR_KAFKA_PASSWORD: users.agent } },
  );
  recorder = await openRecorder({ stateDir: config.stateDir });
  join_ = joinKafka(config, () => approvals, log);
  approvals = new ApprovalStore({
    now: Date.now,
    newId: () =>
      `aaaaaa${"abcdefghijklmnopqrstuvwxyz"[Math.floor(ids / 26)]}${"abcdefghijklmnopqrstuvwxyz"[ids++ % 26]}`,
    changed: (approval) => join_.changed(approval),
  });
  const agent = {
    recorder,
    sessions: new Set(["one", "two"]),
    firewallRestored: 3,
    policyProblem: null,
    policyRejected: (problems: string) => void refusedPolicies.push(problems),
    policy: {
      current: { digest: "d".repeat(64), mode: "enforce" },
      origin: null as PolicyOrigin | null,
      async use({ files, origin }: GivenPolicy) {
        if (files.some(({ text }) => text.includes("future"))) throw new WeirError("WEIR_POLICY_INVALID");
        this.origin = origin;
      },
    },
    revoker: {
      revoke: (word: Revoked) => void revoked.push(word),
      restore: ({ what }: Revoked) => void restored.push(what),
      loggedOut: (word: LogoutWord) => void loggedOut.push(word),
    },
  };
  await join_.start(agent as unknown as Agent);
  forge = await openTransport(kafka.settings);
});
after(async () => {
  await join_?.leave();
  await recorder?.close();
  await join_?.close();
  await service?.close();
  await forge?.close();
  await kafka?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function until(what: () => boolean | Promise<boolean>): Promise<void> {
  return untilHeld(what, () => logs.join("\n"));
}

const summary = {
  user: "ada",
  database: "app",
  target: "orders-db",
  process: "psql[7]",
  cgroup: "/job",
  text: "DELETE FROM orders",
  rule: "ask-first",
  reason: "deletes are asked for",
  session: sessionA,
  protocol: "postgres",
  host: "build-1",
  job: "github:12",
  identity: { subject: "ada", issuer: "https://login.example" },
  approvers: ["dba"],
  risks: ["It changes every row."],
  highlights: ["delete"],
  language: "sql",
  digest: "abc",
} as const;

interface Waiting {
  readonly id: string;
  readonly outcome: Promise<{ decision: string; by: string; reason: string }>;
  withdraw(reason: string): void;
}

function hold(timeoutMs = 60_000, digest = `${ids}`): Waiting {
  const { promise: outcome, resolve } = Promise.withResolvers<{ decision: string; by: string; reason: string }>();
  const held = join_.hold((_, decided) => {
    const one = approvals.hold({ ...summary, digest }, { timeoutMs, onTimeout: "deny" }, decided);
    assert.ok(one);
    return one;
  })({ verdict: { policy: "policy-1", onTimeout: "deny" } } as HoldRequest, resolve);
  return { ...held, outcome };
}

function shown(id: string): Approval | null {
  return service.approvals.get(id);
}

test("what the agent records is in the controller's store, its chain followed to the signed head", async () => {
  fill(recorder);
  recorder.flush();
  await recorder.synced();
  await until(async () => (await store.session(sessionA))?.end === "the client closed");
  await until(async () => {
    await store.advance();
    return (await store.agents())[0]?.signed === 12;
  });
  assert.deepEqual(await store.faults(), []);
});

test("what is stored goes out as OCSF, a session in order, with where it went", async () => {
  type Event = { metadata: { uid: string; sequence: number; correlation_uid: string; event_code: string } } & Record<
    string,
    unknown
  >;
  const read = async () =>
    (await readTopic(kafka.settings, topics.ocsf)).map(({ value }) => JSON.parse(String(value)) as Event);
  let events: Event[] = [];
  await until(async () => {
    events = (await read()).filter(({ metadata }) => metadata.correlation_uid === sessionA);
    return events.length >= 5;
  });
  const codes = events.map(({ metadata }) => metadata.event_code);
  assert.deepEqual(codes.slice(0, 5), ["SessionStart", "Login", "Operation", "Result", "SessionEnd"]);
  const statement = events[2] as Event;
  assert.equal((statement["query_info"] as { query_string: string }).query_string, "SELECT name FROM users");
  assert.equal((statement["dst_endpoint"] as { hostname: string }).hostname, "db.example");
  const [attestation] = statement["attestation_list"] as [{ chain_uid: string; prev_event: { uid: string } }];
  assert.equal(attestation.chain_uid, `${recorder.agentId}:${sessionA}`);
  assert.equal(attestation.prev_event.uid, events[1]?.metadata.uid);
});

test("its heads are leaves of the controller's audit log, and the receipts come back", async () => {
  const state = join(dir, "agent");
  recorder.append("agent", { type: "notice", text: "once more" });
  recorder.flush();
  await until(() => readReceipts(state, "controllers").length > 0);
  const [receipt] = readReceipts(state, "controllers");
  assert.equal(receipt?.agent, recorder.agentId);
  assert.equal(parseCheckpoint(receipt?.checkpoint ?? "").origin, service.audit.log.verifier.name);
  let text = "";
  const stdout = new Writable({
    write(piece, _, done) {
      text += String(piece);
      done();
    },
  });
  const io = { stdout, stderr: stdout, env: {}, stateDir: state };
  assert.equal(await verify(["--log", state, "--log", join(dir, "controller/audit")], io), 0, text);
  assert.match(text, /audit log .* [1-9]\d* receipts of the agent hold/);
  // In the agent's name, by somebody who may write to the topic: nobody trusts that key.
  const before = readReceipts(state, "controllers").length;
  const { privateKey } = generateKeyPairSync("ed25519");
  await forge.send([receiptMessage({ ...(receipt as NonNullable<typeof receipt>), index: 99 }, privateKey)]);
  await until(() => logs.some((line) => /receipts: one is not signed by a controller that is trusted/.test(line)));
  assert.ok(readReceipts(state, "controllers").every(({ index }) => index !== 99));
  assert.ok(before > 0);
});

test("the controller's page lists, finds, opens and verifies what agents recorded", async () => {
  const { origin, hash } = new URL(String(service.url));
  const ask = async (path: string): Promise<unknown> => {
    const response = await fetch(`${origin}${path}`, { headers: { authorization: `Bearer ${hash.slice(1)}` } });
    return response.ok ? response.json() : response.status;
  };
  const ids = async (path: string) => ((await ask(path)) as { id: string }[]).map(({ id }) => id);
  assert.deepEqual((await ids("/api/sessions")).sort(), [sessionA, sessionB]);
  assert.deepEqual(await ids(`/api/sessions?q=${encodeURIComponent("target:app verdict:deny drop")}`), [sessionB]);
  assert.deepEqual(await ids("/api/sessions?q=nothing-like-it"), []);
  const entries = (await ask(`/api/sessions/${sessionA}`)) as { seq: number; type: string }[];
  assert.deepEqual(entries[0]?.type, "SessionStart");
  assert.deepEqual(
    entries.map(({ seq }) => seq),
    [0, 1, 2, 3, 4],
  );
  assert.equal(await ask("/api/sessions/019a0000-0000-7000-8000-00000000ffff"), 404);
  const { ok, entries: count } = (await ask("/api/verify")) as { ok: boolean; entries: number };
  assert.deepEqual([ok, count], [true, 13]);
  assert.equal((await fetch(`${origin}/api/sessions`)).status, 401);
});

async function ask<T>(path: string): Promise<T> {
  const { origin, hash } = new URL(String(service.url));
  const response = await fetch(`${origin}${path}`, { headers: { authorization: `Bearer ${hash.slice(1)}` } });
  return (await response.json()) as T;
}

const agentsShown = (): Promise<AgentState[]> => ask("/api/agents");

test("the page tells how each agent is: what it said last, and what its record shows", async () => {
  await until(async () => {
    const [first] = await agentsShown();
    return first?.health === "alive" && first.record !== null;
  });
  const [one] = await agentsShown();
  assert.ok(one);
  assert.equal(one.id, recorder.agentId);
  assert.deepEqual([one.sessions, one.firewallRestored, one.scope, one.waiting], [2, 3, "run", 0]);
  assert.deepEqual([one.policy?.follows, one.policy?.version, one.policy?.mode], ["default", null, "enforce"]);
  assert.equal(one.publish?.problem, null);
  assert.deepEqual([one.record?.missing, one.record?.broken, one.problems], [null, null, []]);
});

test("a word in an agent's name that it has not signed says nothing", async () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const word: HealthWord = {
    ...{ agent: recorder.agentId, name: "forged", version: "9", pid: 1, scope: "host", onFailure: "open", sinceMs: 1 },
    ...{ sessions: 0, memoryBytes: 0, policy: { digest: "", mode: "open", follows: null, version: null } },
    ...{ publish: null, waiting: 0, firewallRestored: 0, problems: [], atMs: Date.now(), everyMs: 1, stopped: true },
  };
  await forge.send([
    healthMessage(word, privateKey),
    { ...healthMessage(word, privateKey), value: Buffer.from("{") },
    // An agent that nobody knows.
    healthMessage({ ...word, agent: "nobody" }, privateKey),
  ]);
  await until(() => logs.some((line) => line.includes(`in the name of ${recorder.agentId} is not signed by it`)));
  await until(() => logs.some((line) => line.includes("health: a message cannot be read")));
  assert.deepEqual(
    (await agentsShown()).map(({ id, name, health }) => [id, name === "forged", health]),
    [[recorder.agentId, false, "alive"]],
  );
});

/** As a person does it, by the controller's user. */
function publish(file: string, ...words: string[]): Promise<number> {
  const reach = ["--kafka", kafka.brokers.join(","), "--kafka-user", "controller", "--state", join(dir, "controller")];
  const stdout = new Writable({ write: (_, __, done) => done() });
  const io = { stdout, stderr: stdout, env: { WEIR_KAFKA_PASSWORD: users.controller }, stateDir: dir };
  return runPublish(["publish", file, ...reach, ...words], io);
}

test("a published policy is in force on the agent, its version on the page; what is no better is refused", async () => {
  const bundle = (version: number, text: string): PolicyBundle => ({
    ...{ id: "default", version, by: "eve", atMs: Date.now() },
    files: [{ file: "a.yaml", text }],
  });
  const text = "apiVersion: weir/v1\n";
  const shownVersion = async () => (await agentsShown())[0]?.policy?.version;
  await forge.send([policyMessage(bundle(3, text), controllerKey)]);
  await until(async () => (await shownVersion()) === 3);
  const stranger = generateKeyPairSync("ed25519").privateKey;
  const agentKey = createPrivateKey(readFileSync(join(dir, "agent/agent-key.pem")));
  const altered = policyMessage(bundle(4, text), controllerKey);
  await forge.send([
    policyMessage(bundle(4, text), stranger),
    policyMessage(bundle(4, text), agentKey),
    { ...altered, value: Buffer.from(String(altered.value).replace("eve", "bob")) },
    policyMessage(bundle(2, text), controllerKey),
    policyMessage(bundle(4, "future: true\n"), controllerKey),
    policyMessage(bundle(4, "x".repeat(5 * 1024 * 1024)), controllerKey),
    { ...altered, value: null },
    policyMessage(bundle(9, text), controllerKey),
  ]);
  await until(async () => (await shownVersion()) === 9);
  assert.equal(refusedPolicies.length, 6);
  assert.match(refusedPolicies[3] ?? "", /version 2 is older than version 3/);
  // Whose text is shown with the version, and not that of a stranger.
  const [inForce] = await ask<PolicyInForce[]>("/api/policies");
  assert.deepEqual([inForce?.version, inForce?.agents.length, inForce?.published?.by], [9, 1, "eve"]);
  assert.deepEqual(inForce?.files, [{ file: "a.yaml", text }]);
  const file = join(dir, "policy.yaml");
  writeFileSync(file, text);
  assert.equal(await publish(file), 0);
  await until(async () => (await shownVersion()) === 10);
  await assert.rejects(publish(file, "--version", "10"), { code: "WEIR_USAGE" });
  writeFileSync(file, "future: true\n");
  assert.equal(await publish(file), 2);
  // Agents may read policies, and write none.
  const asAgent = await openTransport(kafka.settingsFor("agent"));
  await assert.rejects(asAgent.send([policyMessage(bundle(11, text), controllerKey)]), {
    code: "WEIR_KAFKA_UNREACHABLE",
  });
  await asAgent.close();
});

test("several publish at the same moment: all are in force in turn, and a new agent finds where the others are", async () => {
  const before = (await agentsShown())[0]?.policy?.version ?? 0;
  const texts = [1, 2, 3].map((at) => `apiVersion: weir/v1\n# ${at}\n`);
  const files = texts.map((text, at) => {
    const file = join(dir, `racing-${at}.yaml`);
    writeFileSync(file, text);
    return file;
  });
  const refusals = refusedPolicies.length;
  assert.deepEqual(await Promise.all(files.map((file) => publish(file))), [0, 0, 0]);
  const known = { id: "default", version: before, text: "", trusted: [createPublicKey(controllerKey)] };
  const inForce: { version: number; text: string }[] = [];
  const all = (await readTopic(kafka.settings, topics.policies)).filter(({ key }) => key === "default");
  // As an agent reads it that was there all the time.
  for (const { key, value } of all) {
    const judged = judgePolicy(key, value, known);
    if (judged.what !== "newer") continue;
    Object.assign(known, { version: judged.bundle.version, text: judged.text });
    inForce.push({ version: known.version, text: judged.bundle.files[0]?.text ?? "" });
  }
  assert.deepEqual(
    inForce.map(({ version }) => version),
    [1, 2, 3].map((at) => before + at),
  );
  assert.deepEqual(inForce.map(({ text }) => text).sort(), texts);
  // What compaction leaves.
  const last = judgePolicy("default", all.at(-1)?.value ?? null, { ...known, version: 0, text: "" });
  assert.equal(last.what === "newer" && last.text, known.text);
  await until(async () => (await agentsShown())[0]?.policy?.version === before + 3);
  assert.ok(refusedPolicies.slice(refusals).every((reason) => /which is in force|is older than/.test(reason)));
});

test("a held operation is shown by the controller, and a person's word there decides it once", async () => {
  const one = hold();
  await until(() => shown(one.id)?.status === "pending");
  const { text, approvers, host, risks } = shown(one.id) as Approval;
  assert.deepEqual([text, approvers, host, risks], [summary.text, ["dba"], "build-1", summary.risks]);
  service.approvals.decide(one.id, "approved", "eve", "looked at it");
  assert.deepEqual(await one.outcome, { decision: "approved", by: "eve", reason: "looked at it" });
  assert.equal(service.approvals.decide(one.id, "denied", "mallory", ""), null);
  await until(async () => (await store.approval(recorder.agentId, one.id))?.status === "approved");
  assert.equal((await store.approval(recorder.agentId, one.id))?.decidedBy, "eve");
});

test("two decide at once: the agent takes the first, and both controllers show what was really decided", async () => {
  const [mine, late] = [hold(60_000, "granted too late"), hold()];
  await until(() => [mine, late].every(({ id }) => shown(id)?.status === "pending"));
  // The other controller's word is with the agent before this one's: the host decided.
  approvals.decide(mine.id, "denied", "uid 0", "not today");
  service.approvals.decide(mine.id, "approved", "mallory", "all fine", 600_000);
  await until(() => shown(mine.id)?.decidedBy === "uid 0");
  const { status, decidedReason, grantedUntilMs } = shown(mine.id) as Approval;
  assert.deepEqual([status, grantedUntilMs], ["denied", null]);
  assert.equal(decidedReason, "not today (mallory approved it here, too late)");
  assert.equal((await store.approval(recorder.agentId, mine.id))?.decidedBy, "uid 0");
  // What he granted with it is not granted: the same waits again.
  const again = hold(60_000, "granted too late");
  await until(() => shown(again.id)?.status === "pending");
  again.withdraw("");
  late.withdraw("the client went away");
  service.approvals.decide(late.id, "approved", "mallory", "");
  await until(() => shown(late.id)?.status === "withdrawn");
});

test("a denial brings its reason; what is decided or withdrawn on the host is settled at the controller", async () => {
  const [denied, local, gone] = [hold(), hold(), hold()];
  await until(() => [denied, local, gone].every(({ id }) => shown(id)?.status === "pending"));
  service.approvals.decide(denied.id, "denied", "eve", "not on a Friday");
  assert.deepEqual(await denied.outcome, { decision: "denied", by: "eve", reason: "not on a Friday" });
  approvals.decide(local.id, "approved", "uid 0", "on the host");
  gone.withdraw("the client went away");
  await until(() => shown(local.id)?.status === "approved" && shown(gone.id)?.status === "withdrawn");
  assert.equal(shown(local.id)?.decidedBy, "uid 0");
});

test("what is approved for a while is approved on the agent for a while, without asking", async () => {
  const one = hold(60_000, "the same");
  await until(() => shown(one.id)?.status === "pending");
  service.approvals.decide(one.id, "approved", "eve", "all morning", 60_000);
  await one.outcome;
  const again = hold(60_000, "the same");
  assert.deepEqual((await again.outcome).by, "eve");
  assert.equal(shown(again.id), null);
});

test("a decision counts only when a trusted controller signed it, for this very request", async () => {
  const one = hold();
  await until(() => shown(one.id)?.status === "pending");
  const row = await store.approval(recorder.agentId, one.id);

  const good: ApprovalDecision = {
    ...{ agent: recorder.agentId, id: one.id, request: requestDigest(String(row?.request)), decision: "approved" },
    ...{ by: "mallory", reason: "", grantMs: 0, atMs: Date.now() },
  };
  const stranger = generateKeyPairSync("ed25519").privateKey;
  const agentKey = createPrivateKey(readFileSync(join(dir, "agent/agent-key.pem")));
  const signedWell = approvalMessage("approval-decision", good, controllerKey);
  await forge.send([
    approvalMessage("approval-decision", good, stranger),
    approvalMessage("approval-decision", good, agentKey),
    approvalMessage("approval-decision", { ...good, request: "00" }, controllerKey),
    approvalMessage("approval-decision", { ...good, agent: "another" }, controllerKey),
    approvalMessage("approval-decision", { ...good, decision: "yes" } as never, controllerKey),
    // What was signed as something else.
    {
      ...approvalMessage("approval-outcome", good as never, controllerKey),
      headers: { "weir-kind": "approval-decision" },
    },
    { ...signedWell, value: Buffer.from(String(signedWell.value).replace("mallory", "eve")) },
    { ...signedWell, value: Buffer.from("{") },
  ]);
  // In the same partition, behind them.
  const other = hold();
  await until(() => logs.filter((line) => line.includes(one.id)).length >= 4);
  assert.equal(approvals.get(one.id)?.status, "pending");
  await forge.send([signedWell, signedWell]);
  assert.equal((await one.outcome).by, "mallory");
  // Replayed onto the next one that waits, it says nothing.
  await forge.send([signedWell]);
  await until(() => shown(other.id)?.status === "pending");
  assert.equal(approvals.get(other.id)?.status, "pending");
  other.withdraw("");
});

test("a request in the name of an agent that has not signed it is not shown", async () => {
  const stranger = generateKeyPairSync("ed25519").privateKey;
  const request = {
    ...{ agent: recorder.agentId, id: "zzzzzzzz", session: sessionA, policy: "p", createdAtMs: Date.now() },
    ...{ expiresAtMs: Date.now() + 60_000, onTimeout: "deny" as const, summary },
  } as const;
  const seen = logs.length;
  await forge.send([approvalMessage("approval-request", request, stranger)]);
  await until(() => logs.slice(seen).some((line) => line.includes("is not signed by it")));
  assert.equal(shown("zzzzzzzz"), null);
});

test("a logout reaches the agent with its moment; a forged one does not", async () => {
  const word: LogoutWord = {
    ...{ issuer: "https://login.example", subject: "ada", sid: null },
    ...{ beforeMs: Date.now(), by: "the issuer" },
  };
  const stranger = generateKeyPairSync("ed25519").privateKey;
  await forge.send([logoutMessage({ ...word, subject: "eve" }, stranger), logoutMessage(word, controllerKey)]);
  await until(() => loggedOut.length === 1);
  assert.deepEqual(loggedOut, [word]);
});

test("a revocation takes effect on the agent at once; an older, a forged and a deleted one change nothing", async () => {
  const ada = { subject: "ada", issuer: "https://login.example" };
  const word = await service.revoke({ ...ada, revoked: true, reason: "left the company", by: "eve" });
  await until(() => revoked.length === 1);
  assert.deepEqual([revoked[0]?.what, revoked[0]?.reason], ["ada", "left the company"]);
  const older = { ...ada, revoked: false, reason: "", by: "mallory", version: word.version - 1 };
  const stranger = generateKeyPairSync("ed25519").privateKey;
  const forged = { ...older, version: word.version + 10 };
  const tombstone = { ...revocationMessage(word, controllerKey), value: null };
  await forge.send([revocationMessage(older, controllerKey), revocationMessage(forged, stranger), tombstone]);
  await service.revoke({ subject: "bob", issuer: null, revoked: true, reason: "", by: "eve" });
  await until(() => revoked.length === 2);
  assert.deepEqual(restored, []);
  await service.revoke({ ...ada, revoked: false, reason: "", by: "eve" });
  await until(() => restored.length === 1);
  await until(async () => (await store.revocations()).length === 2);
});

test("a cluster without the topic of how agents are loses that, and nothing else", async () => {
  const admin = kafkajsClient(kafka.settings).admin();
  await admin.connect();
  await admin.deleteTopics({ topics: [topics.agents] });
  await admin.disconnect();
  await until(() => logs.some((line) => line.startsWith("reading weir-controllers-health-")));
  const one = hold();
  await until(() => shown(one.id)?.status === "pending");
  service.approvals.decide(one.id, "approved", "eve", "");
  assert.equal((await one.outcome).decision, "approved");
});
