/** Where checked entries go: the store's side of the consumer. */
import type { KeyObject } from "node:crypto";
import type { ChainedEntry } from "../../agent/record/chain.ts";
import type { Head } from "../../agent/record/heads.ts";
import type { FaultKind, SessionTail } from "./session-chain.ts";

export interface CheckedEntry {
  readonly entry: ChainedEntry;
  /** Its bytes as the chain has them. */
  readonly payload: Buffer;
  readonly link: Buffer;
}

export interface Fault {
  readonly kind: FaultKind;
  readonly agent: string | null;
  readonly session: string | null;
  readonly sentence: string;
}

export interface CheckedBatch {
  /** In order, each following from the one before it in its session. */
  readonly entries: readonly CheckedEntry[];
  /** Signed by their agent's key. */
  readonly heads: readonly Head[];
  readonly faults: readonly Fault[];
}

export interface SessionName {
  readonly agent: string;
  readonly session: string;
}

export interface RecordSink {
  /** Where these sessions end, in the same order; null for one that is not here. */
  tailsOf(sessions: readonly SessionName[]): Promise<readonly (SessionTail | null)[]>;
  /**
   * Stores all of it or nothing; offsets are committed to Kafka after it. An entry that is here already is left as it
   * is: after a rebalance, or a crash before the commit, the same entries come again.
   */
  store(batch: CheckedBatch): Promise<void>;
  /** The key an agent signs with, pinned when it was first seen or enrolled by hand. */
  keyOf(agent: string): Promise<KeyObject | null>;
  pinKey(agent: string, key: KeyObject): Promise<void>;
}

/** Sessions have names of their own, but for `agent`, which each agent has. */
export function nameOf({ agent, session }: SessionName): string {
  return `${agent}\n${session}`;
}
