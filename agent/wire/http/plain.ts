/** A request of no API that Weir reads further: decided by its head, and by the beginning of a body of text. */
import type { Verdict } from "../../core/verdict.ts";
import { bodyReader, bodyRedactor } from "./body-mask.ts";
import type { Described, DialectExchange, Refusal, ReplyReader } from "./dialect.ts";
import { readEscapes } from "./json-scan.ts";
import type { Masking } from "./mask-plans.ts";
import { formType, isText } from "./media-type.ts";
import { charset, contentCoding, mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "./message.ts";
import { factsOf, recordedQuery } from "./request-facts.ts";

const safeMethods = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
/** What of a body of text stands in the operation's text, for rules on its words: all that is read before it is decided. */
const bodyTextBytesMax = 64 * 1024;

export function plainExchange(head: RequestHead, masking: Masking): DialectExchange {
  const facts = factsOf(head);
  const type = facts.contentType;
  const coding = contentCoding(head.headers);
  return {
    reads: "peek",
    describe(body): Described {
      const where = `${head.method} ${facts.scheme}://${head.authority}${facts.path}`;
      const query = facts.query === "" ? "" : `?${readForm(recordedQuery(facts.query))}`;
      const isEmpty = head.body.kind === "none" || body?.length === 0;
      const isRead = body !== null && coding === "" && (type === "" || isText(type)) && isAsciiBased(head);
      const said = isRead && !isEmpty ? `\n\n${textOf(body, type)}` : "";
      return {
        protocol: "http",
        text: `${where}${query}${said}`,
        verbs: [head.method.toLowerCase()],
        writes: !safeMethods.has(head.method),
        traits: isRead || isEmpty ? [] : ["body-unread"],
      };
    },
    forward: (verdict) => bodyRedactor(type, coding, verdict, masking),
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

/** ASCII stands in it as such, as in all but UTF-16, UTF-32, UTF-7 and EBCDIC. */
function isAsciiBased({ headers }: RequestHead): boolean {
  const said = charset(headers);
  return said === null || /^(?:utf-?8|us-ascii|iso-8859-[0-9]{1,2}|windows-125[0-9])$/.test(said);
}

/**
 * As its reader understands it: many writers of JSON escape whatever is not ASCII, and forms all but letters. JSON is read by
 * many servers whatever type it has.
 */
function textOf(body: Buffer, type: string): string {
  const text = body.toString("utf8", 0, bodyTextBytesMax);
  return readEscapes(type === formType ? readForm(text) : text);
}

/** A query is written like a form. */
function readForm(text: string): string {
  return text
    .replaceAll("+", " ")
    .replace(/(?:%[0-9A-Fa-f]{2})+/g, (written) => Buffer.from(written.replaceAll("%", ""), "hex").toString("utf8"));
}
