/** The detectors of a policy's masks with their styles, made ready once and shared by every text. */
import type { DetectorName, MaskSpec, MaskStyle, RedactSpec } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import type { TextKind } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { detectorNamed } from "./detectors.ts";
import type { Step } from "./scanner.ts";

export interface MaskPlanSpec {
  readonly detectors: readonly DetectorName[];
  /** Detectors that the policy defines; see custom.ts. */
  readonly custom?: readonly Detector[];
  readonly with: MaskStyle;
}

export interface MaskPlan {
  readonly steps: Readonly<Record<TextKind, readonly Step[]>>;
  readonly key: Buffer;
  /** Some of them judge a text as a whole. */
  readonly judgesWhole: boolean;
  /** How the value of a JSON object's member is hidden for its name alone; null: no detector is about names. */
  readonly styleOfKey: ((name: string) => MaskStyle | null) | null;
}

/** Detectors that the policy defines, by name; their files are read by the edge. */
export type OwnDetectors = ReadonlyMap<string, Detector>;

/** What a mask or a redaction of a verdict looks for; a mask by column or path looks for nothing. */
export function planSpecsOf(spec: MaskSpec | RedactSpec, own: OwnDetectors): MaskPlanSpec[] {
  const { detectors, custom: names = [] } = spec;
  if (detectors === null && names.length === 0) return [];
  const custom = names.map((name) => {
    const detector = own.get(name);
    if (detector === undefined) throw new WeirError("WEIR_INTERNAL", `The detector ${name} was not made ready.`);
    return detector;
  });
  return [{ detectors: detectors ?? [], custom, with: spec.with === "placeholder" ? "redact" : spec.with }];
}

/** The first spec that names a detector says how its values are written. Null: nothing is masked. */
export function compileMaskPlan(specs: readonly MaskPlanSpec[], key: Buffer): MaskPlan | null {
  const latin1: Step[] = [];
  const utf16: Step[] = [];
  const seen = new Set<string>();
  for (const spec of specs) {
    for (const name of spec.detectors) {
      if (seen.has(name)) continue;
      seen.add(name);
      latin1.push({ detector: detectorNamed(name, "latin1"), style: spec.with });
      utf16.push({ detector: detectorNamed(name, "utf16"), style: spec.with });
    }
    for (const detector of spec.custom ?? []) {
      if (seen.has(`custom ${detector.name}`)) continue;
      seen.add(`custom ${detector.name}`);
      latin1.push({ detector: detector.forBytes ?? detector, style: spec.with });
      utf16.push({ detector, style: spec.with });
    }
  }
  if (utf16.length === 0) return null;
  const keyed = utf16.filter(({ detector }) => detector.keys !== undefined);
  return {
    steps: { latin1, utf16 },
    key,
    judgesWhole: utf16.some(({ detector }) => detector.wholeOnly === true),
    styleOfKey:
      keyed.length === 0 ? null : (name) => keyed.find(({ detector }) => detector.keys?.(name) === true)?.style ?? null,
  };
}
