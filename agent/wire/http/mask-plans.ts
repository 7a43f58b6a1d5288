/** The masks of a verdict, compiled once for all that share them. */
import type { MaskSpec, Transforms, Verdict } from "../../core/verdict.ts";
import { compileMaskPlan, type MaskPlan, type OwnDetectors, planSpecsOf } from "../../mask/plan.ts";
import type { PathMask } from "./json-mask.ts";
import { compileJsonPath, type JsonPath } from "./json-path.ts";

export interface Masking {
  readonly maskKey: Buffer;
  readonly custom: OwnDetectors;
}

interface Plans {
  readonly reply: MaskPlan | null;
  readonly request: MaskPlan | null;
  /** What is masked or redacted in any direction: none of it is recorded. */
  readonly record: MaskPlan | null;
  readonly paths: readonly PathMask[];
}

/** A key in a request is no news for the record, whatever the policy says of it. */
const secrets = ["aws-key", "openai-key", "anthropic-key", "github-token", "jwt", "private-key"] as const;

/** By the transforms themselves, and gone when they go: decisions are shared values. */
const known = new WeakMap<Transforms, Plans>();

export function plansOf({ transforms }: Verdict, masking: Masking): Plans {
  let plans = known.get(transforms);
  if (plans === undefined) {
    plans = compile(transforms, masking);
    known.set(transforms, plans);
  }
  return plans;
}

function compile({ masks, redactions = [] }: Transforms, masking: Masking): Plans {
  const reply = masks.flatMap((mask) => planSpecsOf(mask, masking.custom));
  const request = redactions.flatMap((redaction) => planSpecsOf(redaction, masking.custom));
  const { maskKey } = masking;
  return {
    reply: compileMaskPlan(reply, maskKey),
    request: compileMaskPlan(request, maskKey),
    record: compileMaskPlan([...reply, ...request, { detectors: secrets, with: "redact" }], maskKey),
    paths: masks.flatMap(pathOf),
  };
}

function pathOf(mask: MaskSpec): PathMask[] {
  if (mask.json === undefined) return [];
  const path = compileJsonPath(mask.json);
  // The policy's loader refuses such a path. Should it not have: who wanted something masked gets all of it masked.
  return [{ path: "problem" in path ? (compileJsonPath("$..*") as JsonPath) : path, with: mask.with }];
}
