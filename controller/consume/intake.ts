/** What came from a topic, checked: entries and heads for the store, and what is put aside with a reason. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { kindHeader, topics } from "../../agent/kafka/topics.ts";
import type { OutMessage } from "../../agent/kafka/transport.ts";
import { linkOf } from "../../agent/record/chain.ts";
import { type Head, headIsSigned } from "../../agent/record/heads.ts";
import type { DecodedEntry, EntrySchemas } from "./schemas.ts";
import { type FaultKind, judge, type SessionTail } from "./session-chain.ts";
import { type CheckedBatch, type CheckedEntry, type Fault, nameOf, type RecordSink } from "./sink.ts";

export interface RawMessage {
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, unknown>>;
}

export interface Intaken {
  readonly batch: CheckedBatch;
  /** For `weir.dead-letters.v1`: the bytes as they came, and why. */
  readonly deadLetters: readonly OutMessage[];
  readonly repeated: number;
  /** Call it once the batch is stored. */
  stored(): void;
}

/** Names as agents give them; a store need not hold others. */
const nameShape = /^[\x21-\x7e]{1,200}$/;

function isPlaced({ agent, session, seq, agentSeq }: DecodedEntry["entry"]): boolean {
  return nameShape.test(agent) && nameShape.test(session) && seq >= 0 && agentSeq >= 0;
}

/** Ends of sessions that are remembered, 150 bytes each; the store knows the others. */
const tailsMax = 50_000;

export class Intake {
  readonly #sink: RecordSink;
  readonly #schemas: EntrySchemas;
  readonly #tails = new Map<string, SessionTail>();

  constructor(sink: RecordSink, schemas: EntrySchemas) {
    this.#sink = sink;
    this.#schemas = schemas;
  }

  /** After a rebalance others have written on. */
  forget(): void {
    this.#tails.clear();
  }

  async check(messages: readonly RawMessage[]): Promise<Intaken> {
    const result = new Result();
    const decoded: { readonly message: RawMessage; readonly entry: DecodedEntry }[] = [];
    for (const message of messages) {
      if (message.topic === topics.checkpoints) await this.#checkpoint(message, result);
      else {
        const entry = await this.#schemas.decode(message.value);
        if (typeof entry !== "string" && !isPlaced(entry.entry))
          result.refuse(message, "unreadable", "An entry has no name or place that an agent would give it.");
        else if (typeof entry === "string") result.refuse(message, "unreadable", `An entry cannot be read: ${entry}.`);
        else decoded.push({ message, entry });
      }
    }
    const tails = await this.#tailsFor(decoded.map(({ entry }) => entry));
    for (const { message, entry: found } of decoded) {
      const { entry, payload } = found;
      const name = nameOf(entry);
      const link = linkOf(payload);
      const judgement = judge(tails.get(name) ?? null, entry, link);
      if (judgement.taken) {
        tails.set(name, { seq: entry.seq, link });
        result.entries.push({ entry, payload, link });
        if (judgement.late)
          result.fault("late", entry, `Session ${entry.session} is known from its entry ${entry.seq} on.`);
      } else if (judgement.fault === null) result.repeated += 1;
      else result.refuse(message, judgement.fault, judgement.sentence, entry);
    }
    return {
      batch: result,
      deadLetters: result.deadLetters,
      repeated: result.repeated,
      stored: () => this.#remember(tails),
    };
  }

  async #tailsFor(entries: readonly DecodedEntry[]): Promise<Map<string, SessionTail>> {
    const tails = new Map<string, SessionTail>();
    const unknown = new Map<string, DecodedEntry["entry"]>();
    for (const { entry } of entries) {
      const name = nameOf(entry);
      const tail = this.#tails.get(name);
      if (tail !== undefined) tails.set(name, tail);
      else unknown.set(name, entry);
    }
    const found = unknown.size === 0 ? [] : await this.#sink.tailsOf([...unknown.values()]);
    for (const [at, name] of [...unknown.keys()].entries()) {
      const tail = found[at];
      if (tail) tails.set(name, tail);
    }
    return tails;
  }

  #remember(tails: ReadonlyMap<string, SessionTail>): void {
    for (const [name, tail] of tails) {
      this.#tails.delete(name);
      this.#tails.set(name, tail);
    }
    for (const name of this.#tails.keys()) {
      if (this.#tails.size <= tailsMax) break;
      this.#tails.delete(name);
    }
  }

  async #checkpoint(message: RawMessage, result: Result): Promise<void> {
    const kind = String(message.headers[kindHeader] ?? "");
    const value = parse(message.value);
    if (kind === "agent" && isIntroduction(value)) await this.#introduce(value, message, result);
    else if (kind === "head" && isHead(value)) await this.#head(value, message, result);
    else if (kind === "agent" || kind === "head" || value === null)
      result.refuse(message, "unreadable", "A checkpoint cannot be read.");
    // Other kinds are for others.
  }

  /** The first key of an agent is taken; another one later is a fault, and changes nothing. */
  async #introduce({ agent, publicKey }: Introduction, message: RawMessage, result: Result): Promise<void> {
    const key = readKey(publicKey);
    if (key === null) return result.refuse(message, "unreadable", `The key of agent ${agent} cannot be read.`);
    const pinned = await this.#sink.keyOf(agent);
    if (pinned === null) await this.#sink.pinKey(agent, key);
    else if (!pinned.equals(key)) {
      const sentence = `Agent ${agent} came with another key than the one that is pinned.`;
      result.refuse(message, "wrong-key", sentence, { agent, session: null });
    }
  }

  async #head(head: Head, message: RawMessage, result: Result): Promise<void> {
    const { agent, size } = head;
    const key = await this.#sink.keyOf(agent);
    const about = { agent, session: null };
    if (key === null) result.refuse(message, "unknown-agent", `Nobody knows the key of agent ${agent}.`, about);
    else if (headIsSigned(head, key)) result.heads.push(head);
    else
      result.refuse(
        message,
        "wrong-key",
        `The head of agent ${agent} over ${size} entries is not signed by its key.`,
        about,
      );
  }
}

class Result implements CheckedBatch {
  readonly entries: CheckedEntry[] = [];
  readonly heads: Head[] = [];
  readonly faults: Fault[] = [];
  readonly deadLetters: OutMessage[] = [];
  repeated = 0;

  fault(kind: FaultKind, about: { agent: string; session: string | null } | null, sentence: string): void {
    this.faults.push({ kind, agent: about?.agent ?? null, session: about?.session ?? null, sentence });
  }

  refuse(
    message: RawMessage,
    kind: FaultKind,
    sentence: string,
    about: { agent: string; session: string | null } | null = null,
  ): void {
    this.fault(kind, about, sentence);
    this.deadLetters.push({
      topic: topics.deadLetters,
      key: message.key?.toString("utf8") ?? "",
      value: message.value,
      headers: {
        "weir-reason": kind,
        "weir-sentence": sentence,
        "weir-topic": message.topic,
        "weir-partition": String(message.partition),
        "weir-offset": message.offset,
      },
    });
  }
}

interface Introduction {
  readonly agent: string;
  readonly publicKey: string;
}

function parse(value: Buffer | null): unknown {
  try {
    return value === null ? null : JSON.parse(value.toString("utf8"));
  } catch {
    return null;
  }
}

function has(value: unknown, fields: Readonly<Record<string, string>>): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(fields).every(([name, type]) => typeof (value as Record<string, unknown>)[name] === type);
}

const isNamed = (value: { agent: string }): boolean => nameShape.test(value.agent);
const isIntroduction = (value: unknown): value is Introduction =>
  has(value, { agent: "string", publicKey: "string" }) && isNamed(value as Introduction);
const isHead = (value: unknown): value is Head =>
  has(value, {
    agent: "string",
    size: "number",
    link: "string",
    timeMs: "number",
    closed: "boolean",
    signature: "string",
  }) &&
  isNamed(value as Head) &&
  Number.isSafeInteger((value as Head).size) &&
  (value as Head).size >= 0;

function readKey(pem: string): KeyObject | null {
  try {
    const key = createPublicKey(pem);
    return key.asymmetricKeyType === "ed25519" ? key : null;
  } catch {
    return null;
  }
}
