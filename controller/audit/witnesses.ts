/** The log's side of C2SP tlog-witness: shows each checkpoint to the witnesses, and keeps what they cosigned. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../../agent/errors.ts";
import { cosignedAt, parseCheckpoint, type SignedCheckpoint, withSignature } from "./checkpoint.ts";
import { readFrom, replaceFile } from "./files.ts";
import { verifierArgument } from "./keys.ts";
import { cosignatureKeyType, formatNote, type NoteSignature, parseSignature, type VerifierKey } from "./note.ts";
import { tileHashes } from "./tiles.ts";
import { consistencyProof } from "./tree.ts";

export interface WitnessName {
  /** Without `add-checkpoint` at its end. */
  readonly url: string;
  readonly verifier: VerifierKey;
}

export interface Witnesses {
  /** Shows it as soon as the one before is answered; only the newest waits. */
  submit(note: string): void;
  /** A witness that does not answer, or refuses. */
  readonly problem: string | null;
  close(): Promise<void>;
}

/** The last checkpoint that witnesses cosigned. */
export const witnessedFile = "checkpoint.witnessed";
const answerWithinMs = 10_000;
const answerBytesMax = 16 * 1024;
/** A 409 tells the witness's size; more often than that it does not agree with itself. */
const triesMax = 3;

/** `URL#VERIFIER-KEY`, as on the command line. */
export function parseWitness(text: string): WitnessName {
  const split = text.indexOf("#");
  const url = split < 0 ? text : text.slice(0, split);
  if (split < 0 || !/^https?:\/\//.test(url) || !URL.canParse(url))
    throw new WeirError("WEIR_USAGE", `--witness ${text}: URL#VERIFIER-KEY is expected.`);
  const verifier = verifierArgument(text.slice(split + 1));
  if (verifier.type !== cosignatureKeyType)
    throw new WeirError("WEIR_USAGE", `--witness: the key of ${verifier.name} is no witness's.`);
  return { url: url.replace(/\/+$/, ""), verifier };
}

export function startWitnesses(options: {
  readonly dir: string;
  readonly witnesses: readonly WitnessName[];
  readonly log: (level: "info" | "warn", message: string) => void;
}): Witnesses {
  const { dir, witnesses, log } = options;
  const sizes = new Map<WitnessName, number>();
  let next: string | null = null;
  let running: Promise<void> | null = null;
  let problem: string | null = null;
  const stop = new AbortController();

  async function run(): Promise<void> {
    while (next !== null && !stop.signal.aborted) {
      const checkpoint = parseCheckpoint(next);
      next = null;
      const answers = await Promise.allSettled(witnesses.map((witness) => show(witness, checkpoint)));
      const problems = answers.flatMap((answer) =>
        answer.status === "rejected" ? [String((answer.reason as Error).message ?? answer.reason)] : [],
      );
      if (problems.length > 0 && problem === null && !stop.signal.aborted) log("warn", `audit: ${problems.join(" ")}`);
      problem = problems.length > 0 ? problems.join(" ") : null;
      const signatures = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
      if (signatures.length > 0) await keep(checkpoint, signatures);
    }
  }

  async function show(witness: WitnessName, checkpoint: SignedCheckpoint): Promise<NoteSignature> {
    let old = sizes.get(witness) ?? lastWitnessed(dir, witness.verifier);
    for (let tries = 0; tries < triesMax; tries += 1) {
      const { status, body } = await post(witness, requestOf(dir, Math.min(old, checkpoint.size), checkpoint));
      if (status === 200) {
        const signature = signatureIn(body, checkpoint, witness.verifier);
        if (signature === null)
          throw new WeirError("WEIR_CHAIN_BROKEN", `${witness.url} answered without its cosignature.`);
        sizes.set(witness, checkpoint.size);
        return signature;
      }
      const told = status === 409 && /^(0|[1-9]\d*)\n?$/.test(body) ? Number(body) : Number.NaN;
      if (!Number.isSafeInteger(told) || told === old) {
        const why = status === 409 ? "it has seen this log otherwise" : body.slice(0, 200).trim();
        throw new WeirError("WEIR_CHAIN_BROKEN", `The witness ${witness.url} refused (${status}): ${why}.`);
      }
      if (told > checkpoint.size)
        throw new WeirError(
          "WEIR_CHAIN_BROKEN",
          `The witness ${witness.url} has seen ${told} leaves, and the log has ${checkpoint.size}: it was cut, or put back.`,
        );
      old = told;
    }
    throw new WeirError("WEIR_CHAIN_BROKEN", `The witness ${witness.url} tells another size each time.`);
  }

  async function post({ url }: WitnessName, body: string): Promise<{ status: number; body: string }> {
    const response = await fetch(`${url}/add-checkpoint`, {
      method: "POST",
      body,
      redirect: "error",
      signal: AbortSignal.any([stop.signal, AbortSignal.timeout(answerWithinMs)]),
    });
    const bytes = await firstBytes(response, answerBytesMax);
    return { status: response.status, body: bytes.toString("utf8") };
  }

  async function keep(checkpoint: SignedCheckpoint, signatures: readonly NoteSignature[]): Promise<void> {
    let text = formatNote(checkpoint.note);
    for (const signature of signatures) text = withSignature(parseCheckpoint(text).note, signature);
    await replaceFile(dir, witnessedFile, text);
  }

  function start(): void {
    running ??= run()
      .catch((error: unknown) => {
        problem = error instanceof Error ? error.message : String(error);
      })
      .finally(() => {
        running = null;
        if (next !== null && !stop.signal.aborted) start();
      });
  }

  return {
    submit(note) {
      if (witnesses.length === 0) return;
      next = note;
      start();
    },
    get problem() {
      return problem;
    },
    async close() {
      // The last checkpoint is worth a moment, not more.
      const late = setTimeout(() => stop.abort(), answerWithinMs);
      while (running !== null) await running;
      clearTimeout(late);
      stop.abort();
    },
  };
}

function requestOf(dir: string, old: number, checkpoint: SignedCheckpoint): string {
  const proof = consistencyProof(tileHashes(readFrom(dir), checkpoint.size), old, checkpoint.size);
  const lines = [`old ${old}`, ...proof.map((hash) => hash.toString("base64"))];
  return `${lines.join("\n")}\n\n${formatNote(checkpoint.note)}`;
}

function signatureIn(body: string, { note }: SignedCheckpoint, verifier: VerifierKey): NoteSignature | null {
  for (const line of body.split("\n")) {
    const signature = line === "" ? null : parseSignature(line);
    if (signature === null || signature.name !== verifier.name) continue;
    const cosigned = parseCheckpoint(withSignature(note, signature));
    if (cosignedAt(cosigned, verifier) !== null) return signature;
  }
  return null;
}

/** What this witness had seen when the log was last open. */
function lastWitnessed(dir: string, verifier: VerifierKey): number {
  try {
    const checkpoint = parseCheckpoint(readFileSync(join(dir, witnessedFile)));
    return cosignedAt(checkpoint, verifier) === null ? 0 : checkpoint.size;
  } catch {
    return 0;
  }
}

async function firstBytes(response: Response, bytesMax: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new WeirError("WEIR_LIMIT_REACHED", `An answer is above ${bytesMax} bytes.`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
