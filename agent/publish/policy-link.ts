/**
 * The policy that this agent follows, from the compacted topic. The last one that was in force is kept on the disk with
 * its signature and version: it counts at the next start, with or without Kafka, and nobody brings an older one back.
 */
import type { KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { FeedMessage } from "../kafka/feed.ts";
import { judgePolicy, type PolicyBundle } from "../kafka/policy-messages.ts";
import { topics } from "../kafka/topics.ts";

/** What this agent knows of the policy it follows. */
export interface KeptPolicy {
  /** The highest that was in force; 0: none was. */
  readonly version: number;
  /** As it was signed. */
  readonly text: string;
  /** Null: there is none, or no key that is trusted by now signed it. */
  readonly bundle: PolicyBundle | null;
  /** The key, by its name. */
  readonly signer: string;
}

export interface PolicyLinkOptions {
  readonly stateDir: string;
  readonly id: string;
  readonly trusted: readonly KeyObject[];
  /** Puts it in force; rejects with the reason when it cannot be used, and then the one before stays. */
  use(bundle: PolicyBundle, signer: string): Promise<void>;
  /** Into the log and the audit: one was not taken. */
  refused(reason: string): void;
  log(level: "info" | "warn", message: string): void;
}

/** A topic is read from its start, and versions of before stand in it: the newest one has come by then. */
const historyWithinMs = 10_000;
/** Refusals that are recorded; who may write to the topic must not fill the record. */
const refusalsPerHourMax = 60;
const hourMs = 3_600_000;

/** Versions that wait until those before them are read: lists of millions take their time. */
const triesMax = 16;

export interface PolicyLink {
  /** Resolves when it is in force, or refused. Revocations that come behind it must not wait for that. */
  take(message: FeedMessage): Promise<void>;
  close(): void;
}

export function linkPolicy(options: PolicyLinkOptions): PolicyLink {
  const { stateDir, id, trusted, log } = options;
  let known: Pick<KeptPolicy, "version" | "text"> = keptPolicy(stateDir, id, trusted);
  /** What is being tried, else what is in force. */
  let top = known;
  let trying: Promise<void> = Promise.resolve();
  let tries = 0;
  /** The highest that stood in the topic so far. */
  let read = 0;
  let older: NodeJS.Timeout | undefined;
  let refusals: number[] = [];

  function refuse(reason: string): void {
    refusals = refusals.filter((atMs) => atMs > Date.now() - hourMs);
    if (refusals.length >= refusalsPerHourMax) return;
    refusals.push(Date.now());
    options.refused(`policy ${id} from Kafka: ${reason}`);
  }

  function rolledBack(version: number): void {
    refuse(`version ${version} is older than version ${top.version}, which was in force here`);
  }

  async function attempt(bundle: PolicyBundle, signer: string, text: string, value: string): Promise<void> {
    const { version } = bundle;
    try {
      await options.use(bundle, signer);
    } catch (error) {
      if (top.version === version) top = known;
      return refuse(`version ${version}: ${error instanceof Error ? error.message : String(error)}`);
    }
    known = { version, text };
    try {
      replaceFile(pathOf(stateDir, id), value);
    } catch (error) {
      // In force it is; until the next start nobody can bring an older one back, and then Kafka has to give it again.
      log("warn", `policy ${id}: version ${version} cannot be kept: ${String(error)}`);
    }
  }

  return {
    take({ topic, key, value }) {
      if (topic !== topics.policies) return trying;
      const judged = judgePolicy(key, value, { id, trusted, ...top });
      switch (judged.what) {
        case "other":
          break;
        case "refused":
          refuse(judged.reason);
          break;
        case "older": {
          const { version } = judged.bundle;
          clearTimeout(older);
          // Behind a newer one it was written later; in front of it, it is what stood there before.
          if (version < read) rolledBack(version);
          else older = setTimeout(() => rolledBack(version), historyWithinMs).unref();
          read = Math.max(read, version);
          break;
        }
        case "same":
          clearTimeout(older);
          read = top.version;
          break;
        case "newer": {
          clearTimeout(older);
          const { bundle, signer, text } = judged;
          if (tries >= triesMax) {
            refuse(`version ${bundle.version}: ${triesMax} others are being read`);
            break;
          }
          [top, read] = [{ version: bundle.version, text }, bundle.version];
          tries += 1;
          trying = trying
            .then(() => attempt(bundle, signer, text, String(value)))
            .finally(() => {
              tries -= 1;
            });
        }
      }
      return trying;
    },
    close() {
      clearTimeout(older);
    },
  };
}

/** Throws WEIR_CONFIG_INVALID when it is there and cannot be read: an older one would count again. */
export function keptPolicy(stateDir: string, id: string, trusted: readonly KeyObject[]): KeptPolicy {
  const path = pathOf(stateDir, id);
  let value: Buffer;
  try {
    value = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { version: 0, text: "", bundle: null, signer: "" };
    throw error;
  }
  const judged = judgePolicy(id, value, { id, version: 0, text: "", trusted });
  if (judged.what === "newer")
    return { version: judged.bundle.version, text: judged.text, bundle: judged.bundle, signer: judged.signer };
  const version = versionOf(value);
  if (version === null)
    throw new WeirError("WEIR_CONFIG_INVALID", `${path} cannot be read, so nobody knows which policy was in force.`);
  return { version, text: "", bundle: null, signer: "" };
}

function versionOf(value: Buffer): number | null {
  try {
    const { body } = JSON.parse(value.toString("utf8")) as { body: string };
    const { version } = JSON.parse(body) as { version: unknown };
    return Number.isSafeInteger(version) && Number(version) > 0 ? Number(version) : null;
  } catch {
    return null;
  }
}

function pathOf(stateDir: string, id: string): string {
  return join(stateDir, `policy-from-kafka.${id}.json`);
}
