/** The JSON Schema of a detector that the policy defines. */

export const detector = {
  description: "Exactly one of regex, words, keys and source.",
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "one of regex, words, keys and source",
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
      properties: {
        file: { description: "Path of the file, relative to the policy's.", type: "string", minLength: 1 },
      },
      required: ["file"],
      additionalProperties: false,
      expected: "a list of words, or { file: … }",
    },
    keys: {
      description: "Members of JSON objects whose values are meant, in any case; `*` stands for any letters.",
      type: "array",
      minItems: 1,
      maxItems: 256,
      items: { type: "string", minLength: 1, maxLength: 128 },
    },
    source: {
      description:
        "Text that looks like source code; with directories or fingerprints, text that shares code with those files.",
      type: "object",
      additionalProperties: false,
      expected: "{ directories: [ … ] }, { fingerprints: FILE }, or {} for any source code",
      properties: {
        directories: {
          description: "Directories whose code is recognised, relative to the policy's file.",
          type: "array",
          minItems: 1,
          maxItems: 64,
          items: { type: "string", minLength: 1 },
        },
        fingerprints: {
          description: "File that `weir policy fingerprint` wrote, relative to the policy's.",
          type: "string",
          minLength: 1,
        },
      },
    },
  },
};
