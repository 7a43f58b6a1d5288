/** A request of no API that Weir reads further: decided by its head, and by the beginning of a body of text. */
import type { Verdict } from "../../core/verdict.ts";
import { bodyReader, redactBody } from "./body-mask.ts";
import type { Described, DialectExchange, Refusal, ReplyReader } from "./dialect.ts";
import type { Masking } from "./mask-plans.ts";
import { isText } from "./media-type.ts";
import { mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "./message.ts";
import { factsOf, recordedQuery } from "./request-facts.ts";

const safeMethods = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
/** What of a body of text stands in the operation's text, for rules on its words: all that is read before it is decided. */
const bodyTextBytesMax = 64 * 1024;

export function plainExchange(head: RequestHead, masking: Masking): DialectExchange {
  const facts = factsOf(head);
  return {
    reads: "peek",
    describe(body): Described {
      const where = `${head.method} ${facts.scheme}://${head.authority}${facts.path}`;
      const query = facts.query === "" ? "" : `?${recordedQuery(facts.query)}`;
      const said = body !== null && body.length > 0 && isText(facts.contentType) ? `\n\n${textOf(body)}` : "";
      return {
        protocol: "http",
        text: `${where}${query}${said}`,
        verbs: [head.method.toLowerCase()],
        writes: !safeMethods.has(head.method),
        traits: body === null && head.body.kind !== "none" ? ["body-unread"] : [],
      };
    },
    rewrite: (body, verdict) => redactBody(body, facts.contentType, verdict, masking),
    twin: { family: "plain", save: () => null, restore: () => {} },
    refuse: (refusal) => plainRefusal(refusal, head),
    holding: () => null,
    reply: (response: ResponseHead, verdict: Verdict): ReplyReader | null =>
      bodyReader(mediaType(response.headers), verdict, masking),
  };
}

/** JSON for who asks for JSON, a line of text for everybody else. */
export function plainRefusal(refusal: Refusal, head: RequestHead): OwnResponse {
  const status = refusal.kind === "denied" ? 403 : refusal.kind === "busy" ? 429 : 502;
  const retry = refusal.retryAfterSeconds === null ? [] : [["retry-after", String(refusal.retryAfterSeconds)] as const];
  if (/json/i.test(head.headers.get("accept") ?? "") || /json/.test(mediaType(head.headers))) {
    const error = { code: refusal.code, message: refusal.message, rule: refusal.rule, approval: refusal.approvalId };
    return {
      status,
      headers: [["content-type", "application/json"], ...retry],
      body: Buffer.from(`${JSON.stringify({ error })}\n`, "utf8"),
    };
  }
  return {
    status,
    headers: [["content-type", "text/plain; charset=utf-8"], ["x-content-type-options", "nosniff"], ...retry],
    body: Buffer.from(`${refusal.message}\n`, "utf8"),
  };
}

function textOf(body: Buffer): string {
  return body.toString("utf8", 0, bodyTextBytesMax);
}
