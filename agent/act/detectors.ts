/** The detectors of the policy in force: the built-in ones, and those that it defines, with the files they name. */
import type { DetectorName } from "../core/verdict.ts";
import type { Detector } from "../mask/detector.ts";
import { maskerOf } from "../mask/masker.ts";
import { compileMaskPlan } from "../mask/plan.ts";

export interface Detectors {
  /** Those that the policy defines, by name. */
  readonly custom: ReadonlyMap<string, Detector>;
  /** True when a detector, built-in or the policy's own, finds something in the text. */
  finds(detector: string, text: string): boolean;
}

const noKey = Buffer.alloc(0);

export function makeDetectors(custom: ReadonlyMap<string, Detector>): Detectors {
  const finders = new Map<string, (text: string) => boolean>();
  return {
    custom,
    finds(name, text) {
      let finder = finders.get(name);
      if (finder === undefined) {
        finder = finderOf(name, custom);
        finders.set(name, finder);
      }
      return finder(text);
    },
  };
}

function finderOf(name: string, custom: ReadonlyMap<string, Detector>): (text: string) => boolean {
  const own = custom.get(name);
  const spec = own === undefined ? { detectors: [name as DetectorName] } : { detectors: [], custom: [own] };
  const plan = compileMaskPlan([{ ...spec, with: "redact" }], noKey);
  const masker = plan === null ? null : maskerOf(plan);
  return (text) => masker?.finds(text) ?? false;
}
