/** Makes the topics of topics.ts, and says where those that are there already differ. */
import { WeirError } from "../errors.ts";
import { kafkajsClient } from "./kafkajs.ts";
import { type TopicPlan, topicPlans, topicSettings } from "./topics.ts";
import type { KafkaSettings } from "./transport.ts";

export interface TopicsWish {
  /** Of topics with more than one. It stays: with another number a session's entries would change their partition. */
  readonly partitions: number;
  readonly replicas: number;
  readonly plans?: readonly TopicPlan[];
}

export interface TopicOutcome {
  readonly topic: string;
  readonly outcome: "created" | "unchanged" | "differs" | "missing";
  /** What differs: setting, as it is, as it should be. */
  readonly differences: readonly { readonly name: string; readonly is: string; readonly wanted: string }[];
}

export function createTopics(settings: KafkaSettings, wish: TopicsWish): Promise<TopicOutcome[]> {
  return outcomesOf(settings, wish, true);
}

/** The same without making any. */
export function lookAtTopics(settings: KafkaSettings, wish: TopicsWish): Promise<TopicOutcome[]> {
  return outcomesOf(settings, wish, false);
}

async function outcomesOf(settings: KafkaSettings, wish: TopicsWish, create: boolean): Promise<TopicOutcome[]> {
  const plans = wish.plans ?? topicPlans;
  const admin = kafkajsClient(settings).admin();
  try {
    await admin.connect();
    const there = new Set(await admin.listTopics());
    const missing = plans.filter(({ topic }) => !there.has(topic));
    if (create && missing.length > 0) {
      await admin.createTopics({
        waitForLeaders: true,
        topics: missing.map((plan) => ({
          topic: plan.topic,
          numPartitions: partitionsOf(plan, wish),
          replicationFactor: wish.replicas,
          configEntries: Object.entries(topicSettings(plan, wish.replicas)).map(([name, value]) => ({ name, value })),
        })),
      });
    }
    const old = plans.filter((plan) => !missing.includes(plan));
    const differing = old.length === 0 ? new Map() : await differences(admin, old, wish);
    return plans.map(({ topic }) => {
      if (missing.some((plan) => plan.topic === topic))
        return { topic, outcome: create ? "created" : "missing", differences: [] };
      const found = differing.get(topic) ?? [];
      return { topic, outcome: found.length === 0 ? "unchanged" : "differs", differences: found };
    });
  } catch (cause) {
    if (cause instanceof WeirError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_KAFKA_UNREACHABLE", `The topics could not be ${create ? "made" : "read"}: ${reason}`, {
      cause,
    });
  } finally {
    await admin.disconnect().catch(() => {});
  }
}

type Admin = ReturnType<ReturnType<typeof kafkajsClient>["admin"]>;
const topicResource = 2;

async function differences(
  admin: Admin,
  plans: readonly TopicPlan[],
  wish: TopicsWish,
): Promise<Map<string, TopicOutcome["differences"]>> {
  const { topics } = await admin.fetchTopicMetadata({ topics: plans.map(({ topic }) => topic) });
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: plans.map(({ topic }) => ({ type: topicResource, name: topic })),
  });
  return new Map(
    plans.map((plan) => {
      const is = new Map<string, string>();
      for (const entry of resources.find(({ resourceName }) => resourceName === plan.topic)?.configEntries ?? [])
        is.set(entry.configName, entry.configValue);
      const partitions = topics.find(({ name }) => name === plan.topic)?.partitions ?? [];
      is.set("partitions", String(partitions.length));
      is.set("replicas", String(partitions[0]?.replicas.length ?? 0));
      const wanted = {
        partitions: String(partitionsOf(plan, wish)),
        replicas: String(wish.replicas),
        ...topicSettings(plan, wish.replicas),
      };
      const found = Object.entries(wanted)
        .map(([name, value]) => ({ name, is: is.get(name) ?? "", wanted: value }))
        .filter((one) => one.is !== one.wanted);
      return [plan.topic, found];
    }),
  );
}

function partitionsOf(plan: TopicPlan, wish: TopicsWish): number {
  return plan.partitions === "many" ? wish.partitions : 1;
}
