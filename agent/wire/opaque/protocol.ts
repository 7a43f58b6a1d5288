/**
 * A target whose bytes Weir does not read: it is asked once, as a `connect`, and passed on both ways. TLS goes through
 * end to end, so nothing is decided, masked or recorded inside of it.
 */
import type { Operation } from "../../core/operation.ts";
import type { Permit } from "../../core/verdict.ts";
import type { Command, Conversation, Protocol, WireEvent } from "../protocol.ts";

/** What the client may send before its server is there; then it is paused, and what was read already is kept. */
const earlyBytesMax = 256 * 1024;
const heldBytesMax = 2 * 1024 * 1024;
const connectAskId = 1;
const none: readonly never[] = Object.freeze([]);
const connect: Operation = Object.freeze({
  protocol: "opaque",
  kind: "connect",
  text: "",
  user: "",
  database: "",
  verbs: none,
  relations: none,
  columns: none,
  functions: none,
  // Nobody looks inside, so it may do anything.
  writes: true,
  traits: none,
  parameters: none,
  bytes: 0,
});

export const opaqueProtocol: Protocol = {
  name: "opaque",
  heldBytesMax,
  // It is what the policy says it is, never what its bytes look like.
  sniff: () => "no",
  prepare: () => Promise.resolve(),
  open: () => new OpaqueConversation(),
};

class OpaqueConversation implements Conversation {
  #permit: Permit | null = null;
  #asked = false;
  #held = false;
  #recorded = false;
  #ready = false;
  #closed = false;
  #paused = false;
  #early: Buffer[] = [];
  #earlyBytes = 0;

  get heldBytes(): number {
    return this.#earlyBytes;
  }

  handle(event: WireEvent, out: Command[]): void {
    if (this.#closed) return;
    switch (event.type) {
      case "client-bytes":
        this.#clientBytes(event.bytes, out);
        return;
      case "server-bytes":
        out.push({ type: "send-client", bytes: event.bytes });
        return;
      case "decision":
        this.#decision(event, out);
        return;
      case "server-ready":
        this.#serverReady(out);
        return;
      case "server-failed":
        this.#close(`${event.code}: ${event.message}`, out);
        return;
      case "client-end":
        this.#close("the client closed the connection", out);
        return;
      case "server-end":
        this.#close("the server closed the connection", out);
        return;
      case "terminate":
        this.#close(`${event.code}: ${event.reason}`, out);
        return;
      // Nothing of what is asked for here ever answers so.
      case "client-tls":
      case "catalog":
      case "cancel":
      case "wake":
      case "inflated":
      case "worked":
      case "decoded":
      case "decode-failed":
        return;
    }
  }

  /** An edge may begin with no bytes at all, for protocols in which the server speaks first. */
  #clientBytes(bytes: Buffer, out: Command[]): void {
    if (!this.#asked) {
      this.#asked = true;
      out.push({ type: "ask", askId: connectAskId, operation: connect });
    }
    if (bytes.length === 0) return;
    if (this.#ready && this.#permit !== null) {
      out.push({ type: "send-server", bytes, permit: this.#permit });
      return;
    }
    this.#early.push(bytes);
    this.#earlyBytes += bytes.length;
    if (this.#earlyBytes > heldBytesMax) this.#close("WEIR_LIMIT_REACHED: too much was sent before the server", out);
    else if (!this.#paused && this.#earlyBytes > earlyBytesMax) {
      this.#paused = true;
      out.push({ type: "pause", side: "client" });
    }
  }

  #decision(event: Extract<WireEvent, { type: "decision" }>, out: Command[]): void {
    const { action, permit, verdict } = event.decision;
    if (event.askId !== connectAskId || this.#permit !== null) return;
    if (!this.#recorded)
      out.push({
        type: "record",
        body: {
          type: "operation",
          operationId: connectAskId,
          operation: connect,
          verdict,
          approvalId: event.approvalId,
        },
      });
    this.#recorded = true;
    this.#held = action === "hold";
    if (action === "deny") this.#close(`WEIR_DENIED: denied by rule "${verdict.rule}": ${verdict.reason}`, out);
    if (action !== "allow") return;
    this.#permit = permit;
    out.push({ type: "dial", tls: "none", negotiation: "direct", alpn: [] });
  }

  #serverReady(out: Command[]): void {
    this.#ready = true;
    if (this.#permit === null) return;
    for (const bytes of this.#early) out.push({ type: "send-server", bytes, permit: this.#permit });
    this.#early = [];
    this.#earlyBytes = 0;
    if (this.#paused) out.push({ type: "resume", side: "client" });
    this.#paused = false;
  }

  #close(reason: string, out: Command[]): void {
    this.#closed = true;
    this.#early = [];
    this.#earlyBytes = 0;
    if (this.#held) out.push({ type: "withdraw", askId: connectAskId, reason });
    out.push({ type: "close", reason });
  }
}
