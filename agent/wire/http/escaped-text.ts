/**
 * Masks what a text says, however it is written: `\u0040` in JSON (RFC 8259 section 7), `%40` and `+` in a form (URL Standard,
 * application/x-www-form-urlencoded). What is not masked leaves as it was written, and as many bytes leave as came.
 */
import type { BodyMasker } from "../../mask/body-masker.ts";

export type Writing = "json" | "form";

/** A text is cut into letters that stand as themselves and escapes; one that may go on is the last. */
const escapes: Readonly<Record<Writing, RegExp>> = {
  json: /\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(?<open>\\(?:u(?:[dD][89abAB][\da-fA-F]{2}(?:\\(?:u[\da-fA-F]{0,3})?)?|[\da-fA-F]{0,3}))?$)|\\u[\da-fA-F]{4}|\\./gs,
  form: /%[\da-fA-F]{2}|(?<open>%[\da-fA-F]?$)|\+/g,
};

/** In Latin-1: a character for each byte. */
interface Piece {
  /** As it came; null: just as it is read. */
  readonly written: string | null;
  /** Of an escape: what it stands for. */
  readonly read: string;
  /** Of what stands as itself: how many bytes are still to come. */
  length: number;
}

export function readingEscapes(masker: BodyMasker, writing: Writing): BodyMasker {
  return new EscapedMasker(masker, writing);
}

class EscapedMasker implements BodyMasker {
  readonly #masker: BodyMasker;
  readonly #writing: Writing;
  /** What the masker has got and not given back yet, from the first escape on. */
  #pieces: Piece[] = [];
  /** Bytes that the masker holds before the first of these. */
  #plain = 0;
  /** The beginning of an escape. */
  #open = "";
  /** The first bytes of an escape for several. */
  #given = "";

  constructor(masker: BodyMasker, writing: Writing) {
    this.#masker = masker;
    this.#writing = writing;
  }

  get masked(): number {
    return this.#masker.masked;
  }

  get held(): number {
    return this.#masker.held + this.#open.length;
  }

  push(bytes: Buffer): Buffer {
    if (this.#open === "" && !mayEscape(bytes, this.#writing)) {
      this.#note(bytes.length);
      return this.#leave(this.#masker.push(bytes));
    }
    const text = this.#open + bytes.toString("latin1");
    this.#open = "";
    let read = "";
    let from = 0;
    for (const match of text.matchAll(escapes[this.#writing])) {
      const [written] = match;
      if (match.groups?.["open"] !== undefined) {
        this.#open = written;
        break;
      }
      const meant = this.#meant(written);
      if (meant === null) continue;
      this.#note(match.index - from);
      this.#pieces.push({ written, read: meant, length: 0 });
      read += text.slice(from, match.index) + meant;
      from = match.index + written.length;
    }
    const end = text.length - this.#open.length;
    this.#note(end - from);
    return this.#leave(this.#masker.push(Buffer.from(read + text.slice(from, end), "latin1")));
  }

  end(): Buffer {
    const rest = Buffer.from(this.#open, "latin1");
    this.#open = "";
    this.#note(rest.length);
    const out = rest.length === 0 ? rest : this.#leave(this.#masker.push(rest));
    return Buffer.concat([out, this.#leave(this.#masker.end())]);
  }

  /** Null: none of these; the detectors know `\n` and its like as they are written. */
  #meant(written: string): string | null {
    if (this.#writing === "form")
      return written === "+" ? " " : String.fromCharCode(Number.parseInt(written.slice(1), 16));
    if (written.length < 6) return null;
    const units = written.split("\\u").slice(1);
    const text = String.fromCharCode(...units.map((unit) => Number.parseInt(unit, 16)));
    return Buffer.from(text, "utf8").toString("latin1");
  }

  #note(length: number): void {
    if (this.#pieces.length === 0) this.#plain += length;
    else if (length > 0) this.#pieces.push({ written: null, read: "", length });
  }

  #leave(bytes: Buffer): Buffer {
    if (this.#pieces.length === 0) {
      this.#plain -= bytes.length;
      return bytes;
    }
    const text = this.#given + bytes.toString("latin1");
    this.#given = "";
    const plain = Math.min(this.#plain, text.length);
    this.#plain -= plain;
    let out = text.slice(0, plain);
    let at = plain;
    let done = 0;
    for (const piece of this.#pieces) {
      if (at === text.length) break;
      if (piece.written === null) {
        const part = text.slice(at, at + piece.length);
        out += part;
        at += part.length;
        piece.length -= part.length;
        if (piece.length > 0) break;
      } else {
        const part = text.slice(at, at + piece.read.length);
        if (part.length < piece.read.length) {
          this.#given = part;
          break;
        }
        out += part === piece.read ? piece.written : this.#write(part, piece.written);
        at += part.length;
      }
      done += 1;
    }
    this.#pieces.splice(0, done);
    // What follows is no longer behind an escape.
    while (this.#pieces[0]?.written === null) this.#plain += this.#pieces.shift()?.length ?? 0;
    return Buffer.from(out, "latin1");
  }

  /** A mask's letter, in as many bytes. */
  #write(part: string, written: string): string {
    const [letter = "*"] = part;
    const hex = (letter < "\x80" ? letter : "*").charCodeAt(0).toString(16).padStart(2, "0");
    if (this.#writing === "form") return written === "+" ? letter : `%${hex.toUpperCase()}`;
    return `\\u00${hex}`.repeat(written.length / 6);
  }
}

function mayEscape(bytes: Buffer, writing: Writing): boolean {
  return writing === "json" ? bytes.includes(0x5c) : bytes.includes(0x25) || bytes.includes(0x2b);
}
