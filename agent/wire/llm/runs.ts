/**
 * The texts of one reply on their way: masked, kept for the record, and with the client's own values in place of
 * placeholders, in this order, so that the record keeps placeholders and no mask falls on what the client sent itself.
 */
import { WeirError } from "../../errors.ts";
import { createStreamMasker, type StreamMasker } from "../../mask/stream-masker.ts";
import { replyTextBytesMax } from "../http/dialect.ts";
import { maskJson } from "../http/json-mask.ts";
import { JsonView } from "./json-view.ts";
import type { ReplyMasks } from "./masking.ts";
import type { TextKind, TextRuns } from "./message-leaves.ts";
import { Placeholders, Restorer } from "./placeholders.ts";

/** What runs know between two events, as plain data: those of the same reply elsewhere go on from it. */
export interface RunsState {
  readonly open: ReadonlyMap<string, TextRunState>;
  readonly texts: ReadonlyMap<string, string>;
  readonly kept: number;
  readonly masked: number;
  readonly names: readonly (readonly [string, string])[];
}

export class ReplyRuns implements TextRuns {
  readonly #masks: ReplyMasks | null;
  #names: Placeholders | null;
  readonly #open = new Map<string, TextRun>();
  /** What left of each run, masked, for the record. */
  readonly #texts = new Map<string, string>();
  #kept = 0;
  #masked = 0;

  constructor(masks: ReplyMasks | null, names: Placeholders | null) {
    this.#masks = masks;
    this.#names = names;
  }

  /** True: texts may leave otherwise than they came. */
  get changes(): boolean {
    return this.#masks !== null || this.#given !== null;
  }

  /** Where messages follow one another, names are given while the reply goes on. */
  get #given(): Placeholders | null {
    return this.#names !== null && this.#names.size > 0 ? this.#names : null;
  }

  get masked(): number {
    let masked = this.#masked;
    for (const run of this.#open.values()) masked += run.masked;
    return masked;
  }

  get held(): number {
    let held = 0;
    for (const run of this.#open.values()) held += run.held;
    return held;
  }

  save(): RunsState {
    return {
      open: new Map([...this.#open].map(([name, run]) => [name, run.save()])),
      texts: this.#texts,
      kept: this.#kept,
      masked: this.#masked,
      names: this.#names?.entries() ?? [],
    };
  }

  restore({ open, texts, kept, masked, names }: RunsState): void {
    // Where messages follow one another there may be more of them by now.
    if (this.#given === null && names.length > 0) this.#names = Placeholders.of(names);
    this.#open.clear();
    for (const [name, state] of open) {
      const run = new TextRun(this.#masks, state.restorer === null ? null : this.#given, "text");
      run.restore(state);
      this.#open.set(name, run);
    }
    this.#texts.clear();
    for (const [name, text] of texts) this.#texts.set(name, text);
    this.#kept = kept;
    this.#masked = masked;
  }

  push(name: string, piece: string, kind: TextKind): string {
    let run = this.#open.get(name);
    if (run === undefined) {
      run = new TextRun(this.#masks, this.#given, kind);
      this.#open.set(name, run);
    }
    const out = run.push(piece);
    this.#keep(name, run.left);
    return out;
  }

  close(name: string): string {
    const run = this.#open.get(name);
    if (run === undefined) return "";
    this.#open.delete(name);
    const out = run.end();
    this.#keep(name, run.left);
    this.#masked += run.masked;
    return out;
  }

  whole(text: string): string {
    if (!this.changes || text === "") return text;
    const run = new TextRun(this.#masks, this.#given, "text");
    const first = run.push(text);
    const out = first + run.end();
    this.#masked += run.masked;
    return out;
  }

  /** The texts of the reply as they left, placeholders not restored. */
  text(): string {
    return [...this.#texts.values()].join("\n");
  }

  #keep(name: string, text: string): void {
    if (text === "" || this.#kept >= replyTextBytesMax) return;
    const part = text.slice(0, replyTextBytesMax - this.#kept);
    this.#kept += part.length;
    this.#texts.set(name, (this.#texts.get(name) ?? "") + part);
  }
}

const opensJson = /^[ \t\r\n]*[{[]/;

/** A text in JSON is held whole where masks name paths or members in it, or judge whole strings; longer, it is refused. */
export const pathTextCharactersMax = 1024 * 1024;

interface TextRunState {
  /** null: it is no JSON; undefined: that is not known yet. */
  readonly view: ReturnType<JsonView["save"]> | null | undefined;
  readonly masker: unknown;
  readonly restorer: string | null;
  readonly held: string | null;
  readonly seen: boolean;
  readonly pathsMasked: number;
}

class TextRun {
  /** Of the last call: what left, before placeholders were restored. */
  left = "";
  readonly #masks: ReplyMasks | null;
  readonly #masker: StreamMasker | null;
  readonly #restorer: Restorer | null;
  /** Undefined: nothing but blanks came yet, and it may become either. */
  #view: JsonView | null | undefined;
  /** JSON that is held whole; null: it is not. */
  #held: string | null = null;
  /** The detectors have seen its values one by one. */
  #seen = false;
  #pathsMasked = 0;

  constructor(masks: ReplyMasks | null, names: Placeholders | null, kind: TextKind) {
    const plan = masks?.plan ?? null;
    this.#masks = masks;
    this.#masker = plan === null ? null : createStreamMasker(plan);
    this.#restorer = names === null ? null : new Restorer(names);
    if (masks === null && names === null) this.#view = null;
    else if (kind === "json") this.#openView();
  }

  get masked(): number {
    return this.#pathsMasked + (this.#masker?.masked ?? 0);
  }

  get held(): number {
    return (this.#held?.length ?? 0) + (this.#masker?.held ?? 0) + (this.#restorer?.held ?? 0);
  }

  save(): TextRunState {
    return {
      view: this.#view?.save() ?? (this.#view as null | undefined),
      masker: this.#masker?.save() ?? null,
      restorer: this.#restorer?.save() ?? null,
      ...{ held: this.#held, seen: this.#seen, pathsMasked: this.#pathsMasked },
    };
  }

  restore({ view, masker, restorer, held, seen, pathsMasked }: TextRunState): void {
    this.#view = view === null || view === undefined ? view : new JsonView(this.#restorer !== null);
    if (view != null) this.#view?.restore(view);
    this.#masker?.restore(masker);
    this.#restorer?.restore(restorer ?? "");
    this.#held = held;
    this.#seen = seen;
    this.#pathsMasked = pathsMasked;
  }

  push(piece: string): string {
    if (this.#view === undefined && /[^ \t\r\n]/.test(piece)) {
      // Structured outputs are JSON in the place of text, and clients parse them.
      if (opensJson.test(piece)) this.#openView();
      else this.#view = null;
    }
    if (this.#held === null) return this.#pass(piece);
    this.left = "";
    this.#held += piece;
    if (this.#held.length > pathTextCharactersMax) {
      throw new WeirError("WEIR_MASK_IMPOSSIBLE", `a JSON text is longer than ${pathTextCharactersMax} characters`);
    }
    return "";
  }

  end(): string {
    const whole = this.#held === null ? "" : this.#pass(this.#maskWhole(this.#held));
    const before = this.left;
    const out = whole + this.#passRest();
    if (this.#held !== null) this.left = before + this.left;
    return this.#restorer === null ? out : out + this.#restorer.end();
  }

  #openView(): void {
    this.#view = new JsonView(this.#restorer !== null);
    if (this.#masks !== null && (this.#masks.paths.length > 0 || this.#byValue)) this.#held = "";
  }

  /** Of JSON some detectors want each value by itself: by its member's name, or each string as a whole. */
  get #byValue(): boolean {
    const plan = this.#masks?.plan ?? null;
    return plan !== null && (plan.judgesWhole || plan.styleOfKey !== null);
  }

  #maskWhole(text: string): string {
    const { paths, key, masker } = this.#masks as ReplyMasks;
    const masked = maskJson(Buffer.from(text, "utf8"), { masker: this.#byValue ? masker : null, paths, key });
    this.#seen = masked !== null && this.#byValue;
    if (masked === null || masked.masked === 0) return text;
    this.#pathsMasked += masked.masked;
    return masked.bytes.toString("utf8");
  }

  #pass(piece: string): string {
    const view = this.#view ?? null;
    const shown = view === null ? piece : view.show(piece);
    const masked = this.#masker === null || this.#seen ? shown : this.#masker.push(shown);
    this.left = view === null ? masked : view.write(masked);
    return this.#restore(this.left);
  }

  #passRest(): string {
    const view = this.#view ?? null;
    const shown = view === null ? "" : view.showRest();
    const masked = this.#masker === null || this.#seen ? shown : this.#masker.push(shown) + this.#masker.end();
    this.left = view === null ? masked : view.write(masked);
    return this.#restore(this.left);
  }

  #restore(text: string): string {
    if (this.#restorer === null) return text;
    return this.#restorer.push(text, this.#view?.isJson === true ? inJson : undefined);
  }
}

/** A value inside of a JSON string. */
function inJson(value: string): string {
  return JSON.stringify(value).slice(1, -1);
}
