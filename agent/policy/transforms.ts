/** What a rule adds to an operation that is let through: masks, redactions, limits. */
import type {
  DerivedAction,
  DetectorName,
  MaskSpec,
  MaskStyle,
  RedactSpec,
  RowLimit,
  TokenBudget,
} from "../core/verdict.ts";
import { didYouMean } from "./did-you-mean.ts";
import { wrongWithJsonPath } from "./json-path.ts";
import { detectorNames } from "./words.ts";

export interface RawMask {
  column?: string;
  detector?: string | string[];
  json?: string;
  with?: MaskStyle | null;
  derived?: DerivedAction;
  copied?: "deny" | "allow";
}

export interface RawRedaction {
  detector: string | string[];
  with?: RedactSpec["with"] | null;
}

export interface RawLimit {
  rows?: number;
  tokens?: number;
  per?: TokenBudget["per"];
  by?: TokenBudget["by"][number] | TokenBudget["by"];
  then?: "deny" | "hold";
  reason?: string;
}

type Complain = (message: string, path?: readonly (string | number)[]) => void;

export function compileMask(rule: string, raw: RawMask, custom: readonly string[], complain: Complain): MaskSpec {
  const given = [raw.column, raw.detector, raw.json].filter((what) => what !== undefined).length;
  if (given !== 1) complain("a mask has either a column, a detector or a json path.");
  const style = raw.with === undefined ? "redact" : (raw.with ?? "null");
  if (raw.column !== undefined) {
    const spec = { rule, column: raw.column, detectors: null, with: style, derived: raw.derived ?? "deny" };
    return raw.copied === undefined ? spec : { ...spec, copied: raw.copied };
  }
  if (raw.copied !== undefined) complain("`copied` is for masks of columns; what others find has no column.");
  if (raw.derived !== undefined) complain("`derived` is for masks of columns; others look at every value anyway.");
  if (raw.json !== undefined) {
    const wrong = wrongWithJsonPath(raw.json);
    if (wrong !== null) complain(`${wrong}.`, ["json"]);
    return { rule, column: null, detectors: null, json: raw.json, with: style, derived: "detect" };
  }
  const found = readDetectors(raw.detector ?? [], custom, (message, path = []) =>
    complain(message, ["detector", ...path]),
  );
  return {
    rule,
    column: null,
    detectors: found.detectors,
    ...(found.custom.length === 0 ? {} : { custom: found.custom }),
    with: style,
    derived: "detect",
  };
}

export function compileRedaction(
  rule: string,
  raw: RawRedaction,
  custom: readonly string[],
  complain: Complain,
): RedactSpec {
  const style = raw.with === undefined ? "placeholder" : (raw.with ?? "null");
  const found = readDetectors(raw.detector, custom, (message, path = []) => complain(message, ["detector", ...path]));
  return { rule, ...found, with: style };
}

/** Built-in detectors, and those of the policy, by their names. */
export function readDetectors(
  raw: string | readonly string[],
  custom: readonly string[],
  complain: Complain,
): { detectors: readonly DetectorName[]; custom: readonly string[] } {
  const names = [raw].flat();
  for (const [i, name] of names.entries()) {
    if (name === "all" || isBuiltIn(name) || custom.includes(name)) continue;
    const known = [...detectorNames, ...custom, "all"];
    const guess = didYouMean(name, known);
    const hint = guess === null ? `there are ${known.join(", ")}.` : `did you mean \`${guess}\`?`;
    complain(`"${name.slice(0, 60)}" is no detector; ${hint}`, Array.isArray(raw) ? [i] : []);
  }
  return {
    detectors: names.includes("all") ? detectorNames : names.filter(isBuiltIn),
    custom: [...new Set(names.filter((name) => custom.includes(name)))],
  };
}

function isBuiltIn(name: string): name is DetectorName {
  return detectorNames.includes(name as DetectorName);
}

/** A limit is of rows or of tokens. */
export function compileLimit(
  rule: string,
  raw: RawLimit,
  complain: Complain,
): { limit: RowLimit | null; budget: TokenBudget | null } {
  const { rows, tokens, per = "day", by = "identity", then = "deny" } = raw;
  if ((rows === undefined) === (tokens === undefined)) complain("a limit is either of rows or of tokens.");
  const tail = then === "hold" ? "need an approval" : "are not let through";
  if (tokens !== undefined) {
    const reason = raw.reason ?? `More than ${tokens} tokens in ${per === "hour" ? "an" : "a"} ${per} ${tail}.`;
    return { limit: null, budget: { rule, tokens, per, by: [...new Set([by].flat())], then, reason } };
  }
  if (raw.per !== undefined || raw.by !== undefined) complain("`per` and `by` are for a limit of tokens.");
  if (rows === undefined) return { limit: null, budget: null };
  return { limit: { rule, rows, then, reason: raw.reason ?? `More than ${rows} rows ${tail}.` }, budget: null };
}
