/**
 * The policies that were published, with their text, as the topic has them: what agents follow over Kafka can be read on
 * the page. Signed by a key that is trusted here; an agent may trust others.
 */
import type { KeyObject } from "node:crypto";
import type { FeedMessage } from "../../agent/kafka/feed.ts";
import { judgePolicy, type PolicyBundle } from "../../agent/kafka/policy-messages.ts";
import { policyBytesMax } from "../../agent/kafka/signed.ts";

/** Of all texts together; beyond it the one that came first goes. */
const textBytesMax = 8 * policyBytesMax;

export interface PublishedPolicy extends PolicyBundle {
  /** The key, by its name. */
  readonly signer: string;
  /** As agents of this version of Weir make it of the text; null: it is no policy. */
  readonly digest: string | null;
}

export interface PublishedPoliciesOptions {
  readonly trusted: readonly KeyObject[];
  digestOf(files: PolicyBundle["files"]): string | null;
  log(level: "info" | "warn", message: string): void;
}

export class PublishedPolicies {
  readonly #options: PublishedPoliciesOptions;
  /** In the order they came. */
  readonly #all = new Map<string, { readonly policy: PublishedPolicy; readonly bytes: number }>();
  #bytes = 0;

  constructor(options: PublishedPoliciesOptions) {
    this.#options = options;
  }

  take({ key, value }: FeedMessage): void {
    const { trusted, digestOf, log } = this.#options;
    const judged = judgePolicy(key, value, { id: key, version: 0, text: "", trusted });
    if (judged.what === "refused") log("warn", `policy ${JSON.stringify(key.slice(0, 64))}: ${judged.reason}`);
    if (judged.what !== "newer") return;
    const { bundle, signer, text } = judged;
    const name = `${bundle.id} ${bundle.version} ${text}`;
    if (this.#all.has(name)) return;
    this.#all.set(name, { policy: { ...bundle, signer, digest: digestOf(bundle.files) }, bytes: text.length });
    this.#bytes += text.length;
    for (const [first, { bytes }] of this.#all) {
      if (this.#bytes <= textBytesMax) break;
      this.#all.delete(first);
      this.#bytes -= bytes;
    }
  }

  /** Of each the last version. */
  latest(): PublishedPolicy[] {
    const latest = new Map<string, PublishedPolicy>();
    for (const { policy } of this.#all.values())
      if (policy.version >= (latest.get(policy.id)?.version ?? 0)) latest.set(policy.id, policy);
    return [...latest.values()];
  }

  /** Two may have been published as the same version; then the one with the digest. */
  version(id: string, version: number, digest: string): PublishedPolicy | null {
    const all = [...this.#all.values()].map(({ policy }) => policy);
    const those = all.filter((policy) => policy.id === id && policy.version === version);
    return those.find((policy) => policy.digest === digest) ?? those.at(-1) ?? null;
  }
}
