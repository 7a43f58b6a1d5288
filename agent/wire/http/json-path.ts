/**
 * Where in a JSON body a policy's mask applies: the part of JSONPath (RFC 9535) that can be followed while the text is
 * read once: names, `*`, indexes from the start, several of them in one bracket, and `..` before any of these.
 * Filters, slices and indexes from the end need what comes later, and are refused.
 */

/** Segments of one path: a bit each in the number that says how far a path has come. */
export const pathSegmentsMax = 30;

export interface JsonPath {
  readonly text: string;
  readonly segments: readonly Segment[];
}

interface Segment {
  readonly descendant: boolean;
  readonly selectors: readonly (string | number | typeof anything)[];
}

/**
 * How far a path has come at one value: bit `n` says that its first `n` segments have been matched on the way there.
 * 0: neither the value nor anything in it can match.
 */
export type PathState = number;

const anything = Symbol("*");

/** The path, or a sentence that tells what of it cannot be read. */
export function compileJsonPath(text: string): JsonPath | { readonly problem: string } {
  const segments: Segment[] = [];
  if (!text.startsWith("$")) return { problem: "a JSON path begins with $" };
  let rest = text.slice(1);
  while (rest !== "") {
    const dotted = /^(\.\.?)(?:(\*)|([A-Za-z_\u0080-\u{10ffff}][A-Za-z0-9_\u0080-\u{10ffff}]*))/u.exec(rest);
    if (dotted !== null) {
      const [whole, dots, star, name] = dotted;
      segments.push({ descendant: dots === "..", selectors: [star === undefined ? (name as string) : anything] });
      rest = rest.slice(whole.length);
    } else {
      const descendant = rest.startsWith("..[");
      const bracket = readBracket(descendant ? rest.slice(2) : rest);
      if (typeof bracket === "string") return { problem: `${bracket} at "${rest.slice(0, 20)}"` };
      segments.push({ descendant, selectors: bracket.selectors });
      rest = bracket.rest;
    }
    if (segments.length > pathSegmentsMax) return { problem: `a path has at most ${pathSegmentsMax} segments` };
  }
  if (segments.length === 0) return { problem: "$ alone is the whole body: name what is masked" };
  return { text, segments };
}

/** At the body itself. */
export const pathStart: PathState = 1;

/** At the member `key`, or the element with this index, of a value at which the path had come to `state`. */
export function pathEnter(path: JsonPath, state: PathState, key: string | number): PathState {
  let next = 0;
  const { segments } = path;
  for (let i = 0; i < segments.length; i += 1) {
    if ((state & (1 << i)) === 0) continue;
    const segment = segments[i] as Segment;
    if (segment.descendant) next |= 1 << i;
    if (selects(segment, key)) next |= 1 << (i + 1);
  }
  return next;
}

/** True when the value is what the path names. */
export function pathMatches(path: JsonPath, state: PathState): boolean {
  return (state & (1 << path.segments.length)) !== 0;
}

function selects({ selectors }: Segment, key: string | number): boolean {
  for (const selector of selectors) if (selector === anything || selector === key) return true;
  return false;
}

/** `['name']`, `["name"]`, `[0]`, `[*]`, or several with commas between them. */
function readBracket(text: string): { selectors: Segment["selectors"]; rest: string } | string {
  if (!text.startsWith("[")) return "a name, [index], ['name'] or * is expected";
  const selectors: (string | number | typeof anything)[] = [];
  let rest = text.slice(1);
  for (;;) {
    const found =
      /^[ \t\r\n]*(?:(\*)|(0|[1-9][0-9]{0,14})|'((?:[^'\\]|\\[\s\S])*)'|"((?:[^"\\]|\\[\s\S])*)")[ \t\r\n]*([,\]])/.exec(
        rest,
      );
    if (found === null)
      return /^[ \t]*(?:\?|-|[0-9]*[ \t]*:)/.test(rest)
        ? "filters, slices and indexes from the end are not read"
        : "the bracket cannot be read";
    const [whole, star, index, single, double, mark] = found;
    if (star !== undefined) selectors.push(anything);
    else if (index !== undefined) selectors.push(Number(index));
    else {
      const name = readQuoted(single, double);
      if (name === null) return "an escape in a quoted name cannot be read";
      selectors.push(name);
    }
    rest = rest.slice(whole.length);
    if (mark === "]") return { selectors, rest };
  }
}

/** RFC 9535 §2.3.1.1: escapes as in JSON, of which a quote of either kind may be one; bare control characters are read too. */
function readQuoted(single: string | undefined, double: string | undefined): string | null {
  const json = (single ?? double ?? "").replace(/\\'|"|\p{Cc}|\\[\s\S]/gu, (part) =>
    part === "\\'" ? "'" : part.startsWith("\\") ? part : JSON.stringify(part).slice(1, -1),
  );
  try {
    return JSON.parse(`"${json}"`) as string;
  } catch {
    return null;
  }
}
