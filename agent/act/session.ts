/**
 * Runs one flow: feeds a conversation with what the sockets bring and carries out what it commands.
 * Everything that waits (dial, TLS, approval, catalog) waits here; the conversation only sees events.
 */
import type { Socket } from "node:net";
import type { Flow } from "../core/flow.ts";
import type { EntryBody } from "../core/record.ts";
import type { Target } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import type { CatalogQuestion, Command, Conversation, Side, TlsFacts, WireEvent } from "../wire/protocol.ts";
import { sendCancel } from "./cancels.ts";
import { Desk } from "./desk.ts";
import { isGone, watchPeers } from "./gone-peers.ts";
import { type BodyDecoder, inflate, openDecoder } from "./inflate.ts";
import type { CertificateNames, SessionPorts, UpstreamLogin } from "./ports.ts";
import { RecordedQueue } from "./recorded-queue.ts";

/** Small pieces are joined to one write up to this size; larger ones go as they are, without a copy. */
const joinedWriteBytesMax = 64 * 1024;
/** How long a closed session may take to send what is queued before its sockets are destroyed. */
const lingerMs = 2_000;
/** The same for a session that is ended from outside: what was revoked is gone within two seconds, whatever it does. */
const lastWordMs = 1_000;

/** A client that connects and does not log in is let go after this; PostgreSQL's own authentication_timeout. */
const openingMs = 60_000;

/** What runs a flow to its end. */
export interface FlowSession {
  readonly flow: Flow;
  /** Resolves when both sides are closed and the last entry is appended. */
  readonly done: Promise<void>;
  start(): void;
  terminate(code: string, reason: string): void;
}

export interface SessionOptions {
  readonly flow: Flow;
  readonly target: Target;
  readonly client: Socket;
  readonly conversation: Conversation;
  readonly ports: SessionPorts;
  /** What was opened before the conversation began, where TLS comes first (HTTP). */
  readonly opened?: Opened;
}

export interface Opened {
  /** What the client called the server in its TLS hello. */
  readonly serverName: string | null;
  readonly server: { readonly socket: Socket; readonly tls: TlsFacts | null } | null;
  /** Why there is no server. */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

export class Session implements FlowSession {
  readonly flow: Flow;
  readonly target: Target;
  /** Resolves when both sides are closed and the last entry is appended. */
  readonly done: Promise<void>;
  bytesUp = 0;
  bytesDown = 0;
  /** `bytesUp` when its client was last looked for. */
  #bytesLooked = 0;
  readonly #conversation: Conversation;
  readonly #ports: SessionPorts;
  #client: Socket;
  #server: Socket | null = null;
  #upstreamNames: CertificateNames | null = null;
  #login: UpstreamLogin | null = null;
  readonly #opened: Opened | null;
  #decoder: BodyDecoder | null = null;
  /** The decoder has more than it has worked off. */
  #decoderFull = false;
  #stopWork: () => void = () => {};
  #unwatch: () => void = nothing;
  /** Take our listeners off: what a stream of Node's names is kept for longer than it (docs/decisions/0019). */
  readonly #leave: Record<Side, () => void> = { client: nothing, server: nothing };
  readonly #cancelKeys: Buffer[] = [];
  readonly #desk: Desk;
  readonly #toServer: RecordedQueue;
  #toClient: Buffer[] = [];
  readonly #events: WireEvent[] = [];
  readonly #commands: Command[] = [];
  #running = false;
  #closing = false;
  #lingerMs = lingerMs;
  #ended = false;
  readonly #paused = { client: false, server: false };
  readonly #congested = { client: false, server: false };
  #resolveDone: () => void = () => {};
  readonly #opening: NodeJS.Timeout;

  constructor(options: SessionOptions) {
    this.flow = options.flow;
    this.target = options.target;
    this.#client = options.client;
    this.#conversation = options.conversation;
    this.#ports = options.ports;
    this.#opened = options.opened ?? null;
    this.#desk = new Desk({
      ...options,
      decided: (event) => this.#feed(event),
      recordFailed: (error) => this.#recordFailed(error),
    });
    this.#toServer = new RecordedQueue(options.ports.gate, this.#desk, () => this.#flushServer());
    this.#opening = setTimeout(() => {
      if (!this.#desk.holds) this.terminate("WEIR_LIMIT_REACHED", `The login took longer than ${openingMs / 1000} s.`);
    }, openingMs);
    this.#opening.unref();
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  start(): void {
    this.#record({
      type: "session-start",
      flow: this.flow,
      target: this.target.name,
      protocol: this.target.protocol,
    });
    this.#opening.refresh();
    if (this.#opened !== null) this.#begin(this.#opened);
    this.#listen("client", this.#client);
    if (!this.#ended) this.#unwatch = watchPeers(this);
    // Where the server speaks first, no byte of the client would ever start the conversation.
    if (this.target.protocol === "opaque") this.#feed({ type: "client-bytes", bytes: Buffer.alloc(0) });
  }

  /** Both legs are there already, or it is known why one is not. */
  #begin({ server, failure }: Opened): void {
    clearTimeout(this.#opening);
    if (server !== null) this.#serverReady(server.socket, server.tls);
    else if (failure !== null) {
      this.#record({ type: "refused", code: failure.code, reason: failure.message, flow: null });
      this.#feed({ type: "server-failed", ...failure });
    }
  }

  /** A client that is not read from is heard of no more; as long as the server takes of what it sent, that goes on. */
  dropGone(): void {
    const stands = this.#bytesLooked === this.bytesUp;
    this.#bytesLooked = this.bytesUp;
    if (!stands || !(this.#paused.client || this.#congested.server) || !isGone(this.#client)) return;
    this.#socketFailed("client", this.#client, new Error("gone, with bytes unread"));
  }

  /** Ends the session from outside (shutdown, revocation), with a word to the client in its protocol. */
  terminate(code: string, reason: string): void {
    if (this.#ended) return;
    this.#lingerMs = lastWordMs;
    this.#feed({ type: "terminate", code, reason });
    if (!this.#closing) this.#close(reason);
  }

  #listen(side: Side, socket: Socket): void {
    const data = (bytes: Buffer): void => {
      if (side === "client") {
        this.bytesUp += bytes.length;
        this.#feed({ type: "client-bytes", bytes });
      } else {
        this.bytesDown += bytes.length;
        this.#feed({ type: "server-bytes", bytes });
      }
    };
    const end = (): void => {
      if (this.#isCurrent(side, socket)) this.#feed({ type: side === "client" ? "client-end" : "server-end" });
    };
    const close = (): void => this.#socketFailed(side, socket, null);
    const drain = (): void => {
      this.#congested[side] = false;
      if (side === "client" && !this.#paused.server) this.#decoder?.resume();
      this.#steer(other(side));
    };
    const failed = (error: Error): void => this.#socketFailed(side, socket, error);
    socket.on("data", data).on("end", end).on("close", close).on("drain", drain).on("error", failed);
    // Ours alone: who counts the open connections listens to their close, too.
    const leave = (): void => {
      socket.off("data", data).off("end", end).off("close", close).off("drain", drain).off("error", failed);
      socket.on("error", nothing);
    };
    this.#leave[side] = leave;
    this.#steer(side);
  }

  /** False for a server's connection that was given up. */
  #isCurrent(side: Side, socket: Socket): boolean {
    return side === "client" || this.#server === socket;
  }

  #socketFailed(side: Side, socket: Socket, error: Error | null): void {
    if (this.#ended || this.#closing || !this.#isCurrent(side, socket)) return;
    // A peer that is gone can take nothing more; the conversation closes the session and records why.
    if (error !== null) this.#ports.log("info", `${this.flow.id}: ${side}: ${error.message}`);
    this.#feed({ type: side === "client" ? "client-end" : "server-end" });
    if (!this.#closing && this.#isCurrent(side, socket))
      this.#close(error === null ? `${side} closed` : `${side}: ${error.message}`);
  }

  /** Events are handled one after the other: a command that is carried out at once may bring the next event. */
  #feed(event: WireEvent): void {
    if (this.#ended) return;
    if (this.#running) {
      this.#events.push(event);
      return;
    }
    this.#running = true;
    try {
      let next: WireEvent | undefined = event;
      do {
        this.#conversation.handle(next, this.#commands);
        for (const command of this.#commands) this.#run(command);
        this.#commands.length = 0;
        next = this.#events.shift();
      } while (next !== undefined);
    } catch (error) {
      this.#commands.length = 0;
      this.#events.length = 0;
      // A defect of ours: fail closed, and say it where an operator looks.
      this.#ports.log(
        "warn",
        `${this.flow.id}: WEIR_INTERNAL: ${error instanceof Error ? error.stack : String(error)}`,
      );
      this.#close("WEIR_INTERNAL");
    }
    this.#running = false;
    if (this.#toClient.length > 0) this.#flushClient();
    if (!this.#toServer.empty) this.#flushServer();
  }

  #run(command: Command): void {
    switch (command.type) {
      case "send-client":
        this.#toClient.push(command.bytes);
        return;
      case "send-server":
        this.#toServer.push(command.bytes);
        return;
      case "record":
        this.#record(command.body);
        return;
      case "ask":
        this.#ask(command);
        return;
      case "withdraw":
        this.#desk.withdraw(command.askId, command.reason);
        return;
      case "pause":
        this.#paused[command.side] = true;
        if (command.side === "server") this.#decoder?.pause();
        this.#steer(command.side);
        return;
      case "resume":
        this.#paused[command.side] = false;
        if (command.side === "server" && !this.#congested.client) this.#decoder?.resume();
        this.#steer(command.side);
        return;
      case "dial":
        void this.#dial(command);
        return;
      case "start-client-tls":
        this.#flushClient();
        void this.#terminateClient(command.leftover, command.alpn);
        return;
      case "catalog":
        void this.#catalog(command.question);
        return;
      case "login":
        clearTimeout(this.#opening);
        this.#login = { user: command.user, database: command.database, password: command.password };
        return;
      case "cancel-key":
        this.#cancelKeys.push(command.key);
        this.#ports.cancels.register(this.flow, command.key, () => this.#cancelled());
        return;
      case "cancel-request":
        void this.#passCancel(command.key, true);
        return;
      case "cancel-server":
        void this.#passCancel(command.key, false);
        return;
      case "wake":
        setTimeout(() => this.#feed({ type: "wake" }), command.ms).unref();
        return;
      case "inflate":
        inflate(command.coding, command.body, command.bytesMax, (body, problem) =>
          this.#feed({ type: "inflated", body, problem }),
        );
        return;
      case "work": {
        const { workId, task, context } = command;
        this.#stopWork = this.#ports.largeBodies.work(task, context, (done) =>
          this.#feed({ type: "worked", workId, done }),
        );
        return;
      }
      case "decode":
        this.#decode(command.coding, command.bytes);
        return;
      case "drop-server":
        this.#dropServer();
        return;
      case "log":
        this.#ports.log(command.level, `${this.flow.id}: ${command.message}`);
        return;
      case "close":
        this.#close(command.reason);
        return;
    }
  }

  #ask(command: Extract<Command, { type: "ask" }>): void {
    const ready = this.#desk.prepare(command.operation);
    if (ready === null) {
      this.#events.unshift(this.#desk.ask(command));
      return;
    }
    ready.then(
      () => {
        if (!this.#ended && !this.#closing) this.#feed(this.#desk.ask(command));
      },
      (error: unknown) => {
        this.#ports.log("warn", `${this.flow.id}: WEIR_INTERNAL: ${error instanceof Error ? error.stack : error}`);
        this.#close("WEIR_INTERNAL");
      },
    );
  }

  #cancelled(): boolean {
    if (!this.#desk.holds) return false;
    this.#feed({ type: "cancel" });
    return true;
  }

  async #dial(command: Extract<Command, { type: "dial" }>): Promise<void> {
    let socket: Socket | null = null;
    try {
      this.#mustBeRecorded();
      socket = await this.#ports.dial(this.flow, this.target);
      if (this.#ended || this.#closing) {
        socket.destroy();
        return;
      }
      const plain =
        command.tls === "none" ||
        (command.negotiation === "postgres" && (await this.#ports.negotiatePostgresTls(socket)) === "N");
      if (plain) {
        if (command.tls === "required") throw new WeirError("WEIR_UPSTREAM_TLS_REFUSED");
        const refusal = command.tls === "none" ? null : this.#ports.plainRefusal(this.flow, this.target);
        if (refusal !== null) throw refusal;
        this.#mustBeRecorded();
        this.#serverReady(socket, null);
        return;
      }
      const secured = await this.#ports.secureUpstream(
        socket,
        this.target,
        this.flow,
        command.alpn,
        this.#opened?.serverName,
      );
      this.#upstreamNames = secured.names;
      this.#mustBeRecorded();
      this.#serverReady(secured.socket, secured.tls);
    } catch (error) {
      socket?.destroy();
      const code = error instanceof WeirError ? error.code : "WEIR_UPSTREAM_UNREACHABLE";
      const message = error instanceof Error ? error.message : String(error);
      this.#record({ type: "refused", code, reason: message, flow: null });
      this.#feed({ type: "server-failed", code, message });
    }
  }

  #mustBeRecorded(): void {
    if (this.#desk.failure !== null) throw this.#desk.failure;
  }

  #serverReady(socket: Socket, tls: Extract<WireEvent, { type: "server-ready" }>["tls"]): void {
    if (this.#ended || this.#closing) {
      socket.destroy();
      return;
    }
    this.#server = socket;
    if (this.target.protocol === "opaque") clearTimeout(this.#opening);
    this.#feed({ type: "server-ready", tls });
    this.#listen("server", socket);
  }

  /** One coded body at a time; what it decodes to waits for the client as everything else does. */
  #decode(coding: string, bytes: Buffer | null): void {
    this.#decoder ??= openDecoder(coding, {
      data: (decoded) => this.#feed({ type: "decoded", bytes: decoded }),
      end: () => {
        this.#decoder = null;
        this.#feed({ type: "decoded", bytes: null });
      },
      drained: () => {
        this.#decoderFull = false;
        this.#steer("server");
      },
      failed: (problem) => {
        this.#decoder = null;
        this.#feed({ type: "decode-failed", problem });
      },
    });
    if (bytes === null) this.#decoder?.end();
    else if (this.#decoder?.write(bytes) === false) {
      this.#decoderFull = true;
      this.#steer("server");
    }
  }

  #dropServer(): void {
    const socket = this.#server;
    this.#server = null;
    this.#congested.server = false;
    this.#toServer.clear();
    if (socket === null) return;
    socket.removeAllListeners("data");
    socket.resume();
    socket.end();
    setTimeout(() => socket.destroy(), lingerMs).unref();
    this.#steer("client");
  }

  async #terminateClient(leftover: Buffer, alpn: readonly string[]): Promise<void> {
    const plain = this.#client;
    this.#leave.client();
    plain.pause();
    try {
      const { socket, tls } = await this.#ports.terminateClient(plain, {
        leftover,
        names: this.#upstreamNames,
        flow: this.flow,
        alpn,
      });
      this.#client = socket;
      if (this.#ended || this.#closing) {
        socket.destroy();
        return;
      }
      this.#feed({ type: "client-tls", tls });
      this.#listen("client", socket);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#record({ type: "refused", code: "WEIR_CLIENT_TLS", reason: message, flow: null });
      this.#close(`WEIR_CLIENT_TLS: ${message}`);
    }
  }

  async #catalog(question: CatalogQuestion): Promise<void> {
    this.#paused.server = true;
    this.#steer("server");
    let event: WireEvent = { type: "catalog", question, columns: [], version: null, failed: true };
    if (this.#login !== null) {
      try {
        const answer = await this.#ports.catalog(this.flow, this.target, this.#login, question);
        event = { type: "catalog", question, ...answer, failed: false };
      } catch (error) {
        this.#ports.log("warn", `${this.flow.id}: catalog: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    this.#paused.server = false;
    this.#feed(event);
    this.#steer("server");
  }

  /** A CancelRequest of the client (`deliver`), or one of ours at a row limit. */
  async #passCancel(key: Buffer, deliver: boolean): Promise<void> {
    if (deliver && this.#ports.cancels.deliver(this.flow, key)) {
      this.#close("cancel delivered");
      return;
    }
    try {
      await sendCancel(await this.#ports.openUpstream(this.flow, this.target), key);
    } catch (error) {
      this.#ports.log("warn", `${this.flow.id}: cancel: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (deliver) this.#close("cancel passed on");
  }

  #record(body: EntryBody): void {
    this.#desk.record(body);
  }

  /** The spool cannot take an entry: nothing more goes upstream, and the client is told. */
  #recordFailed(error: Error): void {
    this.#toServer.clear();
    if (this.#closing || this.#ended) return;
    const code = error instanceof WeirError ? error.code : "WEIR_SPOOL_WRITE";
    this.#ports.log("warn", `${this.flow.id}: ${code}: ${error.message}`);
    // Where no server is there yet, its absence is told (see #dial): before the login many clients show no reason.
    if (this.#server === null && this.#opened === null) return;
    setImmediate(() => this.terminate(code, error.message));
  }

  #flushServer(): void {
    while (!this.#running) {
      const buffers = this.#toServer.take();
      if (buffers === null) break;
      if (this.#server !== null) this.#write("server", this.#server, buffers);
    }
    if (this.#closing && this.#toServer.empty) this.#server?.end();
  }

  #flushClient(): void {
    if (this.#toClient.length === 0) return;
    const buffers = this.#toClient;
    this.#toClient = [];
    this.#write("client", this.#client, buffers);
  }

  #write(side: Side, socket: Socket, buffers: readonly Buffer[]): void {
    if (socket.destroyed || socket.writableEnded) return;
    let accepted = true;
    if (buffers.length === 1) accepted = socket.write(buffers[0] as Buffer);
    else {
      let bytes = 0;
      for (const buffer of buffers) bytes += buffer.length;
      if (bytes <= joinedWriteBytesMax) accepted = socket.write(Buffer.concat(buffers, bytes));
      else {
        socket.cork();
        for (const buffer of buffers) accepted = socket.write(buffer);
        socket.uncork();
      }
    }
    if (!accepted) {
      this.#congested[side] = true;
      if (side === "client") this.#decoder?.pause();
      this.#steer(other(side));
    }
  }

  /** A side is read when nobody paused it and the other side takes what it brings. */
  #steer(side: Side): void {
    const socket = side === "client" ? this.#client : this.#server;
    if (socket === null || socket.destroyed) return;
    if (this.#paused[side] || this.#congested[other(side)] || (side === "server" && this.#decoderFull)) socket.pause();
    else socket.resume();
  }

  #close(reason: string): void {
    if (this.#closing) return;
    this.#closing = true;
    clearTimeout(this.#opening);
    this.#desk.close(reason);
    this.#decoder?.destroy();
    this.#stopWork();
    for (const key of this.#cancelKeys) this.#ports.cancels.forget(this.flow, key);
    this.#flushClient();
    this.#client.end();
    this.#flushServer();
    const linger = setTimeout(() => this.#end(reason), this.#lingerMs);
    linger.unref();
    let open = 0;
    const closed = (): void => {
      open -= 1;
      if (open === 0) {
        clearTimeout(linger);
        this.#end(reason);
      }
    };
    for (const socket of [this.#client, this.#server]) {
      if (socket === null || socket.destroyed) continue;
      open += 1;
      socket.once("close", closed);
      socket.removeAllListeners("data");
      // What still comes is read and dropped, else the close would wait for it.
      socket.resume();
    }
    if (open === 0) {
      open = 1;
      closed();
    }
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#unwatch();
    this.#client.destroy();
    this.#server?.destroy();
    this.#leave.client();
    this.#leave.server();
    this.#record({
      type: "session-end",
      reason,
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
      operations: this.#desk.operations,
      denied: this.#desk.denied,
    });
    this.#resolveDone();
  }
}

function nothing(): void {}

function other(side: Side): Side {
  return side === "client" ? "server" : "client";
}
