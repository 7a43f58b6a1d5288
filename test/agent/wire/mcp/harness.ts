/** Drives the dialect as an exchange would: one request, a verdict, its reply in pieces. */
import assert from "node:assert/strict";
import type { MaskSpec, RedactSpec, Verdict } from "../../../../agent/core/verdict.ts";
import type { Described, DialectContext, DialectExchange, Refusal } from "../../../../agent/wire/http/dialect.ts";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { mcpDialect } from "../../../../agent/wire/mcp/dialect.ts";

export interface Rules {
  readonly masks?: readonly MaskSpec[];
  readonly redactions?: readonly RedactSpec[];
  readonly denies?: (described: Described) => boolean;
}

export interface World {
  readonly context: DialectContext;
  readonly pins: Map<string, { digest: string; text: string; now: string | null }>;
  readonly verdict: Verdict;
}

/** What outlives one exchange: pins and policy. */
export function makeWorld(rules: Rules = {}): World {
  const pins: World["pins"] = new Map();
  const verdict = verdictOf("allow", rules);
  const context: DialectContext = {
    targetProtocol: "mcp",
    maskKey: Buffer.alloc(32, 3),
    custom: new Map(),
    would: (described) => verdictOf(rules.denies?.(described) === true ? "deny" : "allow", rules),
    pin(name, digest, text) {
      const known = pins.get(name);
      if (known === undefined) {
        pins.set(name, { digest, text, now: null });
        return null;
      }
      known.now = known.digest === digest ? null : text;
      return known.now === null ? null : { before: known.text };
    },
    pinned(name) {
      const known = pins.get(name);
      if (known === undefined) return null;
      return { changed: known.now === null ? null : { before: known.text, now: known.now } };
    },
  };
  return { context, pins, verdict };
}

export function verdictOf(action: "allow" | "deny", { masks = [], redactions = [] }: Rules): Verdict {
  return {
    action,
    rule: "r",
    reason: "because",
    mode: "enforce",
    wouldBe: null,
    transforms: { masks, limits: [], redactions },
    record: "statement",
    approvers: [],
    holdTimeoutMs: 0,
    onTimeout: "deny",
    policy: "",
  };
}

export const detect = (...detectors: NonNullable<MaskSpec["detectors"]>): MaskSpec => ({
  ...{ rule: "m", column: null, detectors, with: "redact", derived: "mask" },
});

export const path = (json: string): MaskSpec => ({
  ...{ rule: "m", column: null, detectors: null, json, with: "redact", derived: "mask" },
});

export const refusal: Refusal = {
  kind: "denied",
  code: "WEIR_DENIED",
  message: 'Weir denied this request by rule "r": because',
  rule: "r",
  approvalId: null,
  retryAfterSeconds: null,
};

const streamable: Readonly<Record<string, string>> = {
  accept: "application/json, text/event-stream",
  "content-type": "application/json",
};

export function requestHead(method: string, headers: Readonly<Record<string, string>>, target = "/mcp"): RequestHead {
  return {
    method,
    target,
    scheme: "https",
    authority: "mcp.example",
    headers: new Headers(Object.entries(headers).flat()),
    version: "1.1",
    body: { kind: "none" },
    raw: null,
  };
}

export function responseHead(contentType: string, status = 200): ResponseHead {
  return {
    status,
    reason: "",
    headers: new Headers(["content-type", contentType]),
    version: "1.1",
    body: { kind: "chunked" },
    raw: null,
  };
}

export interface Opened {
  readonly exchange: DialectExchange;
  readonly head: RequestHead;
  readonly described: Described;
}

/** A POST of this message; an object is written as JSON. */
export function post(
  world: World,
  message: unknown,
  headers: Readonly<Record<string, string>> = {},
  target = "/mcp",
): Opened {
  const head = requestHead("POST", { ...streamable, ...headers }, target);
  const exchange = mcpDialect.open(head, world.context);
  assert.ok(exchange !== null);
  const body = Buffer.isBuffer(message)
    ? message
    : Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
  return { exchange, head, described: exchange.describe(body) };
}

/** What leaves of a reply that comes in these pieces. */
export function replyOf(
  world: World,
  { exchange }: Opened,
  head: ResponseHead,
  pieces: readonly Buffer[],
): { text: string; masked: number; error: string | null; kept: string } {
  const reader = exchange.reply(head, world.verdict);
  assert.ok(reader !== null);
  const out = pieces.map((piece) => reader.push(piece));
  out.push(reader.end());
  assert.equal(reader.heldBytes, 0);
  const { error, text } = reader.summary();
  return { text: Buffer.concat(out).toString("utf8"), masked: reader.masked, error, kept: text };
}

export const rpc = (id: number | string, method: string, params?: unknown): Record<string, unknown> => ({
  jsonrpc: "2.0",
  id,
  method,
  ...(params === undefined ? {} : { params }),
});

export const result = (id: number | string, value: unknown): string =>
  JSON.stringify({ jsonrpc: "2.0", id, result: value });
