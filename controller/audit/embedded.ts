/** The audit log of `weir up`: follows the heads of the agent beside it, and gives that agent its receipts. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../../agent/errors.ts";
import { type Head, headIsSigned, headsFile, publicKeyFile } from "../../agent/record/heads.ts";
import { type HeadsPlace, headsStart, readHeadLines } from "../../agent/record/heads-file.ts";
import { keepReceipts } from "../../agent/record/receipts.ts";
import { HeadIntake } from "./intake.ts";
import { type AuditLog, auditDir, openAuditLog } from "./log.ts";
import { startWitnesses, type WitnessName } from "./witnesses.ts";

export interface EmbeddedAudit {
  /** Null: what is on the disk is not what was signed for. Nothing is written on it; the agent goes on recording. */
  readonly log: AuditLog | null;
  /** What is wrong with the heads or the log; null: nothing. */
  readonly problem: string | null;
  /** Takes up what is there by now, signs for it, and lets go of the log. */
  close(): Promise<void>;
}

export interface EmbeddedAuditOptions {
  readonly stateDir: string;
  readonly witnesses?: readonly WitnessName[];
  readonly log?: (level: "info" | "warn", message: string) => void;
  readonly everyMs?: number;
}

/** Heads are signed once a second; they may wait twice as long for their checkpoint. */
const everyMsDefault = 2_000;
const cursorFile = "heads-cursor.json";

export function startEmbeddedAudit(options: EmbeddedAuditOptions): EmbeddedAudit {
  return new HeadsOfOneAgent(options);
}

class HeadsOfOneAgent implements EmbeddedAudit {
  readonly log: AuditLog | null;
  readonly #stateDir: string;
  readonly #tell: (level: "info" | "warn", message: string) => void;
  readonly #intake: HeadIntake | null;
  readonly #witnesses: ReturnType<typeof startWitnesses>;
  readonly #timer: NodeJS.Timeout;
  #place: HeadsPlace;
  #looking: Promise<void> | null = null;
  #problem: string | null = null;

  constructor({ stateDir, witnesses = [], log = () => {}, everyMs = everyMsDefault }: EmbeddedAuditOptions) {
    this.#stateDir = stateDir;
    this.#tell = log;
    this.#witnesses = startWitnesses({ dir: join(stateDir, auditDir), witnesses, log });
    this.log = this.#open(everyMs);
    this.#intake = this.log === null ? null : new HeadIntake(this.log);
    this.#place = this.#readCursor();
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = null;
      });
    }, everyMs);
    this.#timer.unref();
  }

  get problem(): string | null {
    return this.#problem ?? this.#witnesses.problem;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#look();
    await this.log?.close();
    await this.#witnesses.close();
  }

  #open(everyMs: number): AuditLog | null {
    try {
      return openAuditLog({
        stateDir: this.#stateDir,
        everyMs,
        onReceipts: (receipts) => keepReceipts(this.#stateDir, "own", receipts),
        onCheckpoint: (note) => this.#witnesses.submit(note),
      });
    } catch (error) {
      if (!(error instanceof WeirError && error.code === "WEIR_CHAIN_BROKEN")) throw error;
      this.#warn(error.message);
      return null;
    }
  }

  /** Every whole line that is new, signed for piece by piece. What fails is tried again at the next look. */
  async #look(): Promise<void> {
    if (this.log === null || this.#intake === null) return;
    try {
      for (let lines = this.#lines(); lines.length > 0; lines = this.#lines()) {
        const key = this.#key();
        const heads = lines.map(({ line }) => parse(line)).filter((head) => head !== null);
        const good = heads.filter((head) => headIsSigned(head, key));
        if (good.length < lines.length)
          this.#warn(`${lines.length - good.length} lines of ${headsFile} are not signed by the agent's key.`);
        for (const { sentence } of this.#intake.take(good).faults) this.#warn(sentence);
        await this.log.flush();
        this.#place = lines.at(-1)?.next ?? this.#place;
        this.#writeCursor();
      }
    } catch (error) {
      this.#warn(error instanceof Error ? error.message : String(error));
    }
  }

  #warn(problem: string): void {
    if (this.#problem !== problem) this.#tell("warn", `audit: ${problem}`);
    this.#problem = problem;
  }

  #key(): KeyObject {
    return createPublicKey(readFileSync(join(this.#stateDir, publicKeyFile)));
  }

  #lines(): ReturnType<typeof readHeadLines> {
    return readHeadLines(this.#stateDir, this.#place);
  }

  /** Only saves reading what is in the log already: without it all is read again. */
  #readCursor(): HeadsPlace {
    try {
      const path = join(this.#stateDir, auditDir, cursorFile);
      const { offset, file = null } = JSON.parse(readFileSync(path, "utf8")) as Partial<HeadsPlace>;
      const isPlace = [offset, file ?? 0].every((number) => Number.isSafeInteger(number) && (number as number) >= 0);
      return isPlace ? { file, offset: offset as number } : headsStart;
    } catch {
      return headsStart;
    }
  }

  #writeCursor(): void {
    const path = join(this.#stateDir, auditDir, cursorFile);
    writeFileSync(`${path}.new`, JSON.stringify(this.#place), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

function parse(line: string): Head | null {
  try {
    const value = JSON.parse(line) as Partial<Head> | null;
    const isHead =
      typeof value?.agent === "string" && Number.isSafeInteger(value.size) && typeof value.link === "string";
    return isHead ? (value as Head) : null;
  } catch {
    return null;
  }
}
