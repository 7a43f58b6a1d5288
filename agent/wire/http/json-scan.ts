/**
 * A strict reader of JSON (RFC 8259) over bytes that makes no values: it says what stands where, so that a body can be
 * changed in single places and stay as it was everywhere else (numbers beyond 2^53, spaces, the order of members).
 */

/** Nesting deeper than this is not read: the recursion of a server's own parser would be at risk. */
export const jsonDepthMax = 200;
/** Brackets, keys and values of one text: bounds the time that one body may take. */
export const jsonTokensMax = 2_000_000;

export type JsonToken = "{" | "}" | "[" | "]" | "key" | "string" | "number" | "true" | "false" | "null" | "end";

export type JsonProblem = "invalid" | "too-deep" | "too-long" | "duplicate-keys";

export class JsonScanner {
  /** Place of the token last read; of a string with its quotes. */
  start = 0;
  end = 0;
  /** The string last read has a backslash in it. */
  escaped = false;
  depth = 0;
  problem: JsonProblem | null = null;
  readonly #bytes: Uint8Array;
  readonly #isObject = new Uint8Array(jsonDepthMax + 1);
  #at: number;
  /** What may come next. */
  #state: "value" | "first-key" | "key" | "first-element" | "after" | "done" = "value";
  #tokens = 0;

  readonly #tokensMax: number;

  constructor(bytes: Uint8Array, tokensMax = jsonTokensMax) {
    this.#bytes = bytes;
    this.#tokensMax = tokensMax;
    this.#at = 0;
  }

  /** The next token; null with `problem` set when the text breaks the grammar or a limit. */
  next(): JsonToken | null {
    if (this.problem !== null) return null;
    this.#tokens += 1;
    if (this.#tokens > this.#tokensMax) return this.#fail("too-long");
    let byte = this.#skip();
    if (this.#state === "done") return byte < 0 ? "end" : this.#fail("invalid");
    if (this.#state === "after") {
      if (byte === closeBrace || byte === closeBracket) return this.#close(byte);
      if (byte !== comma) return this.#fail("invalid");
      this.#at += 1;
      this.#state = this.#isObject[this.depth] === 1 ? "key" : "value";
      byte = this.#skip();
    }
    if (this.#state === "first-key" && byte === closeBrace) return this.#close(byte);
    if (this.#state === "first-element" && byte === closeBracket) return this.#close(byte);
    if (this.#state === "key" || this.#state === "first-key") return this.#key(byte);
    return this.#value(byte);
  }

  #key(byte: number): JsonToken | null {
    if (byte !== quote || !this.#string()) return this.#fail("invalid");
    const { start, end } = this;
    if (this.#skip() !== colon) return this.#fail("invalid");
    this.#at += 1;
    this.start = start;
    this.end = end;
    this.#state = "value";
    return "key";
  }

  #value(byte: number): JsonToken | null {
    switch (byte) {
      case quote:
        return this.#string() ? this.#leaf("string") : this.#fail("invalid");
      case openBrace:
      case openBracket:
        return this.#open(byte);
      case 0x74:
        return this.#word("true");
      case 0x66:
        return this.#word("false");
      case 0x6e:
        return this.#word("null");
      default:
        return this.#number(byte);
    }
  }

  #leaf(token: JsonToken): JsonToken {
    this.#state = this.depth === 0 ? "done" : "after";
    return token;
  }

  #open(byte: number): JsonToken | null {
    if (this.depth >= jsonDepthMax) return this.#fail("too-deep");
    this.start = this.#at;
    this.#at += 1;
    this.end = this.#at;
    this.depth += 1;
    const isObject = byte === openBrace;
    this.#isObject[this.depth] = isObject ? 1 : 0;
    this.#state = isObject ? "first-key" : "first-element";
    return isObject ? "{" : "[";
  }

  #close(byte: number): JsonToken | null {
    const isObject = this.#isObject[this.depth] === 1;
    if ((byte === closeBrace) !== isObject) return this.#fail("invalid");
    this.start = this.#at;
    this.#at += 1;
    this.end = this.#at;
    this.depth -= 1;
    this.#state = this.depth === 0 ? "done" : "after";
    return isObject ? "}" : "]";
  }

  /** RFC 8259 §7; that the bytes are UTF-8 is the caller's to check. */
  #string(): boolean {
    const bytes = this.#bytes;
    this.start = this.#at;
    this.escaped = false;
    let at = this.#at + 1;
    for (;;) {
      const byte = bytes[at];
      if (byte === undefined || byte < 0x20) return false;
      if (byte === quote) break;
      if (byte !== backslash) {
        at += 1;
        continue;
      }
      this.escaped = true;
      const letter = bytes[at + 1];
      if (letter === undefined || escapes[letter] !== 1) return false;
      at += 2;
      if (letter !== 0x75) continue;
      for (let digit = 0; digit < 4; digit += 1, at += 1) if (hexDigits[bytes[at] ?? 0] !== 1) return false;
    }
    this.#at = at + 1;
    this.end = this.#at;
    return true;
  }

  /** RFC 8259 §6. */
  #number(first: number): JsonToken | null {
    const bytes = this.#bytes;
    this.start = this.#at;
    let at = this.#at;
    let byte = first;
    if (byte === minus) byte = bytes[++at] ?? -1;
    if (byte === 0x30) at += 1;
    else if (isDigit(byte)) while (isDigit(bytes[at])) at += 1;
    else return this.#fail("invalid");
    if (bytes[at] === 0x2e) {
      at += 1;
      if (!isDigit(bytes[at])) return this.#fail("invalid");
      while (isDigit(bytes[at])) at += 1;
    }
    if (bytes[at] === 0x65 || bytes[at] === 0x45) {
      at += 1;
      if (bytes[at] === 0x2b || bytes[at] === minus) at += 1;
      if (!isDigit(bytes[at])) return this.#fail("invalid");
      while (isDigit(bytes[at])) at += 1;
    }
    this.#at = at;
    this.end = at;
    return this.#leaf("number");
  }

  #word(word: "true" | "false" | "null"): JsonToken | null {
    for (let i = 1; i < word.length; i += 1)
      if (this.#bytes[this.#at + i] !== word.charCodeAt(i)) return this.#fail("invalid");
    this.start = this.#at;
    this.#at += word.length;
    this.end = this.#at;
    return this.#leaf(word);
  }

  /** The next byte that is no white space; -1 at the end. */
  #skip(): number {
    const bytes = this.#bytes;
    let at = this.#at;
    let byte = bytes[at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = bytes[++at];
    this.#at = at;
    return byte ?? -1;
  }

  #fail(problem: JsonProblem): null {
    this.problem = problem;
    return null;
  }
}

/** JSON's source as its reader understands its words: `\u0063` is a c, unless the backslash itself is escaped. */
export function readEscapes(json: string): string {
  return json.replace(/\\(?:u([0-9A-Fa-f]{4})|.)/gs, (written, hex: string | undefined) =>
    hex === undefined ? written : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** The text of a string or key whose place the scanner gave. */
export function jsonString(bytes: Buffer, start: number, end: number, escaped: boolean): string {
  return escaped
    ? (JSON.parse(bytes.toString("utf8", start, end)) as string)
    : bytes.toString("utf8", start + 1, end - 1);
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const minus = 0x2d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

const escapes = table('"\\/bfnrtu');
const hexDigits = table("0123456789abcdefABCDEF");

function table(letters: string): Uint8Array {
  const marks = new Uint8Array(256);
  for (const letter of letters) marks[letter.charCodeAt(0)] = 1;
  return marks;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}
