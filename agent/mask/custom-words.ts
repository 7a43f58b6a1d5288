/** Whole words out of a list, of a million too: a table of hashes, eight bytes an entry and half as much again free. */
import { is, type TextKind, token } from "./chars.ts";
import type { Detector } from "./detector.ts";

/** A longer entry is none; so much of a stream may be held back. */
export const wordCharactersMax = 256;

const ascii = /^[ -~]*$/;
const letter = /[\p{L}\p{N}\p{M}]/u;

/** Upper and lower case differ. Entries of several words are compared whole, and found by their first one. */
export function wordsDetector(name: string, words: Iterable<string>): Detector {
  const entries: string[] = [];
  const phrases: string[] = [];
  for (const raw of words) {
    const word = raw.trim();
    if (word === "" || word.length > wordCharactersMax) continue;
    (wordEnd(word, 0, "utf16") === word.length ? entries : phrases).push(word);
  }
  const table = new HashTable(entries);
  const text = detectorOf(name, table, phrases, "utf16");
  if (entries.every((word) => ascii.test(word)) && phrases.every((word) => ascii.test(word))) {
    // The same table serves bytes.
    return { ...text, forBytes: detectorOf(name, table, phrases, "latin1") };
  }
  const inBytes = new HashTable(entries.map(latin1));
  return { ...text, forBytes: detectorOf(name, inBytes, phrases.map(latin1), "latin1") };
}

function latin1(word: string): string {
  return Buffer.from(word).toString("latin1");
}

function detectorOf(name: string, table: HashTable, list: readonly string[], kind: TextKind): Detector {
  const phrases = new Map<string, string[]>();
  for (const phrase of list) {
    const head = headOf(phrase, 0, kind);
    phrases.set(head, [...(phrases.get(head) ?? []), phrase]);
  }
  for (const same of phrases.values()) same.sort((a, b) => b.length - a.length);

  /** The end of the longest entry that begins at a place; 0: none does. */
  function entryEnd(text: string, start: number): number {
    const end = wordEnd(text, start, kind);
    for (const phrase of phrases.size === 0 ? [] : (phrases.get(headOf(text, start, kind)) ?? [])) {
      const to = start + phrase.length;
      if (text.startsWith(phrase, start) && !(isWordAt(text, to - 1, kind) && isWordAt(text, to, kind))) return to;
    }
    return end > start && end - start <= lengthMax && table.has(text, start, end) ? end : 0;
  }
  /** In bytes a character has up to three for each unit of the text. */
  const lengthMax = kind === "latin1" ? wordCharactersMax * 3 : wordCharactersMax;

  return {
    name,
    needs: 0,
    follow: null,
    next(text, from, open) {
      for (let at = from; at < open; ) {
        if (isWordAt(text, at, kind) && isWordAt(text, at - 1, kind)) {
          at = wordEnd(text, at, kind);
          continue;
        }
        const end = entryEnd(text, at);
        if (end > 0) return { start: at, end };
        at = Math.max(at + 1, wordEnd(text, at, kind));
      }
      return null;
    },
    tail(text, from) {
      const reach = Math.max(from, text.length - lengthMax);
      let at = text.length;
      while (at > reach && isWordAt(text, at - 1, kind)) at -= 1;
      // The rest of a word that is too long, or has been looked at.
      let word = isWordAt(text, at - 1, kind) ? text.length : at;
      // Of bytes, the first ones of a sign are not told from those of a letter.
      if (kind === "latin1") while (word > reach && text.charCodeAt(word - 1) >= 0x80) word -= 1;
      if (phrases.size === 0) return word;
      for (at = reach; at < word; at += 1) {
        if (isWordAt(text, at, kind) && isWordAt(text, at - 1, kind)) continue;
        // A sign in bytes whose rest is to come says nothing of a border yet.
        const known = kind === "latin1" ? text.slice(at).replace(/[\x80-\xff]{1,3}$/, "") : text.slice(at);
        for (const phrase of phrases.get(headOf(text, at, kind)) ?? [])
          if (phrase.startsWith(known) || phrase.startsWith(text.slice(at))) return at;
      }
      return word;
    },
  };
}

/** The word at a place, or the sign that stands there. */
function headOf(text: string, at: number, kind: TextKind): string {
  return text.slice(at, Math.max(at + 1, wordEnd(text, at, kind)));
}

function wordEnd(text: string, from: number, kind: TextKind): number {
  let at = from;
  while (at < text.length && isWordAt(text, at, kind)) at += 1;
  return at;
}

/** Of bytes: not those of U+0080–00BF, general punctuation, and CJK and full-width signs. */
function isWordAt(text: string, at: number, kind: TextKind): boolean {
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

/** Open addressing over two hashes of 32 bits. Two words of one hash (one in 10^13) would mask one too many, never one too few. */
class HashTable {
  readonly #slots: Uint32Array;
  readonly #mask: number;

  constructor(words: readonly string[]) {
    let size = 16;
    while (size < words.length * 1.5) size *= 2;
    this.#slots = new Uint32Array(size * 2);
    this.#mask = size - 1;
    for (const word of words) {
      const a = hash(word, 0, word.length, 0x811c9dc5);
      const b = hash(word, 0, word.length, 0x9e3779b9) || 1;
      const slot = this.#find(a, b);
      this.#slots[slot * 2] = a;
      this.#slots[slot * 2 + 1] = b;
    }
  }

  has(text: string, start: number, end: number): boolean {
    const a = hash(text, start, end, 0x811c9dc5);
    return this.#slots[this.#find(a, hash(text, start, end, 0x9e3779b9) || 1) * 2 + 1] !== 0;
  }

  /** The slot of an entry, or the free one where it belongs; the second hash is never 0. */
  #find(a: number, b: number): number {
    let slot = a & this.#mask;
    while (this.#slots[slot * 2 + 1] !== 0 && (this.#slots[slot * 2] !== a || this.#slots[slot * 2 + 1] !== b))
      slot = (slot + 1) & this.#mask;
    return slot;
  }
}

/** FNV's multiplication, mixed at the end as murmur3 does. */
function hash(text: string, start: number, end: number, seed: number): number {
  let value = seed;
  for (let at = start; at < end; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
