/**
 * Recognises code that was copied: winnowed fingerprints (Schleimer, Wilkerson, Aiken, "Winnowing: Local Algorithms for
 * Document Fingerprinting", SIGMOD 2003). Any copied stretch of 39 characters (24 + 16 - 1) is found, whatever stands
 * around it; white space, case and lines of comment do not count.
 */

/** Hashes are made of this many characters: what is shorter is no copy. */
const gramCharacters = 24;
/** Of so many hashes in a row the smallest is a fingerprint. */
const windowGrams = 16;

/** A base for the rolling hash; odd, so that every character counts modulo 2^32. */
const base = 0x01000193;

/** A fingerprint is a number of 53 bits: of 32 a long prompt would share a few with a large repository by chance. */
const highBits = 21;

export interface Fingerprints {
  readonly size: number;
  has(fingerprint: number): boolean;
}

/** Each fingerprint once, in no order. */
export function fingerprintSource(text: string): Set<number> {
  const plain = normalised(text);
  const found = new Set<number>();
  const count = plain.length - gramCharacters + 1;
  if (count <= 0) return found;
  let highest = 1;
  for (let i = 1; i < gramCharacters; i += 1) highest = Math.imul(highest, base);
  const recent = new Uint32Array(windowGrams);
  let rolling = 0;
  for (let i = 0; i < gramCharacters - 1; i += 1) rolling = (Math.imul(rolling, base) + plain.charCodeAt(i)) | 0;
  let smallest = -1;
  let taken = -1;
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
    if ((gram >= windowGrams - 1 || gram === count - 1) && smallest !== taken) {
      taken = smallest;
      found.add(wide(plain, smallest, recent[smallest % windowGrams] as number));
    }
  }
  return found;
}

/** The hash with bits of another one of the same characters. */
function wide(text: string, at: number, hash: number): number {
  let other = 0x811c9dc5 | 0;
  for (let i = at; i < at + gramCharacters; i += 1) other = Math.imul(other ^ text.charCodeAt(i), base);
  return (mixed(other) >>> (32 - highBits)) * 2 ** 32 + hash;
}

/** A table as another thread can have it: the same memory, which is not written to any more. */
export interface SharedFingerprints {
  readonly size: number;
  readonly zero: boolean;
  readonly slots: Float64Array;
}

/** The fingerprints of many texts in one table: 12 to 24 bytes each. */
export class FingerprintTable implements Fingerprints {
  size: number;
  #zero: boolean;
  #slots: Float64Array;

  constructor({ size, zero, slots }: SharedFingerprints = { size: 0, zero: false, slots: slotsOf(1024) }) {
    this.size = size;
    this.#zero = zero;
    this.#slots = slots;
  }

  /** Nothing is to be added after this. */
  shared(): SharedFingerprints {
    return { size: this.size, zero: this.#zero, slots: this.#slots };
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  addText(text: string): void {
    for (const value of fingerprintSource(text)) this.add(value);
  }

  add(value: number): void {
    if (value === 0) {
      if (!this.#zero) this.size += 1;
      this.#zero = true;
      return;
    }
    const slot = slotOf(this.#slots, value);
    if (this.#slots[slot] === value) return;
    this.#slots[slot] = value;
    this.size += 1;
    if (this.size * 3 <= this.#slots.length * 2) return;
    const larger = slotsOf(this.#slots.length * 2);
    for (const old of this.#slots) if (old !== 0) larger[slotOf(larger, old)] = old;
    this.#slots = larger;
  }

  has(value: number): boolean {
    return value === 0 ? this.#zero : this.#slots[slotOf(this.#slots, value)] === value;
  }

  *values(): Generator<number> {
    if (this.#zero) yield 0;
    for (const value of this.#slots) if (value !== 0) yield value;
  }
}

function slotsOf(length: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(length * Float64Array.BYTES_PER_ELEMENT));
}

/** The place of a value, or the free one where it belongs. */
function slotOf(slots: Float64Array, value: number): number {
  const mask = slots.length - 1;
  let slot = (value % 2 ** 32) & mask;
  while (slots[slot] !== 0 && slots[slot] !== value) slot = (slot + 1) & mask;
  return slot;
}

/** How many of a text's fingerprints are known, and which share of all that is. */
export function matchesFingerprints(text: string, known: Fingerprints): { matched: number; share: number } {
  const own = fingerprintSource(text);
  let matched = 0;
  for (const value of own) if (known.has(value)) matched += 1;
  return { matched, share: own.size === 0 ? 0 : matched / own.size };
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
