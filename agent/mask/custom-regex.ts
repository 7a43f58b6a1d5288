/**
 * Regular expressions that a policy defines, in RE2's syntax. re2js compiles them; its program is run here, with all
 * threads side by side (linear, whatever the expression), because a stream has to know whether the text's end may still
 * be in a match, and where that would have begun.
 */
import { RE2JS } from "re2js";
import { WeirError } from "../errors.ts";
import { is, type TextKind, token } from "./chars.ts";
import type { Detector } from "./detector.ts";

/** Operations of re2js's program, and the conditions of `emptyWidth`. */
const [alt, altMatch, capture, emptyWidth, match, nop, rune, rune1, runeAny, runeNotLine] = [
  1, 2, 3, 4, 6, 7, 8, 9, 10, 11,
] as const;
const [beginLine, endLine, beginText, endText, boundary, noBoundary] = [1, 2, 4, 8, 16, 32] as const;

/** A compiled expression is at most this long. */
const instructionsMax = 20_000;

interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  matchRune(rune: number): boolean;
}

/** No match is longer than `charactersMax`; so much of a stream may be held back. */
export function regexDetector(name: string, expression: string, charactersMax: number): Detector {
  let program: Program;
  try {
    program = RE2JS.compile(expression).re2().prog as Program;
  } catch (cause) {
    throw new WeirError("WEIR_POLICY_INVALID", `The expression of detector ${name} cannot be used.`, { cause });
  }
  if (program.numLb > 0 || program.inst.length > instructionsMax)
    throw new WeirError("WEIR_POLICY_INVALID", `The expression of detector ${name} looks behind, or is too long.`);
  const forBytes = detectorOf(name, new Machine(program, charactersMax, "latin1"));
  return { ...detectorOf(name, new Machine(program, charactersMax, "utf16")), forBytes };
}

interface Program {
  readonly inst: readonly Instruction[];
  readonly start: number;
  readonly numLb: number;
}

function detectorOf(name: string, machine: Machine): Detector {
  return {
    name,
    needs: 0,
    follow: null,
    next(text, from, open) {
      machine.run(text, from, true);
      return machine.start >= 0 && machine.start < open ? { start: machine.start, end: machine.end } : null;
    },
    tail(text, from) {
      for (let at = from; ; at = machine.end) {
        machine.run(text, at, false);
        if (machine.open >= 0) return machine.open;
        if (machine.start < 0) return text.length;
      }
    },
  };
}

class Machine {
  /** Of the last run: the leftmost match (-1: none), and the first place that more text decides (-1: none). */
  start = -1;
  end = -1;
  open = -1;
  readonly #code: readonly Instruction[];
  readonly #first: number;
  readonly #charactersMax: number;
  readonly #kind: TextKind;
  /** Instructions that may begin a match, by ASCII code; what is not ASCII may always. */
  readonly #begins = new Uint8Array(128);
  /** Threads that wait for a character: instruction and start, in order of priority; and those that took one. */
  readonly #ready: { readonly at: Int32Array; readonly start: Int32Array };
  readonly #moved: { readonly at: Int32Array; readonly start: Int32Array };
  #readyCount = 0;
  /** The round in which an instruction was last added. */
  readonly #seen: Int32Array;
  #round = 0;
  readonly #stack: number[] = [];

  constructor(program: Program, charactersMax: number, kind: TextKind) {
    this.#code = program.inst;
    this.#first = program.start;
    this.#charactersMax = charactersMax;
    this.#kind = kind;
    const { length } = program.inst;
    this.#ready = { at: new Int32Array(length), start: new Int32Array(length) };
    this.#moved = { at: new Int32Array(length), start: new Int32Array(length) };
    this.#seen = new Int32Array(length);
    this.#nextRound();
    this.#add(this.#first, 0, -1);
    for (let code = 0; code < 128; code += 1) {
      for (let i = 0; i < this.#readyCount; i += 1)
        if (takes(this.#code[this.#ready.at[i] as number] as Instruction, code)) this.#begins[code] = 1;
    }
  }

  /** `whole`: the text's end is the end. */
  run(text: string, from: number, whole: boolean): void {
    this.start = -1;
    this.end = -1;
    this.open = -1;
    let count = 0;
    let at = from;
    for (;;) {
      if (count === 0) {
        if (this.start >= 0) return;
        while (at < text.length && this.#begins[text.charCodeAt(at)] === 0) at += 1;
        if (at >= text.length) return;
      }
      const width = at < text.length ? widthAt(text, at, this.#kind, whole) : 0;
      if (width === 0 && !whole) {
        this.open = this.start >= 0 ? this.start : at;
        for (let i = 0; i < count; i += 1) this.open = Math.min(this.open, this.#moved.start[i] as number);
        return;
      }
      const code = width === 0 ? -1 : codeAt(text, at, width, this.#kind);
      this.#nextRound();
      const conditions = conditionsAt(text, at);
      for (let i = 0; i < count; i += 1)
        this.#add(this.#moved.at[i] as number, this.#moved.start[i] as number, conditions);
      if (this.start < 0 && width > 0) this.#add(this.#first, at, conditions);
      count = this.#step(code, at, width);
      if (width === 0) return;
      at += width;
    }
  }

  /** Threads take a character; one that has matched ends those of lower priority. */
  #step(code: number, at: number, width: number): number {
    let count = 0;
    for (let i = 0; i < this.#readyCount; i += 1) {
      const instruction = this.#code[this.#ready.at[i] as number] as Instruction;
      const start = this.#ready.start[i] as number;
      if (instruction.op === match) {
        if (start === at) continue;
        this.start = start;
        this.end = at;
        break;
      }
      if (code < 0 || at + width - start > this.#charactersMax || !takes(instruction, code)) continue;
      this.#moved.at[count] = instruction.out;
      this.#moved.start[count] = start;
      count += 1;
    }
    return count;
  }

  #nextRound(): void {
    this.#round += 1;
    this.#readyCount = 0;
    if (this.#round === 0x7fffffff) {
      this.#seen.fill(0);
      this.#round = 1;
    }
  }

  /** Adds what can be reached without a character, in order of priority. */
  #add(first: number, start: number, conditions: number): void {
    const stack = this.#stack;
    stack.push(first);
    while (stack.length > 0) {
      const place = stack.pop() as number;
      if (this.#seen[place] === this.#round) continue;
      this.#seen[place] = this.#round;
      const { op, out, arg } = this.#code[place] as Instruction;
      if (op === alt || op === altMatch) stack.push(arg, out);
      else if (op === capture || op === nop) stack.push(out);
      else if (op === emptyWidth) {
        if ((arg & ~conditions) === 0) stack.push(out);
      } else if (op === match || (op >= rune && op <= runeNotLine)) {
        this.#ready.at[this.#readyCount] = place;
        this.#ready.start[this.#readyCount] = start;
        this.#readyCount += 1;
      }
    }
  }
}

function takes(instruction: Instruction, code: number): boolean {
  switch (instruction.op) {
    case rune:
    case rune1:
      return instruction.matchRune(code);
    case runeAny:
      return true;
    case runeNotLine:
      return code !== 0x0a;
    default:
      return false;
  }
}

function conditionsAt(text: string, at: number): number {
  const before = at === 0 ? -1 : text.charCodeAt(at - 1);
  const after = at >= text.length ? -1 : text.charCodeAt(at);
  const here = isWord(text, at - 1) === isWord(text, at) ? noBoundary : boundary;
  return (
    here |
    (before < 0 ? beginText | beginLine : before === 0x0a ? beginLine : 0) |
    (after < 0 ? endText | endLine : after === 0x0a ? endLine : 0)
  );
}

function isWord(text: string, at: number): boolean {
  return is(text, at, token) && text.charCodeAt(at) !== 0x2d;
}

/** Units of the character at a place; 0 when its rest may still come. */
function widthAt(text: string, at: number, kind: TextKind, whole: boolean): number {
  const code = text.charCodeAt(at);
  if (kind === "utf16") {
    if (code < 0xd800 || code > 0xdbff) return 1;
    if (at + 1 >= text.length) return whole ? 1 : 0;
    const low = text.charCodeAt(at + 1);
    return low >= 0xdc00 && low <= 0xdfff ? 2 : 1;
  }
  const length = code < 0xc2 ? 1 : code < 0xe0 ? 2 : code < 0xf0 ? 3 : code < 0xf5 ? 4 : 1;
  for (let i = 1; i < length; i += 1) {
    if (at + i >= text.length) return whole ? 1 : 0;
    if ((text.charCodeAt(at + i) & 0xc0) !== 0x80) return 1;
  }
  return length;
}

function codeAt(text: string, at: number, width: number, kind: TextKind): number {
  if (kind === "utf16") return text.codePointAt(at) as number;
  const first = text.charCodeAt(at);
  if (width === 1) return first;
  let code = first & (0x7f >> width);
  for (let i = 1; i < width; i += 1) code = (code << 6) | (text.charCodeAt(at + i) & 0x3f);
  return code;
}
