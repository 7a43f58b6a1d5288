/**
 * One connection of HTTP/1.1: requests are taken one after the other, each by an exchange, and what clients pipeline
 * waits. The server's connection may come and go while the client's stays: a held request outlives it.
 */
import { PeerError } from "../../errors.ts";
import type { HttpContext } from "../http/context.ts";
import type { Dialect } from "../http/dialect.ts";
import { Exchange } from "../http/exchange.ts";
import type { ExchangeSink } from "../http/exchange-sink.ts";
import type { RequestHead } from "../http/message.ts";
import { plainExchange, plainRefusal } from "../http/plain.ts";
import type { Command, Conversation, ConversationContext, WireEvent } from "../protocol.ts";
import { RequestReader, ResponseReader } from "./reader.ts";
import { chunk, endOfChunks, http2RefusalBytes, ownResponseBytes, requestBytes, responseBytes } from "./writer.ts";

/** A client that sends on while its request waits is paused from here on. */
const waitingBytesMax = 256 * 1024;
/** What is left of a refused request's body is read over up to this; a longer one ends the connection. */
const drainedBytesMax = 1024 * 1024;

/** What `decode` can be asked for: the codings of RFC 9110 §8.4.1 and RFC 8878. */
export const codings: ReadonlySet<string> = new Set(["gzip", "x-gzip", "deflate", "br", "zstd"]);

type Upstream = "none" | "ready" | "dialing" | "failed";

export class Http1Conversation implements Conversation {
  readonly #context: ConversationContext;
  readonly #http: HttpContext;
  readonly #dialects: readonly Dialect[];
  readonly #requests: RequestReader;
  readonly #responses = new ResponseReader();
  readonly #scheme: "http" | "https";
  #out: Command[] = [];
  #exchange: Exchange | null = null;
  /** Exchanges, and messages in a tunnel, that were asked about so far. */
  #exchanges = 0;
  /** Of the exchange at hand. */
  #exchangeId = 0;
  #head: RequestHead | null = null;
  /** One for all exchanges: there is one at a time, and nothing of it is used when it is over. */
  readonly #sink = this.#openSink();
  #requestEnded = false;
  #drained = 0;
  #replied = false;
  #reusable = true;
  #closeAfter = false;
  /** More of the refused request is to come than is read over. */
  #endsNow = false;
  #chunkedReply = false;
  #chunkedRequest = false;
  #upstream: Upstream = "none";
  #failure = { code: "", message: "" };
  /** This upstream connection was used, and nothing came since: a server may close it between two requests. */
  #reused = false;
  /** What goes up when the server is there. */
  #waiting: Extract<Command, { type: "send-server" }>[] = [];
  #waitingBytes = 0;
  #clientPaused = false;
  #tunnel: Extract<Command, { type: "send-server" }>["permit"] | null = null;
  /** Something of the exchange at hand went upstream. */
  #sentHead = false;
  #coding = "";
  /** Long bodies that were handed out, and whose they are. */
  readonly #works = new Map<number, Exchange>();
  #workId = 0;
  #closed = false;

  constructor(context: ConversationContext, dialects: readonly Dialect[]) {
    if (context.http === undefined) throw new Error("an HTTP conversation needs the facts of its connection");
    this.#context = context;
    this.#http = context.http;
    this.#dialects = dialects;
    this.#scheme = context.http.scheme;
    this.#requests = new RequestReader(this.#scheme);
  }

  get heldBytes(): number {
    return this.#requests.heldBytes + this.#responses.heldBytes + (this.#exchange?.heldBytes ?? 0) + this.#waitingBytes;
  }

  handle(event: WireEvent, out: Command[]): void {
    if (this.#closed) return;
    this.#out = out;
    switch (event.type) {
      case "client-bytes":
        this.#clientBytes(event.bytes);
        break;
      case "server-bytes":
        this.#serverBytes(event.bytes);
        break;
      case "decision":
        if (event.askId === this.#exchanges)
          this.#exchange?.decided(event.decision, event.approvalId, event.retryAfterSeconds ?? null);
        break;
      case "server-ready":
        this.#serverReady();
        break;
      case "server-failed":
        this.#upstream = "failed";
        this.#failure = { code: event.code, message: event.message };
        if (this.#waiting.length > 0) this.#sendFailed();
        break;
      case "inflated":
        this.#exchange?.inflated(event.body, event.problem);
        break;
      case "worked":
        this.#works.get(event.workId)?.worked(event.done);
        this.#works.delete(event.workId);
        if (this.#tunnel !== null) this.#tunnelOver();
        break;
      case "decoded":
        this.#exchange?.decoded(event.bytes);
        break;
      case "decode-failed":
        this.#exchange?.upstreamFailed("WEIR_MASK_IMPOSSIBLE", `The response cannot be decoded: ${event.problem}.`);
        this.#close("the response cannot be decoded");
        break;
      case "wake":
        this.#exchange?.tick();
        break;
      case "client-end":
        this.#clientEnd();
        return;
      case "server-end":
        this.#serverEnd();
        break;
      case "terminate":
        this.#terminate(event.code, event.reason);
        return;
      case "client-tls":
      case "catalog":
      case "cancel":
        return;
    }
    this.#turn();
  }

  #clientBytes(bytes: Buffer): void {
    if (this.#tunnel !== null) {
      this.#send(bytes);
      return;
    }
    this.#requests.push(bytes);
  }

  /** Takes from the client what is wanted, until more bytes or a decision are needed. */
  #turn(): void {
    try {
      while (!this.#closed && this.#tunnel === null && this.#step());
    } catch (error) {
      this.#badRequest(error);
    }
    this.#steer();
  }

  /** False: nothing more can be done now. */
  #step(): boolean {
    const exchange = this.#exchange;
    if (exchange === null) {
      if (this.#closeAfter) return false;
      const part = this.#requests.next();
      if (part === null || part.type !== "head") return false;
      this.#begin(part.head);
      return true;
    }
    if (this.#requestEnded) {
      if (!this.#replied) return false;
      this.#next();
      return true;
    }
    if (this.#endsNow) {
      this.#close("the body of a refused request is too long to be read over");
      return false;
    }
    if (!exchange.wantsRequest) return false;
    const part = this.#requests.next();
    if (part === null) return false;
    if (part.type === "body") {
      if (exchange.over) this.#drain(part.bytes.length);
      else exchange.requestBody(part.bytes);
    } else if (part.type === "end") {
      this.#requestEnded = true;
      exchange.requestEnd(part.trailers);
    }
    return true;
  }

  #begin(head: RequestHead): void {
    this.#exchanges += 1;
    this.#exchangeId = this.#exchanges;
    this.#head = head;
    this.#requestEnded = false;
    this.#replied = false;
    this.#reusable = true;
    this.#drained = 0;
    const connection = head.headers.get("connection")?.toLowerCase() ?? "";
    this.#closeAfter =
      head.version === "1.0" ? !connection.includes("keep-alive") : /(?:^|,)\s*close\s*(?:,|$)/.test(connection);
    const exchange = new Exchange({
      id: this.#exchangeId,
      head,
      dialect: this.#open(head),
      context: this.#http,
      now: this.#context.now,
      sink: this.#sink,
    });
    this.#exchange = exchange;
    exchange.start();
  }

  #open(head: RequestHead) {
    for (const dialect of this.#dialects) {
      const opened = dialect.open(head, this.#http);
      if (opened !== null) return opened;
    }
    return plainExchange(head, this.#http);
  }

  /** The exchange is over and its request read: the next one may begin. */
  #next(): void {
    this.#exchange = null;
    if (!this.#reusable) this.#close("the server's connection cannot be used again");
    else if (this.#closeAfter) this.#close("the last request was answered");
  }

  #drain(bytes: number): void {
    this.#drained += bytes;
    if (this.#drained > drainedBytesMax) this.#close("the body of a refused request goes on");
  }

  #openSink(): ExchangeSink {
    return {
      ask: (operation, digest) => void this.#out.push({ type: "ask", askId: this.#exchangeId, operation, digest }),
      askNext: (operation) => {
        this.#exchanges += 1;
        this.#out.push({ type: "ask", askId: this.#exchanges, operation, once: true });
        return this.#exchanges;
      },
      // The last that was asked: there is no other.
      withdraw: (reason) => void this.#out.push({ type: "withdraw", askId: this.#exchanges, reason }),
      record: (body) => void this.#out.push({ type: "record", body }),
      sendHead: (request, target, permit) => {
        this.#chunkedRequest = request.body.kind === "chunked";
        this.#responses.expect(request.method);
        this.#queue({ type: "send-server", bytes: requestBytes(request, target), permit });
      },
      sendBody: (bytes, permit) => {
        if (this.#chunkedRequest)
          for (const piece of chunk(bytes)) this.#queue({ type: "send-server", bytes: piece, permit });
        else this.#queue({ type: "send-server", bytes, permit });
      },
      sendEnd: (trailers, permit) => {
        if (this.#chunkedRequest) this.#queue({ type: "send-server", bytes: endOfChunks(trailers), permit });
      },
      sendContinue: () => this.#reply(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n", "latin1")),
      replyHead: (response) => {
        this.#chunkedReply = response.body.kind === "chunked" && response.status >= 200;
        if (response.status >= 200 && endsConnection(response.version, response.headers.get("connection")))
          this.#closeAfter = true;
        if (response.body.kind === "close") this.#closeAfter = true;
        if (this.#chunkedReply && this.#head?.version === "1.0") {
          response.headers.delete("transfer-encoding");
          this.#chunkedReply = false;
          this.#closeAfter = true;
        }
        this.#reply(responseBytes(response));
      },
      replyBody: (bytes) => {
        if (this.#chunkedReply) for (const piece of chunk(bytes)) this.#reply(piece);
        else this.#reply(bytes);
      },
      replyEnd: (trailers) => {
        if (this.#chunkedReply) this.#reply(endOfChunks(trailers));
      },
      reply: (response) => {
        const { method, body } = this.#head as RequestHead;
        const long = body.kind === "length" && body.bytes > drainedBytesMax && !this.#requestEnded;
        if (long) this.#closeAfter = this.#endsNow = true;
        this.#reply(ownResponseBytes(response, method, this.#closeAfter));
      },
      tunnel: (_verdict, permit) => {
        this.#tunnel = permit;
        this.#requests.becomeRaw();
        this.#responses.becomeRaw();
        const early = this.#requests.rest();
        if (early.length > 0) this.#send(early);
        const answered = this.#responses.rest();
        if (answered.length > 0) this.#receive(answered);
      },
      wake: (ms) => void this.#out.push({ type: "wake", ms }),
      inflate: (coding, body, bytesMax) => void this.#out.push({ type: "inflate", coding, body, bytesMax }),
      decode: (coding) => {
        this.#coding = coding;
        return codings.has(coding);
      },
      decodeBody: (bytes) => void this.#out.push({ type: "decode", coding: this.#coding, bytes }),
      decodeEnd: () => void this.#out.push({ type: "decode", coding: this.#coding, bytes: null }),
      work: (task) => {
        this.#workId += 1;
        if (this.#exchange !== null) this.#works.set(this.#workId, this.#exchange);
        this.#out.push({ type: "work", workId: this.#workId, task, context: this.#http });
      },
      pauseReply: (paused) => void this.#out.push({ type: paused ? "pause" : "resume", side: "server" }),
      done: (reusable) => {
        this.#replied = true;
        this.#reusable = reusable;
        // The answer came before the request was whole: the server may never read the rest.
        if (!this.#requestEnded && this.#upstream === "ready" && this.#waiting.length === 0 && reusable)
          this.#reusable = !this.#sentHead;
        this.#reused ||= this.#sentHead;
        this.#sentHead = false;
      },
    };
  }

  /** Dials again where the server's connection is gone. */
  #queue(command: Extract<Command, { type: "send-server" }>): void {
    this.#sentHead = true;
    if (this.#upstream === "ready") {
      this.#out.push(command);
      return;
    }
    this.#waiting.push(command);
    this.#waitingBytes += command.bytes.length;
    if (this.#upstream === "failed") this.#sendFailed();
    else if (this.#upstream === "none") {
      this.#upstream = "dialing";
      this.#out.push({
        type: "dial",
        tls: this.#scheme === "https" ? "required" : "none",
        negotiation: "direct",
        alpn: ["http/1.1"],
      });
    }
  }

  #sendFailed(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#upstream = "none";
    this.#sentHead = false;
    this.#exchange?.upstreamFailed(this.#failure.code, this.#failure.message);
  }

  #serverReady(): void {
    this.#upstream = "ready";
    this.#reused = false;
    for (const command of this.#waiting) this.#out.push(command);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #serverBytes(bytes: Buffer): void {
    if (this.#tunnel !== null) {
      this.#receive(bytes);
      return;
    }
    this.#reused = false;
    this.#responses.push(bytes);
    this.#readResponses();
  }

  #readResponses(): void {
    try {
      for (let part = this.#responses.next(); part !== null; part = this.#responses.next()) {
        const exchange = this.#exchange;
        if (exchange === null || exchange.over) {
          // 408 and the like: a server says good-bye between two requests.
          this.#dropServer();
          return;
        }
        if (part.type === "head") {
          exchange.responseHead(part.head);
          if (this.#tunnel !== null) return;
          // The end of a message that is no answer yet.
          if (part.head.status < 200) this.#responses.next();
        } else if (part.type === "body") exchange.responseBody(part.bytes);
        else exchange.responseEnd(part.trailers);
      }
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
      this.#exchange?.upstreamFailed(String(error.code), `The server's answer cannot be passed on: ${error.message}.`);
      this.#close("the server's answer breaks the protocol");
    }
  }

  #serverEnd(): void {
    if (this.#tunnel !== null) {
      this.#endTunnel("the server closed the connection");
      return;
    }
    this.#responses.finish();
    this.#readResponses();
    const exchange = this.#exchange;
    this.#dropServer();
    if (exchange === null || exchange.over || exchange.answered || !this.#sentHead) return;
    if (exchange.responded) {
      exchange.upstreamFailed("WEIR_UPSTREAM_UNREACHABLE", "The server broke off its answer.");
      this.#close("the server broke off its answer");
      return;
    }
    if (this.#reused) {
      // As without Weir: the client's own rule for a connection that ended between two requests decides.
      exchange.clientLeft("the server closed the connection before it answered");
      this.#close("the server closed the connection before it answered");
      return;
    }
    exchange.upstreamFailed("WEIR_UPSTREAM_UNREACHABLE", "The server closed the connection without an answer.");
  }

  #dropServer(): void {
    if (this.#upstream === "ready") this.#out.push({ type: "drop-server" });
    this.#upstream = "none";
    this.#responses.rest();
  }

  #clientEnd(): void {
    if (this.#tunnel !== null) {
      this.#endTunnel("the client closed the connection");
      return;
    }
    this.#exchange?.clientLeft("the client closed the connection");
    this.#close("the client closed the connection");
  }

  #endTunnel(reason: string): void {
    this.#exchange?.tunnelEnded();
    this.#close(reason);
  }

  #terminate(code: string, reason: string): void {
    this.#closeAfter = true;
    if (this.#tunnel !== null) this.#exchange?.tunnelEnded(`Weir: ${reason} (${code})`);
    else this.#exchange?.terminate(code, reason);
    this.#close(`${code}: ${reason}`);
  }

  /** What breaks the framing is answered in it, and ends the connection: nobody knows where the next request begins. */
  #badRequest(error: unknown): void {
    if (!(error instanceof PeerError)) throw error;
    const exchange = this.#exchange;
    const answered = exchange?.responded === true || exchange?.over === true;
    exchange?.clientLeft(error.message);
    if (error.code === "WEIR_UNSUPPORTED") this.#reply(http2RefusalBytes(`Weir: ${error.message} (${error.code})`));
    else if (!answered) {
      const head = { headers: { get: () => null }, method: "GET" } as unknown as RequestHead;
      const own = plainRefusal(
        {
          kind: "failed",
          code: error.code,
          message: `Weir: the request is no valid HTTP/1.1: ${error.message} (${error.code})`,
          rule: "",
          approvalId: null,
          retryAfterSeconds: null,
        },
        head,
      );
      this.#reply(ownResponseBytes({ ...own, status: error.code === "WEIR_FRAME_TOO_LARGE" ? 431 : 400 }, "GET", true));
    }
    this.#out.push({
      type: "record",
      body: { type: "refused", code: error.code, reason: error.message, flow: null },
    });
    this.#close(`${error.code}: ${error.message}`);
  }

  #send(bytes: Buffer): void {
    if (this.#exchange?.tunnelSent(bytes) === true) this.#tunnelOver();
    else if (this.#tunnel !== null) this.#queue({ type: "send-server", bytes, permit: this.#tunnel });
  }

  #tunnelOver(): void {
    if (this.#exchange?.over === true) this.#close("the messages of the connection cannot be passed on");
  }

  #receive(bytes: Buffer): void {
    this.#exchange?.tunnelled(bytes);
    this.#tunnelOver();
  }

  #reply(bytes: Buffer): void {
    this.#out.push({ type: "send-client", bytes });
  }

  #steer(): void {
    const tunnelled = this.#exchange?.tunnelWaitingBytes ?? 0;
    const waiting = Math.max(this.#requests.heldBytes, this.#waitingBytes, tunnelled);
    const crowded = waiting > waitingBytesMax;
    if (crowded === this.#clientPaused || this.#closed) return;
    this.#clientPaused = crowded;
    this.#out.push({ type: crowded ? "pause" : "resume", side: "client" });
  }

  #close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#out.push({ type: "close", reason });
  }
}

function endsConnection(version: string, connection: string | null): boolean {
  const said = connection?.toLowerCase() ?? "";
  return version === "1.0" ? !said.includes("keep-alive") : /(?:^|,)\s*close\s*(?:,|$)/.test(said);
}
