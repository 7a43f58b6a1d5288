/** What a rule takes out of a prompt before it leaves: masked, or under a name that comes back in the reply. */
import type { Verdict } from "../../core/verdict.ts";
import { hiddenIn } from "../../mask/style.ts";
import type { Masking } from "../http/mask-plans.ts";
import { editBody } from "./body.ts";
import { type RedactStep, redactSteps } from "./masking.ts";
import { Placeholders } from "./placeholders.ts";

export interface Redacted {
  /** The same buffer when nothing was taken out. */
  readonly body: Buffer;
  readonly names: Placeholders;
}

interface Found {
  readonly start: number;
  readonly end: number;
  readonly step: RedactStep;
}

/** Null: the verdict takes nothing out. `names`: of the messages before this one. */
export function redactBody(
  body: Buffer,
  verdict: Verdict,
  masking: Masking,
  names = new Placeholders(),
): Redacted | null {
  const steps = redactSteps(verdict, masking);
  if (steps.length === 0) return null;
  // Names that stand in the text already are known before the first one is given.
  if (steps.some(({ named }) => named)) {
    editBody(body, {
      text(text) {
        names.reserve(text);
        return text;
      },
      hidesNumber: () => false,
    });
  }
  const redacted = editBody(body, {
    text: (text, name) => redactText(text, name, steps, names, masking.maskKey),
    hidesNumber: (text, name) => findValues(text, name, steps).length > 0,
  });
  return { body: redacted, names };
}

function redactText(
  text: string,
  name: string | null,
  steps: readonly RedactStep[],
  names: Placeholders,
  key: Buffer,
): string {
  const values = findValues(text, name, steps);
  if (values.length === 0) return text;
  let out = "";
  let from = 0;
  for (const { start, end, step } of values) {
    const value = text.slice(start, end);
    out += text.slice(from, start);
    out += (step.named ? names.nameFor(step.detector.name, value) : null) ?? hideValue(text, { start, end, step }, key);
    from = end;
  }
  return out + text.slice(from);
}

function hideValue(text: string, { start, end, step }: Found, key: Buffer): string {
  const { from, to, text: hidden } = hiddenIn(text, start, end, step.style, key, "utf16");
  return text.slice(start, from) + (hidden ?? "*".repeat(to - from)) + text.slice(to, end);
}

/** In order, none within another: of two that overlap the first, of two at one place the longer. */
function findValues(text: string, name: string | null, steps: readonly RedactStep[]): Found[] {
  const named = name === null ? undefined : steps.find(({ detector }) => detector.keys?.(name) === true);
  if (named !== undefined) return text === "" ? [] : [{ start: 0, end: text.length, step: named }];
  const found: Found[] = [];
  for (const step of steps) {
    const { detector } = step;
    for (let match = detector.next(text, 0, text.length); match !== null; ) {
      const end = detector.follow === null ? match.end : detector.follow(text, match.end, 1, true).at;
      found.push({ start: match.start, end, step });
      match = detector.next(text, end, text.length);
    }
  }
  if (found.length < 2) return found;
  found.sort((a, b) => a.start - b.start || b.end - a.end);
  const kept: Found[] = [];
  for (const value of found) {
    const last = kept.at(-1);
    if (last === undefined || value.start >= last.end) kept.push(value);
    // Nothing of a value leaves because another one begins before it.
    else if (value.end > last.end) kept[kept.length - 1] = { ...last, end: value.end };
  }
  return kept;
}
