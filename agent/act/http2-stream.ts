/** One stream of a client's HTTP/2 connection as an exchange, and its twin towards the server. */
import { EventEmitter } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { WeirError } from "../errors.ts";
import type { HttpContext } from "../wire/http/context.ts";
import type { Exchange } from "../wire/http/exchange.ts";
import type { ExchangeSink } from "../wire/http/exchange-sink.ts";
import type { LargeDone, LargeTask } from "../wire/http/large-body.ts";
import { Headers, type RequestHead, type ResponseHead } from "../wire/http/message.ts";
import type { Desk } from "./desk.ts";
import { flat, objectOf, responseHead } from "./http2-heads.ts";
import { type BodyDecoder, inflate, openDecoder } from "./inflate.ts";
import type { SessionPorts } from "./ports.ts";

/** The last that HTTP has (RFC 9110 §15). */
const statusMax = 599;
/** Of a request's body, what is kept to be sent again should the server refuse the stream unread. */
const keptBytesMax = 64 * 1024;
/** A server that takes so many requests on a connection refuses what comes beside them, on the next one, too. */
const triesMax = 8;
const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_REFUSED_STREAM } = constants;
const endStream = 1;
type AnswerFields = IncomingHttpHeaders & { ":status"?: number };

export interface StreamOptions {
  readonly desk: Desk;
  readonly ports: SessionPorts;
  readonly http: HttpContext;
  readonly id: number;
  upstream(): Promise<ClientHttp2Session>;
  /** The id of one more thing that is asked. */
  next(): number;
  up(bytes: number): void;
  down(bytes: number): void;
}

/** One stream of the client and, once it was allowed, its twin towards the server. */
export class StreamDriver implements ExchangeSink {
  readonly #client: ServerHttp2Stream;
  readonly #method: string;
  readonly #options: StreamOptions;
  #exchange: Exchange | null = null;
  #server: ClientHttp2Stream | null = null;
  /** What goes upstream when the record is safe and the server is there, in order. */
  #waiting: ((server: ClientHttp2Stream) => void)[] = [];
  /** All that went upstream; null: too much to be sent again, or it was heard. */
  #kept: ((server: ClientHttp2Stream) => void)[] | null = [];
  #keptBytes = 0;
  #tries = 0;
  #requestTrailers: Headers | null = null;
  #requestEnded = false;
  #serverTrailers: Headers | null = null;
  #replyTrailers: Headers | null = null;
  #decoder: BodyDecoder | null = null;
  /** Of each way at most one body is worked on. */
  readonly #works = new Set<() => void>();
  #replyPaused = false;
  #over = false;
  /** The client's stream was closed on our side. */
  #given = false;
  /** Of what was asked so far: the request, and messages of it that were held. */
  readonly askIds: number[];
  /** What may not go upstream before the record of such a message is safe; null: nothing waits for that. */
  #unsafe: (() => void)[] | null = null;

  constructor(client: ServerHttp2Stream, method: string, options: StreamOptions) {
    this.askIds = [options.id];
    this.#client = client;
    this.#method = method;
    this.#options = options;
  }

  run(open: () => Exchange): void {
    this.#safely(() => {
      const exchange = open();
      this.#exchange = exchange;
      this.#listen(exchange);
      exchange.start();
      this.#steerClient();
    })();
  }

  #listen(exchange: Exchange): void {
    const client = this.#client;
    const on = this.#listenTo(client);
    on("data", (bytes: Buffer) => {
      this.#options.up(bytes.length);
      exchange.requestBody(bytes);
      this.#steerClient();
    });
    on("trailers", (trailers: IncomingHttpHeaders) => {
      this.#requestTrailers = new Headers(flat(trailers));
    });
    const left = (): void => {
      if (!exchange.over) exchange.clientLeft("the client gave the request up");
    };
    if (exchange.head.body.kind !== "none") on("end", () => exchange.requestEnd(this.#requestTrailers));
    // Of a reset without an error node:http2 makes an end, as if that were all, and waits for ever for one that nobody reads.
    on("aborted", () => {
      if (this.#given) return;
      left();
      client.destroy();
    });
    on("drain", () => {
      if (this.#replyPaused) return;
      this.#decoder?.resume();
      this.#server?.resume();
    });
    on("wantTrailers", () => {
      client.sendTrailers(this.#replyTrailers === null ? {} : objectOf(this.#replyTrailers));
    });
    on("close", () => {
      left();
      this.#stopWork();
      if (!this.#over) this.#server?.close(NGHTTP2_CANCEL);
      letGo(client);
    });
  }

  #listenTo(stream: ClientHttp2Stream | ServerHttp2Stream) {
    return <Values extends unknown[]>(event: string, handle: (...values: Values) => void): void => {
      stream.on(event, this.#safely(handle));
    };
  }

  /** A defect, of ours or at the border to node:http2, ends this stream and nothing else. */
  #safely<Values extends unknown[]>(handle: (...values: Values) => void): (...values: Values) => void {
    return (...values) => {
      try {
        handle(...values);
      } catch (error) {
        this.#options.ports.log("warn", `WEIR_INTERNAL: ${error instanceof Error ? error.stack : error}`);
        this.#giveUp(NGHTTP2_INTERNAL_ERROR);
        this.#server?.close(NGHTTP2_CANCEL);
      }
    };
  }

  readonly decided = this.#safely((...[decision, approvalId, retryAfterSeconds]: Parameters<Exchange["decided"]>) => {
    this.#exchange?.decided(decision, approvalId, retryAfterSeconds);
    this.#steerClient();
  });

  readonly terminate = this.#safely((code: string, reason: string) => this.#exchange?.terminate(code, reason));

  readonly clientLeft = this.#safely((reason: string) => this.#exchange?.clientLeft(reason));

  ask(operation: Parameters<ExchangeSink["ask"]>[0], digest: () => string): void {
    this.#ask({ type: "ask", askId: this.#options.id, operation, digest });
  }

  askNext(operation: Parameters<ExchangeSink["ask"]>[0]): number {
    const id = this.#options.next();
    this.askIds.push(id);
    this.#ask({ type: "ask", askId: id, operation, once: true });
    return id;
  }

  #ask(command: Parameters<Desk["ask"]>[0]): void {
    const { ports, desk } = this.#options;
    const ready = desk.prepare(command.operation);
    const ask = (): void => {
      const event = desk.ask(command);
      // Not inside the exchange's own call.
      setImmediate(() => this.decided(event.decision, event.approvalId, event.retryAfterSeconds ?? null));
    };
    if (ready === null) ask();
    else
      ready.then(
        this.#safely(() => {
          if (this.#exchange?.over !== true) ask();
        }),
        (error: unknown) => {
          ports.log("warn", `WEIR_INTERNAL: ${error instanceof Error ? error.stack : error}`);
          this.#giveUp(NGHTTP2_INTERNAL_ERROR);
        },
      );
  }

  /** The last that was asked: there is no other. */
  withdraw(reason: string): void {
    this.#options.desk.withdraw(this.askIds.at(-1) as number, reason);
  }

  record(body: Parameters<ExchangeSink["record"]>[0]): void {
    this.#options.desk.record(body);
  }

  sendHead(head: RequestHead, target: string | null): void {
    const { desk, ports, upstream } = this.#options;
    const headers = {
      ":method": head.method,
      ":path": target ?? head.target,
      ":scheme": head.scheme,
      ":authority": head.authority,
      ...objectOf(head.headers),
    };
    const failed = this.#safely((error: unknown) => this.#failed(error));
    const request = (): void => {
      upstream().then(
        this.#safely((session) => this.#request(session, headers, request)),
        failed,
      );
    };
    // What was recorded is written first: see gate.ts.
    if (desk.failure !== null) failed(desk.failure);
    else if (desk.recordedEpoch < ports.gate.settled) request();
    else ports.gate.whenSettled((error) => (error === null ? request() : failed(error)));
  }

  #request(session: ClientHttp2Session, headers: Record<string, string | string[]>, again: () => void): void {
    const exchange = this.#exchange as Exchange;
    if (exchange.over || this.#client.destroyed) return;
    // Of a request that is here whole it is known what ends it; to be asked for trailers costs as much as the rest.
    const known = this.#requestEnded && this.#requestTrailers === null;
    const endsAtHead = known && exchange.head.body.kind === "none";
    let server: ClientHttp2Stream;
    try {
      server = session.request(headers, { waitForTrailers: !known, endStream: endsAtHead });
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#server = server;
    let answered = false;
    const on = this.#listenTo(server);
    on("headers", (informational: AnswerFields, _flags: number, raw?: string[]) => {
      this.#kept = null;
      exchange.responseHead(responseHead(raw ?? flat(informational), informational[":status"] ?? 100, false));
    });
    on("response", (answer: AnswerFields, flags: number, raw?: string[]) => {
      answered = true;
      this.#kept = null;
      const status = answer[":status"] ?? 502;
      if (status > statusMax) {
        exchange.upstreamFailed(
          "WEIR_FRAME_INVALID",
          `The server answered with ${status}, which is no status of HTTP.`,
        );
        return;
      }
      exchange.responseHead(responseHead(raw ?? flat(answer), status, (flags & endStream) !== 0));
    });
    on("data", (bytes: Buffer) => {
      exchange.responseBody(bytes);
      if (this.#client.writableNeedDrain) server.pause();
    });
    on("trailers", (trailers: IncomingHttpHeaders, _flags: number, raw?: string[]) => {
      this.#serverTrailers = new Headers(raw ?? flat(trailers));
    });
    let whole = false;
    on("end", () => {
      if (!answered) return;
      whole = server.rstCode === NGHTTP2_NO_ERROR;
      exchange.responseEnd(this.#serverTrailers);
    });
    on("wantTrailers", () => {
      server.sendTrailers(this.#requestTrailers === null ? {} : objectOf(this.#requestTrailers));
    });
    on("drain", () => this.#steerClient());
    server.on("error", ignore);
    on("close", () => {
      letGo(server);
      // What is being decoded may end later than the stream that brought it.
      if (exchange.over || whole) return;
      const code = server.rstCode;
      if (code === NGHTTP2_REFUSED_STREAM && this.#kept !== null && this.#tries < triesMax) {
        // Nothing of it was done (RFC 9113 §8.7). A server that says good-bye is heard of later here than by its client.
        this.#tries += 1;
        this.#server = null;
        this.#waiting = [...this.#kept];
        again();
        return;
      }
      if (code === NGHTTP2_REFUSED_STREAM && !this.#client.headersSent) {
        // Told so, clients try again by themselves.
        exchange.clientLeft("the server refused the stream");
        this.#giveUp(code);
        return;
      }
      // Of an answer that is kept back until it is whole the client has heard nothing yet, and can be told.
      if (this.#client.headersSent) this.#giveUp(code === NGHTTP2_NO_ERROR ? NGHTTP2_INTERNAL_ERROR : code);
      exchange.upstreamFailed("WEIR_UPSTREAM_UNREACHABLE", `The server broke off its answer (RST_STREAM ${code}).`);
    });
    const waiting = endsAtHead ? [] : this.#waiting;
    this.#waiting = [];
    for (const send of waiting) send(server);
  }

  #failed(error: unknown): void {
    const code = error instanceof WeirError ? error.code : "WEIR_UPSTREAM_UNREACHABLE";
    this.#exchange?.upstreamFailed(code, error instanceof Error ? error.message : String(error));
  }

  /** A message that was held is in the record before it goes upstream, and with it what comes behind. */
  #up(send: (server: ClientHttp2Stream) => void, bytes = 0): void {
    const { desk, ports } = this.#options;
    const pass = (): void => this.#pass(send, bytes);
    if (this.#unsafe !== null) this.#unsafe.push(pass);
    else if (this.askIds.length === 1 || desk.recordedEpoch < ports.gate.settled) pass();
    else {
      this.#unsafe = [pass];
      ports.gate.whenSettled((error) => {
        const waiting = this.#unsafe ?? [];
        this.#unsafe = null;
        if (error !== null) this.#failed(error);
        else for (const go of waiting) go();
      });
    }
  }

  #pass(send: (server: ClientHttp2Stream) => void, bytes: number): void {
    if (this.#over || this.#options.desk.failure !== null) return;
    this.#keptBytes += bytes;
    if (this.#keptBytes > keptBytesMax) this.#kept = null;
    this.#kept?.push(send);
    if (this.#server === null) this.#waiting.push(send);
    else send(this.#server);
  }

  sendBody(bytes: Buffer): void {
    this.#up((server) => void server.write(bytes), bytes.length);
  }

  sendEnd(trailers: Headers | null): void {
    this.#requestTrailers = trailers;
    this.#requestEnded = true;
    this.#up((server) => void server.end());
  }

  sendContinue(): void {
    this.#client.additionalHeaders({ ":status": 100 });
  }

  replyHead(head: ResponseHead): void {
    if (this.#client.destroyed || this.#client.closed || this.#client.headersSent) return;
    const headers = { ":status": head.status, ...objectOf(head.headers) };
    if (head.status < 200) this.#client.additionalHeaders(headers);
    // A response without a body and without trailers, as gRPC's "Trailers-Only".
    else if (head.body.kind === "none") this.#client.respond(headers, { endStream: true });
    else this.#client.respond(headers, { waitForTrailers: true });
  }

  replyBody(bytes: Buffer): void {
    this.#options.down(bytes.length);
    if (!this.#client.destroyed) this.#client.write(bytes);
  }

  replyEnd(trailers: Headers | null): void {
    this.#replyTrailers = trailers;
    if (!this.#client.destroyed && !this.#client.writableEnded) this.#client.end();
  }

  reply(response: Parameters<ExchangeSink["reply"]>[0]): void {
    if (this.#client.destroyed || this.#client.closed || this.#client.headersSent) return;
    const headers = {
      ":status": response.status,
      ...Object.fromEntries(response.headers),
      ...(response.body.length === 0 ? {} : { "content-length": String(response.body.length) }),
    };
    this.#client.respond(headers, { endStream: response.body.length === 0 || this.#method === "HEAD" });
    if (response.body.length > 0 && this.#method !== "HEAD") this.#client.end(response.body);
  }

  tunnel(): void {
    // There is no 101 in HTTP/2 (RFC 9113 §8.6).
    this.#giveUp(NGHTTP2_INTERNAL_ERROR);
  }

  wake(ms: number): void {
    const tick = this.#safely(() => this.#exchange?.tick());
    setTimeout(tick, ms).unref();
  }

  inflate(coding: string, body: Buffer, bytesMax: number): void {
    const done = this.#safely((...[decoded, problem]: Parameters<Exchange["inflated"]>) =>
      this.#exchange?.inflated(decoded, problem),
    );
    inflate(coding, body, bytesMax, done);
  }

  work(task: LargeTask): void {
    const { ports, http } = this.#options;
    const worked = this.#safely((done: LargeDone) => {
      this.#works.delete(stop);
      this.#exchange?.worked(done);
      this.#steerClient();
    });
    const stop = ports.largeBodies.work(task, http, worked);
    this.#works.add(stop);
  }

  #giveUp(code: number): void {
    this.#given = true;
    this.#client.close(code);
  }

  #stopWork(): void {
    for (const stop of this.#works) stop();
    this.#works.clear();
  }

  pauseReply(paused: boolean): void {
    this.#replyPaused = paused;
    if (paused) {
      this.#server?.pause();
      this.#decoder?.pause();
    } else if (!this.#client.writableNeedDrain) {
      this.#decoder?.resume();
      this.#server?.resume();
    }
  }

  decode(coding: string): boolean {
    this.#decoder = openDecoder(coding, {
      data: this.#safely((bytes: Buffer) => {
        this.#exchange?.decoded(bytes);
        if (this.#client.writableNeedDrain) this.#decoder?.pause();
      }),
      end: this.#safely(() => this.#exchange?.decoded(null)),
      drained: () => {
        if (!this.#replyPaused) this.#server?.resume();
      },
      failed: this.#safely((problem: string) => {
        this.#exchange?.upstreamFailed("WEIR_MASK_IMPOSSIBLE", `The response cannot be decoded: ${problem}.`);
        this.#giveUp(NGHTTP2_INTERNAL_ERROR);
      }),
    });
    return this.#decoder !== null;
  }

  decodeBody(bytes: Buffer): void {
    if (this.#decoder?.write(bytes) === false) this.#server?.pause();
  }

  decodeEnd(): void {
    this.#decoder?.end();
  }

  done(reusable: boolean): void {
    this.#over = true;
    // A response that broke off must not look whole.
    if (!reusable && this.#client.headersSent && !this.#client.writableEnded) this.#giveUp(NGHTTP2_INTERNAL_ERROR);
    this.#decoder?.destroy();
    this.#stopWork();
    this.#waiting = [];
    this.#unwanted();
    // Nor is what the server still sends of an answer that is over.
    if (this.#server !== null && !(reusable && this.#server.writableEnded)) this.#server.close(NGHTTP2_CANCEL);
  }

  /** What the client still sends of a request that was answered: it is told so behind the answer (RFC 9113 §8.1). */
  #unwanted(): void {
    const client = this.#client;
    if (client.destroyed || client.readableEnded) return;
    client.resume();
    const stop = this.#safely(() => {
      if (!client.readableEnded && !client.closed) this.#giveUp(NGHTTP2_NO_ERROR);
    });
    if (client.writableFinished) stop();
    else client.once("finish", stop);
  }

  #steerClient(): void {
    const exchange = this.#exchange;
    if (exchange === null || this.#client.destroyed) return;
    if (exchange.wantsRequest && this.#server?.writableNeedDrain !== true) this.#client.resume();
    else this.#client.pause();
  }
}

const { removeAllListeners } = EventEmitter.prototype;

/**
 * Node's own object of a stream outlives it until the old generation is collected, and what listens to it as well: an
 * exchange with all it holds, for each request. Without the streams' own way to remove, which does it one by one.
 */
function letGo(stream: ClientHttp2Stream | ServerHttp2Stream): void {
  removeAllListeners.call(stream, "removeListener");
  removeAllListeners.call(stream);
  stream.on("error", ignore);
}

function ignore(): void {}
