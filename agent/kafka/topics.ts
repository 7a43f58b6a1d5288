/** The topics, a public contract: names, keys, and what a broker has to know to keep them well. */
import { messageBytesMax } from "./transport.ts";

export const topics = {
  sessions: "weir.sessions.v1",
  verdicts: "weir.verdicts.v1",
  checkpoints: "weir.checkpoints.v1",
  approvals: "weir.approvals.v1",
  policies: "weir.policies.v1",
  revocations: "weir.revocations.v1",
  agents: "weir.agents.v1",
  ocsf: "weir.ocsf.v1",
  deadLetters: "weir.dead-letters.v1",
} as const;

/** Says what the JSON of a checkpoint is: `head`, or `agent` for who publishes. */
export const kindHeader = "weir-kind";

export interface TopicPlan {
  readonly topic: string;
  readonly key: string;
  /** One writer's order is enough where there is one partition. */
  readonly partitions: "many" | 1;
  /** Compacted: only the last value of a key counts. Never where the topic is evidence. */
  readonly compacted: boolean;
  /** Who writes; readers are controllers, and agents for policies, revocations, approvals and their receipts. */
  readonly writers: "agents" | "controllers" | "both";
  readonly agentsRead: boolean;
  readonly retentionMs: number;
  /** What a later value replaced is gone by then; null: when the broker gets to it. */
  readonly compactedWithinMs: number | null;
}

const hourMs = 60 * 60 * 1_000;
const dayMs = 24 * hourMs;
const forEver = -1;

export const topicPlans: readonly TopicPlan[] = [
  plan(topics.sessions, "session id", "agents", { retentionMs: 30 * dayMs }),
  plan(topics.verdicts, "session id", "agents", { retentionMs: 30 * dayMs }),
  plan(topics.checkpoints, "agent id", "both", { partitions: 1, agentsRead: true, retentionMs: forEver }),
  plan(topics.approvals, "approval id", "both", { agentsRead: true, retentionMs: 30 * dayMs }),
  plan(topics.policies, "policy id", "controllers", { partitions: 1, compacted: true, agentsRead: true }),
  // A logout that is over is taken away: the names in it, too, are gone within days.
  plan(topics.revocations, "identity", "controllers", {
    ...{ partitions: 1, compacted: true, agentsRead: true, compactedWithinMs: 7 * dayMs },
  }),
  // Words come every few seconds, and controllers read it from its start: what is replaced goes within the hour.
  plan(topics.agents, "agent id", "agents", { partitions: 1, compacted: true, compactedWithinMs: hourMs }),
  plan(topics.ocsf, "session id", "controllers", { retentionMs: 7 * dayMs }),
  plan(topics.deadLetters, "as it came", "controllers", { partitions: 1, retentionMs: 90 * dayMs }),
];

/** What `weir topics create` sets on a topic. */
export function topicSettings(topic: TopicPlan, replicas: number): Record<string, string> {
  return {
    // With three replicas one may be away and still nothing that was acknowledged hangs on a single disk.
    "min.insync.replicas": String(Math.max(1, Math.min(2, replicas - 1))),
    "cleanup.policy": topic.compacted ? "compact" : "delete",
    "retention.ms": String(topic.compacted ? forEver : topic.retentionMs),
    "max.message.bytes": String(messageBytesMax),
    // As the writer compressed it: the broker does not do it again.
    "compression.type": "producer",
    "unclean.leader.election.enable": "false",
    "message.timestamp.type": "LogAppendTime",
    ...(topic.compactedWithinMs === null ? {} : { "max.compaction.lag.ms": String(topic.compactedWithinMs) }),
  };
}

function plan(
  topic: string,
  key: string,
  writers: TopicPlan["writers"],
  rest: Partial<Omit<TopicPlan, "topic" | "key" | "writers">>,
): TopicPlan {
  return {
    topic,
    key,
    writers,
    partitions: "many",
    compacted: false,
    agentsRead: false,
    retentionMs: forEver,
    compactedWithinMs: null,
    ...rest,
  };
}
