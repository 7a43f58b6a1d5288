/**
 * Servers that had no use for a post-quantum key: towards them the next one is made only when they ask (HelloRetryRequest).
 * A name that is new at a known address is taken to be as the last one there: one server answers for many names, mostly.
 * Forgotten in time, so that a server which learns it meanwhile gets it.
 */
const serversMax = 4_000;
const rememberedMs = 600_000;
const anyName = "";

export interface Server {
  readonly address: string;
  readonly port: number;
  /** That is verified. */
  readonly name: string;
}

export function keyOf({ address, port, name }: Server): string {
  return `${address} ${port} ${name}`;
}

export interface KeyAgreements {
  isClassic(server: Server): boolean;
  agreed(server: Server, postQuantum: boolean): void;
}

export function rememberAgreements(now: () => number = Date.now): KeyAgreements {
  const known = new Map<string, { readonly classic: boolean; readonly untilMs: number }>();

  function recall(key: string) {
    const found = known.get(key);
    return found !== undefined && now() < found.untilMs ? found : null;
  }

  function remember(key: string, classic: boolean): void {
    // Not for longer by being asked again.
    if (recall(key)?.classic === classic) return;
    if (known.size >= serversMax) known.clear();
    known.set(key, { classic, untilMs: now() + rememberedMs });
  }

  return {
    isClassic(server) {
      return (recall(keyOf(server)) ?? recall(keyOf({ ...server, name: anyName })))?.classic === true;
    },
    agreed(server, postQuantum) {
      remember(keyOf(server), !postQuantum);
      remember(keyOf({ ...server, name: anyName }), !postQuantum);
    },
  };
}
