/**
 * Globs: `*` is any run of characters, `?` is one. No classes, no braces, no escapes. Matching is linear in time and
 * allocates nothing: a pattern like `*a*a*a*b` costs a regular expression seconds on a text chosen for it.
 */

/** Longest pattern, in characters. */
export const globLengthMax = 512;

export type Glob = (text: string) => boolean;

export function compileGlob(pattern: string, options: { ignoreCase?: boolean } = {}): Glob {
  const ignoreCase = options.ignoreCase ?? false;
  const wanted = ignoreCase ? pattern.toLowerCase() : pattern;
  const fold: (text: string) => string = ignoreCase ? (text) => text.toLowerCase() : (text) => text;
  if (/^\*+$/.test(wanted)) return () => true;
  if (!/[*?]/.test(wanted)) {
    if (!ignoreCase) return (text) => text === wanted;
    // Folding costs more than all the rest of a decision's work on a name, and lengths mostly differ.
    return (text) => text === wanted || (text.length === wanted.length && fold(text) === wanted);
  }
  if (wanted.includes("?")) return (text) => matchWildcards(wanted, fold(text));
  const parts = wanted.split("*");
  const head = parts[0]!;
  const tail = parts.at(-1)!;
  const middle = parts.slice(1, -1).filter((part) => part !== "");
  return (text) => matchParts(fold(text), head, middle, tail);
}

/** The leftmost place for each part is the best one, so one pass without going back is enough. */
function matchParts(text: string, head: string, middle: readonly string[], tail: string): boolean {
  if (text.length < head.length + tail.length || !text.startsWith(head) || !text.endsWith(tail)) return false;
  const end = text.length - tail.length;
  let at = head.length;
  for (const part of middle) {
    const found = text.indexOf(part, at);
    if (found === -1 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

/** With `?`: the classic two-pointer match; it goes back only to the last star, so at most pattern × text steps. */
function matchWildcards(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    const c = pattern.charCodeAt(p);
    if (p < pattern.length && c === 42) {
      star = p;
      p += 1;
      resume = t;
    } else if (p < pattern.length && (c === 63 || c === text.charCodeAt(t))) {
      p += 1;
      t += 1;
    } else if (star !== -1) {
      p = star + 1;
      resume += 1;
      t = resume;
    } else return false;
  }
  while (p < pattern.length && pattern.charCodeAt(p) === 42) p += 1;
  return p === pattern.length;
}
