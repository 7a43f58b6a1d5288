/**
 * Which names lead to an address, learned from DNS answers the host really got and from our own look-ups.
 * Pure: time is an input.
 */

/** Addresses remembered; the one seen longest ago goes first. */
const addressesMax = 16_384;
const namesPerAddressMax = 16;
/**
 * Clients keep an address longer than its time to live (connection pools, JVMs, nscd), so a name is remembered for some
 * minutes at least; and never longer than an hour, so that a stale name does not govern a stranger.
 */
const retentionSecondsMin = 300;
const retentionSecondsMax = 3600;

export interface NameTable {
  /** True when this name was not known for this address. */
  learn(name: string, address: string, ttlSeconds: number, nowMs: number): boolean;
  /** Names that lead to the address, the latest first. */
  namesOf(address: string, nowMs: number): readonly string[];
  /** Addresses known now for names that pass `test`. */
  addressesWhere(test: (name: string) => boolean, nowMs: number): readonly string[];
  readonly size: number;
}

export function createNameTable(): NameTable {
  /** address → name → time until which it holds; both in order of learning, oldest first. */
  const byAddress = new Map<string, Map<string, number>>();

  function learn(name: string, address: string, ttlSeconds: number, nowMs: number): boolean {
    const seconds = Math.min(Math.max(ttlSeconds, retentionSecondsMin), retentionSecondsMax);
    const names = byAddress.get(address) ?? new Map<string, number>();
    const known = (names.get(name) ?? 0) > nowMs;
    names.delete(name);
    names.set(name, nowMs + seconds * 1000);
    if (names.size > namesPerAddressMax) dropFirst(names);
    byAddress.delete(address);
    byAddress.set(address, names);
    if (byAddress.size > addressesMax) dropFirst(byAddress);
    return !known;
  }

  function namesOf(address: string, nowMs: number): readonly string[] {
    const names = byAddress.get(address);
    if (names === undefined) return [];
    const live: string[] = [];
    for (const [name, untilMs] of names) {
      if (untilMs > nowMs) live.unshift(name);
      else names.delete(name);
    }
    if (names.size === 0) byAddress.delete(address);
    return live;
  }

  function addressesWhere(test: (name: string) => boolean, nowMs: number): readonly string[] {
    return [...byAddress.keys()].filter((address) => namesOf(address, nowMs).some(test));
  }

  return {
    learn,
    namesOf,
    addressesWhere,
    get size() {
      return byAddress.size;
    },
  };
}

function dropFirst<Key>(map: Map<Key, unknown>): void {
  const first = map.keys().next();
  if (!first.done) map.delete(first.value);
}
