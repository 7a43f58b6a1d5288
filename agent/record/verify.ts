/** Checks the record offline: every link, every sequence number, every signed head. Streams; memory does not grow with the log. */
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { bodyOf, type ChainedEntry, decodeEntry, firstLink, linkOf } from "./chain.ts";
import { HoleFinder, placed, sentenceOf } from "./gap.ts";
import { type Head, headIsSigned, publicKeyFile, readHeads, readPublicKey } from "./heads.ts";
import { type Pruned, prunedIsSigned, readPruned } from "./pruned.ts";
import { readFrames, segmentsOf } from "./segment.ts";

export type Fault =
  | "altered"
  | "gap"
  | "reordered"
  | "truncated"
  | "removed-session"
  | "wrong-key"
  | "split-view"
  | "damaged"
  | "empty";

export interface FirstBad {
  readonly fault: Fault;
  readonly session: string | null;
  readonly agentSeq: number | null;
  readonly segment: string | null;
  readonly offset: number | null;
  /** What a person reads. */
  readonly sentence: string;
}

export interface Verification {
  readonly ok: boolean;
  /** With those that retention took out. */
  readonly entries: number;
  /** Taken out by retention; the agent signed for what they were. */
  readonly pruned: number;
  readonly sessions: number;
  readonly heads: number;
  /** Crashes that the record tells of itself. */
  readonly interruptions: number;
  /** Entries after the last signed head: chained, but not yet signed for. */
  readonly unsigned: number;
  readonly firstBad: FirstBad | null;
}

/**
 * `stateDir` holds the spool, the heads and (unless `key` is given) the public key. `logged` are heads that an audit log
 * has: of them this agent's are held against the record, too.
 */
export function verifyLog(
  stateDir: string,
  keyPath: string = join(stateDir, publicKeyFile),
  logged: readonly Head[] = [],
): Verification {
  const key = readPublicKey(keyPath);
  const { heads: own, unreadable } = tryHeads(stateDir);
  const state: State = { entries: 0, sessions: 0, interruptions: 0, previous: firstLink, head: 0, tails: new Map() };
  let before: Pruned | null = null;
  const finish = (firstBad: FirstBad | null): Verification => ({
    ok: firstBad === null,
    entries: state.entries,
    pruned: before?.size ?? 0,
    sessions: state.sessions,
    heads: own.length,
    interruptions: state.interruptions,
    unsigned: state.entries - (own.at(-1)?.size ?? 0),
    firstBad,
  });
  if (unreadable !== null) return finish(aboutHeads("damaged", null, unreadable));
  try {
    before = readPruned(stateDir);
  } catch (error) {
    return finish(aboutHeads("damaged", null, error instanceof Error ? error.message : String(error)));
  }
  if (before !== null) {
    if (!prunedIsSigned(before, key)) {
      const sentence = `What retention took out, ${before.size} entries, is not signed for by this key.`;
      return finish(aboutHeads("wrong-key", before.size - 1, sentence));
    }
    state.entries = before.size;
    state.previous = Buffer.from(before.link, "hex");
    for (const { session, seq, link } of before.open) state.tails.set(session, { seq, link: Buffer.from(link, "hex") });
  }
  const badOwn = judgeOwn(own, key);
  if (badOwn !== null) return finish(badOwn);
  const agent = before?.agent ?? agentOf(stateDir) ?? own[0]?.agent ?? null;
  const heads = [...own, ...logged.filter((head) => agent === null || head.agent === agent)].sort(bySize);
  const badHead = judgeAll(heads, key);
  if (badHead !== null) return finish(badHead);
  const atCut = before === null ? null : checkHeads(heads, state);
  if (atCut !== null) return finish({ ...atCut, segment: null, offset: null });
  const badEntry = walk(stateDir, before?.segment ?? -1, heads, state);
  if (badEntry !== null) return finish(badEntry);
  const last = heads.at(-1);
  if (last !== undefined && last.size > state.entries) {
    const sentence = `The log ends at entry ${state.entries}, and the agent has signed for ${last.size}: ${last.size - state.entries} entries are cut off its end.`;
    return finish(aboutHeads("truncated", state.entries, sentence));
  }
  if (state.entries === 0) return finish(aboutHeads("empty", null, `There is no record in ${stateDir}.`));
  return finish(null);
}

/** The agent's own heads, in the order in which it signed them. */
function judgeOwn(own: readonly Head[], key: KeyObject): FirstBad | null {
  const unsigned = own.find((head) => !headIsSigned(head, key));
  if (unsigned !== undefined) {
    const sentence = `The head over ${unsigned.size} entries is not signed by this key.`;
    return aboutHeads("wrong-key", unsigned.size - 1, sentence);
  }
  const shrunk = own.findIndex((head, at) => at > 0 && head.size < (own[at - 1] as Head).size);
  if (shrunk <= 0) return null;
  // A log that was cut and then written on is shorter than what was signed before.
  const [before, after] = [own[shrunk - 1]?.size, own[shrunk]?.size ?? 0];
  const sentence = `The agent signed for ${before} entries and later for ${after}: the record was cut in between.`;
  return aboutHeads("truncated", after, sentence);
}

/** With those that an audit log has, by size. */
function judgeAll(heads: readonly Head[], key: KeyObject): FirstBad | null {
  const stranger = heads.find((head) => !headIsSigned(head, key));
  if (stranger !== undefined) {
    const sentence = `The audit log has a head of agent ${stranger.agent} over ${stranger.size} entries that is not signed by this key.`;
    return aboutHeads("wrong-key", stranger.size - 1, sentence);
  }
  const fork = heads.find((head, at) => at > 0 && forks(head, heads[at - 1] as Head));
  if (fork === undefined) return null;
  const sentence = `The agent signed two different records of ${fork.size} entries: one was shown here, the other elsewhere.`;
  return aboutHeads("split-view", fork.size - 1, sentence);
}

/** Every entry of the segments behind `removed`: those are told of as taken out, and may be there yet. */
function walk(stateDir: string, removed: number, heads: readonly Head[], state: State): FirstBad | null {
  for (const path of segmentsOf(join(stateDir, "spool"))) {
    const segment = path.slice(path.lastIndexOf("/") + 1);
    if (Number.parseInt(segment, 10) <= removed) continue;
    const frames = readFrames(path);
    let next = frames.next();
    for (; !next.done; next = frames.next()) {
      const { payload, offset } = next.value;
      const bad = checkEntry(payload, state);
      if (bad?.fault === "gap" && bad.agentSeq !== null && bad.agentSeq > state.entries)
        return { ...lookBehind(stateDir, segment, offset, state, bad), segment, offset };
      if (bad !== null) return { ...bad, segment, offset };
      state.previous = linkOf(payload);
      state.entries += 1;
      const headBad = checkHeads(heads, state);
      if (headBad !== null) return { ...headBad, segment, offset };
    }
    const { problem, goodBytes: offset } = next.value;
    if (problem !== null) {
      const sentence = `${segment} at byte ${offset}: ${problem}.`;
      return { fault: "damaged", session: null, agentSeq: state.entries, segment, offset, sentence };
    }
  }
  return null;
}

interface State {
  entries: number;
  sessions: number;
  interruptions: number;
  previous: Buffer;
  head: number;
  readonly tails: Map<string, { readonly seq: number; readonly link: Buffer }>;
}

type Bad = Omit<FirstBad, "segment" | "offset">;

function checkEntry(payload: Buffer, state: State): Bad | null {
  const { tails } = state;
  let entry: ChainedEntry;
  try {
    entry = decodeEntry(payload);
  } catch {
    return {
      fault: "altered",
      session: null,
      agentSeq: state.entries,
      sentence: `Entry ${state.entries} cannot be read any more.`,
    };
  }
  const { session, agentSeq } = entry;
  if (agentSeq !== state.entries) {
    const fault = agentSeq > state.entries ? "gap" : "reordered";
    const what =
      fault === "gap" ? `${agentSeq - state.entries} entries are missing` : "an entry stands where it does not belong";
    return { fault, session, agentSeq, sentence: `After entry ${state.entries - 1} comes entry ${agentSeq}: ${what}.` };
  }
  if (!entry.previous.equals(state.previous)) {
    return {
      fault: "altered",
      session,
      agentSeq,
      sentence: `Entry ${agentSeq} does not follow from the one before it: one of the two was altered.`,
    };
  }
  const tail = tails.get(session);
  const { name, fields } = bodyOf(entry);
  if (entry.seq !== (tail?.seq ?? -1) + 1 || !entry.sessionPrevious.equals(tail?.link ?? firstLink)) {
    return {
      fault: "gap",
      session,
      agentSeq,
      sentence: `Session ${session} does not go on from its entry ${tail?.seq ?? "none"} at entry ${agentSeq}.`,
    };
  }
  if (entry.seq === 0 && session !== "agent") state.sessions += 1;
  if (name === "Agent" && fields["event"] === "recovered") state.interruptions += 1;
  if (name === "SessionEnd") tails.delete(session);
  else tails.set(session, { seq: entry.seq, link: linkOf(payload) });
  return null;
}

/** What stands behind a hole tells what the hole is. */
function lookBehind(stateDir: string, segment: string, offset: number, state: State, bad: Bad): Bad {
  const found = bad.agentSeq as number;
  const finder = new HoleFinder(
    state.entries,
    found,
    new Map([...state.tails].map(([session, { seq }]) => [session, seq])),
  );
  for (const path of segmentsOf(join(stateDir, "spool"))) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name < segment) continue;
    for (const frame of readFrames(path)) {
      if (name === segment && frame.offset < offset) continue;
      try {
        finder.add(placed(decodeEntry(frame.payload)));
      } catch {
        // It is behind the first bad place; that one is told.
      }
    }
  }
  return { ...bad, fault: finder.hole, sentence: sentenceOf(finder, state.entries, found) };
}

/** Whose record it is, by its first entry. */
function agentOf(stateDir: string): string | null {
  for (const path of segmentsOf(join(stateDir, "spool"))) {
    for (const { payload } of readFrames(path)) {
      try {
        return decodeEntry(payload).agent;
      } catch {
        return null;
      }
    }
  }
  return null;
}

function bySize(a: Head, b: Head): number {
  return a.size - b.size;
}

function forks(head: Head, before: Head): boolean {
  return head.size === before.size && head.link !== before.link;
}

function tryHeads(stateDir: string): { heads: Head[]; unreadable: string | null } {
  try {
    return { heads: readHeads(stateDir), unreadable: null };
  } catch (error) {
    return { heads: [], unreadable: error instanceof Error ? error.message : String(error) };
  }
}

/** A head of this size has to have the link that the log has here. */
function checkHeads(heads: readonly Head[], state: State): Bad | null {
  // Heads only grow: those behind are checked already.
  while (state.head < heads.length && (heads[state.head] as Head).size < state.entries) state.head += 1;
  for (let at = state.head; at < heads.length; at += 1) {
    const head = heads[at] as Head;
    if (head.size !== state.entries) return null;
    if (head.link !== state.previous.toString("hex")) {
      return {
        fault: "altered",
        session: null,
        agentSeq: state.entries - 1,
        sentence: `Entry ${state.entries - 1} is not the one that the agent signed for.`,
      };
    }
  }
  return null;
}

function aboutHeads(fault: Fault, agentSeq: number | null, sentence: string): FirstBad {
  return { fault, session: null, agentSeq, segment: null, offset: null, sentence };
}
