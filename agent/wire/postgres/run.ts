/** The nouns of the query phase: a prepared statement, a portal, and the run of one decided operation. */
import type { Operation } from "../../core/operation.ts";
import type { Permit, RowLimit, Verdict } from "../../core/verdict.ts";
import type { Probe } from "./copy-probe.ts";
import type { StatementInfo } from "./describe/statement-info.ts";

const none: readonly never[] = Object.freeze([]);

/**
 * A name in the server's table of prepared statements as it will be when everything sent so far has succeeded.
 * Until the server says so it is not confirmed, and only messages of the same batch (up to the next Sync) may rely
 * on it: those fail with it.
 */
export interface Prepared {
  readonly name: string;
  readonly text: string;
  /** Null: not known what stands behind the name. */
  readonly info: StatementInfo | null;
  /** What only the session knew when it was parsed. */
  readonly traits: readonly string[];
  /** Bytes of the message that made it. */
  readonly bytes: number;
  readonly batch: number;
  confirmed: boolean;
  /** A Close: the name is free again. */
  readonly closed: boolean;
  /** What the name meant before; followed when the server refused this one. */
  previous: Prepared | null;
  refused: boolean;
  /** The server's RowDescription as it came for a Describe of the statement; null: not described. */
  description: Buffer | null;
  /** The operation without parameters, made once. */
  operation: Operation | null;
}

export interface Portal {
  readonly name: string;
  readonly run: Run | null;
  readonly prepared: Prepared | null;
  /** As Bind said; null when its end was not read: then the portal itself has to be described. */
  readonly resultFormats: readonly number[] | null;
  readonly batch: number;
  confirmed: boolean;
  readonly closed: boolean;
  previous: Portal | null;
  refused: boolean;
  description: Buffer | null;
  /** A Describe of it, or of its statement, is on its way or answered. */
  described: boolean;
}

/** As the name will be when the server has taken the message. null: a Close frees it. */
export function newPrepared(
  name: string,
  batch: number,
  said: Pick<Prepared, "text" | "info" | "traits" | "bytes"> | null,
): Prepared {
  return {
    name,
    text: said?.text ?? "",
    info: said?.info ?? null,
    traits: said?.traits ?? none,
    bytes: said?.bytes ?? 0,
    batch,
    confirmed: false,
    closed: said === null,
    previous: null,
    refused: false,
    description: null,
    operation: null,
  };
}

export function newPortal(
  name: string,
  batch: number,
  bound: Pick<Portal, "run" | "prepared" | "resultFormats"> | null,
): Portal {
  return {
    name,
    run: bound?.run ?? null,
    prepared: bound?.prepared ?? null,
    resultFormats: bound === null ? none : bound.resultFormats,
    batch,
    confirmed: false,
    closed: bound === null,
    previous: null,
    refused: false,
    description: null,
    described: false,
  };
}

/** One operation from its question to its result. */
export interface Run {
  readonly askId: number;
  readonly operation: Operation;
  readonly info: StatementInfo | null;
  /** Statements that it runs by name. */
  readonly through: readonly StatementInfo[];
  verdict: Verdict | null;
  permit: Permit | null;
  approvalId: string | null;
  /** Who decided a held one; `timeout`: nobody did. */
  by: string;
  /** In the record already (a held one is written when it is parked). */
  recorded: boolean;
  startedMs: number;
  rows: number;
  bytes: number;
  masked: number;
  tag: string;
  error: { readonly code: string; readonly message: string } | null;
  finished: boolean;
  /** Rows that may leave before its limit; Infinity: none. */
  rowsMax: number;
  /** The statement's RowDescription, as the server sent it for this run. */
  description: Buffer | null;
  /** A COPY under column masks is described first (copy-probe.ts); null: not yet, or not needed. */
  probe: Probe | null;
}

export function newRun(
  askId: number,
  operation: Operation,
  info: StatementInfo | null,
  through: readonly StatementInfo[] = none,
): Run {
  return {
    askId,
    operation,
    info,
    through,
    verdict: null,
    permit: null,
    approvalId: null,
    by: "",
    recorded: false,
    startedMs: 0,
    rows: 0,
    bytes: 0,
    masked: 0,
    tag: "",
    error: null,
    finished: false,
    rowsMax: Number.POSITIVE_INFINITY,
    description: null,
    probe: null,
  };
}

/** The smallest limit above `rows`. */
export function nextLimit(limits: readonly RowLimit[], rows: number): RowLimit | undefined {
  let next: RowLimit | undefined;
  for (const limit of limits) if (limit.rows > rows && (next === undefined || limit.rows < next.rows)) next = limit;
  return next;
}
