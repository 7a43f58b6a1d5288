/** HTTP/1.1 in the registry: one connection, its requests read by the dialects of the APIs that go over HTTP. */
import type { Dialect } from "../http/dialect.ts";
import type { Protocol, Sniffed } from "../protocol.ts";
import { Http1Conversation } from "./conversation.ts";

/** A request and a response body read whole, and what waits beside them. */
const heldBytesMax = 100 * 1024 * 1024;
const methodLettersMax = 20;

export function http1Protocol(dialects: readonly Dialect[]): Protocol {
  return {
    name: "http",
    heldBytesMax,
    sniff,
    prepare: () => Promise.resolve(),
    open: (context) => new Http1Conversation(context, dialects),
  };
}

/** A method, a space, and a target that begins as one does (RFC 9112 §3). */
function sniff(prefix: Uint8Array): Sniffed {
  for (let at = 0; at < prefix.length; at += 1) {
    const byte = prefix[at] as number;
    if (byte >= 0x41 && byte <= 0x5a && at < methodLettersMax) continue;
    if (byte !== 0x20 || at < 3) return "no";
    const next = prefix[at + 1];
    if (next === undefined) return "more";
    return next > 0x20 && next < 0x7f ? "yes" : "no";
  }
  return "more";
}
