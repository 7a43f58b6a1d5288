/** Connects to the server a flow wanted, by a socket that no redirect takes. */
import type { Socket } from "node:net";
import { bracketed } from "../core/address.ts";
import type { Endpoint } from "../core/flow.ts";
import { WeirError } from "../errors.ts";

/** Below the usual connect time-out of clients, so that they hear our reason before they give up. */
export const connectMsMax = 10_000;
const keepAliveDelayMs = 60_000;

/** What dialling needs of the interception: a marked socket that is connecting. */
export interface Dialler {
  dial(destination: Endpoint): Socket;
}

export function dialUpstream(dialler: Dialler, destination: Endpoint, timeoutMs = connectMsMax): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      socket?.destroy();
      clearTimeout(timer);
      reject(unreachable(destination, cause));
    };
    const timer = setTimeout(() => fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    let socket: Socket | null = null;
    try {
      socket = dialler.dial(destination);
    } catch (cause) {
      return fail(cause as Error);
    }
    const dialled = socket;
    dialled.once("error", fail);
    dialled.once("connect", () => {
      clearTimeout(timer);
      dialled.off("error", fail);
      dialled.setNoDelay(true);
      dialled.setKeepAlive(true, keepAliveDelayMs);
      resolve(dialled);
    });
  });
}

export function unreachable({ address, port }: Endpoint, cause: NodeJS.ErrnoException): WeirError {
  const reason = words[cause.code ?? ""] ?? cause.message;
  const text = `The server ${bracketed(address)}:${port} could not be reached: ${reason}.`;
  return new WeirError("WEIR_UPSTREAM_UNREACHABLE", text, { cause });
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
