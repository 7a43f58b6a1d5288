/** Follows an agent's chain over entries as they lie in a store, and holds signed heads against it. Pure. */

export interface ChainPlace {
  /** Entries in the unbroken chain. */
  readonly size: number;
  /** Of the last of them. */
  readonly link: Uint8Array;
}

export interface StoredLink {
  readonly agentSeq: number;
  readonly previous: Uint8Array;
  readonly link: Uint8Array;
}

/** Entries that are followed in one transaction. */
export const entriesAtOnceMax = 5_000;

/** `rows` from `place.size` on, in order, at most `entriesAtOnceMax`: when they are so many, there may be more. */
export function followChain(agent: string, place: ChainPlace, rows: readonly StoredLink[]) {
  let { size, link } = place;
  let broken: string | null = null;
  for (const row of rows) {
    // A second one for a place that is taken: it does not follow, and counts for nothing.
    if (row.agentSeq < size) continue;
    if (row.agentSeq > size) break;
    if (Buffer.compare(row.previous, link) === 0) {
      size += 1;
      link = row.link;
      broken = null;
    } else broken = `Entry ${size} of agent ${agent} does not follow from the one before it.`;
  }
  const whole = rows.length < entriesAtOnceMax;
  // Others for the same place may come in the next rows.
  if (!whole && rows.at(-1)?.agentSeq === size) broken = null;
  return { size, link, broken, more: !whole && size > place.size && broken === null };
}

export interface HeldHead {
  readonly size: number;
  readonly link: string;
  /** Of the entries at its end, hex: more than one where a number is there twice. */
  readonly found: readonly string[];
}

/** Heads up to where the chain is, in order. Of `removed` entries they were held against the chain while it was here. */
export function judgeHeads(agent: string, heads: readonly HeldHead[], signedBefore: number, removed: number) {
  let signed = signedBefore;
  for (const { size, link, found } of heads) {
    if (size <= removed) continue;
    if (size > 0 && !found.includes(link))
      return { signed, broken: `Entry ${size - 1} of agent ${agent} is not the one that the agent signed for.` };
    signed = Math.max(signed, size);
  }
  return { signed, broken: null };
}
