/**
 * The part of JSONPath (RFC 9535) that masks may use: `$`, `.name`, `['name']`, `[0]`, `.*`, `[*]`, several in one
 * bracket, and `..` before any of these. Filters, slices and positions from the end need what comes later in a body.
 * Whoever masks reads a little more than what is let through here.
 */

/** Who follows a path has a bit for each step. */
const stepsMax = 30;
const step =
  /\.\.?(?:\*|[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)|(?:\.\.)?\[ ?(?:\*|0|[1-9][0-9]{0,8}|'(?:[^'\\]|\\['"\\])*'|"(?:[^"\\]|\\["\\])*")(?: ?, ?(?:\*|0|[1-9][0-9]{0,8}|'(?:[^'\\]|\\['"\\])*'|"(?:[^"\\]|\\["\\])*"))* ?\]/y;

/** What is wrong with a path; null when nothing is. */
export function wrongWithJsonPath(path: string): string | null {
  if (!path.startsWith("$")) return "a JSON path starts with $, as in $.customers[*].ssn";
  let at = 1;
  let steps = 0;
  while (at < path.length) {
    step.lastIndex = at;
    const found = step.exec(path);
    if (found === null)
      return `the JSON path is not understood from "${path.slice(at, at + 20)}"; there are .name, ['name'], [0], [*], .* and ..name`;
    at += found[0].length;
    steps += 1;
  }
  if (steps === 0) return "the JSON path names the whole body; name what is masked in it, as in $..ssn";
  return steps > stepsMax ? `the JSON path has more than ${stepsMax} steps` : null;
}
