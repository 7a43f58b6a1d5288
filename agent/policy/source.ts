/** One policy file: YAML to a plain value, with the place of every part of it. Never throws. */
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { PolicyProblem } from "./policy.ts";

/** A policy is written by people; this is a thousand long rules. */
export const sourceBytesMax = 1024 * 1024;
/** Nodes that aliases may add: more is an attack on the memory, not a policy. */
const aliasesMax = 100;
/** Nesting of flow collections; the YAML library reads them by recursion. */
const nestingMax = 64;
/** Problems told of one file; the rest are consequences. */
export const problemsMax = 50;

export type Path = readonly (string | number)[];

export interface Source {
  readonly file: string;
  readonly value: unknown;
  /** A problem at the value with this path, or at its key. */
  problem(path: Path, message: string, at?: "key" | "value"): PolicyProblem;
}

export function readSource(file: string, text: string): Source | { errors: PolicyProblem[] } {
  const fail = (message: string, line = 1, column = 1) => ({
    errors: [new PolicyProblem(file, line, column, message)],
  });
  if (Buffer.byteLength(text) > sourceBytesMax) return fail(`The file is larger than ${sourceBytesMax} bytes.`);
  if (nestsTooDeep(text)) return fail(`The file nests deeper than ${nestingMax} levels.`);
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      uniqueKeys: true,
      prettyErrors: false,
      stringKeys: true,
      logLevel: "error",
    });
    if (document.errors.length > 0) {
      return {
        errors: document.errors.slice(0, problemsMax).map((error) => {
          const { line, col } = lines.linePos(error.pos[0]);
          return new PolicyProblem(
            file,
            Math.max(1, line),
            Math.max(1, col),
            error.code === "MULTIPLE_DOCS"
              ? "A file holds one document; this is a second one."
              : sentence(error.message),
          );
        }),
      };
    }
    const value: unknown = document.toJS({ maxAliasCount: aliasesMax });
    return { file, value, problem: (path, message, at = "value") => place(document, lines, file, path, message, at) };
  } catch (error) {
    // toJS refuses too many aliases by throwing; deep nesting may overflow the stack.
    return fail(
      error instanceof RangeError
        ? "The file nests too deeply."
        : sentence(error instanceof Error ? error.message : String(error)),
    );
  }
}

/** Counts brackets and indentation without regard to quoting: no sound policy comes near the limit. */
function nestsTooDeep(text: string): boolean {
  let depth = 0;
  let lineStart = true;
  let opened = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    if (c === 91 || c === 123) {
      depth += 1;
      if (depth > nestingMax) return true;
    } else if (c === 93 || c === 125) depth = Math.max(0, depth - 1);
    // `- - - -` and `? ? ? ?` nest without brackets.
    if (c === 10) {
      lineStart = true;
      opened = 0;
    } else if (lineStart && (c === 45 || c === 63 || c === 58)) {
      opened += 1;
      if (opened > nestingMax) return true;
    } else if (c !== 32 && c !== 9) lineStart = false;
  }
  return false;
}

function place(
  document: Document,
  lines: LineCounter,
  file: string,
  path: Path,
  message: string,
  at: "key" | "value",
): PolicyProblem {
  let node: unknown = document.contents;
  let offset = offsetOf(node) ?? 0;
  for (const [i, step] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => (isScalar(item.key) ? String(item.key.value) : String(item.key)) === String(step),
      );
      if (pair === undefined) break;
      next = pair.value;
      const last = i === path.length - 1;
      offset = (last && at === "key" ? offsetOf(pair.key) : (offsetOf(next) ?? offsetOf(pair.key))) ?? offset;
    } else if (isSeq(node)) {
      next = node.items[Number(step)];
      offset = offsetOf(next) ?? offset;
    } else break;
    node = next;
  }
  const { line, col } = lines.linePos(offset);
  return new PolicyProblem(file, Math.max(1, line), Math.max(1, col), message);
}

function offsetOf(node: unknown): number | null {
  return isNode(node) && node.range != null ? node.range[0] : null;
}

function sentence(message: string): string {
  const first = message.split("\n")[0]!.trim().slice(0, 300);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
