/** What changed in a tool's definition, line by line, for the one who has to decide about it. */

/** Lines of either text that are compared; the rest is only counted. */
export const diffLinesMax = 400;

/** Lines taken away begin with `- `, new ones with `+ `; what stayed is left out. */
export function diffLines(before: string, after: string): string {
  const old = before.split("\n");
  const now = after.split("\n");
  const a = old.slice(0, diffLinesMax);
  const b = now.slice(0, diffLinesMax);
  const lengths = commonLengths(a, b);
  const out: string[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && at(lengths, i + 1, j, b.length) >= at(lengths, i, j + 1, b.length))) {
      out.push(`- ${a[i]}`);
      i += 1;
    } else {
      out.push(`+ ${b[j]}`);
      j += 1;
    }
  }
  const rest = Math.max(old.length, now.length) - diffLinesMax;
  if (rest > 0) out.push(`  (${rest} more lines not compared)`);
  return out.join("\n");
}

/** Length of the longest common subsequence of what follows each pair of places. */
function commonLengths(a: readonly string[], b: readonly string[]): Uint16Array {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      lengths[i * width + j] =
        a[i] === b[j]
          ? at(lengths, i + 1, j + 1, b.length) + 1
          : Math.max(at(lengths, i + 1, j, b.length), at(lengths, i, j + 1, b.length));
  return lengths;
}

function at(lengths: Uint16Array, i: number, j: number, columns: number): number {
  return lengths[i * (columns + 1) + j] ?? 0;
}
