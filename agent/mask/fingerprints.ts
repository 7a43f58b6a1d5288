/**
 * Recognises code that was copied: winnowed fingerprints (Schleimer, Wilkerson, Aiken, "Winnowing: Local Algorithms for
 * Document Fingerprinting", SIGMOD 2003). Any copied stretch of `sharedCharactersMin` characters is found, whatever
 * stands around it; white space, case and lines of comment do not count.
 */

/** Hashes are made of this many characters: what is shorter is no copy. */
const gramCharacters = 24;
/** Of so many hashes in a row the smallest is a fingerprint. */
const windowGrams = 16;
export const sharedCharactersMin = gramCharacters + windowGrams - 1;

/** A base for the rolling hash; odd, so that every character counts modulo 2^32. */
const base = 0x01000193;

export interface Fingerprints {
  readonly size: number;
  has(fingerprint: number): boolean;
}

/** Each fingerprint once, in ascending order. */
export function fingerprintSource(text: string): Uint32Array {
  const plain = normalised(text);
  const found = new Set<number>();
  const count = plain.length - gramCharacters + 1;
  if (count <= 0) return new Uint32Array(0);
  let highest = 1;
  for (let i = 1; i < gramCharacters; i += 1) highest = Math.imul(highest, base);
  const recent = new Uint32Array(windowGrams);
  let rolling = 0;
  for (let i = 0; i < gramCharacters - 1; i += 1) rolling = (Math.imul(rolling, base) + plain.charCodeAt(i)) | 0;
  let smallest = -1;
  for (let gram = 0; gram < count; gram += 1) {
    rolling = (Math.imul(rolling, base) + plain.charCodeAt(gram + gramCharacters - 1)) | 0;
    const hash = mixed(rolling);
    rolling = (rolling - Math.imul(plain.charCodeAt(gram), highest)) | 0;
    recent[gram % windowGrams] = hash;
    if (smallest >= 0 && smallest <= gram - windowGrams) {
      // It has left the window.
      smallest = gram - windowGrams + 1;
      for (let other = smallest + 1; other < gram; other += 1) {
        if ((recent[other % windowGrams] as number) <= (recent[smallest % windowGrams] as number)) smallest = other;
      }
    }
    // The rightmost smallest of the window, so that a stretch of equal hashes is not taken one by one.
    if (smallest < 0 || hash <= (recent[smallest % windowGrams] as number)) smallest = gram;
    if (gram >= windowGrams - 1 || gram === count - 1) found.add(recent[smallest % windowGrams] as number);
  }
  return Uint32Array.from(found).sort();
}

/** The fingerprints of many texts in one table: eight bytes each, at most. */
export function collectFingerprints(texts: Iterable<string>): Fingerprints {
  let slots = new Uint32Array(1024);
  let size = 0;
  let zero = false;
  const put = (table: Uint32Array, value: number): boolean => {
    let slot = value & (table.length - 1);
    while (table[slot] !== 0 && table[slot] !== value) slot = (slot + 1) & (table.length - 1);
    if (table[slot] === value) return false;
    table[slot] = value;
    return true;
  };
  for (const text of texts) {
    for (const value of fingerprintSource(text)) {
      if (value === 0) zero = true;
      else if (put(slots, value)) size += 1;
      if (size * 3 > slots.length * 2) {
        const larger = new Uint32Array(slots.length * 2);
        for (const old of slots) if (old !== 0) put(larger, old);
        slots = larger;
      }
    }
  }
  return {
    size: size + (zero ? 1 : 0),
    has(value) {
      if (value === 0) return zero;
      let slot = value & (slots.length - 1);
      while (slots[slot] !== 0 && slots[slot] !== value) slot = (slot + 1) & (slots.length - 1);
      return slots[slot] === value;
    },
  };
}

/** How many of a text's fingerprints are known, and which share of all that is. */
export function matchesFingerprints(text: string, known: Fingerprints): { matched: number; share: number } {
  const own = fingerprintSource(text);
  let matched = 0;
  for (const value of own) if (known.has(value)) matched += 1;
  return { matched, share: own.length === 0 ? 0 : matched / own.length };
}

/** Licences and the like stand in comments, and are no one's secret. */
function normalised(text: string): string {
  return text
    .replace(/^[ \t]*(?:\/\/|\/\*|\*|# ).*$/gm, "")
    .replace(/\s+/g, "")
    .toLowerCase();
}

function mixed(hash: number): number {
  let value = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
