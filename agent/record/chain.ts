/**
 * The chain: an entry's Avro bytes hold the link of the agent's previous entry and of the session's previous entry;
 * its own link is SHA-256 over those bytes. So a changed, removed or reordered entry breaks every later link, a removed
 * session is a gap in the agent's sequence, and one session alone is a chain that can be shown.
 */
import { hash } from "node:crypto";
import type { EntryBody } from "../core/record.ts";
import { WeirError } from "../errors.ts";
import { detailsOf, recordedBytes } from "./details.ts";
import {
  operationBytesMax,
  resultBytesMax,
  writeLong,
  writeOperation,
  writeResult,
  writeString,
} from "./hot-encoder.ts";
import { bodyNames, bodyType, readEntry } from "./schema.ts";

export const firstLink: Buffer = Buffer.alloc(32);

/** An entry in its place in both chains. `link` is what the next one holds. */
export interface ChainedEntry {
  readonly agent: string;
  readonly agentSeq: number;
  readonly session: string;
  readonly seq: number;
  readonly timeMs: number;
  readonly previous: Buffer;
  readonly sessionPrevious: Buffer;
  readonly body: WireBody;
}

/** As avsc has a union of records: one key, the record's name. */
export type WireBody = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

interface SessionTail {
  seq: number;
  link: Buffer;
  /** The session's name as Avro has it. */
  readonly name: Buffer;
}

/** Longer entries are refused; callers cut texts before. */
export const entryBytesMax = 8 * 1024 * 1024;
/** Sequence numbers, time, two links, and the body's index. */
const fixedBytesMax = 3 * 8 + 64 + 2;
const operationIndex = bodyNames.indexOf("Operation");
const resultIndex = bodyNames.indexOf("Result");

export class Chain {
  readonly agent: string;
  agentSeq: number;
  link: Buffer;
  readonly #agentName: Buffer;
  readonly #sessions = new Map<string, SessionTail>();
  #scratch = Buffer.allocUnsafeSlow(64 * 1024);

  constructor(agent: string, agentSeq = 0, link: Buffer = firstLink) {
    this.agent = agent;
    this.agentSeq = agentSeq;
    this.link = link;
    this.#agentName = avroString(agent);
  }

  /** The encoded entry; the buffer is the chain's own and is good until the next call. */
  append(session: string, body: EntryBody, timeMs: number): Buffer {
    let tail = this.#sessions.get(session);
    if (tail === undefined) {
      tail = { seq: 0, link: firstLink, name: avroString(session) };
      this.#sessions.set(session, tail);
    }
    const bytes = this.#encode(tail, body, timeMs);
    if (bytes.length > entryBytesMax)
      throw new WeirError("WEIR_LIMIT_REACHED", `An entry of ${bytes.length} bytes is above ${entryBytesMax}.`);
    this.link = linkOf(bytes);
    this.agentSeq += 1;
    tail.seq += 1;
    tail.link = this.link;
    if (body.type === "session-end") this.#sessions.delete(session);
    return bytes;
  }

  /** It has begun, and has not ended. */
  has(session: string): boolean {
    return this.#sessions.has(session);
  }

  /** Takes up a session that an earlier run of the agent began. */
  resume(session: string, seq: number, link: Buffer): void {
    this.#sessions.set(session, { seq, link, name: avroString(session) });
  }

  #encode(tail: SessionTail, body: EntryBody, timeMs: number): Buffer {
    const fixed = this.#agentName.length + tail.name.length + fixedBytesMax;
    if (body.type === "operation") {
      const out = this.#room(fixed + operationBytesMax(body));
      const at = this.#head(out, tail, timeMs, operationIndex);
      return out.subarray(0, writeOperation(out, at, body));
    }
    if (body.type === "result" && body.error === null) {
      const out = this.#room(fixed + resultBytesMax(body));
      const at = this.#head(out, tail, timeMs, resultIndex);
      return out.subarray(0, writeResult(out, at, body));
    }
    const wire = wireBody(body);
    for (;;) {
      const out = this.#room(fixed);
      const at = this.#head(out, tail, timeMs, -1);
      const end = bodyType.encode(wire, out, at);
      if (end >= 0) return out.subarray(0, end);
      // avsc answers with how many bytes were missing.
      this.#room(out.length - end);
    }
  }

  #room(bytes: number): Buffer {
    if (this.#scratch.length < bytes) this.#scratch = Buffer.allocUnsafeSlow(bytes + 1024);
    return this.#scratch;
  }

  /** All fields before the body, and the body's index in the union unless avsc writes it. */
  #head(out: Buffer, tail: SessionTail, timeMs: number, index: number): number {
    out.set(this.#agentName, 0);
    let at = writeLong(out, this.#agentName.length, this.agentSeq);
    out.set(tail.name, at);
    at = writeLong(out, at + tail.name.length, tail.seq);
    at = writeLong(out, at, timeMs);
    out.set(this.link, at);
    out.set(tail.link, at + 32);
    at += 64;
    return index < 0 ? at : writeLong(out, at, index);
  }
}

function avroString(text: string): Buffer {
  const out = Buffer.alloc(text.length * 3 + 8);
  return out.subarray(0, writeString(out, 0, text));
}

export function linkOf(bytes: Uint8Array): Buffer {
  // By way of hex: of node:crypto's ways to a digest the fastest, 0.8 µs against 1.5.
  return Buffer.from(hash("sha256", bytes, "hex"), "hex");
}

export function decodeEntry(bytes: Buffer): ChainedEntry {
  return readEntry(bytes) as ChainedEntry;
}

/** The body's record name and its fields. */
export function bodyOf(entry: ChainedEntry): { name: string; fields: Readonly<Record<string, unknown>> } {
  const [name, fields] = Object.entries(entry.body)[0] ?? ["weir.v1.Notice", {}];
  return { name: name.replace("weir.v1.", ""), fields };
}

const optional = (name: string, value: unknown): unknown =>
  value === null || value === undefined ? null : { [name]: value };

function wireBody(body: EntryBody): WireBody {
  switch (body.type) {
    case "session-start":
      return { "weir.v1.SessionStart": { flow: wireFlow(body.flow), target: body.target, protocol: body.protocol } };
    case "login":
      return { "weir.v1.Login": body as unknown as Record<string, unknown> };
    case "operation": {
      const { operation, verdict } = body;
      return {
        "weir.v1.Operation": {
          operationId: body.operationId,
          kind: operation.kind,
          text: operation.text,
          user: operation.user,
          database: operation.database,
          verbs: operation.verbs,
          relations: operation.relations,
          columns: operation.columns,
          functions: operation.functions,
          writes: operation.writes,
          traits: operation.traits,
          parameters:
            operation.parameters.length === 0
              ? operation.parameters
              : operation.parameters.map((p) => optional("string", p)),
          bytes: recordedBytes(operation),
          action: verdict.action,
          rule: verdict.rule,
          reason: verdict.reason,
          mode: verdict.mode,
          wouldBe: optional("weir.v1.Action", verdict.wouldBe),
          policy: verdict.policy,
          approvalId: optional("string", body.approvalId),
          protocol: operation.protocol,
          details: detailsOf(operation),
        },
      };
    }
    case "approval":
      return { "weir.v1.Approval": body as unknown as Record<string, unknown> };
    case "result":
      return {
        "weir.v1.Result": {
          ...body,
          error: optional("weir.v1.ResultError", body.error),
          details: body.details ?? "",
        },
      };
    case "rows":
      return {
        "weir.v1.Rows": { ...body, rows: body.rows.map((row) => row.map((value) => optional("string", value))) },
      };
    case "refused":
      return {
        "weir.v1.Refused": {
          code: body.code,
          reason: body.reason,
          flow: body.flow === null ? null : { "weir.v1.Flow": wireFlow(body.flow) },
        },
      };
    case "notice":
      return { "weir.v1.Notice": { text: body.text } };
    case "agent":
      return { "weir.v1.Agent": { event: body.event, detail: body.detail } };
    case "session-end":
      return { "weir.v1.SessionEnd": body as unknown as Record<string, unknown> };
  }
}

function wireFlow(flow: Extract<EntryBody, { type: "session-start" }>["flow"]): Record<string, unknown> {
  const { process, identity } = flow;
  const job = process?.job;
  return {
    ...flow,
    hostname: optional("string", flow.hostname),
    identity: optional("weir.v1.Identity", identity),
    process:
      process === null
        ? null
        : {
            "weir.v1.Process": {
              ...process,
              containerId: optional("string", process.containerId),
              job:
                job === undefined
                  ? null
                  : {
                      "weir.v1.Job": {
                        ...job,
                        repository: optional("string", job.repository),
                        workflow: optional("string", job.workflow),
                        actor: optional("string", job.actor),
                        ref: optional("string", job.ref),
                      },
                    },
            },
          },
  };
}
