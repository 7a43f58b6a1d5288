/** One call and its reply through the dialect, as the exchange would take it. */
import type { TargetProtocol } from "../../../../agent/core/operation.ts";
import type { MaskSpec, RedactSpec, Verdict } from "../../../../agent/core/verdict.ts";
import type { DialectContext, DialectExchange, Refusal, ReplyReader } from "../../../../agent/wire/http/dialect.ts";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { llmDialect } from "../../../../agent/wire/llm/dialect.ts";

export interface Rules {
  readonly masks?: readonly MaskSpec[];
  readonly redactions?: readonly RedactSpec[];
  readonly record?: "statement" | "result";
}

export const refusal: Refusal = {
  kind: "denied",
  code: "WEIR_DENIED",
  message: "Denied by rule r: no.",
  rule: "r",
  approvalId: null,
  retryAfterSeconds: null,
};

export function verdictOf({ masks = [], redactions = [], record = "statement" }: Rules): Verdict {
  return {
    action: "allow",
    rule: "r",
    reason: "",
    mode: "enforce",
    wouldBe: null,
    transforms: { masks, limits: [], redactions, budgets: [] },
    record,
    approvers: [],
    holdTimeoutMs: 0,
    onTimeout: "deny",
    policy: "p",
  };
}

export function maskOf(detectors: MaskSpec["detectors"], more: Partial<MaskSpec> = {}): MaskSpec {
  return { rule: "r", column: null, detectors, with: "redact", derived: "deny", ...more };
}

export function redactOf(detectors: RedactSpec["detectors"]): RedactSpec {
  return { rule: "r", detectors, custom: [], with: "placeholder" };
}

export function contextOf(targetProtocol: TargetProtocol): DialectContext {
  return {
    targetProtocol,
    maskKey: Buffer.from("key"),
    custom: new Map(),
    would: () => verdictOf({}),
    pin: () => null,
    pinned: () => null,
  };
}

export function requestHead(target: string, fields: string[] = [], method = "POST"): RequestHead {
  return {
    method,
    target,
    scheme: "https",
    authority: "api.openai.com",
    headers: new Headers(["content-type", "application/json", ...fields]),
    version: "1.1",
    body: { kind: "chunked" },
    raw: null,
  };
}

export function replyHead(type: string, status = 200): ResponseHead {
  const headers = new Headers(["content-type", type]);
  return { status, reason: "", headers, version: "1.1", body: { kind: "chunked" }, raw: null };
}

export function open(
  target: string,
  protocol: TargetProtocol = "openai",
  fields: string[] = [],
  custom: DialectContext["custom"] = new Map(),
): DialectExchange {
  const exchange = llmDialect.open(requestHead(target, fields), { ...contextOf(protocol), custom });
  if (exchange === null) throw new Error(`${target} is no call`);
  return exchange;
}

/** What of a reply leaves, fed in these parts. */
export function through(reader: ReplyReader | null, parts: readonly Buffer[]): Buffer {
  if (reader === null) return Buffer.concat(parts);
  return Buffer.concat([...parts.map((part) => Buffer.from(reader.push(Buffer.from(part)))), reader.end()]);
}

export interface Ran {
  readonly out: Buffer;
  readonly reader: ReplyReader | null;
  readonly sent: Buffer;
}

/** A whole call: request, then a reply of this type in parts. */
export function run(
  target: string,
  request: object,
  reply: { readonly type: string; readonly parts: readonly Buffer[] },
  rules: Rules,
  protocol: TargetProtocol = "openai",
): Ran {
  const exchange = open(target, protocol);
  const verdict = verdictOf(rules);
  const body = Buffer.from(JSON.stringify(request));
  exchange.describe(body);
  const sent = exchange.rewrite?.(body, verdict) ?? body;
  const reader = exchange.reply(replyHead(reply.type), verdict);
  return { out: through(reader, reply.parts), reader, sent };
}
