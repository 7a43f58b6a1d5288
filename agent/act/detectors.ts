/** The detectors of the policy in force: the built-in ones, and those that it defines. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DetectorName } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import type { Detector } from "../mask/detector.ts";
import { maskerOf } from "../mask/masker.ts";
import { compileMaskPlan, type MaskPlan } from "../mask/plan.ts";
import { TextScanner } from "../mask/scanner.ts";
import { detectorNames } from "../policy/words.ts";

export interface Detectors {
  /**
   * Those that policies define, by name. Of a policy that is no longer in force they stay until the next one: a reply
   * that is on its way is masked as was decided.
   */
  readonly custom: ReadonlyMap<string, Detector>;
  /** True when a detector, built-in or the policy's own, finds something in the text. */
  finds(detector: string, text: string): boolean;
  /**
   * Tries a decision until every long text that it asks about was scanned, slice by slice, so that others get their turn
   * between; from then on `knownOf` has the answers.
   */
  scan(operation: object, attempt: (finds: Finds) => void): Promise<void>;
  /** `finds` with what was scanned for this operation. */
  knownOf(operation: object): Finds;
  /** Another policy is in force, with these of its own. */
  use(custom: ReadonlyMap<string, Detector>): void;
}

type Finds = (detector: string, text: string) => boolean;

/** Characters that are scanned in one turn of the event loop: some milliseconds. */
export const sliceCharactersMax = 64 * 1024;

class NotScanned extends Error {
  readonly detector: string;
  readonly text: string;

  constructor(detector: string, text: string) {
    super("a long text was not scanned yet");
    this.detector = detector;
    this.text = text;
  }
}

const noKey = Buffer.alloc(0);

export function makeDetectors(first: ReadonlyMap<string, Detector>): Detectors {
  const custom = new Map(first);
  let inForce = first;
  let finders = new Map<string, (text: string) => boolean>();
  const known = new WeakMap<object, Finds>();
  const finds: Finds = (name, text) => {
    let finder = finders.get(name);
    if (finder === undefined) {
      finder = finderOf(name, inForce);
      finders.set(name, finder);
    }
    return finder(text);
  };
  return {
    custom,
    finds,
    async scan(operation, attempt) {
      const answers = new Map<string, Map<string, boolean>>();
      const answerOf = (name: string, text: string): boolean | undefined => answers.get(name)?.get(text);
      for (;;) {
        try {
          attempt((name, text) => {
            if (text.length <= sliceCharactersMax) return finds(name, text);
            const answer = answerOf(name, text);
            if (answer === undefined) throw new NotScanned(name, text);
            return answer;
          });
          break;
        } catch (error) {
          if (!(error instanceof NotScanned)) throw error;
          const ofName = answers.get(error.detector) ?? new Map<string, boolean>();
          answers.set(error.detector, ofName);
          ofName.set(error.text, await scanSlices(planFor(error.detector, inForce), error.text));
        }
      }
      known.set(operation, (name, text) => answerOf(name, text) ?? finds(name, text));
    },
    knownOf: (operation) => known.get(operation) ?? finds,
    use(next) {
      for (const name of custom.keys()) if (!inForce.has(name)) custom.delete(name);
      for (const [name, detector] of next) custom.set(name, detector);
      inForce = next;
      finders = new Map();
    },
  };
}

async function scanSlices(plan: MaskPlan | null, text: string): Promise<boolean> {
  if (plan === null) return false;
  // What judges texts as a whole reads little of them; what is in hex is looked into as a whole.
  if (plan.judgesWhole || text.includes("\\x")) return maskerOf(plan).findsText(text);
  const scanner = new TextScanner(plan.steps.utf16, noKey, "utf16");
  for (let at = 0; at < text.length; at += sliceCharactersMax) {
    scanner.push(text.slice(at, at + sliceCharactersMax), at + sliceCharactersMax >= text.length);
    if (scanner.masked > 0) return true;
    await nextTurn();
  }
  return false;
}

function planFor(name: string, custom: ReadonlyMap<string, Detector>): MaskPlan | null {
  const own = custom.get(name);
  if (own === undefined && !detectorNames.includes(name as DetectorName))
    throw new WeirError("WEIR_INTERNAL", `The detector ${name} was not made ready.`);
  const spec = own === undefined ? { detectors: [name as DetectorName] } : { detectors: [], custom: [own] };
  return compileMaskPlan([{ ...spec, with: "redact" }], noKey);
}

function finderOf(name: string, custom: ReadonlyMap<string, Detector>): (text: string) => boolean {
  const plan = planFor(name, custom);
  const masker = plan === null ? null : maskerOf(plan);
  return (text) => masker?.findsText(text) ?? false;
}
