/** The JSON Schema of a detector that the policy defines. */

export const detector = {
  description: "Exactly one of regex, words and source.",
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "one of regex, words and source",
  properties: {
    regex: {
      description: "Regular expression in RE2's syntax: no look-around, no back-references.",
      type: "string",
      minLength: 1,
      maxLength: 1000,
    },
    max: {
      description: "Longest match in characters; needed where the expression sets no bound itself.",
      type: "integer",
      minimum: 1,
      maximum: 4096,
    },
    words: {
      description: "Whole words: a list, or a file with one a line.",
      type: ["array", "object"],
      minItems: 1,
      maxItems: 10_000,
      items: { type: "string", minLength: 1, maxLength: 256 },
      properties: { file: { description: "Path of the file.", type: "string", minLength: 1 } },
      required: ["file"],
      additionalProperties: false,
      expected: "a list of words, or { file: … }",
    },
    source: {
      description: "Text that looks like source code; with directories, text that shares code with what is below them.",
      type: "object",
      additionalProperties: false,
      expected: "{ directories: [ … ] }, or {} for any source code",
      properties: {
        directories: {
          description: "Directories whose code is recognised.",
          type: "array",
          minItems: 1,
          maxItems: 64,
          items: { type: "string", minLength: 1 },
        },
      },
    },
  },
};
