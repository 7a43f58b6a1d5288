/**
 * PostgreSQL's own parser in WASM, kept healthy. A text that overflows the stack or the memory leaves an instance in
 * an unknown state, so it is thrown away and the spare takes its place at once; a new spare loads in the background.
 * Texts too short to do that have an instance of their own.
 * An instance never gives memory back, so one that parsed a large text is replaced too.
 */
import load, { type PgQueryModule } from "libpg-query/wasm/libpg-query.js";
import type { Tree } from "./tree.ts";

export type Parsed =
  | { readonly tree: Tree; readonly problem: null }
  /** `transient`: not the text's fault, so the answer must not be cached. */
  | { readonly tree: null; readonly problem: string; readonly transient: boolean };

/** Texts above this leave the instance with a heap worth giving up. */
const recycleTextLengthMin = 128 * 1024;
/** Large texts after which an instance is replaced. */
const recycleAfterLargeTexts = 4;
/** What is kept of a parser's message. */
const problemLengthMax = 200;

/** Texts up to this length cannot nest deeply enough to break an instance, whatever they hold. */
const shortTextLengthMax = 1024;

/** For short texts: nothing one client sends can take the parser away from the others. */
let steady: PgQueryModule | null = null;
/** For longer texts, and what replaces it. */
let exposed: PgQueryModule | null = null;
let spare: PgQueryModule | null = null;
let loading: Promise<void> | null = null;
let largeTexts = 0;

export async function prepareParser(): Promise<void> {
  steady ??= await load();
  exposed ??= await load();
  if (spare === null) await loadSpare();
}

/** Parses SQL into libpg_query's tree. Never throws. */
export function parseSql(text: string): Parsed {
  return run(text, (instance, pointer) => {
    const result = instance._wasm_parse_query_raw(pointer);
    if (result === 0) throw new Error("out of memory");
    try {
      // struct PgQueryParseResult { char *parse_tree; char *stderr_buffer; PgQueryError *error; }
      const heap = instance.HEAPU32;
      const error = heap[(result >> 2) + 2]!;
      if (error !== 0) return instance.UTF8ToString(heap[error >> 2]!);
      const treeText = heap[result >> 2]!;
      if (treeText === 0) throw new Error("no parse tree");
      return JSON.parse(instance.UTF8ToString(treeText)) as Tree;
    } finally {
      instance._wasm_free_parse_result(result);
    }
  });
}

/** Parses a whole CREATE FUNCTION … LANGUAGE plpgsql. Never throws. */
export function parseProcedure(text: string): Parsed {
  return run(text, (instance, pointer) => {
    const result = instance._wasm_parse_plpgsql(pointer);
    try {
      const answer = instance.UTF8ToString(result);
      return answer.startsWith("{") ? (JSON.parse(answer) as Tree) : answer;
    } finally {
      if (result !== 0) instance._wasm_free_string(result);
    }
  });
}

/** `parse` gives the tree, or the parser's message as a string, and throws only when the instance broke. */
function run(text: string, parse: (instance: PgQueryModule, pointer: number) => Tree | string): Parsed {
  const short = text.length <= shortTextLengthMax;
  if (!short && exposed === null) promoteSpare();
  const instance = short ? steady : exposed;
  if (instance === null) return { tree: null, problem: "the parser is not loaded", transient: true };
  try {
    const bytes = instance.lengthBytesUTF8(text) + 1;
    const pointer = instance._malloc(bytes);
    if (pointer === 0) throw new Error("out of memory");
    instance.stringToUTF8(text, pointer, bytes);
    const tree = parse(instance, pointer);
    instance._free(pointer);
    if (text.length > recycleTextLengthMin && ++largeTexts >= recycleAfterLargeTexts) promoteSpare();
    if (typeof tree === "string")
      return { tree: null, problem: tree.slice(0, problemLengthMax), transient: tree.startsWith("out of memory") };
    return { tree, problem: null };
  } catch (error) {
    // A stack overflow in WASM is a RangeError, a trap or an abort a RuntimeError.
    if (short) steady = null;
    else exposed = null;
    promoteSpare();
    const message = error instanceof RangeError ? "nested too deeply" : "the parser failed";
    return { tree: null, problem: message, transient: false };
  }
}

function promoteSpare(): void {
  if (spare !== null) {
    if (steady === null) steady = spare;
    else exposed = spare;
    spare = null;
    largeTexts = 0;
  }
  void loadSpare();
}

/** Loads one instance into the first empty place. A failed load is tried again at the next need. */
function loadSpare(): Promise<void> {
  loading ??= load()
    .then((instance) => {
      if (steady === null) steady = instance;
      else if (exposed === null) exposed = instance;
      else spare = instance;
    })
    .catch(() => undefined)
    .finally(() => {
      loading = null;
    });
  return loading;
}
