/**
 * From the first byte to the StartupMessage: GSSENCRequest, SSLRequest, direct TLS, CancelRequest
 * (PostgreSQL docs §55.2.10 to §55.2.12). The server is dialled before an SSLRequest is answered, so that our
 * certificate can mirror the server's, and so that "no TLS here" is the server's own answer.
 */
import { PeerError } from "../../errors.ts";
import type { ConversationContext, TlsFacts } from "../protocol.ts";
import { type Intake, SessionOver, type Step } from "./intake.ts";
import { startupBytesMax } from "./limits.ts";

const cancelRequest = 80877102;
const sslRequest = 80877103;
const gssEncRequest = 80877104;
const tlsHandshake = 0x16;

export interface Startup {
  /** Protocol version as sent: 0x00030000 is 3.0. */
  readonly version: number;
  readonly parameters: ReadonlyMap<string, string>;
  /** The packet as the client sent it. */
  readonly packet: Buffer;
  readonly clientTls: TlsFacts | null;
  readonly upstreamTls: TlsFacts | null;
}

export type Opening =
  | { readonly kind: "startup"; readonly startup: Startup }
  | { readonly kind: "cancel"; readonly key: Buffer };

export function* readOpening(intake: Intake, context: ConversationContext): Step<Opening> {
  let clientTls: TlsFacts | null = null;
  let upstream: { tls: TlsFacts | null } | null = null;
  let gssRefused = false;
  let tlsRefused = false;

  const [first] = yield* intake.clientPeek(1);
  if (first === tlsHandshake) {
    const secured = yield* secure(intake, true);
    if (secured === null) throw new SessionOver("WEIR_INTERNAL", "TLS was not started", true);
    ({ clientTls, upstream } = secured);
  }
  for (;;) {
    const packet = yield* startupPacket(intake);
    const code = packet.readInt32BE(4);
    if (code === sslRequest) {
      if (clientTls !== null || tlsRefused || packet.length !== 8) throw unexpected("SSLRequest");
      refuseEarlyBytes(intake);
      const secured = yield* secure(intake, false);
      if (secured === null) tlsRefused = true;
      else ({ clientTls, upstream } = secured);
    } else if (code === gssEncRequest) {
      if (clientTls !== null || gssRefused || packet.length !== 8) throw unexpected("GSSENCRequest");
      refuseEarlyBytes(intake);
      gssRefused = true;
      intake.sendClient(Buffer.from("N"));
    } else if (code === cancelRequest) {
      // Process id, then a secret of 4 bytes, or of up to 256 since protocol 3.2.
      if (packet.length < 16 || packet.length > 8 + 4 + 256) throw unexpected("CancelRequest");
      return { kind: "cancel", key: packet.subarray(8) };
    } else {
      if (code >> 16 !== 3) {
        throw new PeerError("WEIR_UNSUPPORTED", `protocol version ${code >>> 16}.${code & 0xffff} is not spoken`);
      }
      const parameters = readParameters(packet);
      if (!parameters.get("user")) throw new PeerError("WEIR_FRAME_INVALID", "the startup packet names no user");
      if (upstream === null) {
        const dialled = yield* intake.dial(context.upstreamTlsRequired ? "required" : "preferred");
        if (!dialled.ready) throw new SessionOver(dialled.code, dialled.message, true);
        upstream = { tls: dialled.tls };
      }
      return { kind: "startup", startup: { version: code, parameters, packet, clientTls, upstreamTls: upstream.tls } };
    }
  }
}

/** Null: the server offers no TLS and the client was told so; it decides itself whether to go on in plain text. */
function* secure(
  intake: Intake,
  direct: boolean,
): Step<{ clientTls: TlsFacts; upstream: { tls: TlsFacts | null } } | null> {
  const dialled = yield* intake.dial("required");
  if (!direct) refuseEarlyBytes(intake);
  if (!dialled.ready && dialled.code === "WEIR_UPSTREAM_TLS_REFUSED" && !direct) {
    intake.sendClient(Buffer.from("N"));
    return null;
  }
  if (!direct) intake.sendClient(Buffer.from("S"));
  const leftover = intake.take(intake.client.length);
  const clientTls = yield* intake.clientTls(leftover);
  // Told inside TLS: a client that asked for TLS would take a plain error for an attack, or show none at all.
  if (!dialled.ready) {
    yield* startupPacket(intake);
    throw new SessionOver(dialled.code, dialled.message, true);
  }
  return { clientTls, upstream: { tls: dialled.tls } };
}

/** What follows a request in plain text before its answer could be spliced into TLS (CVE-2021-23214). */
function refuseEarlyBytes(intake: Intake): void {
  if (intake.client.length > 0)
    throw new PeerError("WEIR_STATE_INVALID", "received unencrypted data after an encryption request");
}

/** StartupMessage and its likes: Int32 length, Int32 code, body. */
function* startupPacket(intake: Intake): Step<Buffer> {
  const head = yield* intake.clientPeek(4);
  const length = head.readUInt32BE(0);
  if (length < 8) throw new PeerError("WEIR_FRAME_INVALID", `a startup packet has the length ${length}`);
  if (length > startupBytesMax)
    throw new PeerError("WEIR_FRAME_TOO_LARGE", `a startup packet of ${length} bytes is above ${startupBytesMax}`);
  yield* intake.clientPeek(length);
  return intake.take(length);
}

/** Pairs of String name, String value, ended by a zero byte. */
function readParameters(packet: Buffer): Map<string, string> {
  const parameters = new Map<string, string>();
  let at = 8;
  while (at < packet.length && packet[at] !== 0) {
    const nameEnd = packet.indexOf(0, at);
    const valueEnd = nameEnd < 0 ? -1 : packet.indexOf(0, nameEnd + 1);
    if (valueEnd < 0) throw new PeerError("WEIR_FRAME_INVALID", "a startup parameter has no end");
    const name = packet.toString("utf8", at, nameEnd);
    // The server takes the last one of two, a reader might take the first: refused, so that nobody can differ.
    if (parameters.has(name)) throw new PeerError("WEIR_FRAME_INVALID", `the startup parameter ${name} comes twice`);
    parameters.set(name, packet.toString("utf8", nameEnd + 1, valueEnd));
    at = valueEnd + 1;
  }
  if (at !== packet.length - 1) throw new PeerError("WEIR_FRAME_INVALID", "the startup packet has the wrong length");
  return parameters;
}

/** The packet with another user; the database stays the one that the client's own user would have meant. */
export function startupWithUser(startup: Startup, user: string): Buffer {
  const parameters = new Map(startup.parameters);
  if (!parameters.get("database")) parameters.set("database", parameters.get("user") as string);
  parameters.set("user", user);
  const text = [...parameters].map(([name, value]) => `${name}\0${value}\0`).join("");
  const body = Buffer.from(`${text}\0`, "utf8");
  const packet = Buffer.allocUnsafe(8 + body.length);
  packet.writeInt32BE(packet.length, 0);
  packet.writeInt32BE(startup.version, 4);
  body.copy(packet, 8);
  return packet;
}

function unexpected(name: string): PeerError {
  return new PeerError("WEIR_STATE_INVALID", `${name} is not expected here`);
}
