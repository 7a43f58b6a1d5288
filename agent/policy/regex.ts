/**
 * Reads a regular expression in the part of RE2's syntax that a detector may use
 * (https://github.com/google/re2/wiki/Syntax), and tells how long its matches are. The engine is linear; what it does
 * not know (look-around, back-references, possessive and atomic groups) is refused here by name, with its place.
 */

export interface ReadRegex {
  /** Characters of the shortest and the longest match; infinite where a repeat has no bound. */
  readonly shortest: number;
  readonly longest: number;
}

/** RE2 refuses more, nested repeats multiplied. */
const repeatMax = 1_000;
const depthMax = 32;

class RegexError extends Error {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

export function readRegex(text: string): ReadRegex | { readonly error: string; readonly offset: number } {
  const parser = new Parser(text);
  try {
    const { shortest, longest } = parser.whole();
    return { shortest, longest };
  } catch (error) {
    if (error instanceof RegexError) return { error: error.message, offset: error.offset };
    throw error;
  }
}

interface Piece {
  shortest: number;
  longest: number;
  /** Product of the bounded repeats in it. */
  repeats: number;
}

const nothing: Piece = { shortest: 0, longest: 0, repeats: 1 };
const oneCharacter: Piece = { shortest: 1, longest: 1, repeats: 1 };

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): Piece {
    const piece = this.#alternatives(0);
    if (this.#at < this.#text.length) this.#fail("this bracket closes nothing");
    return piece;
  }

  #alternatives(depth: number): Piece {
    let piece = this.#sequence(depth);
    while (this.#take("|")) {
      const next = this.#sequence(depth);
      piece = {
        shortest: Math.min(piece.shortest, next.shortest),
        longest: Math.max(piece.longest, next.longest),
        repeats: Math.max(piece.repeats, next.repeats),
      };
    }
    return piece;
  }

  #sequence(depth: number): Piece {
    let sum = nothing;
    while (this.#at < this.#text.length && !"|)".includes(this.#text[this.#at]!)) {
      const piece = this.#repeated(this.#atom(depth));
      sum = {
        shortest: sum.shortest + piece.shortest,
        longest: sum.longest + piece.longest,
        repeats: Math.max(sum.repeats, piece.repeats),
      };
    }
    return sum;
  }

  #repeated(piece: Piece): Piece {
    const start = this.#at;
    const bounds = this.#quantifier();
    if (bounds === null) return piece;
    this.#take("?");
    const after = this.#text[this.#at];
    if (after === "+") this.#fail("possessive repeats are not to be had");
    if (after === "*" || after === "?" || this.#isCounted()) this.#fail("a repeat of a repeat needs a group");
    const [least, most] = bounds;
    const counted = most === Number.POSITIVE_INFINITY ? Math.max(1, least) : Math.max(1, most);
    const repeats = piece.repeats * (this.#text[start] === "{" ? counted : 1);
    if (repeats > repeatMax) this.#fail(`more than ${repeatMax} repeats, nested ones multiplied`, start);
    const longest = piece.longest === 0 ? 0 : most === 0 ? 0 : piece.longest * most;
    return { shortest: piece.shortest * least, longest, repeats };
  }

  #quantifier(): [least: number, most: number] | null {
    if (this.#take("*")) return [0, Number.POSITIVE_INFINITY];
    if (this.#take("+")) return [1, Number.POSITIVE_INFINITY];
    if (this.#take("?")) return [0, 1];
    if (!this.#isCounted()) return null;
    const [whole, least, comma, most] = this.#match(/\{(\d{1,6})(,?)(\d{0,6})\}/y)!;
    const from = Number(least);
    const to = comma === "" ? from : most === "" ? Number.POSITIVE_INFINITY : Number(most);
    if (to < from) this.#fail("the repeat ends before it begins", this.#at - whole!.length);
    if (from > repeatMax || (to !== Number.POSITIVE_INFINITY && to > repeatMax))
      this.#fail(`a repeat goes to ${repeatMax}`, this.#at - whole!.length);
    return [from, to];
  }

  /** Other braces are plain characters. */
  #isCounted(): boolean {
    return /^\{\d{1,6}(?:,\d{0,6})?\}/.test(this.#text.slice(this.#at, this.#at + 20));
  }

  #atom(depth: number): Piece {
    const start = this.#at;
    const c = this.#text[start]!;
    if (c === "(") return this.#group(depth);
    if (c === "[") return this.#class();
    if (c === "\\") return this.#escape(false);
    if (c === "^" || c === "$") {
      this.#at += 1;
      return nothing;
    }
    if ("*+?".includes(c) || this.#isCounted()) this.#fail("there is nothing to repeat");
    this.#at += this.#text.codePointAt(start)! > 0xffff ? 2 : 1;
    // Above the basic plane one character is two units of a string, and lengths are counted in those.
    if (c === ".") return { ...oneCharacter, longest: 2 };
    return this.#at - start === 2 ? { shortest: 2, longest: 2, repeats: 1 } : oneCharacter;
  }

  #group(depth: number): Piece {
    const start = this.#at;
    if (depth === depthMax) this.#fail(`groups nest deeper than ${depthMax}`);
    this.#at += 1;
    if (this.#take("?")) {
      const rest = this.#text.slice(this.#at, this.#at + 2);
      if (/^(?:[=!]|<[=!])/.test(rest)) this.#fail("look-around is not to be had in a linear engine", start);
      if (rest.startsWith(">")) this.#fail("atomic groups are not to be had", start);
      if (rest.startsWith("(")) this.#fail("conditions are not to be had", start);
      const named = this.#match(/P?<[A-Za-z_]\w{0,31}>/y);
      if (named === null) {
        const flags = this.#match(/([imsU]*(?:-[imsU]+)?)([:)])/y);
        if (flags === null) this.#fail("expected a group like ( ), (?: ), (?i: ) or (?P<name> )", start);
        else if (flags[2] === ")") return nothing;
      }
    }
    const piece = this.#alternatives(depth + 1);
    if (!this.#take(")")) this.#fail("this group is not closed", start);
    return piece;
  }

  #class(): Piece {
    const start = this.#at;
    this.#at += 1;
    this.#take("^");
    let first = true;
    for (;;) {
      const c = this.#text[this.#at];
      if (c === undefined) this.#fail("this class is not closed", start);
      if (c === "]" && !first) break;
      first = false;
      if (this.#match(/\[:\^?[a-z]+:\]/y) !== null) continue;
      const from = this.#classCharacter();
      if (this.#text[this.#at] !== "-" || this.#text[this.#at + 1] === "]") continue;
      const dash = this.#at;
      this.#at += 1;
      if (this.#text[this.#at] === undefined) this.#fail("this class is not closed", start);
      const to = this.#classCharacter();
      if (from === null || to === null) this.#fail("a range is between two characters", dash);
      else if (to < from) this.#fail("the range ends before it begins", dash);
    }
    this.#at += 1;
    // A negated class, or one with wide characters, may take two units.
    const source = this.#text.slice(start, this.#at);
    const wide = source.startsWith("[^") || /[^\0-\x7f]|\\[xpPDSW]|\[:\^/.test(source);
    return wide ? { shortest: 1, longest: 2, repeats: 1 } : oneCharacter;
  }

  /** Its code point; null for a set like \d. */
  #classCharacter(): number | null {
    const at = this.#at;
    if (this.#text[at] === "\\") {
      this.#escape(true);
      const source = this.#text.slice(at, this.#at);
      const hex = /^\\x\{?([0-9A-Fa-f]+)/.exec(source);
      if (hex !== null) return Number.parseInt(hex[1]!, 16);
      if (/^\\[dDsSwWpP]/.test(source)) return null;
      const control = "tnrfva".indexOf(source[1]!);
      return control >= 0 ? [9, 10, 13, 12, 11, 7][control]! : source.codePointAt(1)!;
    }
    const code = this.#text.codePointAt(at)!;
    this.#at += code > 0xffff ? 2 : 1;
    return code;
  }

  #escape(inClass: boolean): Piece {
    const start = this.#at;
    const c = this.#text[start + 1];
    if (c === undefined) this.#fail("the backslash escapes nothing");
    if (/[1-9]/.test(c!) || c === "k" || c === "g") this.#fail("back-references are not to be had in a linear engine");
    if (/[bBAz]/.test(c!)) {
      if (inClass) this.#fail(`\\${c} has no place in a class`);
      this.#at += 2;
      return nothing;
    }
    if (this.#match(/\\x(?:[0-9A-Fa-f]{2}|\{[0-9A-Fa-f]{1,6}\})/y) !== null) return { ...oneCharacter, longest: 2 };
    if (this.#match(/\\[pP](?:[A-Z]|\{\^?[A-Za-z_]{1,32}\})/y) !== null) return { ...oneCharacter, longest: 2 };
    if (!/[dswDSWtnrfva0]/.test(c!) && /[A-Za-z0-9]/.test(c!)) this.#fail(`\\${c} is not known`);
    if (c === "0") this.#fail("write a character by its number as \\x00");
    this.#at += 2;
    return /[DSW]/.test(c!) ? { ...oneCharacter, longest: 2 } : oneCharacter;
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #match(sticky: RegExp): RegExpExecArray | null {
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#text);
    if (found !== null) this.#at += found[0].length;
    return found;
  }

  #fail(message: string, offset = this.#at): never {
    throw new RegexError(message, offset);
  }
}
