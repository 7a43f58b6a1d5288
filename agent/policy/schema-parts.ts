/** Pieces of the JSON Schema that several keys share. */

/** A value or a list of values. */
export const oneOrMore = (word: Record<string, unknown>) => ({
  minLength: 1,
  items: word,
  minItems: 1,
  // biome-ignore lint/suspicious/noThenProperty: JSON Schema's own keyword
  ...{ if: { type: "string" }, then: word },
});

export const texts = (
  description: string,
  word: Record<string, unknown> = { type: "string", minLength: 1, maxLength: 512 },
) => ({
  description: `${description} A value, a list of values, a glob (* and ?), { not: … } (none may match), or { only: … } (all have to match).`,
  type: ["string", "array", "object"],
  expected: "a text, a list of texts, { not: … } or { only: … }",
  ...oneOrMore(word),
  properties: {
    not: { type: ["string", "array"], expected: "a text or a list of texts", ...oneOrMore(word) },
    only: { type: ["string", "array"], expected: "a text or a list of texts", ...oneOrMore(word) },
  },
  minProperties: 1,
  maxProperties: 1,
  additionalProperties: false,
});

export const duration = (description: string) => ({
  description: `${description} For example 30s, 10m, 1h.`,
  type: "string",
  pattern: "^[1-9][0-9]{0,5}(ms|s|m|h|d)$",
  expected: "a duration like 30s, 10m or 1h",
});

export const name = (what: string) => ({
  type: "string",
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
  expected: `a name for ${what}: letters, digits, dots, dashes and underscores, at most 64`,
});

/** A bound on a number. */
export const bounds = (description: string) => ({
  description,
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "over or under",
  properties: { over: { type: "integer", minimum: 0 }, under: { type: "integer", minimum: 1 } },
});
