/**
 * Which of the two carries a connection: the native engine where this Node can run it, node:tls for HTTP/2 (node:http2
 * needs a stream of Node's) and everywhere else. Both say and refuse the same.
 */
import type { Socket } from "node:net";
import { hasNativeTls } from "./native/hub.ts";
import type { SecureSocket } from "./native/secure-socket.ts";
import * as byNode from "./terminate.ts";
import { terminateClientNatively } from "./terminate-native.ts";
import * as upstreamByNode from "./upstream.ts";
import { secureUpstreamNatively } from "./upstream-native.ts";

export { negotiatePostgresTls, plainRefusal } from "./upstream.ts";

export interface Terminated extends Omit<byNode.Terminated, "socket"> {
  readonly socket: Socket;
}

export interface SecuredUpstream extends Omit<upstreamByNode.SecuredUpstream, "socket"> {
  readonly socket: Socket;
}

export async function terminateClient(socket: Socket, options: byNode.TerminateOptions): Promise<Terminated> {
  if (!takes(options.alpn)) return byNode.terminateClient(socket, options);
  const terminated = await terminateClientNatively(socket, options);
  return { ...terminated, socket: asSocket(terminated.socket) };
}

export async function secureUpstream(
  socket: Socket,
  options: upstreamByNode.UpstreamTlsOptions,
): Promise<SecuredUpstream> {
  if (!takes(options.alpn)) return upstreamByNode.secureUpstream(socket, options);
  const secured = await secureUpstreamNatively(socket, options);
  return { ...secured, socket: asSocket(secured.socket) };
}

function takes(alpn: readonly string[]): boolean {
  return hasNativeTls() && !alpn.includes("h2");
}

/** A session uses of a Socket only what a SecureSocket has: its events, write, pause, resume, end, destroy. */
function asSocket(secured: SecureSocket): Socket {
  return secured as unknown as Socket;
}
