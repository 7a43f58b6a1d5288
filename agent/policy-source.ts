/** Which policy the agent starts with: the host's own files, or the one it follows over Kafka, as it was kept. */
import { type GivenPolicy, openPolicy, type PolicyInForce, type PolicySource } from "./act/policy-in-force.ts";
import type { AgentConfig } from "./config.ts";
import { WeirError } from "./errors.ts";
import type { PolicyBundle } from "./kafka/policy-messages.ts";
import { keptPolicy } from "./publish/policy-link.ts";

export interface StartPolicy {
  readonly policy: PolicyInForce;
  /** Why the one that is followed is not in force though it was; null: it is, or none was. */
  readonly problem: string | null;
}

/**
 * A followed policy that cannot be used any more does not keep the agent from starting, as one in a file does: the next
 * one comes over Kafka, to an agent that runs. Until then nothing is let out.
 */
export async function openStartPolicy(config: AgentConfig, source: PolicySource): Promise<StartPolicy> {
  const followed = config.kafka?.policy ?? null;
  if (followed === null) return { policy: await openPolicy(source), problem: null };
  const { version, bundle, signer } = keptPolicy(config.stateDir, followed.id, followed.keys);
  if (version === 0) {
    const given = config.policyPaths.length === 0 ? nothing : null;
    return { policy: await openPolicy({ ...source, given }), problem: null };
  }
  const which = `version ${version} of policy ${followed.id}, which was in force`;
  if (bundle === null) {
    const problem = `${which}, is signed by no key that is trusted now; nothing is let out until a newer one comes`;
    return { policy: await openPolicy({ ...source, given: nothing }), problem };
  }
  try {
    return { policy: await openPolicy({ ...source, given: givenBy(bundle, signer) }), problem: null };
  } catch (error) {
    if (!(error instanceof WeirError)) throw error;
    const problem = `${which}, cannot be used any more; nothing is let out until a newer one comes: ${error.message}`;
    return { policy: await openPolicy({ ...source, given: nothing }), problem };
  }
}

export function givenBy({ id, version, files, by }: PolicyBundle, signer: string): GivenPolicy {
  // Not below any directory of this host: a detector's file has to be named with its whole path.
  return {
    files: files.map(({ file, text }) => ({ file: `kafka:${id}/${file}`, text })),
    origin: { id, version, signer, by },
  };
}

const nothing: GivenPolicy = { files: [{ file: "no policy yet", text: "apiVersion: weir/v1\n" }], origin: null };
