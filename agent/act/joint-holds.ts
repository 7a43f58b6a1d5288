/**
 * One approval for all retries of one request. SDKs give up after a while and ask again with the same bytes: the
 * second ask joins the first one's approval. Between two tries nobody waits; for a while the approval stays open all
 * the same, and nothing runs unless somebody comes back for it.
 */
import { createHash } from "node:crypto";
import type { Held, HoldOutcome, HoldRequest } from "./ports.ts";

/** How long an approval outlives the client that asked: SDKs wait up to 8 s before they try again. */
const comeBackMs = 30_000;
/** Approvals that may be joined at once. */
const jointMax = 1_000;

export type Hold = (request: HoldRequest, decided: (outcome: HoldOutcome) => void) => Held;

interface Joint {
  readonly held: Held;
  readonly waiting: Set<(outcome: HoldOutcome) => void>;
  outcome: HoldOutcome | null;
  leaving: NodeJS.Timeout | null;
}

export function joinHolds(hold: Hold): Hold {
  const joints = new Map<string, Joint>();

  function leave(key: string, joint: Joint, decided: (outcome: HoldOutcome) => void, reason: string): void {
    if (!joint.waiting.delete(decided) || joint.waiting.size > 0) return;
    joint.leaving = setTimeout(() => {
      joints.delete(key);
      if (joint.outcome === null) joint.held.withdraw(reason);
    }, comeBackMs);
    joint.leaving.unref();
  }

  return (request, decided) => {
    if (request.digest === null || joints.size >= jointMax) return hold(request, decided);
    const key = keyOf(request, request.digest);
    const known = joints.get(key);
    if (known !== undefined) {
      if (known.leaving !== null) clearTimeout(known.leaving);
      known.leaving = null;
      const { outcome } = known;
      if (outcome === null) known.waiting.add(decided);
      else {
        joints.delete(key);
        setImmediate(() => decided(outcome));
      }
      return { id: known.held.id, withdraw: (reason) => leave(key, known, decided, reason) };
    }
    const joint: Joint = {
      held: hold(request, (outcome) => {
        joint.outcome = outcome;
        const waiting = [...joint.waiting];
        // Who is between two tries finds the outcome; it is for one run only.
        if (waiting.length > 0) joints.delete(key);
        joint.waiting.clear();
        // Who asked last is the one that waits: the leave of the tries before it may still be on its way.
        const last = waiting.pop();
        last?.(outcome);
        // One approval is one run: who asked for the same beside it is told so.
        for (const other of waiting)
          other(outcome.decision === "approved" ? { ...outcome, decision: "denied", reason: usedReason } : outcome);
      }),
      waiting: new Set([decided]),
      outcome: null,
      leaving: null,
    };
    joints.set(key, joint);
    return { id: joint.held.id, withdraw: (reason) => leave(key, joint, decided, reason) };
  };
}

const usedReason = "The same request was approved once, and has run; ask again if it is to run twice.";

/** The same bytes from the same place: the process may be a new one (a job step that is tried again). */
function keyOf({ flow, target, verdict }: HoldRequest, digest: string): string {
  const { process, identity } = flow;
  const who = [identity?.issuer, identity?.subject, process?.uid, process?.exe, process?.cgroup];
  return createHash("sha256")
    .update(JSON.stringify([...who, target.name, flow.destination, verdict.rule, verdict.policy, digest]))
    .digest("hex");
}
