/** What the two directions of one session share after its login. */

import type { Operation } from "../../core/operation.ts";
import type { EntryBody } from "../../core/record.ts";
import type { MaskSpec, Permit, Verdict } from "../../core/verdict.ts";
import type { CatalogQuestion, Command, ConversationContext } from "../protocol.ts";
import { describeStatement } from "./describe/index.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import { Expected } from "./expected.ts";
import { Names } from "./names.ts";
import type { Speaker } from "./operation.ts";
import { maskOperation } from "./results.ts";
import type { Run } from "./run.ts";

export const idle = 0x49; // I
export const inTransaction = 0x54; // T

export interface Opened {
  readonly speaker: Speaker;
  readonly replicates: boolean;
  readonly permit: Permit;
  readonly nextAskId: number;
}

export class SessionState {
  out: Command[] = [];
  readonly context: ConversationContext;
  readonly speaker: Speaker;
  /** Opened with `replication`: the server reads some commands as no SQL. */
  readonly replicates: boolean;
  readonly expected = new Expected();
  readonly names = new Names();
  /** Of the session itself: for messages that are no operation (Sync, Flush, Close, Terminate). */
  readonly permit: Permit;
  /** Of the operation whose bytes are being forwarded. */
  forwardPermit: Permit;
  nextAskId: number;
  /** The server's first ReadyForQuery has come. */
  ready = false;
  /** Of the last ReadyForQuery. */
  transaction = idle;
  /** Counts up at each message after which a failure is over (Sync, Query, FunctionCall). */
  batch = 0;
  /** Something of this batch went to the server. */
  batchDirty = false;
  /** A statement of this batch ran: what it changed (an encoding, say) is told only behind the batch. */
  batchRan = false;
  /** A text was sent that may change what the next one means: it is answered first. */
  barrier = false;
  copy: CopyIn | null = null;
  /** What the catalog was asked for a COPY that waits for it. */
  asking: { readonly run: Run; readonly question: CatalogQuestion } | null = null;
  /** A COPY that was described: what follows waits for its end, so that its transaction stays open. */
  copying: Run | null = null;
  /** The client was told an error in the middle of a result: the rest up to ReadyForQuery is dropped. */
  dropping = false;
  encoding = "UTF8";
  standardStrings = true;
  cancelKey: Buffer | null = null;
  /** Detectors of the last verdict: they also look at what belongs to no statement (notifications). */
  masks: readonly MaskSpec[] = [];
  /** The client's messages can go on: looked at when the event is done, so that no direction runs inside the other. */
  wakeFrontend = false;
  wakeBackend = false;
  /** For the client, at the next end of a message of the server. */
  readonly notices: Buffer[] = [];

  constructor(context: ConversationContext, { speaker, replicates, permit, nextAskId }: Opened) {
    this.context = context;
    this.speaker = speaker;
    this.replicates = replicates;
    this.permit = permit;
    this.forwardPermit = permit;
    this.nextAskId = nextAskId;
  }

  endBatch(): void {
    this.batch += 1;
    this.batchDirty = false;
    this.batchRan = false;
  }

  sendClient(bytes: Buffer): void {
    this.out.push({ type: "send-client", bytes });
  }

  sendServer(bytes: Buffer, permit: Permit = this.permit): void {
    this.out.push({ type: "send-server", bytes, permit });
  }

  record(body: EntryBody): void {
    this.out.push({ type: "record", body });
  }

  /** The text of a statement, and what only this session knows about how the server will read it. */
  text(bytes: Buffer, from: number, to: number): { text: string; traits: readonly string[] } {
    const text = bytes.toString("utf8", from, to);
    let traits: readonly string[] = noTraits;
    if (!transparentEncodings.has(this.encoding) && !isAscii(text, to - from)) traits = [...traits, "encoding"];
    if (!this.standardStrings) traits = [...traits, "nonstandard-strings"];
    return { text, traits };
  }

  /** The operation as the record may keep it: what the verdict's detectors find in it is masked. */
  recordable(operation: Operation, verdict: Verdict): Operation {
    return maskOperation(operation, verdict.transforms.masks, this.context.custom ?? new Map());
  }

  describe(text: string): StatementInfo {
    return describeStatement(text);
  }

  finish(run: Run): void {
    if (run.finished) return;
    run.finished = true;
    this.record({
      type: "result",
      operationId: run.askId,
      tag: run.tag,
      rows: run.rows,
      bytes: run.bytes,
      masked: run.masked,
      durationMs: Math.max(0, this.context.now() - run.startedMs),
      error: run.error,
    });
  }
}

/** COPY FROM STDIN of one run. */
export interface CopyIn {
  readonly run: Run;
  /** CopyInResponses seen, and CopyDone or CopyFail sent. */
  starts: number;
  dones: number;
  /** A Sync came while the server was in copy mode, where it ignores it; needed after all if the copy fails. */
  syncKept: boolean;
}

const noTraits: readonly string[] = Object.freeze([]);
/** In these the server sees the bytes as the parser here does. */
const transparentEncodings: ReadonlySet<string> = new Set(["UTF8", "UNICODE", "SQL_ASCII"]);

function isAscii(text: string, bytes: number): boolean {
  return text.length === bytes && !text.includes("\ufffd");
}

/** True when what follows must wait for this text's result: it may change names or the meaning of text. */
export function isBarrier(info: StatementInfo): boolean {
  return (
    info.prepares.length > 0 ||
    info.deallocates.length > 0 ||
    info.declares.length > 0 ||
    info.closes.length > 0 ||
    info.sets.some(
      ({ name }) =>
        name === "*" || name === "client_encoding" || name === "names" || name === "standard_conforming_strings",
    ) ||
    info.traits.includes("dynamic-sql") ||
    info.traits.includes("do-block")
  );
}
