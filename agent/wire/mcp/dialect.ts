/** MCP over HTTP, as `agent/wire/http` asks for it: one exchange is one message of the client and what answers it. */
import { createHash } from "node:crypto";
import type { Verdict } from "../../core/verdict.ts";
import type {
  Described,
  Dialect,
  DialectContext,
  DialectExchange,
  HoldingStream,
  Refusal,
  ReplyReader,
} from "../http/dialect.ts";
import type { Twin } from "../http/large-body.ts";
import { mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "../http/message.ts";
import { factsOf, splitTarget } from "../http/request-facts.ts";
import { describeBare, describeBody, type KnownTool } from "./describe.ts";
import { EventStreamReply } from "./event-stream.ts";
import { holdingStream } from "./holding.ts";
import { compileMasks, compileRedactions } from "./masks.ts";
import { type Message, membersOf, type Read, readRequest, type Span, valueAt } from "./message.ts";
import { closeMethod, streamMethod } from "./methods.ts";
import { describePlain, plainRefusal } from "./plain.ts";
import { redactBody } from "./redact.ts";
import { refusalResponse, type Told } from "./refusal.ts";
import { MessageReader, type ReplyContext, WholeReply } from "./reply.ts";

export const mcpDialect: Dialect = {
  family: "mcp",
  open(head, context) {
    if (context.targetProtocol !== "mcp") return null;
    if (head.method === "GET") return asksForStream(head) ? new McpExchange(head, context, streamMethod) : null;
    if (head.method === "DELETE")
      return head.headers.has(sessionHeader) ? new McpExchange(head, context, closeMethod) : null;
    if (head.method === "HEAD" || head.method === "OPTIONS" || head.method === "CONNECT") return null;
    // Whatever its content-type says: a server that does not look at it would take the message all the same.
    return new McpExchange(head, context, null);
  },
};

/** In place of a tool's name, which has no space in it. */
const instructionsName = " instructions";
const sessionHeader = "mcp-session-id";

/** What an exchange and its twin have in common. */
interface State {
  readonly kind: Message["kind"] | null;
  readonly method: string;
  readonly given: Span | null;
  readonly id: string | null;
  readonly traits: readonly string[];
  readonly isPlain: boolean;
  readonly progressToken: string | null;
  readonly cancelName: string | null;
  readonly cancels: string | null;
  readonly retryKey: string | null;
}

class McpExchange implements DialectExchange {
  readonly reads: "head" | "whole";
  readonly twin: Twin;
  cancelName: string | null = null;
  cancels: string | null = null;
  retryKey: string | null = null;
  readonly #head: RequestHead;
  readonly #context: DialectContext;
  /** Our name for a request that has no message. */
  readonly #bare: string | null;
  #kind: Message["kind"] | null = null;
  #method = "";
  /** Where the arguments stand in the body, or what the client answers. */
  #given: Span | null = null;
  /** Of the request, as written; null: nothing answers it. */
  #id: string | null = null;
  #traits: readonly string[] = [];
  #isPlain = false;
  #progressToken: string | null = null;
  #verdict: Verdict | null = null;
  /** The reply was given a reader, so that what `wrap` gets has been through it. */
  #read = false;

  constructor(head: RequestHead, context: DialectContext, bare: string | null) {
    this.#head = head;
    this.#context = context;
    this.#bare = bare;
    this.reads = bare === null ? "whole" : "head";
    this.twin = {
      family: "mcp",
      save: () => this.#save(),
      restore: (state) => this.#restore(state as State | null),
      // A tree of many values is read faster than it is sent.
      pack: (described) => withArguments(described, null),
      unpack: (described, body) => {
        const given = this.#given;
        return given === null ? described : withArguments(described, valueAt(body, given));
      },
    };
  }

  #save(): State {
    const { cancelName, cancels, retryKey } = this;
    return {
      ...{ kind: this.#kind, method: this.#method, given: this.#given, id: this.#id, traits: this.#traits },
      ...{ isPlain: this.#isPlain, progressToken: this.#progressToken, cancelName, cancels, retryKey },
    };
  }

  #restore(state: State | null): void {
    if (state === null) return;
    this.#kind = state.kind;
    this.#method = state.method;
    this.#given = state.given;
    this.#id = state.id;
    this.#traits = state.traits;
    this.#isPlain = state.isPlain;
    this.#progressToken = state.progressToken;
    this.cancelName = state.cancelName;
    this.cancels = state.cancels;
    this.retryKey = state.retryKey;
  }

  describe(body: Buffer | null): Described {
    const described = this.#describe(body);
    this.#traits = described.traits;
    return described;
  }

  #describe(body: Buffer | null): Described {
    if (this.#bare !== null) return describeBare(this.#bare);
    const bytes = body ?? Buffer.alloc(0);
    const plain = describePlain(this.#head, bytes);
    if (plain !== null) {
      this.#isPlain = true;
      return plain;
    }
    const read = readRequest(bytes);
    if (read.is === "message") this.#note(bytes, read.message);
    else this.#id = idOf(read);
    const tool = (name: string): KnownTool | null => this.#knownTool(name);
    const instructions = this.#knownTool(instructionsName);
    const described = describeBody(bytes, read, { headers: this.#head.headers, tool, instructions });
    if (described !== null) return described;
    this.#isPlain = true;
    return describePlain(this.#head, null) as Described;
  }

  #note(body: Buffer, message: Message): void {
    this.#kind = message.kind;
    this.#method = message.method;
    const answer = message.kind === "error" ? "error" : "result";
    const isAnswer = message.kind === "response" || message.kind === "error";
    this.#given = (isAnswer ? message.members.get(answer) : message.inner.get("arguments")) ?? null;
    // A response has an id too, but nothing answers it.
    this.#id = message.kind === "request" ? message.id : null;
    const meta = valueAt(body, message.inner.get("_meta"));
    const token = (meta as { progressToken?: unknown } | null | undefined)?.progressToken;
    if (typeof token === "string" || typeof token === "number") this.#progressToken = JSON.stringify(token);
    if (message.kind === "request") {
      this.cancelName = this.#cancelName(message.id as string);
      this.retryKey = retryKey(body, message);
    }
    if (message.method !== "notifications/cancelled") return;
    const span = message.inner.get("requestId");
    if (span !== undefined) this.cancels = this.#cancelName(body.toString("utf8", span.start, span.end));
  }

  /** Ids are counted by session: that of the header, or of the old transport's address. */
  #cancelName(id: string): string {
    const { authority, target, headers } = this.#head;
    return JSON.stringify([authority.toLowerCase(), target, headers.get(sessionHeader) ?? "", id]);
  }

  /** Several servers may stand behind one name. The old transport lists on one path and is called on another. */
  #pinName(tool: string): string {
    const { method, target } = this.#head;
    const path = method === "GET" || !asksForStream(this.#head) ? "" : splitTarget(target).path.replace(/\/$/, "");
    return this.#pinNameAt(path, tool);
  }

  #pinNameAt(path: string, tool: string): string {
    return `${this.#head.authority.toLowerCase()}${path}/${tool}`;
  }

  /** Who calls may send other headers than who listed: what is known under either name counts, a change first. */
  #knownTool(tool: string): KnownTool | null {
    const path = splitTarget(this.#head.target).path.replace(/\/$/, "");
    const known = [path, ""].map((at) => this.#context.pinned(this.#pinNameAt(at, tool)));
    return known.find((one) => one?.changed != null) ?? known.find((one) => one !== null) ?? null;
  }

  rewrite(body: Buffer, verdict: Verdict): Buffer {
    this.#verdict = verdict;
    const masker = compileRedactions(verdict, this.#context);
    if (this.#kind === null || masker === null) return body;
    const read = readRequest(body);
    if (read.is !== "message") return body;
    return redactBody(body, { masker, message: read.message, head: this.#head, key: this.#context.maskKey });
  }

  refuse(refusal: Refusal): OwnResponse {
    return this.#isPlain ? plainRefusal(refusal) : refusalResponse(refusal, this.#told());
  }

  #told(): Told {
    return {
      id: this.#id,
      inReply: acceptsReply(this.#head),
      traits: this.#traits,
    };
  }

  holding(): HoldingStream | null {
    if (this.#kind !== "request" || !asksForStream(this.#head)) return null;
    // The head of its answer names the session: it cannot be sent before.
    if (this.#method === "initialize") return null;
    return holdingStream({
      told: this.#told(),
      progressToken: this.#progressToken,
      read: (bytes, status) => (this.#read ? bytes : new MessageReader(this.#reading(status)).message(bytes)),
    });
  }

  reply(head: ResponseHead, verdict: Verdict): ReplyReader | null {
    this.#verdict = verdict;
    if (head.body.kind === "none") return null;
    this.#read = true;
    const context = this.#reading(head.status);
    const type = mediaType(head.headers);
    if (this.#isPlain) return context.masks === null ? null : new WholeReply(context, false);
    if (type === "text/event-stream") return new EventStreamReply(context);
    return new WholeReply(context, type === "application/json" || type.endsWith("+json"));
  }

  #reading(status: number): ReplyContext {
    const masks = this.#verdict === null ? null : compileMasks(this.#verdict, this.#context);
    return {
      context: this.#context,
      pinName: (tool) => this.#pinName(tool),
      instructionsPin: this.#pinName(instructionsName),
      http: factsOf(this.#head),
      masks,
      id: this.#id,
      failed: status >= 300 || this.#isPlain,
    };
  }
}

function withArguments(described: Described, given: unknown): Described {
  return described.mcp === undefined ? described : { ...described, mcp: { ...described.mcp, arguments: given } };
}

/** All of the message but its id and its progress token, which a client counts up. */
function retryKey(body: Buffer, { members, inner }: Message): string {
  const meta = inner.get("_meta");
  const token = meta === undefined ? undefined : membersOf(body, meta).get("progressToken");
  const hash = createHash("sha256");
  let from = 0;
  const spans = [members.get("id"), token].filter((span) => span !== undefined);
  for (const { start, end } of spans.sort((a, b) => a.start - b.start)) {
    hash.update(body.subarray(from, start)).update("\0");
    from = end;
  }
  return hash.update(body.subarray(from)).digest("hex");
}

function idOf(read: Read): string | null {
  return read.is === "unreadable" ? read.id : null;
}

function asksForStream({ headers }: RequestHead): boolean {
  return headers.all("accept").some((value) => /\btext\/event-stream\b/i.test(value));
}

/** A client of Streamable HTTP names the types it reads its answer in; the old transport's POST does not. */
function acceptsReply({ headers }: RequestHead): boolean {
  return headers.all("accept").some((value) => /\b(?:text\/event-stream|application\/json)\b/i.test(value));
}
