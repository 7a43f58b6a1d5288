/** The JSON Schema of `match`. */
import { bounds, texts } from "./schema-parts.ts";
import { kinds, protocols, providers, traits } from "./words.ts";

/** A value of an argument. */
const plain = { type: ["string", "number", "boolean"], expected: "a text, a number, true or false", maxLength: 512 };

const withoutOnly = (description: string) => {
  const { properties, ...rest } = texts(`${description} `);
  return {
    ...rest,
    description: `${description} A value, a list of values, or { not: … } (none of them).`,
    expected: "a text, a list of texts or { not: … }",
    properties: { not: properties.not },
  };
};

export const match = {
  description:
    "All keys have to match. Of a list-valued field (verb, relation, column, function, trait, groups, tool) any element may match; under not none may. Keys of requests (method to argument) never match what is no such request, not even under not.",
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "at least one key; leave match out to match everything",
  properties: {
    target: texts("Name of a target."),
    protocol: texts("Protocol of the operation; a provider (openai …) is that one's calls, llm those of all.", {
      enum: [...protocols],
    }),
    kind: texts(
      "What is asked: connect opens a session, statement is SQL, request is one HTTP, LLM, MCP or gRPC request.",
      {
        enum: [...kinds],
      },
    ),
    verb: texts(
      "SQL verb, lower case, also those inside a CTE, EXPLAIN, PREPARE or DO; HTTP method in lower case; API of a language model (chat, embeddings …); JSON-RPC method of MCP.",
    ),
    relation: texts(
      "Table or view as the text names it; users also matches public.users. To mask, name columns in mask instead: a view has another name.",
    ),
    column: texts("Column as the text names it. A * counts as every column for deny and hold."),
    function: texts("Function as the text names it."),
    trait: texts("A property of the operation.", { enum: [...traits] }),
    writes: { description: "True when the text writes, or when that cannot be told from it.", type: "boolean" },
    user: texts("Database user."),
    database: texts("Database."),
    groups: texts("Groups of the proven identity; without one there are none."),
    identity: texts("Subject of the proven identity; without one it is the empty text, which only { not: … } matches."),
    process: texts("File name of the executable, or its path when the pattern has a slash."),
    uid: {
      description: "User id of the process: a number, a list, or { not: … }.",
      type: ["integer", "array", "object"],
      minimum: 0,
      items: { type: "integer", minimum: 0 },
      minItems: 1,
      properties: {
        not: { type: ["integer", "array"], minimum: 0, items: { type: "integer", minimum: 0 }, minItems: 1 },
      },
      required: ["not"],
      additionalProperties: false,
    },
    cgroup: texts("Path of the cgroup from the cgroup2 root."),
    job: texts("CI job: its repository, workflow or id. Read from the process's environment: a hint, not a proof."),
    bytes: bounds("Size of what the client sent, in bytes. A body whose length is not known is over any size."),
    method: texts("HTTP method."),
    path: texts("Path of the request without query, escapes and dot segments resolved; * crosses slashes."),
    host: texts("Host that the request names, without port."),
    contentType: texts("Media type of the request's body, without parameters."),
    provider: texts("Provider of a language model.", { enum: [...providers] }),
    model: texts("Language model that is asked for."),
    tokens: bounds("Input tokens of a call of a language model, as estimated before it."),
    stream: { description: "Whether the answer of a language model is asked for as a stream.", type: "boolean" },
    tool: texts("MCP tool that is called, or any tool that a language model is offered."),
    resource: texts("URI of an MCP resource that is read or subscribed to."),
    name: texts("Name of the MCP tool or prompt, or URI of the resource."),
    argument: {
      description:
        'Arguments of an MCP tool or prompt, by path: { "customer.id": "X*", "items.*.sku": [A1, B2] }. All have to match. * is any key or position; a key with a dot in it stands in double quotes.',
      type: "object",
      minProperties: 1,
      maxProperties: 64,
      propertyNames: { minLength: 1, maxLength: 256 },
      expected: "a map of paths to values",
      additionalProperties: {
        type: ["string", "number", "boolean", "array", "object"],
        expected: "a value, a list of values, { not: … } or { only: … }",
        maxLength: 512,
        items: plain,
        minItems: 1,
        properties: {
          not: { ...plain, type: [...plain.type, "array"], items: plain, minItems: 1 },
          only: { ...plain, type: [...plain.type, "array"], items: plain, minItems: 1 },
        },
        minProperties: 1,
        maxProperties: 1,
        additionalProperties: false,
      },
    },
    keyword: withoutOnly("Words in the text of a request or statement, in any case."),
    detector: withoutOnly(
      "Detectors, built-in or the policy's own, that find something in the text of a request or statement; all is every built-in one.",
    ),
    when: {
      description: "A CEL expression over op, flow, identity and target that gives a bool.",
      type: "string",
      minLength: 1,
      maxLength: 4096,
    },
  },
};
