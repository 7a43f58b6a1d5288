/**
 * Sessions that the next connection to the same server resumes (RFC 8446 §2.2): its keys are agreed on anew, its certificate
 * is not shown again. What was found out about the certificate goes on to count, so not for long, and not beyond its end.
 */
import { keyOf, type Server } from "./key-agreements.ts";

const serversMax = 500;
/** From the full handshake on, however often it is resumed. */
const resumedMs = 600_000;

export interface Resumption {
  /** The context that offers the server's last session, or one that has none yet. `settings`: what is verified, by what. */
  contextFor(server: Server, settings: object): object;
  /** The server was accepted; `notAfterMs`: the end of its certificate. */
  accepted(server: Server, settings: object, notAfterMs: number): void;
  /** The handshake failed or the server was refused: the next one starts from nothing. */
  forget(server: Server): void;
}

interface Remembered {
  readonly settings: object;
  readonly context: object;
  untilMs: number;
}

/** `derive` makes a context for one server. */
export function rememberSessions(derive: (settings: object) => object, now: () => number = Date.now): Resumption {
  const known = new Map<string, Remembered>();

  return {
    contextFor(server, settings) {
      const key = keyOf(server);
      const found = known.get(key);
      if (found !== undefined && found.settings === settings && now() < found.untilMs) return found.context;
      const context = derive(settings);
      if (known.size >= serversMax) known.clear();
      known.set(key, { settings, context, untilMs: now() + resumedMs });
      return context;
    },
    accepted(server, settings, notAfterMs) {
      const found = known.get(keyOf(server));
      if (found?.settings === settings && notAfterMs < found.untilMs) found.untilMs = notAfterMs;
    },
    forget(server) {
      known.delete(keyOf(server));
    },
  };
}
