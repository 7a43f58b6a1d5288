/**
 * Texts that differ only in an integer they compare a column with are described once. This is no general stripping of
 * literals, which lets a text pass as another: a text is taken only when its lexical structure is plain to see (no
 * quotes, comments, dollars, backslashes, nothing but ASCII), and an integer only directly behind `name =` (or < > <=
 * >= <>) and before the end of its expression. Such an integer is a constant of the parse tree that nothing in a
 * StatementInfo depends on: the other side of its comparison names a column, so it is no trivial condition.
 */

/** Longer texts are rare, and bulk. */
const templateTextLengthMax = 2_000;

const plain = /^(?:select|update|delete)\b[A-Za-z0-9_\s.,;=<>()*+\-/]*$/i;
const comment = /--|\/\*/;
/** Nine digits always fit the grammar's integer constant (ICONST). */
const comparedInteger =
  /(?<=\b[A-Za-z_][A-Za-z0-9_]*\s*(?:=|<|>|<=|>=|<>)\s*)\d{1,9}(?=\s*(?:$|[;),]|(?:and|or|order|limit|where|returning|for)\b))/gi;

/** A key that texts of the same StatementInfo share and no other text has; null when there is nothing to share. */
export function templateOf(sql: string): string | null {
  if (sql.length > templateTextLengthMax || !plain.test(sql) || comment.test(sql)) return null;
  // A plain text has no NUL in it, so a key never meets a text.
  const key = sql.replace(comparedInteger, "\0");
  return key === sql ? null : key;
}
