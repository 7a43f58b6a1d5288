/**
 * One session's chain, as its entries arrive: at least once, in order. Pure. Only what follows from the entry before is
 * taken: whoever may write to the topic but does not know the chain can neither add to a session nor cut it.
 */
import { type ChainedEntry, firstLink } from "../../agent/record/chain.ts";

export interface SessionTail {
  readonly seq: number;
  /** SHA-256 over the bytes of its last entry. */
  readonly link: Buffer;
}

export type Judgement =
  | { readonly taken: true; readonly late: boolean }
  /** It is here already. */
  | { readonly taken: false; readonly fault: null }
  | { readonly taken: false; readonly fault: FaultKind; readonly sentence: string };

/** `fork`: two entries with the same place. `gap`: one in between never came. `altered`: it does not follow. */
export type FaultKind = "fork" | "gap" | "altered" | "cut" | "late" | "unreadable" | "wrong-key" | "unknown-agent";

export function judge(tail: SessionTail | null, entry: ChainedEntry, link: Buffer): Judgement {
  const { seq, session } = entry;
  if (tail === null) {
    if (seq === 0 && !entry.sessionPrevious.equals(firstLink))
      return refused("altered", `The first entry of session ${session} says that there is one before it.`);
    // What came before was published before this controller, or is past the topic's retention.
    return { taken: true, late: seq > 0 };
  }
  if (seq < tail.seq || (seq === tail.seq && link.equals(tail.link))) return { taken: false, fault: null };
  if (seq === tail.seq) return refused("fork", `Session ${session} has two different entries ${seq}.`);
  if (seq > tail.seq + 1) return refused("gap", `After entry ${tail.seq} of session ${session} comes entry ${seq}.`);
  if (!entry.sessionPrevious.equals(tail.link))
    return refused("altered", `Entry ${seq} of session ${session} does not follow from the one before it.`);
  return { taken: true, late: false };
}

function refused(fault: FaultKind, sentence: string): Judgement {
  return { taken: false, fault, sentence };
}
