/**
 * `weir controller`: consumes what agents publish into the store, shows what they hold, and sends back what people decide.
 * Any number run side by side: they share the partitions of the record, and each hears of every approval.
 */
import { type KeyObject, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { WeirError } from "../agent/errors.ts";
import { groupPrefixes } from "../agent/kafka/acls.ts";
import { openFeed } from "../agent/kafka/feed.ts";
import { asLogout, logoutKind, logoutMessage } from "../agent/kafka/logout-messages.ts";
import { openOutbox } from "../agent/kafka/outbox.ts";
import { receiptMessage } from "../agent/kafka/receipt-messages.ts";
import { openRegistry } from "../agent/kafka/registry.ts";
import {
  asRevocation,
  type RevocationWord,
  revocationKey,
  revocationMessage,
} from "../agent/kafka/revocation-messages.ts";
import { readSigned } from "../agent/kafka/signed.ts";
import { kindHeader, topics } from "../agent/kafka/topics.ts";
import { type KafkaSettings, openTransport } from "../agent/kafka/transport.ts";
import { ApprovalStore } from "./approvals/store.ts";
import { type ConsumedAudit, openConsumedAudit } from "./audit/consumed.ts";
import type { WitnessName } from "./audit/witnesses.ts";
import { AgentsHealth } from "./consume/agents-health.ts";
import { ApprovalQueue } from "./consume/approval-queue.ts";
import { type ConsumerStatus, startConsumer } from "./consume/consumer.ts";
import { PublishedPolicies } from "./consume/published-policies.ts";
import { RevocationWords } from "./consume/revocation-words.ts";
import { EntrySchemas } from "./consume/schemas.ts";
import { type Page, startPage } from "./http/server.ts";
import type { PolicyFile } from "./http/state-routes.ts";
import type { IssuerLogout } from "./identity/claims.ts";
import { RevokedPeople } from "./identity/revoked-people.ts";
import type { SignInSettings } from "./identity/settings.ts";
import { startRetention } from "./retention.ts";
import { withOcsfTopic } from "./siem/ocsf-topic.ts";
import { openSigningKey } from "./signing-key.ts";
import { readFromStore } from "./store/page-reader.ts";
import type { RetentionRules } from "./store/retention.ts";
import type { Store } from "./store/store.ts";

export interface ServiceOptions {
  readonly kafka: KafkaSettings;
  /** Closed with the service. */
  readonly store: Store;
  readonly stateDir: string;
  readonly registry?: string | null;
  readonly groupId?: string;
  /** Who may sign in to the page; by default who has the printed address alone. */
  readonly signIn?: SignInSettings | null;
  /** Null: no page. */
  readonly listen: { readonly host: string; readonly port: number } | null;
  /** Whose policies are shown; by default those that this controller signs. */
  readonly policyKeys?: readonly KeyObject[];
  /** Of a policy that was published, as an agent makes it; null: it is none. */
  policyDigest(files: readonly PolicyFile[]): string | null;
  /** What the store keeps; all of it by default. */
  readonly retain?: RetentionRules | null;
  /** What is stored goes out as OCSF to `weir.ocsf.v1`, too. */
  readonly publishOcsf?: boolean;
  /** Who cosigns the audit log's checkpoints; nobody by default. */
  readonly witnesses?: readonly WitnessName[];
  log(level: "info" | "warn", message: string): void;
}

export interface ControllerService {
  readonly audit: ConsumedAudit;
  readonly approvals: ApprovalStore;
  /** PEM, for the agents' `--controller-key`. */
  readonly publicKeyPath: string;
  readonly url: string | null;
  status(): ConsumerStatus;
  /** How many agents are how. */
  agents(): ReturnType<AgentsHealth["counts"]>;
  /** Resolves when Kafka has it. */
  revoke(word: Omit<RevocationWord, "version">): Promise<RevocationWord>;
  close(): Promise<void>;
}

/** Longer than this an issuer is not kept waiting. */
const toldWithinMs = 5_000;

export async function startService(options: ServiceOptions): Promise<ControllerService> {
  const { kafka, store, log } = options;
  const signing = openSigningKey(options.stateDir);
  const outbox = openOutbox(await openTransport(kafka), log);
  let page: Page | null = null;
  const approvals: ApprovalStore = new ApprovalStore({
    now: Date.now,
    newId: () => queue.nextId(),
    changed: (approval) => page?.changed(approval),
  });
  const queue: ApprovalQueue = new ApprovalQueue({
    approvals,
    history: store,
    key: signing.privateKey,
    keyOf: (agent) => store.keyOf(agent),
    outbox,
    log,
  });
  const audit = openConsumedAudit({
    stateDir: options.stateDir,
    witnesses: options.witnesses ?? [],
    sendReceipt: (receipt) => outbox.send(receiptMessage(receipt, signing.privateKey)),
    log,
  });
  const people = new RevokedPeople();
  // A session outlives a controller: who is revoked is known before anybody is asked who he is.
  for (const { message } of await store.revocations()) {
    const word = asRevocation(JSON.parse(message) as Readonly<Record<string, unknown>>);
    if (word !== null) people.revocation(word);
  }
  const ocsf = options.publishOcsf ? await openTransport(kafka) : null;
  const firstEntryOf = async (session: string, agent: string) =>
    (await store.entries(session, { limit: 1, agent }))[0] ?? null;
  const lookup = options.registry ? openRegistry(options.registry).schema : null;
  const consumer = await startConsumer({
    kafka,
    sink: ocsf === null ? audit.sink(store) : withOcsfTopic(audit.sink(store), ocsf, firstEntryOf),
    schemas: new EntrySchemas(lookup),
    ...(options.groupId === undefined ? {} : { groupId: options.groupId }),
    log,
  });
  const retention = options.retain ? startRetention(store, options.retain, log) : null;
  const words = new RevocationWords({ send: (message) => outbox.send(message), now: Date.now, log });
  const feed = openFeed({
    kafka,
    groupId: `${options.groupId ?? groupPrefixes.controllers}-${randomBytes(8).toString("hex")}`,
    topics: [
      { topic: topics.approvals, from: "start" },
      { topic: topics.revocations, from: "start" },
    ],
    async take(message) {
      if (message.topic === topics.approvals) return queue.take(message);
      if (message.value === null) return words.tombstone(message.key);
      if (String(message.headers[kindHeader]) === logoutKind) {
        const signed = readSigned(logoutKind, message.value);
        const word = signed === null ? null : asLogout(signed.body);
        if (word === null || !signed?.isSignedBy(signing.publicKey)) return;
        people.logout(word);
        words.logout(message, word.beforeMs);
        await store.signIns.endSessions(word, word.beforeMs);
        return;
      }
      const signed = readSigned("revocation", message.value);
      const word = signed === null ? null : asRevocation(signed.body);
      if (signed === null || word === null || !signed.isSignedBy(signing.publicKey)) return;
      words.revocation(message, word.version);
      if (people.revocation(word) && word.revoked)
        await store.signIns.endSessions({ ...word, sid: null }, Number.MAX_SAFE_INTEGER);
      await store.putRevocation({ identity: revocationKey(word), version: word.version, message: signed.text });
    },
    log,
  });

  // By itself: a cluster that has no such topic yet must not keep approvals from being heard.
  const health = new AgentsHealth({ keyOf: (agent) => store.keyOf(agent), log });
  const healthFeed = openFeed({
    kafka,
    groupId: `${options.groupId ?? groupPrefixes.controllers}-health-${randomBytes(8).toString("hex")}`,
    topics: [{ topic: topics.agents, from: "start" }],
    take: (message) => health.take(message),
    log,
  });

  const ownKey = options.policyKeys === undefined || options.policyKeys.length === 0;
  const policies = new PublishedPolicies({
    trusted: ownKey ? [signing.publicKey] : (options.policyKeys ?? []),
    digestOf: options.policyDigest,
    log,
  });
  const policyFeed = openFeed({
    kafka,
    groupId: `${options.groupId ?? groupPrefixes.controllers}-policies-${randomBytes(8).toString("hex")}`,
    topics: [{ topic: topics.policies, from: "start" }],
    take: (message) => policies.take(message),
    log,
  });

  async function revoke(said: Omit<RevocationWord, "version">): Promise<RevocationWord> {
    const identity = revocationKey(said);
    const last = (await store.revocations()).find((row) => row.identity === identity)?.version ?? 0;
    const word: RevocationWord = { ...said, version: Math.max(Date.now(), last + 1) };
    await outbox.send(revocationMessage(word, signing.privateKey));
    return word;
  }

  /** It goes out when Kafka is back, too; but the issuer is not told that it has. */
  async function loggedOut(logout: IssuerLogout): Promise<void> {
    const sent = outbox.send(logoutMessage({ ...logout, beforeMs: Date.now(), by: "the issuer" }, signing.privateKey));
    const late = delay(toldWithinMs, "late", { ref: false });
    if ((await Promise.race([sent, late])) === "late")
      throw new WeirError("WEIR_KAFKA_UNREACHABLE", "The agents could not be told of a logout yet.");
  }

  async function close(): Promise<void> {
    await page?.close();
    words.close();
    await Promise.all([feed.close(), healthFeed.close(), policyFeed.close()]);
    await consumer.close();
    await ocsf?.close();
    await audit.close();
    await outbox.close();
    await retention?.close();
    await store.close();
  }

  try {
    if (options.listen !== null)
      page = await startPage({
        ...options.listen,
        token: randomBytes(24).toString("base64url"),
        approvals,
        stateDir: options.stateDir,
        state: {
          agents: async () => health.list(await store.agents(), Date.now()),
          policies,
          live: () => [],
          end: () => false,
          refusal: (person, sinceMs) => people.against(person, sinceMs),
          loggedOut,
          note: (text) => log("info", text),
          revoke: async (revocation) => void (await revoke({ ...revocation, revoked: true })),
        },
        record: readFromStore(store),
        signIn: options.signIn ? { settings: options.signIn, store: store.signIns } : null,
      });
  } catch (error) {
    await close();
    throw error;
  }

  return {
    approvals,
    audit,
    publicKeyPath: signing.publicKeyPath,
    url: page?.url ?? null,
    status: () => consumer.status(),
    agents: () => health.counts(Date.now()),
    revoke,
    close,
  };
}
