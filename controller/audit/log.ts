/**
 * The audit log: signed heads of agents become leaves of a tree that only grows. Order on the disk is what makes it safe
 * to kill: tiles, then fdatasync, then the signed checkpoint over them, and only then receipts.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../../agent/errors.ts";
import type { Head } from "../../agent/record/heads.ts";
import { lockDirectory } from "../../agent/record/lock.ts";
import { headOf, leafOf, type Receipt } from "../../agent/record/receipts.ts";
import { checkpointIsSigned, parseCheckpoint, signCheckpoint } from "./checkpoint.ts";
import { checkpointFile, dropPartials, readFrom, replaceFile, writeTiles } from "./files.ts";
import { freshName, logKeyFiles, type OwnKey, openOwnKey } from "./keys.ts";
import type { VerifierKey } from "./note.ts";
import { Edge, entriesOf, type ReadFile, readTile, tileHashes, tileWidth } from "./tiles.ts";
import { inclusionProof, leafHash } from "./tree.ts";

export const auditDir = "audit";
/** At most one checkpoint in this time: what comes in between is signed for together. */
const checkpointEveryMs = 1_000;
/** Heads that wait for a checkpoint, 300 bytes each. */
export const pendingHeadsMax = 16_384;
/** Bundles that are read to find an agent's last head; one that was silent longer than that is taken for new. */
const bundlesSearchedMax = 4_096;

export interface AddedHead {
  readonly index: number;
  /** Resolves once a checkpoint covers the head. */
  receipt(): Promise<Receipt>;
}

export interface AuditLog {
  readonly verifier: VerifierKey;
  /** Leaves that the last checkpoint signs for. */
  readonly size: number;
  /** The last checkpoint, as a signed note; null while there is none. */
  readonly checkpoint: string | null;
  /** Throws WEIR_LIMIT_REACHED when too many wait; the caller has checked the head's signature. */
  addHead(head: Head): AddedHead;
  lastHeadOf(agent: string): Head | null;
  /** Resolves when all that was added is signed for; rejects with why it could not be written. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface AuditLogOptions {
  readonly stateDir: string;
  readonly now?: () => number;
  readonly everyMs?: number;
  /** Told of each checkpoint when it is on the disk. */
  readonly onCheckpoint?: (note: string) => void;
  /** For the agents: the last receipt of each agent whose heads a checkpoint covers for the first time. */
  readonly onReceipts?: (receipts: readonly Receipt[]) => Promise<void>;
}

export function openAuditLog(options: AuditLogOptions): AuditLog {
  const dir = join(options.stateDir, auditDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const unlock = lockDirectory(
    dir,
    (pid) => `Another agent or controller (pid ${pid}) uses this state directory: it writes ${dir}.`,
  );
  try {
    return new TiledLog(dir, options, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

class TiledLog implements AuditLog {
  readonly #dir: string;
  readonly #read: ReadFile;
  readonly #own: OwnKey;
  readonly #now: () => number;
  readonly #everyMs: number;
  readonly #onCheckpoint: (note: string) => void;
  readonly #onReceipts: (receipts: readonly Receipt[]) => Promise<void>;
  readonly #unlock: () => void;
  #edge: Edge;
  #checkpoint: string | null;
  #pending: Head[] = [];
  #timer: NodeJS.Timeout | null = null;
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #committing: Promise<void> | null = null;
  #closed = false;

  constructor(dir: string, options: AuditLogOptions, unlock: () => void) {
    this.#dir = dir;
    this.#read = readFrom(dir);
    this.#now = options.now ?? Date.now;
    this.#everyMs = options.everyMs ?? checkpointEveryMs;
    this.#onCheckpoint = options.onCheckpoint ?? (() => {});
    this.#onReceipts = options.onReceipts ?? (async () => {});
    this.#unlock = unlock;
    this.#own = openOwnKey(dir, logKeyFiles, () => freshName("audit"));
    const signed = this.#read(checkpointFile);
    this.#checkpoint = signed?.toString("utf8") ?? null;
    this.#edge = signed === null ? new Edge() : takenUp(signed, this.#read, this.#own.verifier);
  }

  get verifier(): VerifierKey {
    return this.#own.verifier;
  }

  get size(): number {
    return this.#edge.size;
  }

  get checkpoint(): string | null {
    return this.#checkpoint;
  }

  addHead(head: Head): AddedHead {
    if (this.#closed) throw new WeirError("WEIR_SHUTDOWN", "The audit log is closed.");
    if (this.#pending.length >= pendingHeadsMax)
      throw new WeirError("WEIR_LIMIT_REACHED", `More than ${pendingHeadsMax} heads wait for a checkpoint.`);
    const index = this.#edge.size + this.#pending.length;
    this.#pending.push(head);
    this.#schedule();
    return { index, receipt: () => this.#receiptOnce(head, index) };
  }

  lastHeadOf(agent: string): Head | null {
    const waiting = this.#pending.findLast((head) => head.agent === agent);
    if (waiting !== undefined) return waiting;
    const { size } = this.#edge;
    const lastBundle = Math.ceil(size / tileWidth) - 1;
    for (let index = lastBundle; index >= Math.max(0, lastBundle - bundlesSearchedMax + 1); index -= 1) {
      const leaves = entriesOf(readTile(this.#read, "entries", index, size)) ?? [];
      const found = leaves
        .slice(0, size - index * tileWidth)
        .map(headOf)
        .findLast((head) => head?.agent === agent);
      if (found) return found;
    }
    return null;
  }

  async flush(): Promise<void> {
    while (this.#pending.length > 0 || this.#committing !== null) await this.#commit();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.flush();
    } finally {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#unlock();
    }
  }

  #schedule(): void {
    if (this.#timer !== null) return;
    const wait = Math.min(this.#everyMs, Math.max(0, this.#lastAtMs + this.#everyMs - this.#now()));
    this.#timer = setTimeout(() => {
      this.#timer = null;
      // The heads stay where they are when it fails: the next round tries again, and `flush` says why.
      this.#commit().catch(() => this.#schedule());
    }, wait);
    this.#timer.unref();
  }

  #commit(): Promise<void> {
    this.#committing ??= this.#write().finally(() => {
      this.#committing = null;
    });
    return this.#committing;
  }

  async #write(): Promise<void> {
    const heads = [...this.#pending];
    if (heads.length === 0) return;
    this.#lastAtMs = this.#now();
    const { edge, files } = this.#edge.append(heads.map(leafOf));
    const first = this.#edge.size;
    await writeTiles(this.#dir, files);
    const { key, verifier } = this.#own;
    const note = signCheckpoint({ origin: verifier.name, size: edge.size, root: edge.root() }, key);
    await replaceFile(this.#dir, checkpointFile, note);
    this.#edge = edge;
    this.#checkpoint = note;
    this.#pending.splice(0, heads.length);
    this.#onCheckpoint(note);
    await this.#onReceipts(this.#lastOfEach(heads, first));
    await dropPartials(this.#dir, files);
    if (this.#pending.length > 0 && !this.#closed) this.#schedule();
  }

  /** A head covers all entries of its agent before it: the last one of each is enough to keep. */
  #lastOfEach(heads: readonly Head[], first: number): Receipt[] {
    const last = new Map(heads.map((head, at) => [head.agent, { head, index: first + at }]));
    return [...last.values()].map(({ head, index }) => this.#receipt(head, index));
  }

  async #receiptOnce(head: Head, index: number): Promise<Receipt> {
    while (this.#edge.size <= index) await this.#waitForCheckpoint();
    return this.#receipt(head, index);
  }

  async #waitForCheckpoint(): Promise<void> {
    if (this.#committing !== null) return this.#committing;
    if (this.#closed) throw new WeirError("WEIR_SHUTDOWN", "The audit log is closed.");
    await new Promise((resolve) => setTimeout(resolve, Math.min(this.#everyMs, 50)));
  }

  #receipt(head: Head, index: number): Receipt {
    const { size } = this.#edge;
    const proof = inclusionProof(tileHashes(this.#read, size), index, size);
    return {
      agent: head.agent,
      headSize: head.size,
      index,
      leaf: leafHash(leafOf(head)).toString("base64"),
      checkpoint: this.#checkpoint ?? "",
      proof: proof.map((hash) => hash.toString("base64")),
    };
  }
}

/** What was signed for has to be there as it was signed: else nothing is written on it. */
function takenUp(signed: Buffer, read: ReadFile, verifier: VerifierKey): Edge {
  const checkpoint = parseCheckpoint(signed);
  if (!checkpointIsSigned(checkpoint, verifier))
    throw new WeirError("WEIR_CHAIN_BROKEN", "The audit log's checkpoint is not signed by its key. Run `weir verify`.");
  const edge = Edge.load(checkpoint.size, read);
  if (!edge.root().equals(checkpoint.root))
    throw new WeirError("WEIR_CHAIN_BROKEN", "The audit log's tiles are not what was signed for. Run `weir verify`.");
  return edge;
}
