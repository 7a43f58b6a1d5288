/**
 * Policies over a compacted topic: the last version of each stays. A bundle is the policy's files as they were published,
 * under a version that only grows; an older one, another one of the same version, and a tombstone change nothing.
 */
import type { KeyObject } from "node:crypto";
import { keyName, policyBytesMax, readSigned, signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export interface PolicyBundle {
  /** Agents follow one of them by its name. */
  readonly id: string;
  readonly version: number;
  readonly files: readonly { readonly file: string; readonly text: string }[];
  /** Who published it, as he is known where he did. */
  readonly by: string;
  readonly atMs: number;
}

export const policyIdDefault = "default";
export const policyIdShape = /^[a-z0-9][a-z0-9-]{0,63}$/;
const filesMax = 1_000;
/** No path: where the publisher has his files is nobody's business, and nothing is ever read from there. */
const fileShape = /^[\w][\w. -]{0,199}\.ya?ml$/;
const byCharactersMax = 512;

export function policyMessage(bundle: PolicyBundle, key: KeyObject): OutMessage {
  return signedMessage({ topic: topics.policies, key: bundle.id }, "policy", bundle, key);
}

/** What a reader of the topic knows already. */
export interface PolicyKnown {
  /** The policy that is followed. */
  readonly id: string;
  /** The highest version that was ever in force here, and its signed text; 0 and empty: none was. */
  readonly version: number;
  readonly text: string;
  readonly trusted: readonly KeyObject[];
}

export type PolicyJudgement =
  /** Of another policy, or nothing at all. */
  | { readonly what: "other" }
  /** The one that is known. */
  | { readonly what: "same" }
  /** Signed well, and history, or somebody brings it back: its place in the topic tells. */
  | { readonly what: "older"; readonly bundle: PolicyBundle }
  | { readonly what: "refused"; readonly reason: string }
  | { readonly what: "newer"; readonly bundle: PolicyBundle; readonly signer: string; readonly text: string };

export function judgePolicy(key: string, value: Buffer | null, known: PolicyKnown): PolicyJudgement {
  if (key !== known.id || value === null) return { what: "other" };
  if (value.length > policyBytesMax)
    return refused(`it is ${value.length} bytes long, and ${policyBytesMax} are the limit`);
  const signed = readSigned("policy", value);
  if (signed === null) return refused("it cannot be read as a signed message");
  // The key first: what a stranger wrote is not looked into.
  const signer = known.trusted.find((one) => signed.isSignedBy(one));
  if (signer === undefined) return refused("it is not signed by a key that is trusted");
  const bundle = asBundle(signed.body);
  if (bundle === null || bundle.id !== key) return refused("it is signed, and no policy of this name");
  if (bundle.version < known.version) return { what: "older", bundle };
  const { text } = signed;
  if (bundle.version > known.version) return { what: "newer", bundle, signer: keyName(signer), text };
  return text === known.text
    ? { what: "same" }
    : refused(`it is another one of version ${bundle.version}, which is in force`);
}

function refused(reason: string): PolicyJudgement {
  return { what: "refused", reason };
}

function asBundle(body: Readonly<Record<string, unknown>>): PolicyBundle | null {
  const { id, version, files, by, atMs } = body;
  const good =
    typeof id === "string" &&
    policyIdShape.test(id) &&
    Number.isSafeInteger(version) &&
    Number(version) > 0 &&
    Array.isArray(files) &&
    files.length > 0 &&
    files.length <= filesMax &&
    files.every(isFile) &&
    typeof by === "string" &&
    by.length <= byCharactersMax &&
    // It stands in logs.
    !/[\p{Cc}\p{Cf}\u2028\u2029]/u.test(by) &&
    Number.isSafeInteger(atMs);
  return good ? (body as unknown as PolicyBundle) : null;
}

function isFile(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { file, text } = value as Record<string, unknown>;
  return typeof file === "string" && fileShape.test(file) && typeof text === "string";
}
