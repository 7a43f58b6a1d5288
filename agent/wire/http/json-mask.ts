/**
 * Masks what stands in a JSON text, and nothing else: strings and numbers that a detector finds, and every value below
 * a JSON path. All other bytes stay as they were. A value keeps its type, so that it still fits its schema: a string
 * stays a string, a number becomes 0, a truth value false. A string that is itself JSON is looked into.
 */
import { isUtf8 } from "node:buffer";
import type { MaskStyle } from "../../core/verdict.ts";
import { applyStyle } from "../../mask/style.ts";
import { type JsonPath, type PathState, pathEnter, pathMatches, pathStart } from "./json-path.ts";
import { JsonScanner, type JsonToken, jsonString } from "./json-scan.ts";

/** What finds values in text, and overwrites them in as many bytes; a `Masker` of agent/mask is one. */
export interface TextMasker {
  mask(bytes: Buffer, start: number, end: number): number;
  /** How every value below a member of this name is hidden; null: by what it looks like. Left out: no name says so. */
  readonly styleOfKey?: ((name: string) => MaskStyle | null) | undefined;
}

export interface PathMask {
  readonly path: JsonPath;
  readonly with: MaskStyle;
}

export interface JsonMasks {
  readonly masker: TextMasker | null;
  readonly paths: readonly PathMask[];
  /** For masks of the style `hash`. */
  readonly key: Buffer;
  /** Values that other paths begin at: `$` also means such a one. Given are the keys on the way, indexes as `*`. */
  readonly roots?: readonly (readonly string[])[];
  /**
   * Brackets, keys and values that are looked at, those of texts in JSON too; with more the body is not masked at all.
   * Left out: the scanner's own, for each text.
   */
  readonly tokensMax?: number;
  /**
   * True: this string or number is left as it is. The same keys, the string without quotes, escapes as written;
   * `named`: a path names it.
   */
  readonly spares?: (way: readonly string[], bytes: Buffer, start: number, end: number, named: boolean) => boolean;
}

export interface MaskedJson {
  readonly bytes: Buffer;
  readonly masked: number;
}

const none: readonly PathState[] = [];
/** A string that is JSON may hold a string that is JSON: this often. */
const nestedMax = 3;

/** Null when the bytes are no JSON within the limits: they cannot be masked by place. `bytes` itself is never changed. */
export function maskJson(bytes: Buffer, masks: JsonMasks): MaskedJson | null {
  return isUtf8(bytes) ? maskWhole(bytes, masks, 0, { left: masks.tokensMax ?? Number.POSITIVE_INFINITY }) : null;
}

/** Tokens that may still be looked at; below 0: it was more. */
interface Budget {
  left: number;
}

function maskWhole(bytes: Buffer, masks: JsonMasks, nested: number, budget: Budget): MaskedJson | null {
  const walk = new Walk(bytes, masks, nested, budget);
  const scanner = new JsonScanner(bytes);
  for (let token = scanner.next(); token !== "end"; token = scanner.next()) {
    if (token === null) return null;
    budget.left -= 1;
    // Of a text inside of the body this fails the body, too: it asks afterwards.
    if (budget.left < 0) return null;
    walk.take(token, scanner);
  }
  return budget.left < 0 ? null : walk.result();
}

/** One value that is open: an object or an array. */
interface Level {
  readonly isObject: boolean;
  /** Where each path stands at this value; one row for each root that it lies below. */
  readonly states: readonly PathState[];
  /** Set below a value that a path names. */
  readonly style: MaskStyle | null;
  index: number;
}

class Walk {
  readonly #source: Buffer;
  readonly #masks: JsonMasks;
  readonly #nested: number;
  readonly #budget: Budget;
  /** A copy, made when something may first be overwritten. */
  #copy: Buffer | null = null;
  /** What is written in another length, in order. */
  readonly #edits: { start: number; end: number; text: string }[] = [];
  readonly #levels: Level[] = [];
  readonly #way: string[] = [];
  /** Of the member that comes next. */
  #key = "";
  #masked = 0;

  constructor(source: Buffer, masks: JsonMasks, nested: number, budget: Budget) {
    this.#source = source;
    this.#masks = masks;
    this.#nested = nested;
    this.#budget = budget;
  }

  take(token: JsonToken, at: JsonScanner): void {
    if (token === "key") {
      this.#key = jsonString(this.#source, at.start, at.end, at.escaped);
      this.#text(at, null);
      return;
    }
    if (token === "}" || token === "]") {
      this.#levels.pop();
      this.#way.pop();
      return;
    }
    const { states, style } = this.#enter();
    if (token === "{" || token === "[") {
      this.#levels.push({ isObject: token === "{", states, style, index: 0 });
    } else {
      this.#leaf(token, at, style);
      this.#way.pop();
    }
  }

  result(): MaskedJson {
    if (this.#masked === 0) return { bytes: this.#source, masked: 0 };
    const bytes = this.#copy ?? this.#source;
    if (this.#edits.length === 0) return { bytes, masked: this.#masked };
    const parts: Buffer[] = [];
    let from = 0;
    for (const { start, end, text } of this.#edits) {
      parts.push(bytes.subarray(from, start), Buffer.from(text, "utf8"));
      from = end;
    }
    parts.push(bytes.subarray(from));
    return { bytes: Buffer.concat(parts), masked: this.#masked };
  }

  /** Goes to the next value: its place in the body, and what the paths say of it. */
  #enter(): Pick<Level, "states" | "style"> {
    const { paths, roots } = this.#masks;
    const parent = this.#levels.at(-1);
    if (parent === undefined) {
      this.#way.push("$");
      return { states: paths.map(() => pathStart), style: null };
    }
    const key = parent.isObject ? this.#key : parent.index;
    parent.index += 1;
    this.#way.push(parent.isObject ? this.#key : "*");
    if (parent.style !== null) return { states: none, style: parent.style };
    const named = parent.isObject ? (this.#masks.masker?.styleOfKey?.(this.#key) ?? null) : null;
    if (paths.length === 0 || named !== null) return { states: none, style: named };
    let { states, style }: Pick<Level, "states" | "style"> =
      parent.states === none ? parent : this.#follow(parent, key);
    if (roots?.some((root) => sameWay(root, this.#way)) === true) states = [...states, ...paths.map(() => pathStart)];
    if (style !== null) states = none;
    return { states, style };
  }

  #follow(parent: Level, key: string | number): Pick<Level, "states" | "style"> {
    const { paths } = this.#masks;
    let alive = false;
    let style: MaskStyle | null = null;
    const states = parent.states.map((state, i) => {
      const { path, with: how } = paths[i % paths.length] as PathMask;
      const next = state === 0 ? 0 : pathEnter(path, state, key);
      alive ||= next !== 0;
      if (style === null && pathMatches(path, next)) style = how;
      return next;
    });
    return { states: alive ? states : none, style };
  }

  #leaf(token: JsonToken, at: JsonScanner, style: MaskStyle | null): void {
    const quotes = token === "string" ? 1 : 0;
    const { spares } = this.#masks;
    if (spares?.(this.#way, this.#source, at.start + quotes, at.end - quotes, style !== null) === true) return;
    if (token === "string") this.#text(at, style);
    else if (token === "number") this.#number(at, style);
    else if (style !== null && token !== "null") {
      this.#masked += 1;
      if (token === "true") this.#edits.push({ start: at.start, end: at.end, text: "false" });
    }
  }

  /** A key or a string. Without escapes it is masked where it stands, as a mask has as many bytes as the value. */
  #text(at: JsonScanner, style: MaskStyle | null): void {
    const { masker, paths } = this.#masks;
    const start = at.start + 1;
    const end = at.end - 1;
    if (start === end || (style === null && masker === null && paths.length === 0)) return;
    if (style === null && this.#embedded(at)) return;
    if (!at.escaped) {
      this.#masked += this.#hide(this.#work(), start, end, style);
      return;
    }
    const value = Buffer.from(jsonString(this.#source, at.start, at.end, true), "utf8");
    const found = this.#hide(value, 0, value.length, style);
    if (found === 0) return;
    this.#masked += found;
    this.#edits.push({ start: at.start, end: at.end, text: JSON.stringify(value.toString("utf8")) });
  }

  /** The detectors see the value alone: what stands beside it in the body is no part of it. */
  #hide(bytes: Buffer, start: number, end: number, style: MaskStyle | null): number {
    const { masker, key } = this.#masks;
    if (style === null) return this.#budget.left < 0 ? 0 : (masker?.mask(bytes, start, end) ?? 0);
    applyStyle(bytes.subarray(start, end), 0, end - start, style, key);
    return 1;
  }

  /** A string that is an object or array in JSON; false: it is not, or nothing is masked in it. */
  #embedded(at: JsonScanner): boolean {
    if (this.#nested >= nestedMax || !opensJson(this.#source, at.start + 1)) return false;
    const inner = Buffer.from(jsonString(this.#source, at.start, at.end, at.escaped), "utf8");
    const { masker, paths, key } = this.#masks;
    const masked = maskWhole(inner, { masker, paths, key }, this.#nested + 1, this.#budget);
    if (masked === null) return false;
    if (masked.masked === 0) return true;
    this.#masked += masked.masked;
    this.#edits.push({ start: at.start, end: at.end, text: JSON.stringify(masked.bytes.toString("utf8")) });
    return true;
  }

  /** Nothing but 0 is sure to be a number in as many digits. */
  #number({ start, end }: JsonScanner, style: MaskStyle | null): void {
    const { masker } = this.#masks;
    if (style === null && (masker === null || masker.mask(this.#work(), start, end) === 0)) return;
    this.#work().fill(0x20, start, end)[start] = 0x30;
    this.#masked += 1;
  }

  /** What is overwritten is a copy. */
  #work(): Buffer {
    this.#copy ??= Buffer.from(this.#source);
    return this.#copy;
  }
}

function sameWay(root: readonly string[], way: readonly string[]): boolean {
  return root.length === way.length && root.every((key, i) => key === way[i]);
}

/** White space, also escaped, and then a brace or bracket. */
function opensJson(bytes: Buffer, from: number): boolean {
  for (let at = from; ; at += 1) {
    const byte = bytes[at];
    if (byte === 0x7b || byte === 0x5b) return true;
    if (byte === 0x5c) {
      const letter = bytes[at + 1];
      if (letter !== 0x6e && letter !== 0x72 && letter !== 0x74) return false;
      at += 1;
    } else if (byte !== 0x20) return false;
  }
}
