/** The shape of a policy file by JSON Schema, and what is wrong with it in sentences. */
import { Ajv2020, type ErrorObject } from "ajv/dist/2020.js";
import { didYouMean } from "./did-you-mean.ts";
import type { PolicyProblem } from "./policy.ts";
import { policySchema } from "./schema.ts";
import { type Path, problemsMax, type Source } from "./source.ts";
import { laterMatchKeys, laterProtocols, protocolAliases, protocols } from "./words.ts";

type Schema = Record<string, unknown>;

const ajv = new Ajv2020({
  allErrors: true,
  verbose: true,
  allowUnionTypes: true,
  strictTypes: false,
  ownProperties: true,
  // Half of the time that this takes of each start: the schema is our own, and its check runs once.
  validateSchema: false,
  code: { optimize: false },
});
// What a value has to look like, in words, for our messages; editors ignore it.
ajv.addKeyword({ keyword: "expected", schemaType: "string" });
const validate = ajv.compile(policySchema);

export function checkShape(source: Source): PolicyProblem[] {
  if (source.value === null || source.value === undefined)
    return [source.problem([], "The file is empty; a policy starts with `apiVersion: weir/v1`.")];
  if (validate(source.value)) return [];
  const problems: PolicyProblem[] = [];
  const seen = new Set<string>();
  // Of a target whose protocol is not known here, the other keys are not known either.
  const muted = (validate.errors ?? [])
    .filter(
      (error) =>
        error.keyword === "enum" &&
        error.instancePath.endsWith("/protocol") &&
        laterProtocols.includes(String(error.data)),
    )
    .map((error) => error.instancePath.replace(/protocol$/, ""));
  for (const error of validate.errors ?? []) {
    // Both only say that an error inside them is told on its own.
    if (error.keyword === "if" || error.keyword === "propertyNames") continue;
    if (
      muted.some(
        (prefix) => error.instancePath.startsWith(prefix.slice(0, -1)) && error.instancePath !== `${prefix}protocol`,
      )
    )
      continue;
    const problem = tell(source, error);
    const key = `${problem.line}:${problem.column}:${problem.message}`;
    if (seen.has(key)) continue;
    seen.add(key);
    problems.push(problem);
    if (problems.length === problemsMax) break;
  }
  return problems.sort((a, b) => a.line - b.line || a.column - b.column);
}

function tell(source: Source, error: ErrorObject): PolicyProblem {
  const path = pathOf(error.instancePath, source.value);
  const where = nameOf(path);
  const params = error.params as Record<string, unknown>;
  const schema = (error.parentSchema ?? {}) as Schema;
  const expected = typeof schema.expected === "string" ? schema.expected : null;
  // What stands in a credential may be the secret itself, written in the wrong place.
  const given = path.includes("credential") ? hiddenOf(error.data) : error.data;
  switch (error.keyword) {
    case "additionalProperties": {
      const key = String(params.additionalProperty);
      return source.problem(
        [...path, key],
        unknownKey(key, path, Object.keys((schema.properties ?? {}) as Schema)),
        "key",
      );
    }
    case "required":
      return source.problem(path, `${where}: \`${String(params.missingProperty)}\` is missing.`);
    case "enum": {
      const words = (params.allowedValues as unknown[]).filter((word) => word !== null).map(String);
      return source.problem(path, notOneOf(where, given, words));
    }
    case "type": {
      // A list of values with one wrong in it is told at that one.
      const types = [params.type].flat().map((type) => typeNames[String(type)] ?? String(type));
      return source.problem(path, `${where}: expected ${expected ?? types.join(" or ")}, not ${kindOf(given)}.`);
    }
    default:
      if (error.propertyName !== undefined) {
        return source.problem(
          [...path, error.propertyName],
          `${where}: expected ${expected ?? "another name"}, not ${quote(error.propertyName)}.`,
          "key",
        );
      }
      if (expected === null && Array.isArray(error.data) && error.keyword === "maxItems") {
        const most = `${String(params.limit)} are the most there can be`;
        return source.problem(path, `${where}: ${most}, not ${error.data.length}.`);
      }
      return source.problem(path, `${where}: expected ${expected ?? bare(error.message)}, not ${kindOf(given)}.`);
  }
}

const typeNames: Readonly<Record<string, string>> = {
  string: "a text",
  array: "a list",
  object: "a map",
  integer: "a whole number",
  boolean: "true or false",
};

function unknownKey(key: string, path: Path, known: readonly string[]): string {
  const inMatch = path.at(-1) === "match";
  if (inMatch && laterMatchKeys.includes(key))
    return `The match key \`${key}\` comes with a later release; it needs a protocol that this one does not decode.`;
  if (path[0] === "rules" && path.length === 2 && key === "inject")
    return "A rule injects nothing; a credential stands at its target (targets.NAME.credential).";
  const guess = didYouMean(key, known);
  const hint =
    guess === null ? `there ${known.length === 1 ? "is" : "are"} ${known.join(", ")}` : `did you mean \`${guess}\`?`;
  const place = path.length === 0 ? "the policy" : nameOf(path);
  return `Unknown key \`${key}\` in ${place}; ${hint}${guess === null ? "." : ""}`;
}

function notOneOf(where: string, given: unknown, words: readonly string[]): string {
  const text = String(given);
  if (where.endsWith("protocol") && laterProtocols.includes(text)) {
    return `${where}: the protocol ${text} comes with a later release; this one knows ${protocols.join(", ")}.`;
  }
  const alias = where.endsWith("protocol") ? protocolAliases[text] : undefined;
  if (alias !== undefined) return `${where}: ${text} is spoken as the protocol \`${alias}\`; write that.`;
  const shown = typeof given === "string" ? quote(given) : kindOf(given);
  const guess = typeof given === "string" ? didYouMean(text, words) : null;
  return guess === null
    ? `${where}: ${shown} is not known; there ${words.length === 1 ? "is" : "are"} ${words.join(", ")}.`
    : `${where}: ${shown} is not known; did you mean \`${guess}\`?`;
}

/** JSON pointer to path; list positions become numbers. */
function pathOf(pointer: string, root: unknown): (string | number)[] {
  let value: unknown = root;
  return pointer
    .split("/")
    .slice(1)
    .map((raw) => {
      const part = raw.replaceAll("~1", "/").replaceAll("~0", "~");
      const step = Array.isArray(value) ? Number(part) : part;
      value =
        value !== null && typeof value === "object" ? (value as Record<string | number, unknown>)[step] : undefined;
      return step;
    });
}

/** `rules[2].match.verb`; list positions count from 1, as people do. */
export function nameOf(path: Path): string {
  if (path.length === 0) return "the policy";
  return path.map((step, i) => (typeof step === "number" ? `[${step + 1}]` : i === 0 ? step : `.${step}`)).join("");
}

function kindOf(value: unknown): string {
  if (value instanceof Hidden) return "this";
  if (value === null) return "nothing";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return Object.keys(value).length === 0 ? "an empty map" : "a map";
  if (typeof value === "string") return value === "" ? "an empty text" : quote(value);
  return JSON.stringify(value) ?? "nothing";
}

class Hidden {}

function hiddenOf(value: unknown): unknown {
  return typeof value === "string" || typeof value === "number" ? new Hidden() : value;
}

function quote(value: unknown): string {
  const text = String(value);
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

function bare(message: string | undefined): string {
  return (message ?? "something else").replace(/^must (be|have|NOT have) /, (_, verb: string) =>
    verb === "be" ? "" : verb === "have" ? "to have " : "not to have ",
  );
}
