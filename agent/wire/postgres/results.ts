/** Joins results and masks: what a run's rows need, what leaves of them, and what the record may keep. */
import type { Operation } from "../../core/operation.ts";
import type { MaskSpec } from "../../core/verdict.ts";
import { PeerError } from "../../errors.ts";
import type { OwnDetectors } from "../../mask/plan.ts";
import type { CatalogColumn, WireEvent } from "../protocol.ts";
import { backend, message, readErrorFields, readRowDescription } from "./backend-messages.ts";
import type { Probe } from "./copy-probe.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import type { Entry } from "./expected.ts";
import { headerBytes } from "./framer.ts";
import { stringEnd } from "./frontend-messages.ts";
import { largeObjectFunction } from "./function-call.ts";
import {
  catalogEntryMs,
  catalogTablesMax,
  parameterBytesMax,
  recordedRowsBytesMax,
  recordedRowsMax,
} from "./limits.ts";
import { hideLiterals, type Masking, type MaskPlan, maskText, namesMasked, planCopy, planResult } from "./mask-plan.ts";
import { maskDeniedResponse } from "./refusal.ts";
import type { MessageStream } from "./rows/stream.ts";
import { byteaType, textType } from "./rows/types.ts";
import type { Run } from "./run.ts";
import type { SessionState } from "./state.ts";

/** True when the rows have to be looked into, so that their fields must be known. */
export function needsFields(run: Run): boolean {
  return run.verdict !== null && (run.verdict.transforms.masks.length > 0 || run.verdict.record === "result");
}

/** The operation as the record may keep it; the same object when nothing in it is masked. */
export function maskOperation(operation: Operation, masks: readonly MaskSpec[], own: OwnDetectors): Operation {
  if (masks.length === 0) return operation;
  const text = maskText(operation.text, masks, own);
  // A parameter of a text that names a masked column may be its value.
  const hidden = namesMasked(operation.text, masks);
  const parameters = operation.parameters.map((value) =>
    value === null ? null : hidden ? "***" : maskText(value, masks, own),
  );
  if (text === operation.text && parameters.every((value, index) => value === operation.parameters[index]))
    return operation;
  return { ...operation, text, parameters };
}

type CatalogEvent = Extract<WireEvent, { type: "catalog" }>;

interface Current {
  readonly run: Run;
  readonly plan: MaskPlan;
  readonly columns: readonly string[];
  readonly formats: readonly number[];
  readonly kept: (string | null)[][] | null;
  /** EXPLAIN prints the statement's literals: the record keeps as little of them as of the statement. */
  readonly hide: ((text: string) => string) | null;
  keptBytes: number;
  truncated: boolean;
}

interface Planned {
  readonly description: Buffer;
  readonly masks: readonly MaskSpec[];
  readonly formats: readonly number[];
  readonly untilMs: number;
  readonly plan: MaskPlan;
}

const none: readonly never[] = Object.freeze([]);
/** How a DataRow of one value begins. */
const oneColumn = Buffer.from([0, 1]);
const passing: MaskPlan = { kind: "pass" };

export class Results {
  readonly #state: SessionState;
  readonly #masking: Masking;
  /** Names are asked for; nothing of the server goes on before they are here. */
  waiting = false;
  /** A part of a masked value is sent and the rest is to come. */
  streaming = false;
  readonly heldBytes = 0;
  denial: Buffer = Buffer.alloc(0);
  #current: Current | null = null;
  #catalog = new Map<number, { readonly columns: CatalogColumn[]; readonly untilMs: number }>();
  #catalogFailed = false;
  /** Plans by statement: the second run of a prepared statement finds its plan. */
  readonly #plans = new WeakMap<StatementInfo, Planned>();

  constructor(state: SessionState) {
    this.#state = state;
    const { maskKey = Buffer.alloc(0), custom = new Map() } = state.context;
    this.#masking = { key: maskKey, own: custom };
  }

  /** What becomes of the rows of the result that is on its way. */
  plan(run: Run, type: number, entry: Entry): "pass" | "look" | "wait" | "deny" {
    if (!needsFields(run)) return "pass";
    if (this.#current?.run !== run) {
      if (type === backend.copyData) this.#current = this.#open(run, passing, none, none);
      else {
        const opened = this.#openRows(run, entry);
        if (opened === "wait") return opened;
        this.#current = opened;
      }
    }
    const { plan, kept } = this.#current as Current;
    if (plan.kind === "deny") {
      this.denial = maskDeniedResponse(plan.reason);
      return "deny";
    }
    return plan.kind === "pass" && kept === null ? "pass" : "look";
  }

  /** A RowDescription of a simple query: the result that follows has these columns. */
  describe(run: Run, bytes: Buffer, start: number, end: number): void {
    run.description = Buffer.from(bytes.subarray(start, end));
    this.#flushRows();
    this.#current = null;
  }

  row(type: number, run: Run, bytes: Buffer, start: number, end: number): Buffer | null | "denied" {
    const current = this.#current;
    if (current === null) return null;
    const { plan } = current;
    const before = plan.kind === "mask" ? plan.masked : 0;
    const masked = plan.kind === "mask" ? plan.row(bytes, start, end) : null;
    if (plan.kind === "mask") run.masked += plan.masked - before;
    if (current.kept !== null && type === backend.dataRow)
      keepRow(current, masked ?? bytes, masked === null ? start : 0, masked === null ? end : masked.length);
    return masked;
  }

  #stream: { readonly run: Run; readonly through: MessageStream } | null = null;

  /** A row too long to be held begins. False: its masks need all of it. */
  streamBegin(run: Run): boolean {
    const current = this.#current;
    const through = current?.plan.kind === "mask" ? current.plan.stream() : null;
    if (current === null || through === null) return false;
    if (current.kept !== null) current.truncated = true;
    this.#stream = { run, through };
    this.streaming = true;
    return true;
  }

  /** What may leave of it. */
  streamPart(bytes: Buffer, last: boolean): Buffer {
    const stream = this.#stream;
    const plan = this.#current?.plan;
    if (stream === null || plan?.kind !== "mask") throw new PeerError("WEIR_STATE_INVALID", "no message is streamed");
    const before = plan.masked;
    const out = stream.through.push(bytes, last);
    stream.run.masked += plan.masked - before;
    if (last) {
      this.#stream = null;
      this.streaming = false;
    }
    return out;
  }

  /** The statement is over. */
  end(run: Run): void {
    if (this.#current?.run !== run) return;
    this.#flushRows();
    this.#current = null;
  }

  /**
   * A COPY begins. Its transaction is open: what it reads is locked, and stands in the catalog under the name by which it
   * was found. Is all by these names as it was before it was described, it is what was described.
   */
  copyBegin(run: Run, copy: { readonly format: number; readonly formats: readonly number[] }): "wait" | "ready" {
    const masks = run.verdict?.transforms.masks ?? none;
    if (masks.length === 0) return "ready";
    const { probe, description } = run;
    const described = probe === null || description === null ? null : { probe, description };
    if (described !== null && this.#versionOf !== run) {
      this.#versionOf = run;
      this.waiting = true;
      this.#state.out.push({ type: "catalog", question: { tableOids: none, versionOf: described.probe.names } });
      return "wait";
    }
    const plan = planCopy(
      {
        copy: run.info?.copy ?? null,
        binary: copy.format === 1,
        columns: copy.formats.length,
        masks,
        statements: statementsOf(run),
        fields: described === null ? null : readRowDescription(described.description, 0, described.description.length),
        doubt:
          described === null ? "the server could not be asked for its columns alone" : this.#doubt(described.probe),
        catalog: described?.probe.catalog ?? null,
        encoding: this.#state.encoding,
      },
      this.#masking,
    );
    this.#versionOf = null;
    this.#current = this.#open(run, plan, none, none);
    return "ready";
  }

  #doubt({ version, catalog }: Probe): string | null {
    if (version === null || catalog === null || this.#version === null)
      return "the names of its columns could not be read";
    if (version === this.#version) return null;
    return "a table by one of its names was changed while it was described; run it again";
  }

  /** The COPY that waits to know what stands by its names now. */
  #versionOf: Run | null = null;
  #version: string | null = null;

  /** What the copy masker still holds. */
  copyEnd(): Buffer | null {
    return null;
  }

  /** FunctionCallResponse: Int32 length and a value, masked as a row's only column; null when it may pass as it is. */
  functionResult({ run, called }: Entry, bytes: Buffer, start: number, end: number): Buffer | null | "denied" {
    const masks = run?.verdict?.transforms.masks ?? none;
    if (run === null || masks.length === 0) return null;
    const known = called === null ? undefined : largeObjectFunction(called.oid);
    if (called === null || known === undefined) {
      this.denial = maskDeniedResponse("a function call");
      return "denied";
    }
    if (!known.reads) return null;
    const { name } = known;
    // As bytea it would have to become NULL, which libpq takes for a failure; its bytes are masked where they stand.
    const typeOid = called.resultFormat === 1 ? textType : byteaType;
    const fields = [{ name, tableOid: 0, attribute: 0, typeOid, typeModifier: -1, format: called.resultFormat }];
    const formats = [called.resultFormat];
    const plan = planResult({ fields, formats, masks, catalog: [], statements: statementsOf(run) }, this.#masking);
    if (plan.kind === "pass") return null;
    if (plan.kind === "deny") {
      this.denial = maskDeniedResponse(plan.reason);
      return "denied";
    }
    const row = message(backend.dataRow, Buffer.concat([oneColumn, bytes.subarray(start + headerBytes, end)]));
    const masked = plan.row(row, 0, row.length) ?? row;
    run.masked += plan.masked;
    return message(backend.functionResult, masked.subarray(headerBytes + oneColumn.length));
  }

  /** NoticeResponse and NotificationResponse; null when it may pass as it is. */
  maskAsync(type: number, bytes: Buffer, start: number, end: number, run: Run | null): Buffer | null {
    const masks = run?.verdict?.transforms.masks ?? this.#state.masks;
    if (masks.length === 0) return null;
    if (type === backend.notice) return maskFields(backend.notice, bytes, start, end, masks, run, this.#masking.own);
    // NotificationResponse: Int32 process id, String channel, String payload.
    const channelEnd = stringEnd(bytes, start + headerBytes + 4, end);
    const payload = bytes.toString("utf8", channelEnd + 1, end - 1);
    const masked = hidesDerived(masks) ? hiddenText : maskText(payload, masks, this.#masking.own);
    if (masked === payload) return null;
    const head = bytes.subarray(start + headerBytes, channelEnd + 1);
    return message(backend.notification, Buffer.concat([head, Buffer.from(`${masked}\0`)]));
  }

  /** ParameterStatus: set_config can put a column's value into a parameter. True when it must not be told. */
  hidesParameter(run: Run | null): boolean {
    return mayQuote(run?.verdict?.transforms.masks ?? none, run);
  }

  /** ErrorResponse; null when it may pass as it is. */
  maskError(bytes: Buffer, start: number, end: number, run: Run | null): Buffer | null {
    const masks = run?.verdict?.transforms.masks ?? this.#state.masks;
    return masks.length === 0 ? null : maskFields(backend.error, bytes, start, end, masks, run, this.#masking.own);
  }

  catalog({ question, columns, version, failed }: CatalogEvent): void {
    this.waiting = false;
    if (question.versionOf !== undefined) {
      this.#version = failed ? null : version;
      return;
    }
    this.#catalogFailed = failed;
    if (this.#catalog.size > catalogTablesMax) this.#catalog.clear();
    const untilMs = this.#state.context.now() + catalogEntryMs;
    for (const oid of this.#asked) this.#catalog.set(oid, { columns: [], untilMs });
    for (const column of columns) this.#catalog.get(column.tableOid)?.columns.push(column);
  }

  #asked: readonly number[] = none;

  #openRows(run: Run, entry: Entry): Current | "wait" {
    const { portal } = entry;
    const ofStatement = portal?.resultFormats === null ? null : (portal?.prepared?.description ?? null);
    const description = run.description ?? portal?.description ?? ofStatement;
    const masks = run.verdict?.transforms.masks ?? none;
    if (description === null) {
      const plan: MaskPlan = { kind: "deny", reason: "the server did not describe it" };
      return this.#open(run, masks.length === 0 ? passing : plan, none, none);
    }
    const nowMs = this.#state.context.now();
    const sent = entry.portal?.resultFormats ?? null;
    const known = run.info === null ? undefined : this.#plans.get(run.info);
    if (
      known !== undefined &&
      run.verdict?.record !== "result" &&
      run.through.length === 0 &&
      known.masks === masks &&
      known.untilMs > nowMs &&
      sameFormats(known.formats, sent ?? none) &&
      known.description.equals(description)
    )
      return this.#open(run, known.plan, none, none);
    const fields = readRowDescription(description, 0, description.length);
    const formats = sent === null ? fields.map(({ format }) => format) : spread(sent, fields.length);
    let plan = passing;
    if (masks.length > 0) {
      const missing = this.#missing(masks, fields, nowMs);
      if (missing.length > 0 && !this.#catalogFailed) {
        this.waiting = true;
        this.#asked = missing;
        this.#state.out.push({ type: "catalog", question: { tableOids: missing } });
        return "wait";
      }
      const catalog = missing.length > 0 ? null : this.#columnsOf(fields);
      this.#catalogFailed = false;
      plan = planResult({ fields, formats, masks, catalog, statements: statementsOf(run) }, this.#masking);
      if (run.info !== null && run.through.length === 0 && catalog !== null)
        this.#plans.set(run.info, { description, masks, formats: sent ?? none, untilMs: nowMs + catalogEntryMs, plan });
    }
    return this.#open(
      run,
      plan,
      fields.map(({ name }) => name),
      formats,
    );
  }

  #open(run: Run, plan: MaskPlan, columns: readonly string[], formats: readonly number[]): Current {
    const kept = run.verdict?.record === "result" && columns.length > 0 ? [] : null;
    const hide = kept === null ? null : planTextMask(run, this.#masking.own);
    return { run, plan, columns, formats, kept, hide, keptBytes: 0, truncated: false };
  }

  /** Tables whose names a column mask needs and that are not known, or not any more. */
  #missing(masks: readonly MaskSpec[], fields: readonly { tableOid: number }[], nowMs: number): number[] {
    if (masks.every(({ column }) => column === null)) return [];
    const missing = new Set<number>();
    for (const { tableOid } of fields)
      if (tableOid !== 0 && (this.#catalog.get(tableOid)?.untilMs ?? 0) <= nowMs) missing.add(tableOid);
    return [...missing];
  }

  #columnsOf(fields: readonly { tableOid: number }[]): CatalogColumn[] {
    const oids = new Set(fields.map(({ tableOid }) => tableOid));
    return [...oids].flatMap((oid) => this.#catalog.get(oid)?.columns ?? []);
  }

  #flushRows(): void {
    const current = this.#current;
    if (current?.kept == null || current.kept.length === 0) return;
    this.#state.record({
      type: "rows",
      operationId: current.run.askId,
      columns: current.columns,
      rows: current.kept,
      truncated: current.truncated,
    });
  }
}

function statementsOf(run: Run): readonly StatementInfo[] {
  return run.info === null ? run.through : [run.info, ...run.through];
}

/** Null: the rows are no plan, or no column is masked. */
function planTextMask(run: Run, own: OwnDetectors): ((text: string) => string) | null {
  const masks = run.verdict?.transforms.masks ?? none;
  const statements = statementsOf(run);
  if (masks.length === 0 || !statements.some(({ traits }) => traits.includes("explain"))) return null;
  const names = statements.flatMap(({ columns }) => columns).join(" ");
  const named = namesMasked(`${run.operation.text} ${names}`, masks);
  if (!named) return (text) => maskText(text, masks, own);
  // A literal with a line feed in it goes on in the next row: lines that begin or end inside of quotes are hidden.
  let inside = false;
  return (text) => {
    const begun = inside;
    if (text.split("'").length % 2 === 0) inside = !inside;
    return begun || inside ? "***" : hideLiterals(maskText(text, masks, own));
  };
}

/** Bind's result formats: none is all text, one is for all. */
function spread(formats: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, index) =>
    formats.length === 0 ? 0 : formats.length === 1 ? (formats[0] as number) : (formats[index] ?? 0),
  );
}

function sameFormats(left: readonly number[], right: readonly number[]): boolean {
  return left === right || (left.length === right.length && left.every((format, index) => format === right[index]));
}

/** Values as text, binary ones as hex; each is cut, and the rows stop at their limits. */
function keepRow(current: Current, bytes: Buffer, start: number, end: number): void {
  const { kept, formats, hide } = current;
  if (kept === null) return;
  if (kept.length >= recordedRowsMax || current.keptBytes >= recordedRowsBytesMax) {
    current.truncated = true;
    return;
  }
  const row: (string | null)[] = [];
  const count = bytes.readUInt16BE(start + headerBytes);
  let at = start + headerBytes + 2;
  for (let index = 0; index < count; index += 1) {
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0) {
      row.push(null);
      continue;
    }
    if (at + length > end) throw new PeerError("WEIR_FRAME_INVALID", "a DataRow is cut short");
    const to = at + Math.min(length, parameterBytesMax);
    if (length > parameterBytesMax) current.truncated = true;
    if (hide !== null) row.push(hide(bytes.toString("utf8", at, at + length)).slice(0, parameterBytesMax));
    else row.push(formats[index] === 1 ? `\\x${bytes.toString("hex", at, to)}` : bytes.toString("utf8", at, to));
    current.keptBytes += to - at;
    at += length;
  }
  kept.push(row);
}

/** Fields that say where in the source it was, and what it was: they hold no value. */
const plainFields: ReadonlySet<string> = new Set(["S", "V", "C", "P", "p", "F", "L", "R"]);
/** Names of schema, table, column, type and constraint: the server's own, or what RAISE was given. */
const nameFields: ReadonlySet<string> = new Set(["s", "t", "c", "d", "n"]);

function maskFields(
  type: number,
  bytes: Buffer,
  start: number,
  end: number,
  masks: readonly MaskSpec[],
  run: Run | null,
  own: OwnDetectors,
): Buffer | null {
  const fields = [...readErrorFields(bytes, start, end)];
  const code = fields.find(([field]) => field === "C")?.[1] ?? "";
  const quotes = mayQuote(masks, run);
  // What nobody can read in the text may raise an error with any words and any code.
  const raised = isRaised(code) || isFromLanguage(fields.find(([field]) => field === "F")?.[1]);
  const opaque = run !== null && statementsOf(run).some(({ flow }) => flow.opaque);
  let changed = false;
  const parts: string[] = [];
  for (const [field, value] of fields) {
    let masked = plainFields.has(field) ? value : maskText(value, masks, own);
    if (quotes && !plainFields.has(field)) {
      if (opaque || raised) masked = hiddenText;
      else if (!nameFields.has(field)) masked = hideLiterals(masked);
    }
    if (masked !== value) changed = true;
    parts.push(`${field}${masked}\0`);
  }
  return changed ? message(type, Buffer.from(`${parts.join("")}\0`)) : null;
}

const hiddenText = "(not shown: it may hold a masked value)";

/**
 * With column masks: any error of a statement that reads or writes tables may quote a value (a cast, a name looked up
 * by a value, a violated constraint).
 */
function mayQuote(masks: readonly MaskSpec[], run: Run | null): boolean {
  if (run === null || masks.every(({ column }) => column === null)) return false;
  return statementsOf(run).some(({ flow, relations }) => flow.opaque || relations.length > 0);
}

/**
 * NotificationResponse: sent by any session, a trigger's NEW in it. A value derived like an expression's, so `derived:
 * detect` leaves it to the detectors.
 */
function hidesDerived(masks: readonly MaskSpec[]): boolean {
  return masks.some(({ column, derived }) => column !== null && derived !== "detect");
}

/** Raised by a procedural language (pl_exec.c and kin); SQL cannot choose the source file, as it can the code. */
function isFromLanguage(file: string | undefined): boolean {
  return file === undefined || /(?:^|\/)pl[a-z_]*\.c$/.test(file);
}

/** Words of a function, a trigger or a DO block, not of the server: RAISE gives any code that it likes. */
function isRaised(code: string): boolean {
  return code === "00000" || code === "01000" || code.startsWith("P0") || !serverClasses.has(code.slice(0, 2));
}

/** Classes of SQLSTATE that the server itself uses in errors (PostgreSQL docs, appendix A). */
const serverClasses: ReadonlySet<string> = new Set(
  "01 02 03 08 09 0A 0B 0F 0L 0P 0Z 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV XX".split(
    " ",
  ),
);
