/** `weir verify`: checks the record, the audit log's tree and exports, offline. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { auditDir } from "../../controller/audit/log.ts";
import { cosignatureKeyType, parseVerifier, type VerifierKey } from "../../controller/audit/note.ts";
import { isAuditLog, readCheckpointFile, type TreeVerification, verifyTree } from "../../controller/audit/verify.ts";
import { WeirError } from "../errors.ts";
import { headsFile, publicKeyFile } from "../record/heads.ts";
import { type Receipt, readReceipts } from "../record/receipts.ts";
import { type Fault, type Verification, verifyLog } from "../record/verify.ts";
import { verifyExport } from "../record/verify-export.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";
import { readKeyText } from "./key-argument.ts";

/** A broken log has an exit code of its own for each way, so that a script needs no text (docs/decisions/0012). */
const exitCodes: Readonly<Record<Fault, number>> = {
  empty: 1,
  altered: 10,
  gap: 11,
  reordered: 12,
  truncated: 13,
  "removed-session": 14,
  "wrong-key": 15,
  "split-view": 16,
  damaged: 17,
};

export const help = `weir verify [--log DIR]… [--key FILE|KEY]… [--checkpoint FILE]… [--json]
weir verify --export FILE [--key FILE] [--json]

Checks what is recorded, offline: every link, every number and every signed head of the agent's record; every leaf, tile
and checkpoint of the audit log; receipts and checkpoints that others kept; or one exported file.

  --log DIR          an agent's state directory, or a controller's audit directory; both at once show that they agree
                     (default /var/lib/weir)
  --state DIR        the same for one agent, as other commands have it
  --export FILE      what \`weir export --format jsonl|ocsf\` wrote
  --key FILE|KEY     the agent's public key (agent-key.pub.pem), the audit log's verifier key, or a witness's: then that
                     witness must have cosigned. Take copies elsewhere: who can write a directory can replace the key in it
  --checkpoint FILE  a checkpoint of the audit log that somebody kept, for example the witness's
  --json             the findings as JSON

Exit code 0: nothing was changed. Above, the first bad place is told:
   1  there is nothing to check              14  a whole session was removed
  10  altered: not what was signed for       15  wrong key: signed by another key, or not cosigned
  11  gap: entries are missing               16  split view: two records were signed, one shown here, one elsewhere
  12  reordered                              17  damaged: bytes that are no entries any more
  13  truncated: cut off at its end
   2  wrong use, 3 cannot run here
`;

interface Keys {
  /** Of a PEM file; null: the one beside the record. */
  readonly agent: string | null;
  readonly log: VerifierKey | null;
  readonly witnesses: readonly VerifierKey[];
}

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      log: { type: "string", multiple: true },
      state: { type: "string" },
      export: { type: "string" },
      key: { type: "string", multiple: true, default: [] },
      checkpoint: { type: "string", multiple: true, default: [] },
      json: { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const keys = readKeys(values.key);
  const dirs = values.log ?? [values.state ?? io.stateDir];
  if (values.export !== undefined) return exported(values.export, keys, dirs, values.json, io);
  return logs(dirs, keys, values.checkpoint, values.json, io);
}

async function exported(
  path: string,
  keys: Keys,
  dirs: readonly string[],
  json: boolean,
  io: CommandIo,
): Promise<number> {
  const result = await verifyExport(path, keyOf(keys, dirs[0] as string));
  if (json) io.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else if (result.firstBad !== null)
    io.stdout.write(
      `BROKEN: ${result.firstBad.fault}. ${result.firstBad.sentence}\n${result.lines} lines before it are good.\n`,
    );
  else io.stdout.write(`OK: ${result.lines} lines of ${result.sessions} sessions, sealed by agent ${result.agent}.\n`);
  return result.firstBad === null ? 0 : exitCodes[result.firstBad.fault];
}

function logs(dirs: readonly string[], keys: Keys, kept: readonly string[], json: boolean, io: CommandIo): number {
  const records = dirs.filter(isRecord);
  const trees = dirs.flatMap((dir) => [dir, join(dir, auditDir)].filter(isAuditLog).map((tree) => ({ dir, tree })));
  if (records.length === 0 && trees.length === 0)
    throw new WeirError(
      "WEIR_USAGE",
      `${dirs.join(", ")}: there is no record with its public key. Name the log's directory with --log, the key with --key.`,
    );
  if (kept.length > 0 && trees.length === 0)
    throw new WeirError("WEIR_USAGE", "--checkpoint needs an audit log that it is held against.");
  const checkpoints = new Map(kept.map((path) => [path, readCheckpointFile(path)]));
  const receipts = receiptsOf(records);
  const tree = trees.map(({ dir, tree: path }) =>
    verifyTree(path, {
      key: keys.log,
      witnesses: keys.witnesses,
      receipts: receipts.own.get(dir) ?? [],
      otherReceipts: receipts.controllers,
      checkpoints,
    }),
  );
  const logged = tree.flatMap(({ heads }) => heads);
  const record = records.map((dir) => verifyLog(dir, keyOf(keys, dir), logged));
  // Who names the log's key or a witness's wants to see what they have signed.
  const named = keys.log !== null || keys.witnesses.length > 0;
  const isYoung = (fault: Fault | undefined): boolean => !named && fault === "empty" && record.length > 0;
  const faults = [
    ...record.flatMap(({ firstBad }) => (firstBad === null ? [] : [firstBad.fault])),
    ...(receipts.problem === null ? [] : (["damaged"] as const)),
    // A tree that has signed for nothing yet is no fault of the record.
    ...tree.flatMap(({ firstBad }) => (firstBad === null || isYoung(firstBad.fault) ? [] : [firstBad.fault])),
  ];
  if (json) {
    const trees = tree.map(({ heads, ...rest }) => ({ ...rest, heads: heads.length }));
    const [first] = record;
    io.stdout.write(`${JSON.stringify({ ok: faults.length === 0, ...first, records: record, trees }, null, 2)}\n`);
  } else {
    for (const one of record) io.stdout.write(sayRecord(one));
    if (receipts.problem !== null) io.stdout.write(`BROKEN: damaged. ${receipts.problem}\n`);
    for (const one of tree) if (one.ok || !isYoung(one.firstBad?.fault)) io.stdout.write(sayTree(one));
  }
  const [first] = faults;
  return first === undefined ? 0 : exitCodes[first];
}

function isRecord(dir: string): boolean {
  return ["spool", headsFile, publicKeyFile].some((name) => existsSync(join(dir, name)));
}

interface Receipts {
  /** By the directory of the record: those of the log beside it. */
  readonly own: ReadonlyMap<string, readonly Receipt[]>;
  readonly controllers: readonly Receipt[];
  readonly problem: string | null;
}

function receiptsOf(records: readonly string[]): Receipts {
  try {
    return {
      own: new Map(records.map((dir) => [dir, readReceipts(dir, "own")])),
      controllers: records.flatMap((dir) => readReceipts(dir, "controllers")),
      problem: null,
    };
  } catch (error) {
    if (!(error instanceof WeirError && error.code === "WEIR_SPOOL_CORRUPT")) throw error;
    return { own: new Map(), controllers: [], problem: error.message };
  }
}

function keyOf(keys: Keys, dir: string): string {
  const path = keys.agent ?? join(dir, publicKeyFile);
  if (existsSync(path)) return path;
  throw new WeirError(
    "WEIR_USAGE",
    `${path}: there is no public key. Name the log's directory with --log, the key with --key.`,
  );
}

function readKeys(words: readonly string[]): Keys {
  let agent: string | null = null;
  let log: VerifierKey | null = null;
  const witnesses: VerifierKey[] = [];
  for (const word of words) {
    const text = readKeyText(word);
    if (text === null || text.includes("-----BEGIN")) agent = word;
    else {
      const verifier = parseVerifier(text);
      if (verifier.type === cosignatureKeyType) witnesses.push(verifier);
      else log = verifier;
    }
  }
  return { agent, log, witnesses };
}

function sayRecord(result: Verification): string {
  if (result.firstBad !== null) {
    const { fault, sentence, segment, offset } = result.firstBad;
    if (fault === "empty") return `EMPTY: ${sentence}\n`;
    const place = segment === null ? "" : ` (${segment}, byte ${offset})`;
    return `BROKEN: ${fault}. ${sentence}${place}\n${result.entries} entries before it are good.\n`;
  }
  const { interruptions } = result;
  const crashes =
    interruptions === 0 ? "" : `, ${interruptions} interruption${interruptions === 1 ? "" : "s"} of the agent visible`;
  const unsigned = result.unsigned > 0 ? ` The last ${result.unsigned} are chained and not yet signed.` : "";
  const pruned = result.pruned === 0 ? "" : ` (${result.pruned} older ones were taken out by retention)`;
  return `OK: ${result.entries} entries${pruned} in ${result.sessions} sessions, ${result.heads} signed heads${crashes}.${unsigned}\n`;
}

function sayTree({ firstBad, size, receipts, origin, witnessed }: TreeVerification): string {
  if (firstBad !== null) return `BROKEN: ${firstBad.fault}. ${firstBad.sentence}\n`;
  const seen = Object.entries(witnessed).map(
    ([name, seconds]) => ` Cosigned by ${name}, last at ${new Date(seconds * 1000).toISOString()}.`,
  );
  return `OK: audit log ${origin}, ${size} leaves, ${receipts} receipts of the agent hold.${seen.join("")}\n`;
}
