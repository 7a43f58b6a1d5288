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
/** Of those that nobody waits for: beyond, the one that was left first goes, so that they do not fill the queue. */
const leftMax = 100;

export type Hold = (request: HoldRequest, decided: (outcome: HoldOutcome) => void) => Held;

type Decided = (outcome: HoldOutcome) => void;

interface Joint {
  readonly key: string;
  readonly held: Held;
  readonly waiting: Set<Decided>;
  outcome: HoldOutcome | null;
}

/** Nobody waits for it now. */
interface Left {
  readonly timer: NodeJS.Timeout;
  readonly reason: string;
}

export function joinHolds(hold: Hold): Hold {
  const joints = new Map<string, Joint>();
  const left = new Map<Joint, Left>();

  /** In a function of its own: what waits is kept by `waiting` alone, so that a client's session goes when it leaves. */
  function open(key: string, request: HoldRequest): Joint {
    const joint: Joint = {
      key,
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
      waiting: new Set(),
      outcome: null,
    };
    joints.set(key, joint);
    return joint;
  }

  function heldFor(joint: Joint, decided: Decided): Held {
    return { id: joint.held.id, withdraw: (reason) => leave(joint, decided, reason) };
  }

  function leave(joint: Joint, decided: Decided, reason: string): void {
    if (!joint.waiting.delete(decided) || joint.waiting.size > 0) return;
    const timer = setTimeout(() => end(joint), comeBackMs);
    timer.unref();
    left.set(joint, { timer, reason });
    const [first] = left.keys();
    if (left.size > leftMax && first !== undefined) end(first);
  }

  function end(joint: Joint): void {
    const reason = stay(joint);
    joints.delete(joint.key);
    if (joint.outcome === null) joint.held.withdraw(reason);
  }

  /** It is waited for again, or ends; gives why it was left. */
  function stay(joint: Joint): string {
    const known = left.get(joint);
    clearTimeout(known?.timer);
    left.delete(joint);
    return known?.reason ?? "";
  }

  return (request, decided) => {
    if (request.digest === null || request.once === true) return hold(request, decided);
    const key = keyOf(request, request.digest);
    const known = joints.get(key);
    if (known === undefined) {
      if (joints.size >= jointMax) return hold(request, decided);
      const joint = open(key, request);
      joint.waiting.add(decided);
      return heldFor(joint, decided);
    }
    stay(known);
    const { outcome } = known;
    if (outcome === null) known.waiting.add(decided);
    else {
      joints.delete(key);
      setImmediate(() => decided(outcome));
    }
    return heldFor(known, decided);
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
