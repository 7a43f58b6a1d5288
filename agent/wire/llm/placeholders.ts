/**
 * Names that stand for values in a prompt: the model sees `<EMAIL_1>`, the client gets the real value back. Known for
 * one request only; the same value has the same name.
 */

/** Different values of one request; a prompt with more of them keeps the last ones under masks. */
export const placeholdersMax = 10_000;
const namePattern = /<[A-Z][A-Z0-9_]*_[0-9]+>/g;

export interface PlaceholdersState {
  readonly entries: readonly (readonly [string, string])[];
  readonly reserved: ReadonlySet<string>;
  readonly counts: ReadonlyMap<string, number>;
}

export class Placeholders {
  readonly #byValue = new Map<string, string>();
  readonly #byName = new Map<string, string>();
  readonly #reserved = new Set<string>();
  readonly #counts = new Map<string, number>();
  #longest = 0;

  get size(): number {
    return this.#byName.size;
  }

  /** Names with their values, in the order they were given. */
  entries(): [string, string][] {
    return [...this.#byName];
  }

  /** To give values back with; it gives no new names. */
  static of(entries: Iterable<readonly [string, string]>): Placeholders {
    const names = new Placeholders();
    for (const [name, value] of entries) names.#add(name, value);
    return names;
  }

  /** Plain data: others go on giving names where these stop. */
  state(): PlaceholdersState {
    return { entries: this.entries(), reserved: this.#reserved, counts: this.#counts };
  }

  adopt({ entries, reserved, counts }: PlaceholdersState): void {
    const all = [...entries];
    this.#byName.clear();
    this.#byValue.clear();
    for (const [name, value] of all) this.#add(name, value);
    for (const name of [...reserved]) this.#reserved.add(name);
    for (const [word, count] of [...counts]) this.#counts.set(word, count);
  }

  #add(name: string, value: string): void {
    this.#byName.set(name, value);
    this.#byValue.set(value, name);
    this.#longest = Math.max(this.#longest, name.length);
  }

  /** Names that the client's own text has in it are not given to a value, or the reply would not say which is meant. */
  reserve(text: string): void {
    for (const [name] of text.matchAll(namePattern)) this.#reserved.add(name);
  }

  /** Null: there are too many. `label` is a detector's name. */
  nameFor(label: string, value: string): string | null {
    const known = this.#byValue.get(value);
    if (known !== undefined) return known;
    if (this.#byName.size >= placeholdersMax) return null;
    const word = label.toUpperCase().replace(/[^A-Z0-9]+/g, "_");
    let count = this.#counts.get(word) ?? 0;
    let name: string;
    do {
      count += 1;
      name = `<${word}_${count}>`;
    } while (this.#reserved.has(name));
    this.#counts.set(word, count);
    this.#add(name, value);
    return name;
  }

  valueOf(name: string): string | null {
    return this.#byName.get(name) ?? null;
  }

  /** True when `text` is the beginning of a name, and not yet the whole of it. */
  mayBecome(text: string): boolean {
    if (text.length >= this.#longest || !/^<(?:[A-Z][A-Z0-9_]*)?$/.test(text)) return false;
    for (const name of this.#byName.keys()) if (name.startsWith(text)) return true;
    return false;
  }

  /** The text with real values in place of names; `encode` says how a value is written there. */
  restore(text: string, encode: (value: string) => string = String): string {
    if (!text.includes("<")) return text;
    return text.replace(namePattern, (name) => {
      const value = this.#byName.get(name);
      return value === undefined ? name : encode(value);
    });
  }
}

/** Restores a text that comes in pieces: from a `<` on it is held while it may still become a name that is known. */
export class Restorer {
  readonly #names: Placeholders;
  #held = "";

  constructor(names: Placeholders) {
    this.#names = names;
  }

  get held(): number {
    return this.#held.length;
  }

  save(): string {
    return this.#held;
  }

  restore(held: string): void {
    this.#held = held;
  }

  push(piece: string, encode?: (value: string) => string): string {
    const text = this.#held + piece;
    const last = text.lastIndexOf("<");
    const leaving = last >= 0 && this.#names.mayBecome(text.slice(last)) ? last : text.length;
    this.#held = text.slice(leaving);
    return this.#names.restore(text.slice(0, leaving), encode);
  }

  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }
}
