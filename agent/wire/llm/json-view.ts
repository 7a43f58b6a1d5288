/**
 * The source text of a JSON value as it comes in pieces, shown to a masker with the escapes of its strings taken away,
 * and written again with what the masker hid: a string stays a string, a number becomes 0 and blanks, brackets and
 * quotes stay. Detectors so see `a@b.c` behind `a\u0040b.c`, and what the client parses is still JSON.
 *
 * A text that turns out to be no JSON goes on as plain text: nothing that the masker hides is ever shown for its sake.
 */

/** What a character of the view is; one letter each in a string that runs beside the view. */
const inString = "s";
const inNumber = "n";
const blank = "w";
const sign = "p";
const inWord = "o";
const plain = "t";

const words = ["true", "false", "null"];
const stringPart = /[^"\\]+/y;
const escapeCharacters: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

export class JsonView {
  /** Of the view: what was shown and did not come back yet, and the kind of each character. */
  #view = "";
  #kinds = "";
  #lastKind = "";
  /** Escapes in it: at which place of all that was ever shown, and how it was written. */
  #escapes: { readonly at: number; readonly raw: string }[] = [];
  #escapeAt = 0;
  #shown = 0;
  #written = 0;
  /** An escape that is not whole. */
  #pending = "";
  #inString = false;
  #word = "";
  #isJson = true;
  /** Of the number that is being written: "" none, "-" its sign, "1" digits, "0" hidden. */
  #number: "" | "-" | "1" | "0" = "";
  readonly #unescapes: boolean;

  /** `unescapes`: escapes of printable ASCII are written without (placeholders are then found in the text). */
  constructor(unescapes: boolean) {
    this.#unescapes = unescapes;
  }

  /** Plain data, for another view of the same kind. */
  save() {
    return {
      ...{ view: this.#view, kinds: this.#kinds, lastKind: this.#lastKind, escapes: this.#escapes },
      ...{ escapeAt: this.#escapeAt, shown: this.#shown, written: this.#written, pending: this.#pending },
      ...{ inString: this.#inString, word: this.#word, isJson: this.#isJson, number: this.#number },
    };
  }

  restore(state: ReturnType<JsonView["save"]>): void {
    this.#view = state.view;
    this.#kinds = state.kinds;
    this.#lastKind = state.lastKind;
    this.#escapes = [...state.escapes];
    this.#escapeAt = state.escapeAt;
    this.#shown = state.shown;
    this.#written = state.written;
    this.#pending = state.pending;
    this.#inString = state.inString;
    this.#word = state.word;
    this.#isJson = state.isJson;
    this.#number = state.number;
  }

  /** False: plain text after all. */
  get isJson(): boolean {
    return this.#isJson;
  }

  /** What the masker is shown of this piece. */
  show(piece: string): string {
    const text = this.#pending + piece;
    this.#pending = "";
    const before = this.#view.length;
    let at = 0;
    while (at < text.length) {
      if (!this.#isJson) {
        this.#add(text.slice(at), plain);
        at = text.length;
      } else if (this.#inString) {
        const next = this.#string(text, at);
        if (next === at) {
          this.#pending = text.slice(at);
          break;
        }
        at = next;
      } else {
        this.#outside(text[at] as string);
        at += 1;
      }
    }
    return this.#view.slice(before);
  }

  /** Nothing more comes: half an escape is text like any other. */
  showRest(): string {
    const rest = this.#pending;
    this.#pending = "";
    this.#add(rest, plain);
    return rest;
  }

  /** What the masker gave back, character by character in the order it was shown, as it is written. */
  write(masked: string): string {
    const { length } = masked;
    if (length === 0) return "";
    const view = this.#view.slice(0, length);
    const kinds = this.#kinds.slice(0, length);
    this.#view = this.#view.slice(length);
    this.#kinds = this.#kinds.slice(length);
    const from = this.#written;
    this.#written += length;
    const escaped = (this.#escapes[this.#escapeAt]?.at ?? this.#written) < this.#written;
    if (masked === view && !escaped && this.#number !== "0") {
      this.#number = kinds.at(-1) !== inNumber ? "" : view.at(-1) === "-" ? "-" : "1";
      return masked;
    }
    let out = "";
    for (let i = 0; i < length; i += 1) out += this.#one(view[i] as string, masked[i] as string, kinds[i], from + i);
    if (this.#escapeAt === this.#escapes.length) {
      this.#escapes = [];
      this.#escapeAt = 0;
    }
    return out;
  }

  #one(shown: string, masked: string, kind: string | undefined, at: number): string {
    if (kind !== inNumber) this.#number = "";
    switch (kind) {
      case inString: {
        const written = this.#escapes[this.#escapeAt];
        if (written?.at !== at) return masked;
        this.#escapeAt += 1;
        if (masked !== shown) return masked;
        return this.#unescapes && /[!#-[\]-~]/.test(shown) ? shown : written.raw;
      }
      case inNumber:
        return this.#digit(shown, masked);
      case blank:
        return masked === shown ? shown : " ";
      case sign:
        return shown;
      default:
        return masked;
    }
  }

  /** A number that begins with 0 may have no digit after it, so blanks follow. */
  #digit(shown: string, masked: string): string {
    if (this.#number === "0") return " ";
    if (masked === shown) {
      this.#number = shown === "-" && this.#number === "" ? "-" : "1";
      return shown;
    }
    if (this.#number === "1") return "0";
    this.#number = "0";
    return "0";
  }

  #add(text: string, kind: string): void {
    if (text === "") return;
    this.#view += text;
    this.#kinds += text.length === 1 ? kind : kind.repeat(text.length);
    this.#lastKind = kind;
    this.#shown += text.length;
  }

  /** The next part of a string; where it ends, `at` itself when more has to come. */
  #string(text: string, at: number): number {
    const first = text[at];
    if (first === '"') {
      this.#inString = false;
      this.#add('"', sign);
      return at + 1;
    }
    if (first !== "\\") {
      stringPart.lastIndex = at;
      const [part = ""] = stringPart.exec(text) ?? [];
      this.#add(part, inString);
      return at + part.length;
    }
    const letter = text[at + 1];
    if (letter === undefined) return at;
    let end = at + 2;
    let character = escapeCharacters[letter];
    if (letter === "u") {
      const digits = text.slice(end, end + 4);
      if (/^[0-9a-fA-F]{4}$/.test(digits)) {
        character = String.fromCharCode(Number.parseInt(digits, 16));
        end += 4;
      } else if (digits.length < 4 && /^[0-9a-fA-F]*$/.test(digits)) return at;
    }
    if (character === undefined) {
      this.#add(text.slice(at, end), inString);
      return end;
    }
    this.#escapes.push({ at: this.#shown, raw: text.slice(at, end) });
    this.#add(character, inString);
    return end;
  }

  #outside(character: string): void {
    // Not by its last character: to look into a string that grows by one copies all of it.
    const wasNumber = this.#kinds.length > 0 && this.#lastKind === inNumber;
    const word = this.#word;
    this.#word = "";
    if (character === '"') {
      this.#inString = true;
      this.#add(character, sign);
    } else if (/[{}[\]:,]/.test(character)) this.#add(character, sign);
    else if (/[ \t\r\n]/.test(character)) this.#add(character, blank);
    else if (/[0-9-]/.test(character) || (/[.eE+]/.test(character) && word === "" && (wasNumber || this.#numberLeft())))
      this.#add(character, inNumber);
    else {
      this.#word = word + character;
      this.#isJson = words.some((known) => known.startsWith(this.#word));
      this.#add(character, this.#isJson ? inWord : plain);
    }
  }

  /** All of the view has left, and it ended in a number. */
  #numberLeft(): boolean {
    return this.#view === "" && this.#number !== "";
  }
}
