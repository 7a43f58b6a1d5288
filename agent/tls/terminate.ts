/** Ends the client's TLS: the socket's bytes become plain, with a leaf that mirrors the server's names. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { WeirError } from "../errors.ts";
import type { Leaf } from "./authority.ts";

const handshakeMs = 30_000;

export interface TerminateOptions {
  /** Bytes of the handshake that were read already. */
  readonly leftover: Buffer;
  readonly leaf: Leaf;
  /** Application protocols that are offered (RFC 7301); with none the extension is not answered. */
  readonly alpn: readonly string[];
}

export interface Terminated<Secured = TLSSocket> {
  readonly socket: Secured;
  readonly tls: { readonly alpn: string | null; readonly certificate: Buffer };
  readonly serverName: string | null;
}

/** Throws WEIR_CLIENT_TLS with what the TLS library says. */
export function terminateClient(socket: Socket, { leftover, leaf, alpn }: TerminateOptions): Promise<Terminated> {
  // What was read goes back to the front of the stream, where the TLS socket takes it first.
  if (leftover.length > 0) socket.unshift(leftover);
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext: leaf.context,
    ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
  });
  // An error between the handshake and the caller's own listener must not end the agent.
  secured.on("error", () => {});
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error("the client did not finish the handshake")), handshakeMs);
    const fail = (cause: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new WeirError("WEIR_CLIENT_TLS", `The TLS handshake with the client failed: ${cause.message}`, { cause }));
    };
    const closed = (): void => fail(new Error("the client closed the connection"));
    secured.once("error", fail);
    secured.once("close", closed);
    // One that may be half closed does not close of itself when the client does; nor is an end told to it that came before it.
    secured.once("end", closed);
    socket.once("end", closed);
    if (socket.readableEnded) closed();
    secured.once("secure", () => {
      clearTimeout(timer);
      secured.off("error", fail);
      secured.off("close", closed);
      secured.off("end", closed);
      socket.off("end", closed);
      const protocol = secured.alpnProtocol;
      const name = (secured as TLSSocket & { servername?: string | false }).servername;
      resolve({
        socket: secured,
        tls: { alpn: typeof protocol === "string" ? protocol : null, certificate: leaf.certificateDer },
        serverName: typeof name === "string" && name !== "" ? name : null,
      });
    });
  });
}
