/**
 * Entries to spans: one for each operation, from its verdict to what came back. A held one has its approval as an event,
 * and lasts as long as it waited. Told of entries in order; it keeps what has not ended.
 */
import { type RecordedDetails, readDetails } from "../record/details.ts";
import type { Fields, ReadEntry } from "../record/read.ts";
import { connectionAttributes, operationAttributes, resultAttributes, verdictAttributes } from "./attributes.ts";
import { type AttributeValue, attributes, nanos, type Span, shortText } from "./json.ts";
import { idsOf, readTraceparent, type TraceContext, traceparentInSql } from "./trace-context.ts";

/** Beyond these the oldest is forgotten: its span is never told. */
const sessionsMax = 20_000;
const pendingMax = 20_000;

interface Known {
  readonly connection: Readonly<Record<string, AttributeValue>>;
  readonly target: string;
  /** Keys of what has not ended. */
  readonly open: Set<string>;
}

interface Pending {
  readonly agent: string;
  readonly session: string;
  readonly operationId: unknown;
  readonly startMs: number;
  readonly name: string;
  readonly asked: RecordedDetails;
  readonly parent: TraceContext | null;
  attributes: Readonly<Record<string, AttributeValue>>;
  readonly events: Span["events"][number][];
}

export class SpanMaker {
  readonly #sessions = new Map<string, Known>();
  readonly #pending = new Map<string, Pending>();
  #forgotten = 0;

  /** Operations whose end will not be told. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /** The spans that this entry ends. */
  take(entry: ReadEntry): Span[] {
    const { session, type, fields, timeMs } = entry;
    switch (type) {
      case "SessionStart":
        this.#begin(session, fields);
        return [];
      case "Operation":
        return this.#operation(entry);
      case "Approval":
        return this.#approval(entry);
      case "Result": {
        const pending = this.#end(session, fields["operationId"]);
        if (pending === null) return [];
        const { attributes: more, failed } = resultAttributes(fields, pending.asked);
        return span(pending, timeMs, more, failed);
      }
      case "SessionEnd": {
        const left = [...(this.#sessions.get(session)?.open ?? [])].flatMap((key) => this.#pending.get(key) ?? []);
        this.#sessions.delete(session);
        return left.flatMap((pending) => {
          this.#pending.delete(keyOf(pending));
          return span(pending, timeMs, { "error.type": "session_ended" }, true);
        });
      }
      default:
        return [];
    }
  }

  #begin(session: string, fields: Fields): void {
    const flow = (fields["flow"] as Fields | null) ?? null;
    this.#sessions.set(session, {
      connection: connectionAttributes(flow),
      target: String(fields["target"]),
      open: new Set(),
    });
    if (this.#sessions.size > sessionsMax) this.#sessions.delete(this.#sessions.keys().next().value as string);
  }

  #operation({ agent, session, fields, timeMs }: ReadEntry): Span[] {
    const { operationId, action } = fields;
    // What a statement is prepared for is decided again when it runs.
    if (fields["kind"] === "prepare" && action === "allow") return [];
    const before = this.#end(session, operationId);
    const known = this.#sessions.get(session);
    const { name, attributes: own } = operationAttributes(fields);
    const asked = readDetails(fields);
    const pending: Pending = {
      ...{ agent, session, operationId, name: shortText(name), asked },
      startMs: before?.startMs ?? timeMs,
      parent: parentOf(fields, asked),
      attributes: {
        ...known?.connection,
        ...own,
        ...verdictAttributes(fields),
        "weir.target": known?.target,
        "weir.session.id": session,
        "weir.operation.id": typeof operationId === "number" ? operationId : null,
      },
      events: before?.events ?? [],
    };
    if (action === "deny") return span(pending, timeMs, { "error.type": "denied" }, true);
    const key = keyOf(pending);
    this.#pending.set(key, pending);
    known?.open.add(key);
    const [oldest] = this.#pending.size > pendingMax ? this.#pending.values() : [];
    if (oldest !== undefined) {
      this.#end(oldest.session, oldest.operationId);
      this.#forgotten += 1;
    }
    return [];
  }

  #approval({ session, fields, timeMs }: ReadEntry): Span[] {
    const pending = this.#pending.get(keyOf({ session, operationId: fields["operationId"] }));
    if (pending === undefined) return [];
    const decision = String(fields["decision"]);
    pending.events.push({
      timeUnixNano: nanos(timeMs),
      name: "weir.approval",
      attributes: attributes({ "weir.approval.decision": decision }),
    });
    if (decision === "approved") return [];
    this.#end(session, fields["operationId"]);
    return span(pending, timeMs, { "weir.verdict": "deny", "error.type": `approval_${decision}` }, true);
  }

  #end(session: string, operationId: unknown): Pending | null {
    const key = keyOf({ session, operationId });
    const pending = this.#pending.get(key) ?? null;
    this.#pending.delete(key);
    this.#sessions.get(session)?.open.delete(key);
    return pending;
  }
}

function keyOf({ session, operationId }: { readonly session: string; readonly operationId: unknown }): string {
  return `${session} ${String(operationId)}`;
}

/** By the header of a request, or the comment of a statement. Any client can name any trace. */
function parentOf(fields: Fields, { http }: RecordedDetails): TraceContext | null {
  const header = http?.["traceparent"];
  if (typeof header === "string") return readTraceparent(header);
  return http === undefined && typeof fields["text"] === "string" ? traceparentInSql(fields["text"]) : null;
}

/** Nothing where the parent was not sampled: then its trace is kept by nobody. */
function span(
  pending: Pending,
  endMs: number,
  more: Readonly<Record<string, AttributeValue>>,
  failed: boolean,
): Span[] {
  const { agent, session, operationId, parent, startMs, name, events } = pending;
  if (parent !== null && !parent.sampled) return [];
  const ids = idsOf(agent, session, operationId);
  return [
    {
      traceId: parent?.traceId ?? ids.traceId,
      spanId: ids.spanId,
      ...(parent === null ? {} : { parentSpanId: parent.spanId, flags: 1 }),
      ...{ name, kind: 3 },
      startTimeUnixNano: nanos(startMs),
      endTimeUnixNano: nanos(Math.max(startMs, endMs)),
      attributes: attributes({ ...pending.attributes, ...more }),
      events,
      status: { code: failed ? 2 : 0 },
    },
  ];
}
