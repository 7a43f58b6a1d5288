/** The detectors of the policy in force: the built-in ones, and those that it defines. */
import type { DetectorName } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import type { Detector } from "../mask/detector.ts";
import { maskerOf } from "../mask/masker.ts";
import { compileMaskPlan } from "../mask/plan.ts";
import { detectorNames } from "../policy/words.ts";

export interface Detectors {
  /**
   * Those that policies define, by name. Of a policy that is no longer in force they stay until the next one: a reply
   * that is on its way is masked as was decided.
   */
  readonly custom: ReadonlyMap<string, Detector>;
  /** True when a detector, built-in or the policy's own, finds something in the text. */
  finds(detector: string, text: string): boolean;
  /** Another policy is in force, with these of its own. */
  use(custom: ReadonlyMap<string, Detector>): void;
}

const noKey = Buffer.alloc(0);

export function makeDetectors(first: ReadonlyMap<string, Detector>): Detectors {
  const custom = new Map(first);
  let inForce = first;
  let finders = new Map<string, (text: string) => boolean>();
  return {
    custom,
    finds(name, text) {
      let finder = finders.get(name);
      if (finder === undefined) {
        finder = finderOf(name, inForce);
        finders.set(name, finder);
      }
      return finder(text);
    },
    use(next) {
      for (const name of custom.keys()) if (!inForce.has(name)) custom.delete(name);
      for (const [name, detector] of next) custom.set(name, detector);
      inForce = next;
      finders = new Map();
    },
  };
}

function finderOf(name: string, custom: ReadonlyMap<string, Detector>): (text: string) => boolean {
  const own = custom.get(name);
  if (own === undefined && !detectorNames.includes(name as DetectorName))
    throw new WeirError("WEIR_INTERNAL", `The detector ${name} was not made ready.`);
  const spec = own === undefined ? { detectors: [name as DetectorName] } : { detectors: [], custom: [own] };
  const plan = compileMaskPlan([{ ...spec, with: "redact" }], noKey);
  const masker = plan === null ? null : maskerOf(plan);
  return (text) => masker?.findsText(text) ?? false;
}
