/** One conversation: the opening and login read as a generator, the query phase as two framers over one state. */
import { PeerError } from "../../errors.ts";
import type { Command, Conversation, ConversationContext, WireEvent } from "../protocol.ts";
import { Backend } from "./backend.ts";
import { probeAnswered } from "./copy-probe.ts";
import { entry } from "./expected.ts";
import { Frontend } from "./frontend.ts";
import { Intake, SessionOver, type Step } from "./intake.ts";
import { queuedBytesMax } from "./limits.ts";
import { opening } from "./opening.ts";
import { fatalOf, fatalResponse } from "./refusal.ts";
import type { SessionState } from "./state.ts";

export class PostgresConversation implements Conversation {
  readonly #intake = new Intake();
  #opening: Step<SessionState> | null;
  #session: { readonly state: SessionState; readonly client: Frontend; readonly server: Backend } | null = null;
  #closed = false;
  #clientPaused = false;

  constructor(context: ConversationContext) {
    this.#opening = opening(this.#intake, context);
    // Up to its first wait; it commands nothing before the first event.
    this.#opening.next();
  }

  get heldBytes(): number {
    if (this.#session === null) return this.#intake.heldBytes;
    return this.#session.client.framer.heldBytes + this.#session.server.heldBytes;
  }

  handle(event: WireEvent, out: Command[]): void {
    if (this.#closed) return;
    try {
      if (this.#opening === null) this.#converse(event, out);
      else this.#open(event, out);
    } catch (error) {
      this.#over(asPeerError(error), out);
    }
  }

  #open(event: WireEvent, out: Command[]): void {
    this.#intake.out = out;
    const step = (this.#opening as Step<SessionState>).next(event);
    if (step.done !== true) return;
    this.#opening = null;
    const state = step.value;
    state.out = out;
    const client = new Frontend(state);
    const server = new Backend(state, client);
    this.#session = { state, client, server };
    state.expected.push(entry("startup"));
    const { client: early, server: rest } = this.#intake;
    this.#intake.client = Buffer.alloc(0);
    this.#intake.server = Buffer.alloc(0);
    client.framer.push(early);
    server.framer.push(rest);
    this.#settle();
  }

  #converse(event: WireEvent, out: Command[]): void {
    const session = this.#session;
    if (session === null) return;
    const { state, client, server } = session;
    state.out = out;
    switch (event.type) {
      case "client-bytes":
        client.framer.push(event.bytes);
        break;
      case "server-bytes":
        server.framer.push(event.bytes);
        break;
      case "decision":
        if (client.question.waiting?.askId === event.askId)
          client.decided(event.decision, event.approvalId, event.by ?? "");
        else if (server.limited?.askId === event.askId)
          server.decided(event.decision, event.approvalId, event.by ?? "");
        break;
      case "catalog":
        if (!probeAnswered(state, event.question, event.failed ? null : event.columns, event.version)) {
          if (event.question.tables === undefined) server.results.catalog(event);
          else client.copied.answered(event.question.tables, event.columns, event.failed);
        }
        state.wakeBackend = true;
        state.wakeFrontend = true;
        break;
      case "cancel":
        client.cancelled("cancelled by the client");
        server.cancelled("cancelled by the client");
        break;
      case "client-end":
        throw new SessionOver("closed", "the client closed the connection", false);
      case "server-end":
        throw new SessionOver("closed", "the server closed the connection", false);
      case "terminate":
        // A backend that computes does not look whether its client is still there.
        if (event.code !== "WEIR_SHUTDOWN" && state.cancelKey !== null && isRunning(state))
          out.push({ type: "cancel-server", key: state.cancelKey });
        throw new SessionOver(event.code, event.reason, server.atBorder);
      default:
        throw new PeerError("WEIR_STATE_INVALID", `${event.type} in the middle of a session`);
    }
    this.#settle();
  }

  /** Neither direction runs inside the other: what one set free in the other is done here. */
  #settle(): void {
    const session = this.#session;
    if (session === null) return;
    const { state, client, server } = session;
    while (state.wakeFrontend || state.wakeBackend) {
      if (state.wakeBackend) {
        state.wakeBackend = false;
        server.wake();
      }
      if (state.wakeFrontend) {
        state.wakeFrontend = false;
        client.wake();
      }
    }
    if (state.notices.length > 0 && server.atBorder) {
      for (const notice of state.notices) state.sendClient(notice);
      state.notices.length = 0;
    }
    const crowded = client.framer.stopped && client.framer.queuedBytes > queuedBytesMax;
    if (crowded === this.#clientPaused) return;
    this.#clientPaused = crowded;
    state.out.push({ type: crowded ? "pause" : "resume", side: "client" });
  }

  #over(error: unknown, out: Command[]): void {
    this.#closed = true;
    const session = this.#session;
    const over = error instanceof SessionOver;
    const { code, reason } = over ? { code: error.code, reason: error.message } : fatalOf(error);
    if (!over && !(error instanceof PeerError))
      out.push({
        type: "log",
        level: "warn",
        message: `WEIR_INTERNAL: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      });
    if (session !== null) {
      const { state, client, server } = session;
      state.out = out;
      client.question.withdraw(reason);
      if (server.limited !== null) out.push({ type: "withdraw", askId: server.limited.askId, reason });
      for (const { run } of state.expected.all()) {
        if (run === null || run.finished) continue;
        run.error ??= { code, message: reason };
        state.finish(run);
      }
    }
    if (over ? error.tell : (session?.server.atBorder ?? true))
      out.push({ type: "send-client", bytes: fatalResponse(code, reason) });
    out.push({ type: "close", reason: code === "closed" ? reason : `${code}: ${reason}` });
  }
}

function isRunning({ expected }: SessionState): boolean {
  for (const { run } of expected.all()) if (run !== null && !run.finished) return true;
  return false;
}

/** Reading past the end of a buffer: a message was shorter than what it announced. */
function asPeerError(error: unknown): unknown {
  if (!(error instanceof RangeError) || !("code" in error)) return error;
  return new PeerError("WEIR_FRAME_INVALID", "a message is shorter than what it announces", { cause: error });
}
