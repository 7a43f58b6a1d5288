/**
 * The JSON Schema of a policy. `policies/schema.json` is this value, written by `weir policy schema` for editors; a
 * test holds the two together. No anyOf anywhere: keywords of JSON Schema speak about one type each, so one schema can
 * list several types, and every error stands at one place with one cause.
 */
import { actions, detectorNames, kinds, maskStyles, modes, protocols, traits } from "./words.ts";

const oneOrMore = (word: Record<string, unknown>) => ({
  minLength: 1,
  items: word,
  minItems: 1,
  // biome-ignore lint/suspicious/noThenProperty: JSON Schema's own keyword
  ...{ if: { type: "string" }, then: word },
});

const texts = (
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

const secret = (description: string) => ({
  description,
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  maxProperties: 1,
  expected: "exactly one of file, env and exec",
  properties: {
    file: {
      description: "Path of a file whose content, without the last line end, is the secret.",
      type: "string",
      minLength: 1,
    },
    env: {
      description: "Name of an environment variable of the agent.",
      type: "string",
      pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
      expected: "the name of an environment variable",
    },
    exec: {
      description: "Command whose output is the secret; run without a shell.",
      type: "array",
      minItems: 1,
      items: { type: "string" },
    },
  },
});

const duration = (description: string) => ({
  description: `${description} For example 30s, 10m, 1h.`,
  type: "string",
  pattern: "^[1-9][0-9]{0,5}(ms|s|m|h|d)$",
  expected: "a duration like 30s, 10m or 1h",
});

const name = (what: string) => ({
  type: "string",
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
  expected: `a name for ${what}: letters, digits, dots, dashes and underscores, at most 64`,
});

const target = {
  description: "A named destination.",
  type: "object",
  additionalProperties: false,
  required: ["protocol", "hosts"],
  properties: {
    protocol: {
      description: "postgres is decoded and decided; opaque is let through undecoded.",
      enum: [...protocols],
    },
    hosts: {
      description:
        "Names, *.suffixes, addresses, networks (10.0.0.0/8), or any. A name wins over a network, a longer prefix over a shorter, all over any.",
      type: ["string", "array"],
      minLength: 1,
      items: { type: "string", minLength: 1 },
      minItems: 1,
    },
    ports: {
      description: "Default: 5432 for postgres; opaque has to name them.",
      type: ["integer", "array"],
      minimum: 1,
      maximum: 65535,
      minItems: 1,
      items: { type: "integer", minimum: 1, maximum: 65535, expected: "a port from 1 to 65535" },
      expected: "a port from 1 to 65535, or a list of them",
    },
    tls: {
      description: "How the server's certificate is verified.",
      type: "object",
      additionalProperties: false,
      properties: {
        verify: {
          description:
            "full (default): chain and name. ca: chain only. first-use: pinned at first sight, a change is refused. none: no check.",
          enum: ["full", "ca", "first-use", "none"],
        },
        ca: { description: "Path of a PEM bundle that replaces the system's roots.", type: "string", minLength: 1 },
        cert: {
          description: "Path of the client certificate (PEM) for mutual TLS; needs key.",
          type: "string",
          minLength: 1,
        },
        key: { description: "Path of the private key of cert.", type: "string", minLength: 1 },
        serverName: {
          description: "The name to verify instead of the one the client used.",
          type: "string",
          minLength: 1,
        },
      },
    },
    credential: {
      description: "The login that Weir uses upstream in place of the client's.",
      type: "object",
      additionalProperties: false,
      required: ["user"],
      properties: {
        user: { type: "string", minLength: 1 },
        password: secret("Where the password comes from; none: a login that needs none, for example by certificate."),
        clientPassword: secret(
          "What the client has to prove (SCRAM) before the credential is used; none: its process is the proof.",
        ),
      },
    },
  },
};

const match = {
  description:
    "All keys have to match. Of a list-valued field (verb, relation, column, function, trait, groups) any element may match; under not none may.",
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "at least one key; leave match out to match everything",
  properties: {
    target: texts("Name of a target."),
    protocol: texts("Protocol of the operation.", { enum: [...protocols] }),
    kind: texts("What is asked: connect opens a session, statement is SQL, call a fast-path function call.", {
      enum: [...kinds],
    }),
    verb: texts("SQL verb, lower case, also those inside a CTE, EXPLAIN, PREPARE or DO."),
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
    bytes: {
      description: "Size of what the client sent, in bytes.",
      type: "object",
      additionalProperties: false,
      minProperties: 1,
      expected: "over or under",
      properties: { over: { type: "integer", minimum: 0 }, under: { type: "integer", minimum: 1 } },
    },
    when: {
      description: "A CEL expression over op, flow, identity and target that gives a bool.",
      type: "string",
      minLength: 1,
      maxLength: 4096,
    },
  },
};

const mask = {
  type: "object",
  additionalProperties: false,
  properties: {
    column: {
      description: "Glob over schema.table.column: *.ssn is any table's ssn, users.ssn any schema's users.",
      type: "string",
      minLength: 1,
      maxLength: 512,
    },
    detector: {
      description: "What the value looks like: one detector, a list, or all.",
      type: ["string", "array"],
      minItems: 1,
      items: { enum: [...detectorNames, "all"] },
    },
    with: {
      description: "How the value is written: redact (default), last4, hash, null, email, partial.",
      enum: [...maskStyles, null],
    },
    derived: {
      description:
        "What becomes of a result column that may carry the masked one but has no origin (an expression, row_to_json, a view): deny (default), mask, or detect.",
      enum: ["deny", "mask", "detect"],
    },
  },
};
const rule = {
  type: "object",
  additionalProperties: false,
  required: ["name"],
  properties: {
    name: { description: "Stands in the record and in what the client is told.", ...name("the rule") },
    mode: { description: "Replaces the policy's mode for this rule.", enum: [...modes] },
    match,
    verdict: { description: "The first matching rule with a verdict decides.", enum: [...actions] },
    reason: {
      description: "One sentence for the person who is refused.",
      type: "string",
      minLength: 1,
      maxLength: 500,
    },
    mask: {
      description: "Masks for the result; every matching rule adds its own.",
      type: "array",
      minItems: 1,
      maxItems: 256,
      items: mask,
    },
    limit: {
      description: "At most this many rows leave; then the rest is denied or held.",
      type: "object",
      additionalProperties: false,
      required: ["rows"],
      properties: {
        rows: { type: "integer", minimum: 1, maximum: 1e12, expected: "a number of rows, at least 1" },
        // biome-ignore lint/suspicious/noThenProperty: the policy's own word
        then: { description: "Default deny.", enum: ["deny", "hold"] },
        reason: { type: "string", minLength: 1, maxLength: 500 },
      },
    },
    record: {
      description: "statement (default), or result: the masked rows are recorded too.",
      enum: ["statement", "result"],
    },
    approvers: {
      description: "Who may approve what is held.",
      type: "object",
      additionalProperties: false,
      required: ["groups"],
      properties: { groups: { type: "array", minItems: 1, items: { type: "string", minLength: 1 } } },
    },
    timeout: duration("How long a held operation waits; default defaults.approval.timeout."),
    onTimeout: {
      description: "What happens when nobody decided; default defaults.approval.onTimeout.",
      enum: ["deny", "allow"],
    },
  },
};

export const policySchema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "Weir policy",
  description: "What may leave a host, and what is masked, limited, held and recorded on the way.",
  type: "object",
  additionalProperties: false,
  required: ["apiVersion"],
  properties: {
    apiVersion: { enum: ["weir/v1"] },
    mode: {
      description:
        "enforce (default); report: everything passes and the record tells what would have been; open: rules are off.",
      enum: [...modes],
    },
    defaults: {
      type: "object",
      additionalProperties: false,
      properties: {
        egress: { description: "Connections to what no target names. Default deny.", enum: ["deny", "allow"] },
        operation: { description: "Operations that no rule decides. Default allow.", enum: [...actions] },
        undecodable: { description: "Operations that could not be read. Default deny.", enum: [...actions] },
        approval: {
          type: "object",
          additionalProperties: false,
          properties: {
            timeout: duration("Default 10m."),
            onTimeout: { description: "Default deny.", enum: ["deny", "allow"] },
          },
        },
      },
    },
    record: {
      type: "object",
      additionalProperties: false,
      properties: {
        durability: {
          description:
            "process (default): an entry survives the agent before its operation goes upstream, and the host within 10 ms. host: it survives the host first.",
          enum: ["process", "host"],
        },
      },
    },
    targets: {
      description: "Destinations by name.",
      type: "object",
      propertyNames: name("the target"),
      additionalProperties: target,
    },
    rules: { type: "array", maxItems: 1000, items: rule },
  },
};
