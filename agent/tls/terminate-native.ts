/** Ends the client's TLS in the native engine; otherwise as terminate.ts. */
import type { Socket } from "node:net";
import { streamOf, type Unsecured } from "../core/unsecured.ts";
import { WeirError } from "../errors.ts";
import type { Leaf } from "./authority.ts";
import { nativeContext } from "./native/context.ts";
import { handshake } from "./native/handshake.ts";
import { HeardConnection } from "./native/heard-connection.ts";
import type { SecureSocket } from "./native/secure-socket.ts";
import { takeOver } from "./native/take-over.ts";
import type { Terminated, TerminateOptions } from "./terminate.ts";

const handshakeMs = 30_000;

/** As long as its leaf is kept. */
const contexts = new WeakMap<Leaf, object>();

/** Throws WEIR_CLIENT_TLS with what the TLS library says. */
export async function terminateClientNatively(
  client: Unsecured<Socket>,
  { leftover, leaf, alpn }: TerminateOptions,
): Promise<Terminated<SecureSocket>> {
  try {
    const context = contextOf(leaf);
    const { base, first } = client instanceof HeardConnection ? client.take() : await taken(streamOf(client), leftover);
    const { secured, described } = await handshake(
      { context, base, serverName: "", alpn, first },
      { timeoutMs: handshakeMs, late: "the client did not finish the handshake" },
    );
    return {
      socket: secured,
      tls: { alpn: described.alpn, certificate: leaf.certificateDer },
      serverName: described.serverName,
    };
  } catch (cause) {
    client.destroy();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_CLIENT_TLS", `The TLS handshake with the client failed: ${reason}`, { cause });
  }
}

async function taken(carrier: Socket, leftover: Buffer) {
  const { fd, read } = await takeOver(carrier);
  return { base: { carrier, fd }, first: Buffer.concat([leftover, read]) };
}

function contextOf(leaf: Leaf): object {
  const cached = contexts.get(leaf);
  if (cached !== undefined) return cached;
  const context = nativeContext({ server: true, certificate: leaf.chainPem, key: leaf.keyPem });
  contexts.set(leaf, context);
  return context;
}
