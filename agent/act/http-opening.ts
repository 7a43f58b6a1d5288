/**
 * Ends the TLS of a connection that will speak HTTP: first towards the server, so that our leaf mirrors its names and
 * the client is offered the protocol that the server chose; then towards the client. Where neither is open, both at once
 * (docs/decisions/0018). Nothing of a request is read before both are done.
 */
import type { Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Flow } from "../core/flow.ts";
import type { Target } from "../core/target.ts";
import { streamOf, type Unsecured } from "../core/unsecured.ts";
import { WeirError } from "../errors.ts";
import type { SessionPorts } from "./ports.ts";
import type { Opened } from "./session.ts";

export interface HttpOpening {
  readonly client: Unsecured<Socket>;
  readonly flow: Flow;
  readonly target: Target;
  /** null: the client speaks plain HTTP. */
  readonly hello: { readonly serverName: string | null; readonly alpn: readonly string[] } | null;
  /** Of plain HTTP: it began with HTTP/2's preface. */
  readonly http2: boolean;
  readonly ports: SessionPorts;
  /** Application protocols that can be carried on, of those the client offers. */
  readonly alpn: readonly string[];
}

export interface OpenedHttp extends Opened {
  readonly client: Socket;
  /** What both legs speak. */
  readonly alpn: string;
}

/** Of the event loop: one that connects, one that sends the hello. */
const turnsToConnect = 2;

/** A server that cannot be reached or trusted is no error here: the client is told in HTTP. */
export async function openHttp({ client, flow, target, hello, http2, ports, alpn }: HttpOpening): Promise<OpenedHttp> {
  const serverName = hello?.serverName ?? null;
  const offered = hello === null ? [] : hello.alpn.filter((name) => alpn.includes(name));
  const reached = dialUpstream({ flow, target, hello, ports, offered });
  if (hello === null) {
    const { server, failure } = await reached;
    return { client: streamOf(client), serverName, alpn: http2 ? "h2" : "http/1.1", server, failure };
  }
  const foretold = ports.foretold(flow, target, serverName);
  // Which of two protocols it is, the server chooses.
  const atOnce = foretold.names !== null && !offered.includes("h2");
  const heard = atOnce ? null : await reached;
  // A server nearby has our hello by then, and works while our leaf is made.
  if (atOnce) for (let turn = 0; turn < turnsToConnect; turn += 1) await nextTurn();
  const chosen = heard?.server?.tls?.alpn ?? null;
  // Without an answer of the server's the error is told in what every client speaks.
  const ours = chosen !== null ? [chosen] : offered.includes("http/1.1") ? ["http/1.1"] : offered.slice(0, 1);
  try {
    const { socket, tls } = await ports.terminateClient(client, {
      leftover: Buffer.alloc(0),
      names: atOnce ? foretold.names : (heard?.names ?? null),
      flow,
      alpn: ours,
      serverName,
    });
    const { names, ...upstream } = await reached;
    if (names !== null) foretold.verified(names);
    if (socket.destroyed) throw new WeirError("WEIR_CLIENT_TLS", "The client left before the server had answered.");
    return { client: socket, serverName, alpn: tls.alpn ?? "http/1.1", ...stillThere(upstream) };
  } catch (error) {
    void reached.then(({ server }) => server?.socket.destroy());
    throw error;
  }
}

/** While the other side's handshake went on nobody heard of this one's end. */
function stillThere({ server, failure }: Pick<OpenedHttp, "server" | "failure">) {
  if (server?.socket.destroyed !== true) return { server, failure };
  const message = "The server closed the connection before the client was ready.";
  return { server: null, failure: { code: "WEIR_UPSTREAM_UNREACHABLE", message } };
}

async function dialUpstream({
  flow,
  target,
  hello,
  ports,
  offered,
}: Pick<HttpOpening, "flow" | "target" | "hello" | "ports"> & { offered: readonly string[] }) {
  try {
    if (hello === null)
      return { server: { socket: await dialPlainly(ports, flow, target), tls: null }, names: null, failure: null };
    const secured = await ports.dialSecurely(flow, target, offered, hello.serverName);
    return { server: { socket: secured.socket, tls: secured.tls }, names: secured.names, failure: null };
  } catch (error) {
    const code = error instanceof WeirError ? error.code : "WEIR_UPSTREAM_UNREACHABLE";
    const message = error instanceof Error ? error.message : String(error);
    return { server: null, names: null, failure: { code, message } };
  }
}

/** A connection for HTTP/2; null: the server does not speak it. `hello` null: the client has no TLS, and its word for it has to do. */
export async function dialHttp2(
  ports: Pick<SessionPorts, "dial" | "dialSecurely" | "plainRefusal">,
  flow: Flow,
  target: Target,
  hello: { readonly serverName: string | null } | null,
): Promise<Socket | null> {
  if (hello === null) return dialPlainly(ports, flow, target);
  const { socket, tls } = await ports.dialSecurely(flow, target, ["h2"], hello.serverName);
  if (tls.alpn === "h2") return socket;
  socket.destroy();
  return null;
}

/** Throws a WeirError. */
async function dialPlainly(
  ports: Pick<SessionPorts, "dial" | "plainRefusal">,
  flow: Flow,
  target: Target,
): Promise<Socket> {
  const refusal = plainRefusal(target) ?? (target.tls.verify === "first-use" ? ports.plainRefusal(flow, target) : null);
  if (refusal !== null) throw refusal;
  const socket = await ports.dial(flow, target);
  socket.on("error", () => {});
  return socket;
}

/** A client that speaks plain HTTP is carried on so, but no credential of ours goes in plain text. */
function plainRefusal(target: Target): WeirError | null {
  if ((target.httpCredential ?? null) === null || target.tls.verify === "none") return null;
  return new WeirError(
    "WEIR_UPSTREAM_TLS_REFUSED",
    `The target ${target.name} has a credential, which is never sent in plain text: use https, or tls.verify: none.`,
  );
}
