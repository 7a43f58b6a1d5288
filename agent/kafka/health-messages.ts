/**
 * How an agent is, over a compacted topic: every few seconds a word that stands for the one before. It goes past the
 * spool, so that one whose spool does not empty says so, and it is signed with the agent's key, by which controllers
 * know its record.
 */
import type { KeyObject } from "node:crypto";
import { signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export interface AgentHealth {
  /** Its id, as in its record. */
  readonly agent: string;
  /** The host's name. */
  readonly name: string;
  readonly version: string;
  readonly pid: number;
  readonly scope: string;
  readonly onFailure: string;
  readonly sinceMs: number;
  /** Flows that are open. */
  readonly sessions: number;
  readonly memoryBytes: number;
  readonly policy: {
    readonly digest: string;
    readonly mode: string;
    /** The policy that is followed over Kafka; null: the host's own files. */
    readonly follows: string | null;
    /** Null: none of it came yet, or none is followed. */
    readonly version: number | null;
  };
  /** Of the spool: entries that Kafka has not acknowledged, and why. Null: it is not published. */
  readonly publish: { readonly behind: number; readonly problem: string | null } | null;
  /** Operations that wait for a person. */
  readonly waiting: number;
  /** How often somebody changed the firewall since the start, and it was put back. */
  readonly firewallRestored: number;
  /** Sentences: what is wrong now. */
  readonly problems: readonly string[];
}

/** One message. */
export interface HealthWord extends AgentHealth {
  /** By the agent's clock. */
  readonly atMs: number;
  /** When the next one is due. */
  readonly everyMs: number;
  /** It ended in order; nothing follows. */
  readonly stopped: boolean;
}

export const healthKind = "agent-health";

export function healthMessage(word: HealthWord, key: KeyObject): OutMessage {
  return signedMessage({ topic: topics.agents, key: word.agent }, healthKind, word, key);
}

const textCharactersMax = 2_048;
const problemsMax = 16;

export function asHealth(body: Readonly<Record<string, unknown>>): HealthWord | null {
  const { policy, publish, problems } = body;
  const of = (value: unknown): Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  const good =
    [body["agent"], body["name"], body["version"], body["scope"], body["onFailure"]].every(isText) &&
    ["pid", "sinceMs", "sessions", "memoryBytes", "waiting", "firewallRestored", "atMs", "everyMs"].every((name) =>
      isCount(body[name]),
    ) &&
    typeof body["stopped"] === "boolean" &&
    isText(of(policy)["digest"]) &&
    isText(of(policy)["mode"]) &&
    (of(policy)["follows"] === null || isText(of(policy)["follows"])) &&
    (of(policy)["version"] === null || isCount(of(policy)["version"])) &&
    (publish === null || isCount(of(publish)["behind"])) &&
    (publish === null || of(publish)["problem"] === null || isText(of(publish)["problem"])) &&
    Array.isArray(problems) &&
    problems.length <= problemsMax &&
    problems.every(isText);
  return good ? (body as unknown as HealthWord) : null;
}

/** What the writer has to keep to. */
export function fitting(problems: readonly (string | null)[]): string[] {
  return problems
    .filter((one) => one !== null)
    .slice(0, problemsMax)
    .map((one) => one.slice(0, textCharactersMax));
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value.length <= textCharactersMax;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
