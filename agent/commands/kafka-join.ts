/** Joins the agent to Kafka: its spool goes out by a thread, held operations are asked of controllers, revocations come in. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Approval, ApprovalStore } from "../../controller/main.ts";
import type { Held, HoldOutcome, HoldRequest } from "../act/ports.ts";
import type { AgentConfig } from "../config.ts";
import { WeirError } from "../errors.ts";
import { groupPrefixes } from "../kafka/acls.ts";
import { type Feed, type FeedMessage, openFeed } from "../kafka/feed.ts";
import type { AgentHealth } from "../kafka/health-messages.ts";
import { type Outbox, openOutbox } from "../kafka/outbox.ts";
import type { PublishConfig } from "../kafka/settings.ts";
import { topics } from "../kafka/topics.ts";
import { openTransport } from "../kafka/transport.ts";
import type { Agent } from "../main.ts";
import { givenBy } from "../policy-source.ts";
import { type ApprovalLink, linkApprovals } from "../publish/approval-link.ts";
import { type HealthBeat, startHealthBeat } from "../publish/health-beat.ts";
import { linkPolicy, type PolicyLink } from "../publish/policy-link.ts";
import { linkReceipts } from "../publish/receipt-link.ts";
import { linkRevocations } from "../publish/revocation-link.ts";
import { type SpoolLimit, startSpoolLimit } from "../publish/spool-limit.ts";
import { type PublishThread, startPublishThread } from "../publish/thread.ts";
import { agentHealth } from "./agent-health.ts";

type Log = (level: "info" | "warn", message: string) => void;
type Hold = (request: HoldRequest, decided: (outcome: HoldOutcome) => void) => Held;

export interface KafkaJoin {
  /** The queue as the agent's `hold`, which controllers hear of, too. */
  hold(queue: Hold): Hold;
  /** How far the spool is published; null: it is not. */
  publish(): AgentHealth["publish"];
  /** An approval of the queue changed. */
  changed(approval: Approval): void;
  /** The agent is there. */
  start(agent: Agent): Promise<void>;
  /** Controllers decide no longer. Before the agent closes. */
  leave(): Promise<void>;
  /** What is in the spool by now goes out, for a while. After the agent is closed. */
  close(): Promise<void>;
}

/** What is done with one topic. */
interface Taker {
  readonly topic: string;
  readonly from: "start" | "end";
  take(message: FeedMessage): void | Promise<void>;
}

/** What Kafka has not acknowledged by then goes out after the next start. */
const drainWithinMs = 5_000;
const earlyMax = 1_000;

/** Null `kafka`: nothing of it. */
export function joinKafka(config: AgentConfig, approvals: () => ApprovalStore, log: Log): KafkaJoin {
  const { kafka } = config;
  if (kafka === null)
    return {
      hold: (queue) => queue,
      publish: () => null,
      changed() {},
      async start() {},
      async leave() {},
      async close() {},
    };
  return new Joined(config, kafka, approvals, log);
}

class Joined implements KafkaJoin {
  readonly #config: AgentConfig;
  readonly #kafka: PublishConfig;
  readonly #approvals: () => ApprovalStore;
  readonly #log: Log;
  /** Held while the agent was starting. */
  readonly #early: Parameters<ApprovalLink["held"]>[0][] = [];
  #thread: PublishThread | null = null;
  #link: ApprovalLink | null = null;
  #outbox: Outbox | null = null;
  #feed: Feed | null = null;
  #policy: PolicyLink | null = null;
  #health: HealthBeat | null = null;
  #limit: SpoolLimit | null = null;

  constructor(config: AgentConfig, kafka: PublishConfig, approvals: () => ApprovalStore, log: Log) {
    this.#config = config;
    this.#kafka = kafka;
    this.#approvals = approvals;
    this.#log = log;
  }

  hold(queue: Hold): Hold {
    return (request, decided) => {
      const held = queue(request, decided);
      const approval = this.#approvals().get(held.id);
      if (approval?.status === "pending") this.#ask(approval, request);
      return held;
    };
  }

  #ask(approval: Approval, { verdict }: HoldRequest): void {
    const { id, status: _, createdAtMs, expiresAtMs, decidedBy: __, decidedReason: ___, ...summary } = approval;
    const { policy, onTimeout } = verdict;
    const held = { id, session: summary.session, policy, createdAtMs, expiresAtMs, onTimeout, summary };
    if (this.#link !== null) this.#link.held(held);
    else if (this.#early.length < earlyMax) this.#early.push(held);
  }

  publish(): AgentHealth["publish"] {
    if (this.#thread === null) return null;
    const { behind, problem } = this.#thread.status();
    return { behind, problem };
  }

  changed({ id, status, decidedBy, decidedReason, grantedUntilMs }: Approval): void {
    if (status === "pending") return;
    this.#link?.settled(id, { status, by: decidedBy ?? "", reason: decidedReason ?? "", grantedUntilMs });
  }

  async start(agent: Agent): Promise<void> {
    const { settings, registry, library, controllerKeys, policy } = this.#kafka;
    const { stateDir } = this.#config;
    this.#thread = startPublishThread(
      { stateDir, kafka: settings, transport: library, ...(registry === null ? {} : { registry }) },
      this.#log,
    );
    this.#limit = startSpoolLimit({
      stateDir,
      bytesMax: this.#config.spoolBytesMax,
      recorder: agent.recorder,
      full: (reason) => this.#tell(agent, `WEIR_SPOOL_FULL: nothing is let through: ${reason}`),
      room: ({ operations, connections }) =>
        this.#tell(
          agent,
          `The record has room again. Meanwhile ${operations} operations and ${connections} connections were refused, which do not stand here.`,
        ),
    });
    this.#health = startHealthBeat({
      transport: await openTransport(settings, library),
      key: agentKey(stateDir),
      health: () => {
        return agentHealth(agent, this.#config, { publish: this.publish(), waiting: this.#waiting() });
      },
      log: this.#log,
    });
    const takers: Taker[] = [];
    if (controllerKeys.length > 0) takers.push(...(await this.#heed(agent, controllerKeys)));
    if (policy !== null) takers.push(this.#follow(agent, policy));
    if (takers.length === 0) return;
    this.#feed = openFeed({
      kafka: settings,
      groupId: `${groupPrefixes.agents}${agent.recorder.agentId}`,
      topics: takers.map(({ topic, from }) => ({ topic, from })),
      take: (message) => takers.find(({ topic }) => topic === message.topic)?.take(message),
      log: this.#log,
    });
  }

  /** Who may not decide is not asked. */
  async #heed(agent: Agent, controllerKeys: readonly KeyObject[]): Promise<Taker[]> {
    const { settings, library } = this.#kafka;
    const { stateDir } = this.#config;
    const name = agent.recorder.agentId;
    this.#outbox = openOutbox(await openTransport(settings, library), this.#log);
    this.#link = linkApprovals({
      agent: name,
      key: agentKey(stateDir),
      trusted: controllerKeys,
      outbox: this.#outbox,
      decide: (id, decision, by, reason, grantMs) =>
        this.#approvals().decide(id, decision, by, reason, grantMs) !== null,
      log: this.#log,
    });
    const link = this.#link;
    for (const held of this.#early.splice(0)) if (this.#approvals().get(held.id)?.status === "pending") link.held(held);
    const revoked = linkRevocations({
      path: join(stateDir, "revocation-versions.json"),
      trusted: controllerKeys,
      apply({ subject: what, issuer, revoked: isRevoked, reason, by }) {
        try {
          if (isRevoked) agent.revoker.revoke({ what, issuer, reason, by });
          else agent.revoker.restore({ what, issuer, reason, by });
        } catch (error) {
          // A session of another host, or one that was never revoked here: the topic is read from its start.
          if (!(error instanceof WeirError) || error.code !== "WEIR_CONTROL_REFUSED") throw error;
        }
      },
      loggedOut: (word) => void agent.revoker.loggedOut(word),
      log: this.#log,
    });
    const receipts = linkReceipts({ agent: name, stateDir, trusted: controllerKeys, log: this.#log });
    return [
      { topic: topics.approvals, from: "end", take: (message) => link.take(message) },
      { topic: topics.revocations, from: "start", take: revoked },
      { topic: topics.checkpoints, from: "end", take: receipts },
    ];
  }

  #tell(agent: Agent, text: string): void {
    this.#log("warn", text);
    agent.note({ type: "notice", text });
    this.#health?.beat();
  }

  #follow(agent: Agent, { id, keys }: NonNullable<PublishConfig["policy"]>): Taker {
    const link = linkPolicy({
      stateDir: this.#config.stateDir,
      id,
      trusted: keys,
      use: async (bundle, signer) => {
        await agent.policy.use(givenBy(bundle, signer));
        this.#health?.beat();
      },
      refused: (detail) => {
        agent.policyRejected(detail);
        this.#health?.beat();
      },
      log: this.#log,
    });
    this.#policy = link;
    return { topic: topics.policies, from: "start", take: (message) => void link.take(message) };
  }

  #waiting(): number {
    return this.#approvals()
      .list()
      .filter(({ status }) => status === "pending").length;
  }

  async leave(): Promise<void> {
    this.#limit?.close();
    await this.#health?.close();
    this.#policy?.close();
    await this.#feed?.close();
  }

  async close(): Promise<void> {
    await this.#outbox?.close();
    await this.#thread?.close(drainWithinMs);
  }
}

/** Made by the recorder. */
function agentKey(stateDir: string): KeyObject {
  return createPrivateKey(readFileSync(join(stateDir, "agent-key.pem")));
}
