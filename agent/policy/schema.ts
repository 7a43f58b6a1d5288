/**
 * The JSON Schema of a policy. `policies/schema.json` is this value, written by `weir policy schema` for editors; a
 * test holds the two together. No anyOf anywhere: keywords of JSON Schema speak about one type each, so one schema can
 * list several types, and every error stands at one place with one cause.
 */

import { detector } from "./schema-detector.ts";
import { identity } from "./schema-identity.ts";
import { match } from "./schema-match.ts";
import { duration, name } from "./schema-parts.ts";
import { target } from "./schema-target.ts";
import { actions, budgetKeys, maskStyles, modes, periods } from "./words.ts";

const detectors = { type: ["string", "array"], minLength: 1, minItems: 1, items: { type: "string", minLength: 1 } };

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
      description:
        "What the value looks like: one detector or a list, built-in or of `detectors`; all is every built-in one.",
      ...detectors,
    },
    json: {
      description: "Path into a JSON body (RFC 9535: names, *, positions, ..): $.customers[*].ssn or $..ssn.",
      type: "string",
      minLength: 1,
      maxLength: 512,
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
    copied: {
      description:
        "What becomes of a statement that would copy the masked column out of sight (to another table, a file, or a new name): deny (default when derived is deny), or allow.",
      enum: ["deny", "allow"],
    },
  },
};
const redaction = {
  type: "object",
  additionalProperties: false,
  required: ["detector"],
  properties: {
    detector: { description: "As in mask.", ...detectors },
    with: {
      description:
        "placeholder (default): <EMAIL_1>, and the answer gets the real value back; or a style of mask, for good.",
      enum: ["placeholder", ...maskStyles, null],
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
      description: "Masks for the result or reply; every matching rule adds its own.",
      type: "array",
      minItems: 1,
      maxItems: 256,
      items: mask,
    },
    redact: {
      description: "What is taken out of a request before it leaves; every matching rule adds its own.",
      type: "array",
      minItems: 1,
      maxItems: 256,
      items: redaction,
    },
    limit: {
      description:
        "rows: at most this many leave, then the rest is denied or held. tokens: at most this many are spent in a period.",
      type: "object",
      additionalProperties: false,
      properties: {
        rows: { type: "integer", minimum: 1, maximum: 1e12, expected: "a number of rows, at least 1" },
        tokens: { type: "integer", minimum: 1, maximum: 1e12, expected: "a number of tokens, at least 1" },
        per: { description: "Period of tokens; default day.", enum: [...periods] },
        by: {
          description: "Each combination of these has its own tokens; default identity. An empty list: all share them.",
          type: ["string", "array"],
          maxItems: budgetKeys.length,
          items: { enum: [...budgetKeys] },
          // biome-ignore lint/suspicious/noThenProperty: JSON Schema's own keyword
          ...{ if: { type: "string" }, then: { enum: [...budgetKeys] } },
        },
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
        "enforce (default); report: no operation is stopped, held, masked or limited, and the record tells what would have been decided; open: rules are off. defaults.egress holds in every mode.",
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
    detectors: {
      description: "Detectors of your own, by name, for mask, redact and match.",
      type: "object",
      propertyNames: name("the detector"),
      maxProperties: 256,
      additionalProperties: detector,
    },
    identity,
    targets: {
      description: "Destinations by name.",
      type: "object",
      propertyNames: name("the target"),
      additionalProperties: target,
    },
    rules: { type: "array", maxItems: 1000, items: rule },
  },
};
