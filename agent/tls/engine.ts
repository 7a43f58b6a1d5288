/**
 * Which of the two carries a connection: the native engine where this Node can run it, node:tls for HTTP/2 (node:http2
 * needs a stream of Node's), everywhere else, and where the operator says so. Both say and refuse the same.
 */
import type { Socket } from "node:net";
import { streamOf, type Unsecured } from "../core/unsecured.ts";
import { type Arrived, HeardConnection } from "./native/heard-connection.ts";
import { hasNativeTls, hub } from "./native/hub.ts";
import type { SecureSocket } from "./native/secure-socket.ts";
import * as byNode from "./terminate.ts";
import { terminateClientNatively } from "./terminate-native.ts";
import * as upstreamByNode from "./upstream.ts";
import { connectUpstreamNatively, type Dial, secureUpstreamNatively } from "./upstream-native.ts";

export type Terminated = byNode.Terminated<Socket>;

export type SecuredUpstream = upstreamByNode.SecuredUpstream<Socket>;

export interface TlsEngine {
  readonly name: "native" | "node";
  /** For what the client says first. */
  listenTo(arrived: Arrived): Socket | HeardConnection;
  terminateClient(client: Unsecured<Socket>, options: byNode.TerminateOptions): Promise<Terminated>;
  secureUpstream(socket: Socket, options: upstreamByNode.UpstreamTlsOptions): Promise<SecuredUpstream>;
  /** Dials and secures in one; null: this engine, or what is offered, needs a connected socket. */
  connectUpstream(dial: Dial, options: upstreamByNode.UpstreamTlsOptions): Promise<SecuredUpstream> | null;
  /** Runs when every socket that had something in this turn of the event loop was heard. */
  atTurnEnd(run: () => void): void;
}

/** `native` is a wish: without the addon it is node:tls all the same. */
export function openTlsEngine(wanted: "native" | "node"): TlsEngine {
  if (wanted === "node" || !hasNativeTls())
    return {
      name: "node",
      listenTo: (arrived) => arrived.socket(),
      terminateClient: (client, options) => byNode.terminateClient(streamOf(client), options),
      secureUpstream: upstreamByNode.secureUpstream,
      connectUpstream: () => null,
      atTurnEnd: setImmediate,
    };
  const engine = hub();
  return {
    name: "native",
    atTurnEnd: (run) => engine.atTurnEnd(run),
    listenTo: (arrived) => new HeardConnection(arrived),
    async terminateClient(client, options) {
      if (mayBecomeHttp2(options.alpn)) return byNode.terminateClient(streamOf(client), options);
      const terminated = await terminateClientNatively(client, options);
      return { ...terminated, socket: asSocket(terminated.socket) };
    },
    async secureUpstream(socket, options) {
      if (mayBecomeHttp2(options.alpn)) return upstreamByNode.secureUpstream(socket, options);
      const secured = await secureUpstreamNatively(socket, options);
      return { ...secured, socket: asSocket(secured.socket) };
    },
    connectUpstream(dial, options) {
      if (mayBecomeHttp2(options.alpn)) return null;
      return connectUpstreamNatively(dial, options).then((secured) => ({
        ...secured,
        socket: asSocket(secured.socket),
      }));
    },
  };
}

function mayBecomeHttp2(alpn: readonly string[]): boolean {
  return alpn.includes("h2");
}

/** A session uses of a Socket only what a SecureSocket has: its events, write, pause, resume, end, destroy. */
function asSocket(secured: SecureSocket): Socket {
  return secured as unknown as Socket;
}
