/**
 * Takes segments out of the record that are too old or too many, oldest first, and keeps the proof: each is read and
 * checked, archived, told of in `pruned.jsonl` with the agent's signature, and only then removed.
 */
import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import { appendFileSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { WeirError } from "../errors.ts";
import { bodyOf, decodeEntry, firstLink, linkOf } from "../record/chain.ts";
import { headsFile, publicKeyFile, readLastHead, signHead } from "../record/heads.ts";
import { appendPruned, type Pruned, readPruned } from "../record/pruned.ts";
import { readFrames, segmentsOf } from "../record/segment.ts";
import type { ArchiveStore } from "./store.ts";

export interface RetentionRules {
  /** Entries younger than that stay; null: of any age. */
  readonly ageMs: number | null;
  /** The record may have that many bytes; null: any number. */
  readonly bytes: number | null;
}

export interface RetentionOptions {
  readonly stateDir: string;
  readonly rules: RetentionRules;
  /** Null: what is taken out is gone. */
  readonly archive: ArchiveStore | null;
  /** Segments from this number on are not published yet; null: there is nobody to publish to. */
  readonly unpublishedFrom?: number | null;
  /** Entries from this number on are not forwarded yet; null: nobody forwards. */
  readonly unforwardedFrom?: number | null;
  readonly now?: () => number;
}

/** Heads of the archive, one for each segment: with them it verifies by itself. */
const archivedHeadsFile = "archived-heads.jsonl";

/** What was taken out, oldest first. What is wrong with the record stops it: then nothing more is removed. */
export async function applyRetention(options: RetentionOptions): Promise<Pruned[]> {
  const { stateDir, rules, archive, unpublishedFrom = null, unforwardedFrom = null, now = Date.now } = options;
  const done: Pruned[] = [];
  const key = createPrivateKey(readFileSync(join(stateDir, "agent-key.pem")));
  for (;;) {
    const before = readPruned(stateDir);
    const segments = segmentsOf(join(stateDir, "spool"));
    // Told of already, and not removed: killed in between.
    for (const path of segments.filter((one) => before !== null && numberOf(one) <= before.segment)) rmSync(path);
    const left = segments.filter((one) => before === null || numberOf(one) > before.segment);
    const [oldest, next] = left;
    // The chain goes on from the newest entries: a segment without a later one that has some stays.
    if (oldest === undefined || next === undefined || statSync(next).size === 0) return done;
    if (unpublishedFrom !== null && numberOf(oldest) >= unpublishedFrom) return done;
    const bytes = left.reduce((sum, path) => sum + statSync(path).size, 0);
    const tooMany = rules.bytes !== null && bytes > rules.bytes;
    // The newest entry in it is at most as young as the file.
    const mayBeOld = rules.ageMs !== null && now() - statSync(oldest).mtimeMs > rules.ageMs;
    if (!tooMany && !mayBeOld) return done;
    const segment = readSegment(oldest, before);
    if (!tooMany && now() - segment.untilMs <= (rules.ageMs ?? Number.POSITIVE_INFINITY)) return done;
    if (unforwardedFrom !== null && segment.size > unforwardedFrom) return done;
    if ((readLastHead(join(stateDir, headsFile))?.size ?? 0) < segment.size) return done;
    if (archive !== null) await keep(archive, stateDir, oldest, segment, key);
    const pruned: Omit<Pruned, "signature"> = {
      agent: segment.agent,
      segment: numberOf(oldest),
      sha256: segment.sha256,
      archived: archive === null ? "" : `${archive.name}/${segment.agent}/spool/${basename(oldest)}`,
      size: segment.size,
      link: segment.link.toString("hex"),
      untilMs: segment.untilMs,
      open: [...segment.open].map(([session, tail]) => ({ session, ...tail })),
      timeMs: now(),
    };
    done.push(appendPruned(stateDir, pruned, key));
    rmSync(oldest);
  }
}

interface ReadSegment {
  readonly agent: string;
  readonly bytes: Buffer;
  readonly sha256: string;
  readonly size: number;
  readonly link: Buffer;
  readonly untilMs: number;
  readonly open: Map<string, { seq: number; link: string }>;
}

/** Only what follows from what was there before is taken out: a broken record is evidence. */
function readSegment(path: string, before: Pruned | null): ReadSegment {
  let size = before?.size ?? 0;
  let link = before === null ? firstLink : Buffer.from(before.link, "hex");
  let [untilMs, agent] = [0, ""];
  const open = new Map((before?.open ?? []).map(({ session, seq, link: last }) => [session, { seq, link: last }]));
  const frames = readFrames(path);
  let next = frames.next();
  for (; !next.done; next = frames.next()) {
    const { payload, offset } = next.value;
    const entry = decodeEntry(payload);
    if (entry.agentSeq !== size || !entry.previous.equals(link))
      throw new WeirError("WEIR_SPOOL_CORRUPT", `${path} is broken at byte ${offset}: it stays. Run \`weir verify\`.`);
    link = linkOf(payload);
    size += 1;
    untilMs = Math.max(untilMs, entry.timeMs);
    agent = entry.agent;
    if (bodyOf(entry).name === "SessionEnd") open.delete(entry.session);
    else open.set(entry.session, { seq: entry.seq, link: link.toString("hex") });
  }
  if (next.value.problem !== null)
    throw new WeirError("WEIR_SPOOL_CORRUPT", `${path}: ${next.value.problem}: it stays. Run \`weir verify\`.`);
  const bytes = readFileSync(path);
  return { agent, bytes, sha256: createHash("sha256").update(bytes).digest("hex"), size, link, untilMs, open };
}

/** With a head over exactly this, so that `weir verify --log ARCHIVE/AGENT` needs nothing else. */
async function keep(
  archive: ArchiveStore,
  stateDir: string,
  path: string,
  segment: ReadSegment,
  key: KeyObject,
): Promise<void> {
  const { agent, size, link, untilMs, bytes } = segment;
  const headsPath = join(stateDir, archivedHeadsFile);
  const known = readLastHead(headsPath)?.size ?? 0;
  if (known < size) {
    const head = signHead({ agent, size, link: link.toString("hex"), timeMs: untilMs, closed: false }, key);
    appendFileSync(headsPath, `${JSON.stringify(head)}\n`, { mode: 0o600 });
  }
  await archive.put(`${agent}/spool/${basename(path)}`, bytes);
  await archive.put(`${agent}/${publicKeyFile}`, readFileSync(join(stateDir, publicKeyFile)));
  await archive.put(`${agent}/${headsFile}`, readFileSync(headsPath));
}

function numberOf(path: string): number {
  return Number(/(\d{8})\.seg$/.exec(path)?.[1]);
}
