/**
 * A list of words and phrases that texts are looked through for, of a million entries too. Nothing of an entry is kept
 * but its hash: each entry, and each beginning of one that is a word or a sign long, then another, and so on, is eight
 * bytes in a table with a third of it free.
 */
import { is, type TextKind, token } from "./chars.ts";

/** A longer entry is refused; so much of a stream may be held back. */
export const wordCharactersMax = 256;
/** In bytes a character has up to three for each unit of the text. */
const bytesPerCharacterMax = 3;

const letter = /[\p{L}\p{N}\p{M}]/u;
const ascii = /^[ -~]*$/;

/** What an entry can be at a place of a text. */
export interface Entry {
  /** The end of the longest entry; 0: none. */
  readonly end: number;
  /** What comes after the text may make one, or a longer one. */
  readonly open: boolean;
}

const nothing: Entry = { end: 0, open: false };
const undecided: Entry = { end: 0, open: true };

/** A list as another thread can have it: the tables are the same memory, and are not written to any more. */
export interface SharedWords {
  readonly entries: SharedTable;
  readonly beginnings: SharedTable;
  readonly shapes: Uint8Array;
  readonly longest: number;
}

export class WordList {
  readonly #entries: HashTable;
  /** What is not the whole of an entry. */
  readonly #beginnings: HashTable;
  /** First words of entries, by length and first letter: most words of a text are none by this alone. */
  readonly #shapes: Uint8Array;
  #longest: number;

  constructor(shared: SharedWords | null = null) {
    this.#entries = new HashTable(shared?.entries);
    this.#beginnings = new HashTable(shared?.beginnings);
    const shapes = (wordCharactersMax * bytesPerCharacterMax + 1) * 256;
    this.#shapes = shared?.shapes ?? new Uint8Array(new SharedArrayBuffer(shapes));
    this.#longest = shared?.longest ?? 0;
  }

  /** Nothing is to be added after this. */
  shared(): SharedWords {
    const [entries, beginnings] = [this.#entries.shared(), this.#beginnings.shared()];
    return { entries, beginnings, shapes: this.#shapes, longest: this.#longest };
  }

  get size(): number {
    return this.#entries.size;
  }

  get tableBytes(): number {
    return this.#entries.bytes + this.#beginnings.bytes;
  }

  /** White space at its ends is no part of it. False: it is too long, or nothing. */
  add(raw: string): boolean {
    const word = raw.trim();
    if (word === "" || word.length > wordCharactersMax) return false;
    this.#add(word, "utf16");
    // What streams as bytes is looked through as bytes.
    if (!ascii.test(word)) this.#add(Buffer.from(word).toString("latin1"), "latin1");
    return true;
  }

  /** Characters that no entry is longer than. */
  reach(): number {
    return this.#longest;
  }

  /** True when some entry has more than one word. */
  get hasPhrases(): boolean {
    return this.#beginnings.size > 0;
  }

  /** The entry that begins where a word or a sign does. `known`: from there on the text may still turn out otherwise. */
  at(text: string, start: number, kind: TextKind, known = text.length + 1): Entry {
    let at = partEnd(text, start, kind);
    if (at >= known && (at > start + 1 || isWordAt(text, start, kind))) return undecided;
    if (at - start > this.#longest || this.#shapes[shapeOf(text, start, at)] === 0) return nothing;
    let a = seedA;
    let b = seedB;
    let end = 0;
    for (let from = start; ; ) {
      for (; from < at; from += 1) {
        const code = text.charCodeAt(from);
        a = Math.imul(a ^ code, prime);
        b = Math.imul(b ^ code, prime);
      }
      const hash = mixed(a);
      const check = mixed(b) || 1;
      if (this.#entries.has(hash, check)) end = at;
      if (!this.#beginnings.has(hash, check)) return end === 0 ? nothing : { end, open: false };
      const next = partEnd(text, at, kind);
      if (at >= text.length || at >= known || next >= known) return { end, open: true };
      if (next - start > this.#longest) return { end, open: false };
      at = next;
    }
  }

  #add(word: string, kind: TextKind): void {
    let a = seedA;
    let b = seedB;
    let from = 0;
    for (let at = partEnd(word, 0, kind); ; at = partEnd(word, at, kind)) {
      if (from === 0) this.#shapes[shapeOf(word, 0, at)] = 1;
      for (; from < at; from += 1) {
        const code = word.charCodeAt(from);
        a = Math.imul(a ^ code, prime);
        b = Math.imul(b ^ code, prime);
      }
      const table = at === word.length ? this.#entries : this.#beginnings;
      table.add(mixed(a), mixed(b) || 1);
      if (at === word.length) break;
    }
    this.#longest = Math.max(this.#longest, word.length);
  }
}

function shapeOf(text: string, start: number, end: number): number {
  return (end - start) * 256 + (text.charCodeAt(start) & 255);
}

/** The end of the word at a place, or of the one sign that stands there. */
function partEnd(text: string, from: number, kind: TextKind): number {
  return Math.max(from + 1, wordEnd(text, from, kind));
}

export function wordEnd(text: string, from: number, kind: TextKind): number {
  let at = from;
  while (at < text.length && isWordAt(text, at, kind)) at += 1;
  return at;
}

/** Of bytes: not those of U+0080–00BF, general punctuation, and CJK and full-width signs. */
export function isWordAt(text: string, at: number, kind: TextKind): boolean {
  const code = text.charCodeAt(at);
  if (!(code >= 0x80)) return is(text, at, token);
  if (kind === "utf16") return (code >= 0xd800 && code <= 0xdfff) || letter.test(text.charAt(at));
  let first = at;
  while (first > at - 3 && first > 0 && (text.charCodeAt(first) & 0xc0) === 0x80) first -= 1;
  const lead = text.charCodeAt(first);
  const second = text.charCodeAt(first + 1);
  return !(
    lead === 0xc2 ||
    (lead === 0xe2 && second === 0x80) ||
    (lead === 0xe3 && second === 0x80) ||
    (lead === 0xef && second === 0xbc)
  );
}

/** FNV's multiplication, mixed at the end as murmur3 does. */
const prime = 0x01000193;
const seedA = 0x811c9dc5 | 0;
const seedB = 0x9e3779b9 | 0;

function mixed(hash: number): number {
  let value = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

interface SharedTable {
  readonly size: number;
  readonly slots: Uint32Array;
}

function slotsOf(length: number): Uint32Array {
  return new Uint32Array(new SharedArrayBuffer(length * Uint32Array.BYTES_PER_ELEMENT));
}

/** Open addressing over two hashes of 32 bits. Two words of one hash (one in 10^13) would mask one too many, never one too few. */
class HashTable {
  size: number;
  #slots: Uint32Array;

  constructor(shared: SharedTable = { size: 0, slots: slotsOf(2 * 16) }) {
    this.size = shared.size;
    this.#slots = shared.slots;
  }

  shared(): SharedTable {
    return { size: this.size, slots: this.#slots };
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  /** `check` is never 0. */
  add(hash: number, check: number): void {
    const slot = find(this.#slots, hash, check);
    if (this.#slots[slot + 1] !== 0) return;
    this.#slots[slot] = hash;
    this.#slots[slot + 1] = check;
    this.size += 1;
    if (this.size * 3 <= this.#slots.length) return;
    const old = this.#slots;
    this.#slots = slotsOf(old.length * 2);
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] === 0) continue;
      const to = find(this.#slots, old[at] as number, old[at + 1] as number);
      this.#slots[to] = old[at] as number;
      this.#slots[to + 1] = old[at + 1] as number;
    }
  }

  has(hash: number, check: number): boolean {
    return this.size > 0 && this.#slots[find(this.#slots, hash, check) + 1] !== 0;
  }
}

/** The place of an entry, or the free one where it belongs. */
function find(slots: Uint32Array, hash: number, check: number): number {
  const mask = slots.length - 1;
  let slot = (hash * 2) & mask;
  while (slots[slot + 1] !== 0 && (slots[slot] !== hash || slots[slot + 1] !== check)) slot = (slot + 2) & mask;
  return slot;
}
