/**
 * The publisher: follows the spool from a durable cursor and sends it to Kafka, one batch at a time, the identical batch
 * again until it is acknowledged. It shares nothing with the agent but files, so that it can run in a thread of its own
 * (thread.ts) and is never in the way of a verdict.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Framing, fingerprintOf, singleObject } from "../kafka/framing.ts";
import type { OutMessage, Transport } from "../kafka/transport.ts";
import { entryBytesMax, linkOf } from "../record/chain.ts";
import { publicKeyFile } from "../record/heads.ts";
import { headsStart } from "../record/heads-file.ts";
import { entryType } from "../record/schema.ts";
import { frameHeadBytes, readFrames, segmentPath } from "../record/segment.ts";
import { agentMessage, entryMessages, headMessage, peeksOf } from "./batch.ts";
import { type Cursor, CursorFile, cursorFile } from "./cursor.ts";
import { type Piece, type Place, SpoolFollower, startOf } from "./follower.ts";
import { HeadsFollower } from "./heads-follower.ts";
import type { EntryPeek } from "./peek.ts";

export interface PublisherOptions {
  readonly stateDir: string;
  readonly transport: Transport;
  /** Rejects while it cannot be had (a registry that is away): then nothing is published yet. */
  readonly framing?: () => Promise<Framing>;
  readonly log?: (level: "info" | "warn", message: string) => void;
}

export interface PublisherStatus {
  /** `publishing`: all that is signed for is with Kafka, or on its way. `behind`: Kafka does not take it. */
  readonly state: "publishing" | "behind" | "stopped";
  /** Entries of the spool that Kafka has not acknowledged. */
  readonly behind: number;
  /** Entries acknowledged since the publisher started. */
  readonly published: number;
  readonly problem: string | null;
}

export interface Publisher {
  status(): PublisherStatus;
  /**
   * Publishes what is in the spool by now, at most `drainWithinMs` long; what Kafka has not acknowledged by then is
   * published after the next start.
   */
  close(drainWithinMs?: number): Promise<void>;
}

/** A longer entry is a batch of its own. */
export const batchBytesMax = 3 * 1024 * 1024;
/** What is held in memory, however long Kafka is away: the batch that is sent, as read and as framed, and the next one. */
export const queueBytesMax: number = 3 * Math.max(batchBytesMax, entryBytesMax);
const pollEveryMs = 25;
const retryFirstMs = 200;
const retryMaxMs = 5_000;
/** A send that does not end by itself after that is cut off. */
const closeWithinMs = 2_000;

export function openPublisher(options: PublisherOptions): Publisher {
  return new SpoolPublisher(options);
}

class SpoolPublisher implements Publisher {
  readonly #options: PublisherOptions;
  readonly #transport: Transport;
  readonly #cursorFile: CursorFile;
  readonly #heads: HeadsFollower;
  readonly #follower: SpoolFollower;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #cursor: Cursor;
  #agent: string | null = null;
  #framing: Framing | null = null;
  #problem: string | null = null;
  #published = 0;
  #caughtUp = false;
  #draining = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#transport = options.transport;
    const spool = join(options.stateDir, "spool");
    this.#cursorFile = new CursorFile(options.stateDir);
    const stored = this.#cursorFile.read();
    const cursor = checkedCursor(spool, stored);
    if (stored !== null && cursor === null) {
      this.#log("warn", "publish-cursor does not fit the spool: all of it is published again.");
    }
    this.#cursor = cursor ?? { ...startOf(spool), size: 0, link: "", heads: headsStart };
    this.#follower = new SpoolFollower(spool, this.#cursor);
    this.#heads = new HeadsFollower(options.stateDir);
    this.#done = this.#run();
  }

  status(): PublisherStatus {
    const behind = this.#caughtUp ? 0 : Math.max(0, this.#heads.signedSize() - this.#cursor.size);
    const state = this.#stop.signal.aborted ? "stopped" : this.#problem === null ? "publishing" : "behind";
    return { state, behind, published: this.#published, problem: this.#problem };
  }

  async close(drainWithinMs = 0): Promise<void> {
    this.#draining = true;
    const drained = setTimeout(() => this.#stop.abort(), drainWithinMs);
    const late = setTimeout(() => void this.#transport.close(), drainWithinMs + closeWithinMs);
    await this.#done;
    this.#stop.abort();
    clearTimeout(drained);
    clearTimeout(late);
  }

  async #run(): Promise<void> {
    try {
      this.#framing = await this.#retried(() => this.#makeFraming());
      let ahead: Promise<Piece> | null = null;
      let emptyReads = 0;
      for (;;) {
        const piece = await this.#retried(() => {
          const reading = ahead ?? this.#follower.read(batchBytesMax);
          ahead = null;
          return reading;
        });
        this.#caughtUp = piece.payloads.length === 0;
        if (this.#caughtUp) {
          await this.#publish([], [], this.#cursor);
          emptyReads += 1;
          // One of them began after the spool was closed.
          if (this.#draining && emptyReads > 1) return;
          await delay(pollEveryMs, undefined, { signal: this.#stop.signal });
          continue;
        }
        emptyReads = 0;
        const peeks = peeksOf(piece.payloads);
        ahead = this.#follower.read(batchBytesMax);
        // It is awaited in the next turn; until then its failure is nobody's.
        ahead.catch(() => {});
        await this.#publish(piece.payloads, peeks, piece.next);
      }
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
    } finally {
      await this.#transport.close();
      this.#follower.close();
      this.#remember(true);
    }
  }

  /** Entries, and the heads that sign for no more than what is published with them. */
  async #publish(payloads: readonly Buffer[], peeks: readonly EntryPeek[], next: Place): Promise<void> {
    const messages = entryMessages(payloads, peeks, this.#framing as Framing);
    const last = peeks.findLast(({ agentSeq }) => agentSeq >= 0);
    const size = last === undefined ? this.#cursor.size : last.agentSeq + 1;
    const agent = last?.agent ?? this.#agent;
    let { heads } = this.#cursor;
    if (agent !== null) {
      if (this.#agent !== agent) messages.unshift(this.#introduction(agent));
      for (const head of this.#heads.read(heads)) {
        if (head.size > size) break;
        messages.push(headMessage(agent, head));
        heads = head.next;
      }
    }
    if (messages.length === 0) return;
    await this.#send(messages);
    this.#agent = agent;
    this.#published += payloads.length;
    const final = payloads.at(-1);
    const link = final === undefined ? this.#cursor.link : linkOf(final).toString("hex");
    this.#cursor = { segment: next.segment, offset: next.offset, size, link, heads };
    this.#remember(false);
  }

  /** A full disk ends no publishing: the cursor stays behind, and entries are published twice. */
  #remember(sync: boolean): void {
    try {
      if (this.#cursor.size > 0) this.#cursorFile.write(this.#cursor, sync);
    } catch (error) {
      this.#log("warn", `${cursorFile}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #send(messages: readonly OutMessage[]): Promise<void> {
    try {
      await this.#retried(async () => {
        try {
          await this.#transport.send(messages);
        } catch (error) {
          if (messages.length > 1 && isTooLarge(error)) throw new TooLarge(error);
          throw error;
        }
      });
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      // Brokers that were set up by hand take less than what `weir topics create` lets them take.
      const half = messages.length >> 1;
      await this.#send(messages.slice(0, half));
      await this.#send(messages.slice(half));
    }
  }

  /** Tries for ever, waiting longer and longer; ends only when the publisher is closed. */
  async #retried<T>(work: () => Promise<T>): Promise<T> {
    for (let waitMs = retryFirstMs; ; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
      this.#stop.signal.throwIfAborted();
      try {
        const result = await work();
        if (this.#problem !== null) this.#log("info", "Kafka takes entries again.");
        this.#problem = null;
        return result;
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        if (error instanceof TooLarge) throw error;
        const problem = error instanceof Error ? error.message : String(error);
        if (this.#problem === null) this.#log("warn", `Entries wait in the spool: ${problem}`);
        this.#problem = problem;
      }
      // Not all agents at once when a broker comes back.
      await delay(waitMs * (0.75 + Math.random() / 2), undefined, { signal: this.#stop.signal });
    }
  }

  #log(level: "info" | "warn", message: string): void {
    this.#options.log?.(level, `publish: ${message}`);
  }

  #makeFraming(): Promise<Framing> {
    return this.#options.framing?.() ?? Promise.resolve(singleObject());
  }

  #introduction(agent: string): OutMessage {
    const publicKey = readFileSync(join(this.#options.stateDir, publicKeyFile), "utf8");
    return agentMessage(agent, publicKey, fingerprintOf(entryType).toString("hex"));
  }
}

class TooLarge extends Error {
  constructor(cause: unknown) {
    super("a batch is larger than a broker takes", { cause });
  }
}

function isTooLarge(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth += 1) {
    const { type, apiId, errors } = at as { type?: unknown; apiId?: unknown; errors?: unknown };
    if ([type, apiId].some((id) => id === "MESSAGE_TOO_LARGE" || id === "RECORD_LIST_TOO_LARGE")) return true;
    if (Array.isArray(errors) && errors.some(isTooLarge)) return true;
  }
  return false;
}

/** The cursor is only good when the entry before its place is the one that was published last; else all is published again. */
function checkedCursor(spool: string, cursor: Cursor | null): Cursor | null {
  if (cursor === null || cursor.size === 0) return null;
  const path = segmentPath(spool, cursor.segment);
  if (!existsSync(path)) return null;
  for (const { payload, offset } of readFrames(path)) {
    const end = offset + frameHeadBytes + payload.length;
    if (end < cursor.offset) continue;
    return end === cursor.offset && linkOf(payload).toString("hex") === cursor.link ? cursor : null;
  }
  return null;
}
