/**
 * Requests to an MCP server that are no MCP: OAuth's forms and registrations, which live on the same host. They are
 * decided as plain HTTP. What could be a message for a lenient server is never taken for one of these.
 */
import type { Described, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse, type RequestHead } from "../http/message.ts";
import { splitTarget } from "../http/request-facts.ts";

/** No brace, bracket, quote or NUL: no JSON in any encoding. */
const formLetters = /^[A-Za-z0-9%+&=._~*!'(),:;@/?$-]*$/;

/** Null: it may be a message. `body` null: it was looked at already. */
export function describePlain(head: RequestHead, body: Buffer | null): Described | null {
  if (body !== null && body.length > 0) {
    if (mediaType(head.headers) !== "application/x-www-form-urlencoded") return null;
    if (!formLetters.test(body.toString("latin1"))) return null;
  }
  return {
    protocol: "http",
    text: `${head.method} ${splitTarget(head.target).path}`,
    verbs: [head.method.toLowerCase()],
    writes: true,
    traits: [],
  };
}

export function plainRefusal(refusal: Refusal): OwnResponse {
  const { kind, code, message, rule, approvalId, retryAfterSeconds } = refusal;
  return {
    status: kind === "denied" ? 403 : kind === "busy" ? 429 : 502,
    headers: [
      ["content-type", "application/json"],
      ...(retryAfterSeconds === null ? [] : [["retry-after", String(retryAfterSeconds)] as const]),
    ],
    // The members that OAuth's clients show (RFC 6749 §5.2).
    body: Buffer.from(
      JSON.stringify({ error: "access_denied", error_description: message, code, rule, approval: approvalId }),
    ),
  };
}
