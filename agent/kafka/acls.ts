/** Who may do what with the topics: agents write what is theirs and read none of it back. */
import { WeirError } from "../errors.ts";
import { kafkajsClient } from "./kafkajs.ts";
import { type TopicPlan, topicPlans } from "./topics.ts";
import type { KafkaSettings } from "./transport.ts";

export interface Acl {
  /** `User:…` */
  readonly principal: string;
  readonly resource: "topic" | "group";
  /** A group's is the beginning of its name. */
  readonly name: string;
  readonly operation: "read" | "write" | "describe";
}

/** Beginnings of the consumer groups' names. */
export const groupPrefixes = { agents: "weir-agent-", controllers: "weir-controllers" } as const;

export function aclsOf(users: { readonly agent?: string; readonly controller?: string }): Acl[] {
  const acls: Acl[] = [];
  const allow = (user: string, topic: string, operations: readonly Acl["operation"][]): void => {
    for (const operation of operations)
      acls.push({ principal: `User:${user}`, resource: "topic", name: topic, operation });
  };
  for (const plan of topicPlans) {
    if (users.agent !== undefined) allow(users.agent, plan.topic, agentMay(plan));
    if (users.controller !== undefined) allow(users.controller, plan.topic, ["describe", "read", "write"]);
  }
  for (const [user, name] of [
    [users.agent, groupPrefixes.agents],
    [users.controller, groupPrefixes.controllers],
  ] as const)
    if (user !== undefined) acls.push({ principal: `User:${user}`, resource: "group", name, operation: "read" });
  return acls;
}

function agentMay({ writers, agentsRead }: TopicPlan): Acl["operation"][] {
  const may: Acl["operation"][] = [];
  if (writers !== "controllers") may.push("write");
  if (agentsRead) may.push("read");
  return may.length === 0 ? [] : ["describe", ...may];
}

/** As Kafka's own command takes them, for who sets access rules elsewhere. */
export function commandsOf(acls: readonly Acl[]): string[] {
  return acls.map(({ principal, resource, name, operation }) => {
    const pattern = resource === "group" ? " --resource-pattern-type prefixed" : "";
    return `kafka-acls.sh --add --allow-principal ${principal} --operation ${operation} --${resource} ${name}${pattern}`;
  });
}

/** Kafka's numbers for them (org.apache.kafka.common.acl, …resource). */
const operations = { read: 3, write: 4, describe: 8 } as const;
const resources = { topic: 2, group: 3 } as const;
const patterns = { topic: 3, group: 4 } as const;
const allowed = 3;

export async function applyAcls(settings: KafkaSettings, acls: readonly Acl[]): Promise<void> {
  const admin = kafkajsClient(settings).admin();
  try {
    await admin.connect();
    await admin.createAcls({
      acl: acls.map(({ principal, resource, name, operation }) => ({
        resourceType: resources[resource],
        resourceName: name,
        resourcePatternType: patterns[resource],
        principal,
        host: "*",
        operation: operations[operation],
        permissionType: allowed,
      })),
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_KAFKA_UNREACHABLE", `The access rules could not be set: ${reason}`, { cause });
  } finally {
    await admin.disconnect().catch(() => {});
  }
}
