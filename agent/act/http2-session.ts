/**
 * Runs one connection of HTTP/2. node:http2 owns the frames; each stream is an exchange, as each request of HTTP/1.1
 * is, and streams do not wait for each other. The server's connection is dialled again when it is gone.
 */
import {
  type ClientHttp2Session,
  connect,
  constants,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import type { Flow } from "../core/flow.ts";
import type { Target } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import type { HttpContext } from "../wire/http/context.ts";
import type { Dialect } from "../wire/http/dialect.ts";
import { Exchange } from "../wire/http/exchange.ts";
import type { RequestHead } from "../wire/http/message.ts";
import { plainExchange } from "../wire/http/plain.ts";
import { Desk } from "./desk.ts";
import { isGone, watchPeers } from "./gone-peers.ts";
import { dialHttp2 } from "./http-opening.ts";
import { requestHead } from "./http2-heads.ts";
import { StreamDriver } from "./http2-stream.ts";
import type { SessionPorts } from "./ports.ts";
import type { FlowSession, Opened } from "./session.ts";

/** Streams a client may have open at once on one connection. */
const streamsMax = 250;
/** What a client may send on one stream before it is read; and a server, which may be far away. */
const windowBytes = 256 * 1024;
const farWindowBytes = 1024 * 1024;
/**
 * The same of all streams of a connection together. The default of 64 KiB is all that comes in a round trip; and curl
 * before 8.1, with it git, never goes on with an upload that came to its end.
 */
const connectionWindowBytes = 16 * 1024 * 1024;
const headerListBytesMax = 64 * 1024;
/** Fields of a message, those that begin with a colon among them; as many as in HTTP/1.1. */
const fieldsMax = 256;
/** node:http2 throws at two fields of a name that it takes for single; they are passed on as they came. */
const asTheyCome = { maxHeaderListPairs: fieldsMax, strictSingleValueFields: false };
const lingerMs = 2_000;
/** The same for a session that is ended from outside. */
const lastWordMs = 1_000;

const endStream = 1;
export interface Http2SessionOptions {
  readonly flow: Flow;
  readonly target: Target;
  readonly client: Socket;
  readonly opened: Opened;
  readonly ports: SessionPorts;
  readonly dialects: readonly Dialect[];
  readonly http: HttpContext;
}

export class Http2Session implements FlowSession {
  readonly done: Promise<void>;
  readonly #options: Http2SessionOptions;
  readonly #desk: Desk;
  readonly #streams = new Map<number, StreamDriver>();
  /** By the ids of what is asked: a stream's request, and each of its messages that is held. */
  readonly #asking = new Map<number, StreamDriver>();
  #client: ServerHttp2Session | null = null;
  #upstream: Promise<ClientHttp2Session> | null = null;
  /** What `#upstream` came to, as long as it takes requests. */
  #latest: ClientHttp2Session | null = null;
  /** All that are open: one that takes no more requests still answers those it has. */
  readonly #servers = new Map<ClientHttp2Session, Socket>();
  #asked = 0;
  #bytesUp = 0;
  #bytesDown = 0;
  #closing = false;
  #lingerMs = lingerMs;
  #ended = false;
  #resolveDone: () => void = () => {};
  #unwatch: () => void = () => {};

  constructor(options: Http2SessionOptions) {
    this.#options = options;
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
    this.#desk = new Desk({
      ...options,
      decided: (event) => this.#asking.get(event.askId)?.decided(event.decision, event.approvalId, null),
      recordFailed: (error) => this.#recordFailed(error),
    });
  }

  get flow(): Flow {
    return this.#options.flow;
  }

  start(): void {
    const { flow, target, client, opened } = this.#options;
    this.#desk.record({ type: "session-start", flow, target: target.name, protocol: target.protocol });
    if (opened.failure !== null)
      this.#desk.record({ type: "refused", code: opened.failure.code, reason: opened.failure.message, flow: null });
    if (opened.server !== null) this.#upstream = Promise.resolve(this.#connect(opened.server.socket));
    // Node says so of the sockets of its own servers only, and would wait for ever for an event of a client's socket.
    // A client that ends its side is gone: there is no half-closed connection in HTTP/2.
    Object.assign(client, { secureConnecting: false, allowHalfOpen: false });
    const session = performServerHandshake(client, {
      settings: {
        enablePush: false,
        maxConcurrentStreams: streamsMax,
        initialWindowSize: windowBytes,
        maxHeaderListSize: headerListBytesMax,
      },
      maxSessionRejectedStreams: 1_000,
      ...asTheyCome,
    });
    session.once("connect", () => session.setLocalWindowSize(connectionWindowBytes));
    this.#client = session;
    session.on("stream", (stream, _headers, flags, rawHeaders) => this.#stream(stream, flags, rawHeaders));
    session.on("error", (error) => this.#options.ports.log("info", `${flow.id}: client: ${error.message}`));
    session.on("close", () => this.#close("the client closed the connection"));
    if (!this.#ended) this.#unwatch = watchPeers(this);
  }

  /** Ends the session from outside: open requests get their answer, then the connection goes. */
  terminate(code: string, reason: string): void {
    this.#lingerMs = lastWordMs;
    for (const stream of this.#streams.values()) stream.terminate(code, reason);
    this.#close(`${code}: ${reason}`);
  }

  /** Ends what node:http2 has not heard the end of. */
  dropGone(): void {
    const { client } = this.#options;
    if (this.#client !== null && isGone(client)) drop(this.#client, client);
    for (const [session, socket] of this.#servers) if (isGone(socket)) drop(session, socket);
  }

  #stream(stream: ServerHttp2Stream, flags: number, rawHeaders: readonly string[]): void {
    stream.on("error", () => {});
    const head = requestHead(rawHeaders, (flags & endStream) !== 0, this.#options.http.scheme);
    if (head === null) {
      stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    this.#asked += 1;
    const id = this.#asked;
    const driver = new StreamDriver(stream, head.method, {
      desk: this.#desk,
      ports: this.#options.ports,
      http: this.#options.http,
      id,
      upstream: () => this.#server(),
      next: () => {
        this.#asked += 1;
        this.#asking.set(this.#asked, driver);
        return this.#asked;
      },
      up: (bytes) => {
        this.#bytesUp += bytes;
      },
      down: (bytes) => {
        this.#bytesDown += bytes;
      },
    });
    this.#streams.set(id, driver);
    this.#asking.set(id, driver);
    stream.once("close", () => {
      this.#streams.delete(id);
      for (const asked of driver.askIds) this.#asking.delete(asked);
    });
    driver.run(
      () =>
        new Exchange({
          id,
          head,
          dialect: this.#open(head),
          context: this.#options.http,
          now: Date.now,
          sink: driver,
        }),
    );
  }

  #open(head: RequestHead) {
    for (const dialect of this.#options.dialects) {
      const opened = dialect.open(head, this.#options.http);
      if (opened !== null) return opened;
    }
    return plainExchange(head, this.#options.http);
  }

  /** The connection upstream, dialled anew when it is gone; a request that waited for its record may come after the end. */
  #server(): Promise<ClientHttp2Session> {
    if (this.#ended) return Promise.reject(clientGone());
    this.#upstream ??= this.#dial();
    return this.#upstream;
  }

  async #dial(): Promise<ClientHttp2Session> {
    const { ports, flow, target, opened, http } = this.#options;
    try {
      const socket = await dialHttp2(ports, flow, target, http.scheme === "http" ? null : opened);
      if (socket !== null && !this.#ended) return this.#connect(socket);
      socket?.destroy();
      if (this.#ended) throw clientGone();
      throw new WeirError("WEIR_UPSTREAM_UNREACHABLE", "The server does not speak HTTP/2 any more.");
    } catch (error) {
      this.#upstream = null;
      throw error;
    }
  }

  #connect(socket: Socket): ClientHttp2Session {
    const session = connect(`${this.#options.http.scheme}://upstream`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: farWindowBytes, maxHeaderListSize: headerListBytesMax },
      ...asTheyCome,
    });
    session.once("connect", () => session.setLocalWindowSize(connectionWindowBytes));
    this.#latest = session;
    this.#servers.set(session, socket);
    // One that ends late must not take the place of the next one, which nobody would end then.
    const gone = (): void => {
      if (this.#latest !== session) return;
      this.#latest = null;
      this.#upstream = null;
    };
    session.on("error", (error) => {
      gone();
      this.#options.ports.log("info", `${this.#options.flow.id}: server: ${error.message}`);
    });
    session.on("goaway", gone);
    session.on("close", () => {
      gone();
      this.#servers.delete(session);
    });
    return session;
  }

  /** Nothing more goes upstream, and every client is told. */
  #recordFailed(error: Error): void {
    if (this.#closing) return;
    const code = error instanceof WeirError ? error.code : "WEIR_SPOOL_WRITE";
    this.#options.ports.log("warn", `${this.#options.flow.id}: ${code}: ${error.message}`);
    setImmediate(() => this.terminate(code, error.message));
  }

  #close(reason: string): void {
    if (this.#closing) return;
    this.#closing = true;
    for (const stream of this.#streams.values()) stream.clientLeft(reason);
    this.#desk.close(reason);
    const client = this.#client;
    if (client === null || client.destroyed) {
      this.#end(reason);
      return;
    }
    client.once("close", () => this.#end(reason));
    client.close();
    setTimeout(() => {
      drop(client, this.#options.client);
      this.#end(reason);
    }, this.#lingerMs).unref();
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#unwatch();
    for (const [session, socket] of this.#servers) drop(session, socket);
    this.#desk.record({
      type: "session-end",
      reason,
      bytesUp: this.#bytesUp,
      bytesDown: this.#bytesDown,
      operations: this.#desk.operations,
      denied: this.#desk.denied,
    });
    this.#resolveDone();
  }
}

function clientGone(): WeirError {
  return new WeirError("WEIR_UPSTREAM_UNREACHABLE", "The client is gone.");
}

/** Alone, a session's `destroy` leaves its socket open while a write is under way, and for one that nobody reads that is for ever. */
function drop(session: ClientHttp2Session | ServerHttp2Session, socket: Socket): void {
  session.destroy();
  socket.destroy();
}
