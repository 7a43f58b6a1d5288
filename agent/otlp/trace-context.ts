/**
 * W3C Trace Context: whose span is this one's parent, and the ids of spans that have none. Ids are made of the entry's
 * own place in the record, so that an entry that is read twice is one span.
 */
import { hash } from "node:crypto";

export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled: boolean;
}

const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-|$)/;
// sqlcommenter's way to say it: a comment with traceparent='00-…' in the statement.
const inComment = /\/\*[^*]*\btraceparent='([0-9a-f-]{55})'/;

/** Section 3.2: null for what is not one, and for ids of zeros. Later versions are read as far as version 00 goes. */
export function readTraceparent(text: string): TraceContext | null {
  const [, version, traceId = "", spanId = "", flags = "", more] = traceparent.exec(text) ?? [];
  if (version === undefined || version === "ff" || (version === "00" && more !== "")) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export function traceparentInSql(text: string): TraceContext | null {
  const [, found] = inComment.exec(text) ?? [];
  return found === undefined ? null : readTraceparent(found);
}

export function idsOf(agent: string, session: string, operationId: unknown): { traceId: string; spanId: string } {
  const digest = hash("sha256", `${agent}\n${session}\n${String(operationId)}`);
  return { traceId: digest.slice(0, 32), spanId: digest.slice(32, 48) };
}
