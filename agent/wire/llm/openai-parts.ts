/** What the streams of OpenAI's APIs have in common: runs of text by their place, and what would tell of them anyway. */
import {
  isHandle,
  isObject,
  type JsonObject,
  limitRuns,
  type StreamRewriter,
  type TextRuns,
} from "./message-leaves.ts";
import {
  type Carry,
  type CarryState,
  type Counts,
  carryOf,
  countsOf,
  restoreCounts,
  saveCarry,
} from "./stream-state.ts";

/** A run that may hold something back, and the event that would carry it. */
interface OpenRun {
  readonly owner: string;
  /** Which response it is part of, where several are open at a time. */
  readonly response: unknown;
  readonly carry: Carry;
}

type OpenRunsState = ReadonlyMap<string, Omit<OpenRun, "carry"> & { readonly carry: CarryState }>;

interface OpenAiState {
  readonly counts: Counts;
  readonly open: OpenRunsState;
}

/** Pieces of text in this event, by their run: what a run still holds when it ends may be put behind its last piece. */
type Pieces = Map<string, { readonly node: JsonObject; readonly key: string }>;

export class OpenRuns {
  readonly #open = new Map<string, OpenRun>();

  /** True: the piece leaves otherwise than it came. */
  push(
    runs: TextRuns,
    run: string,
    owner: string,
    place: { node: JsonObject; key: string; response?: unknown },
    carry: OpenRun["carry"],
  ) {
    const { node, key, response } = place;
    const text = node[key] as string;
    if (!this.#open.has(run)) limitRuns(this.#open.size + 1);
    this.#open.set(run, { owner, response, carry });
    const out = runs.push(run, text, /arguments$/.test(run) ? "json" : "text");
    node[key] = out;
    return out !== text;
  }

  save(): OpenRunsState {
    return new Map([...this.#open].map(([run, { carry, ...rest }]) => [run, { ...rest, carry: saveCarry(carry) }]));
  }

  restore(state: OpenRunsState): void {
    this.#open.clear();
    for (const [run, { carry, ...rest }] of state) this.#open.set(run, { ...rest, carry: carryOf(carry) });
  }

  /** The runs of this response have ended. */
  closeResponse(runs: TextRuns, response: unknown): JsonObject[] {
    const owners = [...this.#open.values()].filter((open) => open.response === response).map(({ owner }) => owner);
    return [...new Set(owners)].flatMap((owner) => this.close(runs, owner).rest);
  }

  /** The runs of this owner have ended (null: all of them): what they held back, as events or behind a piece. */
  close(runs: TextRuns, owner: string | null, pieces: Pieces = new Map()): { rest: JsonObject[]; changed: boolean } {
    const rest: JsonObject[] = [];
    let changed = false;
    for (const [run, open] of this.#open) {
      if (owner !== null && open.owner !== owner) continue;
      this.#open.delete(run);
      const text = runs.close(run);
      if (text === "") continue;
      const piece = pieces.get(run);
      if (piece === undefined) rest.push(open.carry(text));
      else {
        piece.node[piece.key] = (piece.node[piece.key] as string) + text;
        changed = true;
      }
    }
    return { rest, changed };
  }
}

/** A stream whose texts are such runs: what it knows between two events, and what it still holds at its end. */
export abstract class OpenRunsStream implements StreamRewriter {
  inputTokens: number | null = null;
  outputTokens: number | null = null;
  readonly toolCalls: string[] = [];
  error: string | null = null;
  protected readonly open = new OpenRuns();

  abstract event(event: JsonObject, runs: TextRuns): JsonObject[] | null;

  end(runs: TextRuns): JsonObject[] {
    return this.open.close(runs, null).rest;
  }

  save(): OpenAiState {
    return { counts: countsOf(this), open: this.open.save() };
  }

  restore({ counts, open }: OpenAiState): void {
    restoreCounts(this, counts);
    this.open.restore(open);
  }
}

/**
 * Each text below a delta, with the way to it: members by name, elements by their own `index` where they have one. Names
 * of tools come whole and are no text.
 */
export function eachPiece(
  delta: JsonObject,
  visit: (node: JsonObject, key: string, way: readonly (string | number)[]) => void,
): void {
  const open: { node: unknown; way: readonly (string | number)[] }[] = [{ node: delta, way: [] }];
  // Not by shift: of a long list that takes as many steps as the list is long, each time.
  for (let at = 0; at < open.length; at += 1) {
    const { node, way } = open[at] as (typeof open)[number];
    if (Array.isArray(node)) {
      for (const [place, element] of node.entries()) {
        if (typeof element !== "object" || element === null) continue;
        const index: unknown = isObject(element) ? element["index"] : null;
        open.push({ node: element, way: [...way, typeof index === "number" ? index : place] });
      }
    } else if (isObject(node)) {
      for (const key of Object.keys(node)) {
        const value = node[key];
        if (typeof value === "string") {
          if (value !== "" && !isHandle(key) && key !== "name") visit(node, key, [...way, key]);
        } else if (typeof value === "object" && value !== null) open.push({ node: value, way: [...way, key] });
      }
    }
  }
}

/** The same way down again, to one text; elements say their `index`. */
export function nest(way: readonly (string | number)[], text: string): unknown {
  let value: unknown = text;
  for (const key of way.toReversed()) {
    if (typeof key === "string") value = { [key]: value };
    else value = [isObject(value) ? { index: key, ...value } : value];
  }
  return value;
}

/** Tokens one by one, in letters and bytes, would tell what is masked in the text. True: some were there. */
export function dropLogprobs(root: unknown): boolean {
  let dropped = false;
  const open: unknown[] = [root];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (typeof node !== "object" || node === null) continue;
    for (const [key, value] of Object.entries(node)) {
      if (typeof value !== "object" || value === null) continue;
      if (key !== "logprobs") open.push(value);
      else if (!Array.isArray(value)) {
        (node as JsonObject)[key] = null;
        dropped = true;
      } else if (value.length > 0) {
        (node as JsonObject)[key] = [];
        dropped = true;
      }
    }
  }
  return dropped;
}

/** Chat and completions count `prompt_tokens` and `completion_tokens`, Responses `input_tokens` and `output_tokens`. */
export function openaiUsage(usage: unknown): { input: number | null; output: number | null } {
  if (!isObject(usage)) return { input: null, output: null };
  const input = usage["prompt_tokens"] ?? usage["input_tokens"];
  const output = usage["completion_tokens"] ?? usage["output_tokens"];
  return { input: typeof input === "number" ? input : null, output: typeof output === "number" ? output : null };
}

export function errorText(error: unknown): string | null {
  if (typeof error === "string") return error;
  return isObject(error) ? String(error["message"] ?? error["code"] ?? error["type"] ?? "") : null;
}
