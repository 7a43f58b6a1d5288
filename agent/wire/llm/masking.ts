/** What a verdict masks in a reply and takes out of a request, made ready once. */
import type { Verdict } from "../../core/verdict.ts";
import { type Masker, maskerOf } from "../../mask/masker.ts";
import { compileMaskPlan, type MaskPlan, planSpecsOf } from "../../mask/plan.ts";
import type { Step } from "../../mask/scanner.ts";
import type { PathMask } from "../http/json-mask.ts";
import { type Masking, plansOf } from "../http/mask-plans.ts";

export interface ReplyMasks {
  /** For texts that stream; null: no detector is named. */
  readonly plan: MaskPlan | null;
  /** The same detectors for bytes that are whole. */
  readonly masker: Masker | null;
  readonly paths: readonly PathMask[];
  readonly key: Buffer;
}

/** Null: nothing is masked. */
export function replyMasks(verdict: Verdict, masking: Masking): ReplyMasks | null {
  if (verdict.transforms.masks.length === 0) return null;
  const { reply: plan, paths } = plansOf(verdict, masking);
  if (plan === null && paths.length === 0) return null;
  return { plan, masker: plan === null ? null : maskerOf(plan), paths, key: masking.maskKey };
}

/** One detector of a redaction. */
export interface RedactStep extends Step {
  /** True: a placeholder stands for the value, and it comes back in the reply. */
  readonly named: boolean;
}

/** The first redaction that names a detector says how its values are written. */
export function redactSteps({ transforms }: Verdict, { maskKey, custom }: Masking): RedactStep[] {
  const steps: RedactStep[] = [];
  for (const spec of transforms.redactions ?? []) {
    const named = spec.with === "placeholder";
    const plan = compileMaskPlan(planSpecsOf(spec, custom), maskKey);
    for (const step of plan?.steps.utf16 ?? []) {
      if (steps.some(({ detector }) => detector.name === step.detector.name)) continue;
      steps.push({ ...step, named });
    }
  }
  return steps;
}
