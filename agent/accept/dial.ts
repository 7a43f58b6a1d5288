/** Connects to the server a flow wanted, by a socket that no redirect takes. */
import type { Socket } from "node:net";
import type { Endpoint } from "../core/flow.ts";
import { WeirError } from "../errors.ts";

/** Below the usual connect time-out of clients, so that they hear our reason before they give up. */
const connectMsMax = 10_000;
const keepAliveDelayMs = 60_000;

/** What dialling needs of the interception: a marked socket that is connecting. */
export interface Dialler {
  dial(destination: Endpoint): Socket;
}

export function dialUpstream(dialler: Dialler, destination: Endpoint, timeoutMs = connectMsMax): Promise<Socket> {
  const to = destination.address.includes(":")
    ? `[${destination.address}]:${destination.port}`
    : `${destination.address}:${destination.port}`;
  return new Promise((resolve, reject) => {
    const fail = (reason: string, cause?: unknown): void => {
      socket?.destroy();
      clearTimeout(timer);
      reject(
        new WeirError("WEIR_UPSTREAM_UNREACHABLE", `The server ${to} could not be reached: ${reason}.`, { cause }),
      );
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    let socket: Socket | null = null;
    try {
      socket = dialler.dial(destination);
    } catch (cause) {
      return fail((cause as NodeJS.ErrnoException).code ?? String(cause), cause);
    }
    const dialled = socket;
    const failed = (cause: NodeJS.ErrnoException): void => fail(words[cause.code ?? ""] ?? cause.message, cause);
    dialled.once("error", failed);
    dialled.once("connect", () => {
      clearTimeout(timer);
      dialled.off("error", failed);
      dialled.setNoDelay(true);
      dialled.setKeepAlive(true, keepAliveDelayMs);
      resolve(dialled);
    });
  });
}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused (ECONNREFUSED)",
  EHOSTUNREACH: "no route to host (EHOSTUNREACH)",
  ENETUNREACH: "network is unreachable (ENETUNREACH)",
  ETIMEDOUT: "connection timed out (ETIMEDOUT)",
  ECONNRESET: "connection reset (ECONNRESET)",
  EACCES: "not permitted by a firewall (EACCES)",
  EPERM: "not permitted by a firewall (EPERM)",
};
