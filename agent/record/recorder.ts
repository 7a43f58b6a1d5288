/**
 * The recorder: entries are chained into a buffer, `flush` writes all of it at once (so it survives kill -9 of the
 * agent), fdatasync follows within 10 ms (so it survives the host), and heads are signed once a second.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { EntryBody } from "../core/record.ts";
import { WeirError } from "../errors.ts";
import { bodyOf, Chain, decodeEntry, linkOf } from "./chain.ts";
import { type Head, headsFile, openAgentKey, readLastHead, signHead } from "./heads.ts";
import { HeadsFile } from "./heads-file.ts";
import { lockDirectory } from "./lock.ts";
import { type Pruned, readPruned } from "./pruned.ts";
import { frameHeadBytes, readFrames, segmentPath, segmentsOf, writeFrame } from "./segment.ts";

const segmentBytesMax = 64 * 1024 * 1024;
const syncWithinMs = 10;
const headEveryMs = 1_000;
/** What may wait in memory for a flush; a flush comes every turn of the event loop. */
const pendingBytesMax = 64 * 1024 * 1024;
const pendingBytesFirst = 256 * 1024;
/** Of a full record: for the ends of what went on. Beyond it they are not taken, either. */
export const endingsBytesMax: number = 64 * 1024 * 1024;

export interface RecorderOptions {
  readonly stateDir: string;
  readonly now?: () => number;
  /** Of a file of heads; `headsBytesMax` by default. */
  readonly headsBytes?: number;
}

/** Numbers since the start, but for `size` and `signed`. */
export interface RecorderStatus {
  /** By kind. */
  readonly entries: Readonly<Record<string, number>>;
  /** Operations by verdict. */
  readonly actions: Readonly<Record<string, number>>;
  /** Refused connections by code. */
  readonly refused: Readonly<Record<string, number>>;
  readonly rows: number;
  readonly masked: number;
  readonly bytes: number;
  /** Entries in the chain, and how many a head covers. */
  readonly size: number;
  readonly signed: number;
  /** Why nothing is taken any more. */
  readonly failed: string | null;
  /** Why nothing new is taken now. */
  readonly full: string | null;
}

/** While it was full. */
export interface Refused {
  readonly operations: number;
  readonly connections: number;
}

export interface Recorder {
  readonly agentId: string;
  /** Chains an entry; throws WEIR_SPOOL_WRITE once the spool has failed, and WEIR_SPOOL_FULL while it is full. */
  append(session: string, body: EntryBody): void;
  /** Writes what is appended; throws WEIR_SPOOL_WRITE, and then nothing of it is in the spool. */
  flush(): void;
  /**
   * Full, for this reason; null: there is room again. No operation and no session is taken then, nor an entry for a
   * connection that was refused; what goes on ends in order, with what came back. Answers with what was turned away.
   */
  limit(full: string | null): Refused;
  /** Resolves when all that is flushed so far is on the disk. */
  synced(): Promise<void>;
  status(): RecorderStatus;
  close(): Promise<void>;
}

export async function openRecorder({ stateDir, now = Date.now, headsBytes }: RecorderOptions): Promise<Recorder> {
  const dir = join(stateDir, "spool");
  mkdirSync(stateDir, { recursive: true, mode: 0o711 });
  const unlock = lockDirectory(
    stateDir,
    (pid) => `The agent with pid ${pid} uses ${stateDir}. Stop it, or take another --state.`,
  );
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return new SpoolRecorder(stateDir, dir, now, unlock, headsBytes);
  } catch (error) {
    unlock();
    throw error;
  }
}

class SpoolRecorder implements Recorder {
  readonly #stateDir: string;
  readonly #dir: string;
  readonly #now: () => number;
  readonly #unlock: () => void;
  readonly #chain: Chain;
  readonly #key: ReturnType<typeof openAgentKey>;
  readonly #heads: HeadsFile;
  readonly #timer: NodeJS.Timeout;
  #segment = 1;
  #fd: number;
  #segmentBytes = 0;
  #pending = Buffer.allocUnsafeSlow(pendingBytesFirst);
  #pendingBytes = 0;
  #failed: WeirError | null = null;
  #full: WeirError | null = null;
  /** Bytes written by then. */
  #fullAt = 0;
  #refused = { operations: 0, connections: 0 };
  /** Sessions whose beginning was not taken: nothing of them is, to their end. */
  readonly #turnedAway = new Set<string>();
  #headSize = -1;
  /** How far the chain is written, and how far it is on the disk: only that is signed for. */
  #flushed: Place;
  #onDisk: Place;
  #unsynced = false;
  #syncTimer: NodeJS.Timeout | null = null;
  #syncWaiters: { resolve: () => void; reject: (error: Error) => void }[] = [];
  #syncing = false;
  #closed = false;
  readonly #counts = {
    entries: {} as Record<string, number>,
    actions: { allow: 0, deny: 0, hold: 0 } as Record<string, number>,
    refused: {} as Record<string, number>,
    rows: 0,
    masked: 0,
    bytes: 0,
  };

  constructor(stateDir: string, dir: string, now: () => number, unlock: () => void, headsBytes?: number) {
    this.#stateDir = stateDir;
    this.#dir = dir;
    this.#now = now;
    this.#unlock = unlock;
    this.#key = openAgentKey(stateDir);
    const ended = readLastHead(join(stateDir, headsFile));
    const recovered = recover(dir, ended?.size ?? 0, readPruned(stateDir));
    const agent = recovered.agent ?? `${hostname()}-${randomBytes(4).toString("hex")}`;
    this.#chain = new Chain(agent, recovered.size, recovered.link);
    this.#flushed = { size: recovered.size, link: recovered.link };
    this.#onDisk = this.#flushed;
    this.#segment = recovered.segment;
    this.#fd = openSync(segmentPath(dir, this.#segment), "a", 0o600);
    this.#segmentBytes = recovered.segmentBytes;
    this.#heads = new HeadsFile(stateDir, headsBytes);
    for (const [session, tail] of recovered.open) this.#chain.resume(session, tail.seq + 1, tail.link);
    const inOrder = ended?.closed === true && ended.size === recovered.size && recovered.cutBytes === 0;
    if (recovered.size > 0 && !inOrder) this.#recovered(recovered);
    this.#timer = setInterval(() => this.#signHead(false), headEveryMs);
    this.#timer.unref();
  }

  get agentId(): string {
    return this.#chain.agent;
  }

  append(session: string, body: EntryBody): void {
    if (this.#failed !== null) throw this.#failed;
    if (this.#turnedAway.size > 0 && this.#turnedAway.has(session)) {
      if (body.type === "session-end") this.#turnedAway.delete(session);
      return;
    }
    if (this.#full !== null && !this.#takes(session, body)) return;
    if (this.#pendingBytes > pendingBytesMax) {
      throw new WeirError("WEIR_SPOOL_WRITE", `More than ${pendingBytesMax} bytes wait to be written.`);
    }
    const payload = this.#chain.append(session, body, this.#now());
    const at = this.#pendingBytes;
    const end = at + frameHeadBytes + payload.length;
    if (end > this.#pending.length) {
      const larger = Buffer.allocUnsafeSlow(end * 2);
      larger.set(this.#pending.subarray(0, at));
      this.#pending = larger;
    }
    writeFrame(this.#pending, at, payload);
    this.#pendingBytes = end;
    this.#count(body);
  }

  limit(full: string | null): Refused {
    const { operations, connections } = this.#refused;
    this.#full = full === null ? null : new WeirError("WEIR_SPOOL_FULL", full);
    this.#fullAt = this.#counts.bytes;
    this.#refused = { operations: 0, connections: 0 };
    return { operations, connections };
  }

  /** While it is full. Throws for what must not go on without an entry; false: it is counted only. */
  #takes(session: string, body: EntryBody): boolean {
    const full = this.#full as WeirError;
    if (body.type === "refused" && session === "agent") {
      this.#refused.connections += 1;
      return false;
    }
    if (session !== "agent" && !this.#chain.has(session)) {
      this.#refused.connections += 1;
      this.#turnedAway.add(session);
    } else if (body.type === "operation") this.#refused.operations += 1;
    else if (this.#counts.bytes + this.#pendingBytes - this.#fullAt <= endingsBytesMax) return true;
    throw full;
  }

  status(): RecorderStatus {
    const { entries, actions, refused, ...rest } = this.#counts;
    return {
      ...rest,
      entries: { ...entries },
      actions: { ...actions },
      refused: { ...refused },
      size: this.#chain.agentSeq,
      signed: Math.max(0, this.#headSize),
      failed: this.#failed?.message ?? null,
      full: this.#full?.message ?? null,
    };
  }

  #count(body: EntryBody): void {
    const counts = this.#counts;
    counts.entries[body.type] = (counts.entries[body.type] ?? 0) + 1;
    if (body.type === "operation") counts.actions[body.verdict.action] = (counts.actions[body.verdict.action] ?? 0) + 1;
    else if (body.type === "result") {
      counts.rows += body.rows;
      counts.masked += body.masked;
    } else if (body.type === "refused") counts.refused[body.code] = (counts.refused[body.code] ?? 0) + 1;
  }

  flush(): void {
    if (this.#failed !== null) throw this.#failed;
    const bytes = this.#pendingBytes;
    if (bytes === 0) return;
    this.#pendingBytes = 0;
    try {
      if (this.#segmentBytes > 0 && this.#segmentBytes + bytes > segmentBytesMax) this.#rotate();
      let written = 0;
      while (written < bytes) written += writeSync(this.#fd, this.#pending, written, bytes - written);
      this.#segmentBytes += bytes;
      this.#counts.bytes += bytes;
    } catch (cause) {
      this.#fail(cause);
      throw this.#failed;
    }
    this.#flushed = { size: this.#chain.agentSeq, link: this.#chain.link };
    this.#unsynced = true;
    this.#scheduleSync();
  }

  synced(): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    if (!this.#unsynced && !this.#syncing) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#syncWaiters.push({ resolve, reject });
      if (!this.#syncing) this.#sync();
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    if (this.#syncTimer !== null) clearTimeout(this.#syncTimer);
    try {
      if (this.#failed === null) {
        this.flush();
        await this.synced();
        this.#signHead(true);
        this.#heads.sync();
      }
    } finally {
      // From here on the descriptors' numbers may be somebody else's.
      this.#failed ??= new WeirError("WEIR_SPOOL_WRITE", "The record is closed.");
      closeSync(this.#fd);
      this.#heads.close();
      this.#unlock();
    }
  }

  /** A crash is part of the record: what was cut, and which sessions never ended. */
  #recovered(recovered: Recovered): void {
    const interrupted = [...recovered.open.keys()].filter((session) => session !== "agent");
    this.append("agent", {
      type: "agent",
      event: "recovered",
      detail: `the last run did not end in order; ${recovered.cutBytes} bytes of an unfinished entry cut, ${interrupted.length} sessions interrupted`,
    });
    for (const session of interrupted) {
      this.append(session, {
        type: "session-end",
        reason: "interrupted: the agent ended",
        bytesUp: 0,
        bytesDown: 0,
        operations: 0,
        denied: 0,
      });
    }
    this.flush();
  }

  /** After a failed write nothing more is taken: what the file holds past the last good frame is cut off. */
  #fail(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    this.#failed = new WeirError(
      "WEIR_SPOOL_WRITE",
      `The record cannot be written: ${reason}. Free space below ${this.#stateDir} and restart the agent.`,
      { cause },
    );
    try {
      ftruncateSync(this.#fd, this.#segmentBytes);
    } catch {
      // The next start cuts it.
    }
    for (const waiter of this.#syncWaiters.splice(0)) waiter.reject(this.#failed);
  }

  #rotate(): void {
    fdatasyncSync(this.#fd);
    closeSync(this.#fd);
    this.#segment += 1;
    this.#fd = openSync(segmentPath(this.#dir, this.#segment), "a", 0o600);
    this.#segmentBytes = 0;
  }

  #scheduleSync(): void {
    if (this.#syncTimer !== null || this.#syncing) return;
    this.#syncTimer = setTimeout(() => {
      this.#syncTimer = null;
      if (!this.#syncing) this.#sync();
    }, syncWithinMs);
  }

  #sync(): void {
    if (this.#syncTimer !== null) clearTimeout(this.#syncTimer);
    this.#syncTimer = null;
    this.#syncing = true;
    this.#unsynced = false;
    const waiters = this.#syncWaiters.splice(0);
    const place = this.#flushed;
    fdatasync(this.#fd, (error) => {
      this.#syncing = false;
      if (error !== null) {
        // The kernel may have dropped the pages: asking again would lie.
        this.#fail(error);
        for (const waiter of waiters) waiter.reject(this.#failed as WeirError);
        return;
      }
      this.#onDisk = place;
      for (const waiter of waiters) waiter.resolve();
      if (this.#syncWaiters.length > 0) this.#sync();
      else if (this.#unsynced && !this.#closed) this.#scheduleSync();
    });
  }

  #signHead(closed: boolean): void {
    const { size, link } = this.#onDisk;
    if (this.#failed !== null || size === 0 || (size === this.#headSize && !closed)) return;
    const head: Head = signHead(
      { agent: this.#chain.agent, size, link: link.toString("hex"), timeMs: this.#now(), closed },
      this.#key,
    );
    try {
      this.#heads.append(head);
      this.#headSize = head.size;
    } catch (cause) {
      this.#fail(cause);
    }
  }
}

/** A place in the chain: how many entries, and the link of the last. */
interface Place {
  readonly size: number;
  readonly link: Buffer;
}

interface Recovered {
  agent: string | null;
  size: number;
  link: Buffer;
  segment: number;
  segmentBytes: number;
  cutBytes: number;
  open: Map<string, { seq: number; link: Buffer }>;
}

/**
 * Reads what an earlier run left, cuts a torn tail, and finds sessions without an end. What the agent has signed for
 * was on the disk: when that is damaged nothing is cut, and the start is refused.
 */
function recover(dir: string, signedSize: number, pruned: Pruned | null): Recovered {
  const found: Recovered = {
    agent: pruned?.agent ?? null,
    size: pruned?.size ?? 0,
    link: pruned === null ? Buffer.alloc(32) : Buffer.from(pruned.link, "hex"),
    segment: (pruned?.segment ?? 0) + 1,
    segmentBytes: 0,
    cutBytes: 0,
    open: new Map(),
  };
  for (const { session, seq, link } of pruned?.open ?? [])
    found.open.set(session, { seq, link: Buffer.from(link, "hex") });
  const segments = segmentsOf(dir);
  for (const [at, path] of segments.entries()) {
    const frames = readFrames(path);
    let next = frames.next();
    for (; !next.done; next = frames.next()) {
      const entry = decodeEntry(next.value.payload);
      found.agent = entry.agent;
      found.size = entry.agentSeq + 1;
      found.link = linkOf(next.value.payload);
      if (bodyOf(entry).name === "SessionEnd") found.open.delete(entry.session);
      else found.open.set(entry.session, { seq: entry.seq, link: found.link });
    }
    found.segment = Number(/(\d{8})\.seg$/.exec(path)?.[1]);
    found.segmentBytes = next.value.goodBytes;
    if (next.value.problem === null) continue;
    if (at < segments.length - 1 || found.size < signedSize)
      throw new WeirError(
        "WEIR_SPOOL_CORRUPT",
        `${path}: ${next.value.problem}. Run \`weir verify\`; move the state directory away to start anew.`,
      );
    const size = readFileSync(path).length;
    found.cutBytes = size - next.value.goodBytes;
    truncateSync(path, next.value.goodBytes);
  }
  return found;
}
