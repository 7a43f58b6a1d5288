/** Opens a connection of the engine and waits until its handshake is done. */
import type { Described } from "./addon.ts";
import { hub } from "./hub.ts";
import { ConnectError, SecureSocket, type SecureSocketOptions } from "./secure-socket.ts";
import { giveUp } from "./take-over.ts";

export interface HandshakeOptions {
  readonly timeoutMs: number;
  /** What is said when the time is over. */
  readonly late: string;
  /** The kernel is given as long before that. */
  readonly connectMs?: number | undefined;
}

export interface Shaken {
  readonly secured: SecureSocket;
  readonly described: Described;
}

export function handshake(
  options: SecureSocketOptions,
  { timeoutMs, late, connectMs }: HandshakeOptions,
): Promise<Shaken> {
  return new Promise((resolve, reject) => {
    let secured: SecureSocket;
    try {
      secured = new SecureSocket(options);
    } catch (error) {
      if ("fd" in options.base) giveUp(options.base.fd);
      else hub().close(options.base.slot);
      reject(error as Error);
      return;
    }
    const settle = (): void => {
      clearTimeout(timer);
      secured.off("error", failed);
      secured.off("close", closed);
    };
    const failed = (error: Error): void => {
      settle();
      secured.destroy();
      reject(error);
    };
    const closed = (): void => failed(new Error("the connection was closed"));
    const over = (): void => failed(new Error(late));
    const notConnected = (): void => {
      if (secured.connecting) failed(new ConnectError(`no answer within ${connectMs} ms`));
      else timer = setTimeout(over, timeoutMs);
    };
    let timer = connectMs === undefined ? setTimeout(over, timeoutMs) : setTimeout(notConnected, connectMs);
    secured.once("error", failed);
    secured.once("close", closed);
    secured.once("secure", () => {
      settle();
      const described = secured.describe();
      if (described === null) reject(new Error("the connection was closed"));
      else resolve({ secured, described });
    });
  });
}
