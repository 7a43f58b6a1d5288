/** Checks an export by itself: the chain of its lines, the numbers of the entries, and the seal at its end. Streams. */
import type { KeyObject } from "node:crypto";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { WeirError } from "../errors.ts";
import { HoleFinder, type Placed, sentenceOf } from "./gap.ts";
import { readPublicKey } from "./heads.ts";
import { fingerprintsOf } from "./ocsf.ts";
import { lineHash, type SignedSeal, sealIsSigned, sealOf, sealType } from "./seal.ts";
import type { Fault } from "./verify.ts";

export interface ExportVerification {
  readonly ok: boolean;
  /** Without the seal. */
  readonly lines: number;
  readonly sessions: number;
  readonly agent: string | null;
  readonly firstBad: { readonly fault: Fault; readonly line: number | null; readonly sentence: string } | null;
}

/** A line above it is no export of ours: an entry is at most 8 MiB, and JSON escapes. */
export const lineCharactersMax = 64 * 1024 * 1024;

type Json = Record<string, unknown>;

/** A line as both formats have it. */
interface Line {
  readonly place: Placed | null;
  readonly agent: string;
  readonly seal: SignedSeal | null;
  /** Of this line, and what it says of the one before; null for the first. */
  readonly hash: string;
  readonly previous: string | null;
  /** Whether the line's own hash, where it holds one, is right. */
  readonly whole: boolean;
}

class Bad extends Error {
  readonly fault: Fault;
  readonly line: number | null;
  constructor(fault: Fault, line: number | null, sentence: string) {
    super(sentence);
    this.fault = fault;
    this.line = line;
  }
}

export async function verifyExport(path: string, keyPath: string): Promise<ExportVerification> {
  const key = readPublicKey(keyPath);
  const state = { lines: 0, agent: null as string | null, sessions: new Set<string>() };
  try {
    await check(path, key, state);
    return { ok: true, lines: state.lines, sessions: state.sessions.size, agent: state.agent, firstBad: null };
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    const firstBad = { fault: error.fault, line: error.line, sentence: error.message };
    return { ok: false, lines: state.lines, sessions: state.sessions.size, agent: state.agent, firstBad };
  }
}

async function check(
  path: string,
  key: KeyObject,
  state: { lines: number; agent: string | null; sessions: Set<string> },
): Promise<void> {
  const tails = new Map<string, number>();
  let [number, firstSeq, lastSeq] = [0, -1, -1];
  let last: string | null = null;
  let seal: SignedSeal | null = null;
  let finder: { readonly finder: HoleFinder; readonly line: number; readonly expected: number; found: number } | null =
    null;
  for await (const text of linesOf(path)) {
    number += 1;
    const line = parseLine(text);
    if (line === null) throw new Bad("damaged", number, `Line ${number} cannot be read.`);
    if (seal !== null) throw new Bad("altered", number, `Line ${number} stands behind the seal.`);
    const { place } = line;
    if (place !== null && finder !== null) {
      finder.finder.add(place);
      continue;
    }
    if (place !== null && lastSeq >= 0 && place.agentSeq > lastSeq + 1) {
      const hole = new HoleFinder(lastSeq + 1, place.agentSeq, tails);
      hole.add(place);
      finder = { finder: hole, line: number, expected: lastSeq + 1, found: place.agentSeq };
      continue;
    }
    if (place !== null && lastSeq >= 0 && place.agentSeq <= lastSeq)
      throw new Bad("reordered", number, `Line ${number} has entry ${place.agentSeq} behind entry ${lastSeq}.`);
    if (!line.whole)
      throw new Bad("altered", number, `Line ${number} is not what its fingerprint says: it was altered.`);
    // What the seal says of the lines before it is judged at the end: they may be cut off.
    if (finder === null && line.seal === null && last !== null && line.previous !== last)
      throw new Bad("altered", number - 1, `Line ${number} does not follow from the one before it: it was altered.`);
    if (line.seal !== null) seal = line.seal;
    else if (place !== null) {
      if (firstSeq < 0) firstSeq = place.agentSeq;
      lastSeq = place.agentSeq;
      // A session that began before the first line is taken up where it is.
      if (place.ends) tails.delete(place.session);
      else tails.set(place.session, place.seq);
      state.lines += 1;
      state.agent = line.agent;
      if (place.session !== "agent") state.sessions.add(place.session);
      last = line.hash;
    }
  }
  if (finder !== null)
    throw new Bad(finder.finder.hole, finder.line, sentenceOf(finder.finder, finder.expected, finder.found));
  if (number === 0) throw new Bad("empty", null, "There is nothing in this export.");
  if (seal === null)
    throw new Bad("truncated", number, `The export ends at line ${number} without its seal: its end is cut off.`);
  if (!sealIsSigned(seal, key)) throw new Bad("wrong-key", number, "The seal of the export is not signed by this key.");
  if (seal.agent !== (state.agent ?? ""))
    throw new Bad("altered", number, `The seal is of agent ${seal.agent}, and the lines are of ${state.agent}.`);
  if (lastSeq < seal.lastSeq) {
    const cut = seal.lastSeq - lastSeq;
    throw new Bad(
      "truncated",
      number,
      `${cut} entries are cut off before the seal, which was made over ${seal.lines} lines.`,
    );
  }
  if (state.lines < seal.lines || firstSeq > seal.firstSeq)
    throw new Bad(
      "gap",
      1,
      `The seal was made over ${seal.lines} lines from entry ${seal.firstSeq} on: its beginning is missing.`,
    );
  if ((last ?? "") !== seal.last || state.lines !== seal.lines)
    throw new Bad("altered", number - 1, "The seal was made over other lines than these.");
}

async function* linesOf(path: string): AsyncGenerator<string> {
  const stream = createReadStream(path, { encoding: "utf8" });
  try {
    for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.length > lineCharactersMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `${path} has a line above ${lineCharactersMax} characters.`);
      if (line !== "") yield line;
    }
  } catch (cause) {
    if (cause instanceof WeirError) throw cause;
    throw new WeirError("WEIR_USAGE", `${path} cannot be read.`, { cause });
  } finally {
    stream.destroy();
  }
}

function parseLine(text: string): Line | null {
  let value: Json;
  try {
    const parsed = JSON.parse(text) as unknown;
    if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) return null;
    value = parsed as Json;
  } catch {
    return null;
  }
  return "attestation_list" in value ? ocsfLine(value) : jsonLine(value, text);
}

function jsonLine(value: Json, text: string): Line | null {
  const { agent, session, seq, agentSeq, type, previousLine } = value;
  const previous = typeof previousLine === "string" ? previousLine : null;
  const common = { hash: lineHash(text), previous, whole: true };
  if (type === sealType) return { ...common, place: null, agent: String(agent), seal: sealOf(value) };
  if (typeof agent !== "string" || typeof session !== "string") return null;
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(agentSeq)) return null;
  const place = { agentSeq: agentSeq as number, session, seq: seq as number, ends: type === "SessionEnd" };
  return { ...common, place, agent, seal: null };
}

function ocsfLine(value: Json): Line | null {
  const prints = fingerprintsOf(value);
  const metadata = value["metadata"] as Json | undefined;
  if (prints === null || metadata === null || typeof metadata !== "object") return null;
  const { made, stated, previous } = prints;
  const code = metadata["event_code"];
  const common = { hash: stated, previous, whole: made === stated };
  const agent = String((value["attestation_list"] as Json[])[0]?.["chain_uid"]);
  if (code === sealType) return { ...common, place: null, agent, seal: sealOf(value["unmapped"]) };
  const match = /^(.*):(\d+)$/s.exec(String(metadata["original_event_uid"]));
  const agentSeq = metadata["sequence"];
  if (match === null || !Number.isSafeInteger(agentSeq)) return null;
  const place = {
    agentSeq: agentSeq as number,
    session: match[1] as string,
    seq: Number(match[2]),
    ends: code === "SessionEnd",
  };
  return { ...common, place, agent, seal: null };
}
