/** The policies in force: which one on which agents, its version and its text. For everybody who may see the page. */
import type { FastifyInstance } from "fastify";
import type { PublishedPolicy } from "../consume/published-policies.ts";
import type { AgentState, HostState, PolicyFile } from "./state-routes.ts";

/** One of them, with the agents that have it; without agents it is published, and nobody said yet that he has it. */
export interface PolicyInForce {
  /** Null: of the agents' own files. */
  readonly follows: string | null;
  readonly version: number | null;
  readonly mode: string | null;
  readonly digest: string | null;
  readonly agents: readonly { readonly id: string; readonly name: string; readonly health: AgentState["health"] }[];
  /** Null: it was not, or it is not known here. */
  readonly published: { readonly by: string; readonly atMs: number; readonly signer: string } | null;
  readonly files: readonly PolicyFile[];
  /** A sentence: why there is no text, or what is wrong with it. */
  readonly problem: string | null;
}

export function policyRoutes(app: FastifyInstance, state: HostState): void {
  app.get("/api/policies", async () => policiesInForce(await state.agents(), state.policies));
}

export function policiesInForce(agents: readonly AgentState[], published: HostState["policies"]): PolicyInForce[] {
  const groups = new Map<string, Group>();
  for (const agent of agents) {
    const { policy } = agent;
    if (policy === undefined) continue;
    const { follows, version, digest, mode, files } = policy;
    // Equal policies have equal digests, and may have been written in different ways.
    const key = JSON.stringify([follows, version, digest, mode, files]);
    groups.set(key, { policy, agents: [...(groups.get(key)?.agents ?? []), agent] });
  }
  const inForce = [...groups.values()].map((group) => inForceOn(group, published));
  const waiting = published
    .latest()
    .filter(({ id, version }) => !inForce.some((one) => one.follows === id && one.version === version));
  return [...inForce, ...waiting.map(publishedAlone)].sort(
    (a, b) => (a.follows ?? "").localeCompare(b.follows ?? "") || (b.version ?? 0) - (a.version ?? 0),
  );
}

interface Group {
  readonly policy: NonNullable<AgentState["policy"]>;
  readonly agents: readonly AgentState[];
}

function inForceOn({ policy, agents: group }: Group, published: HostState["policies"]): PolicyInForce {
  const { follows, version, digest, mode, files } = policy;
  const bundle = follows === null || version === null ? null : published.version(follows, version, digest);
  const agents = group.map(({ id, name, health }) => ({ id, name, health }));
  const shown = files.length > 0 ? files : (bundle?.files ?? []);
  const own = files.length > 0 || bundle === null;
  return {
    ...{ follows, version, digest, mode, agents },
    published: bundle === null ? null : publishedBy(bundle),
    files: shown,
    problem: own ? (shown.length > 0 ? null : withoutText(follows, version)) : doubt(bundle, digest),
  };
}

function publishedAlone(bundle: PublishedPolicy): PolicyInForce {
  const { id, version, digest, files } = bundle;
  const problem = digest === null ? "It is no policy that this version of Weir takes." : null;
  return { follows: id, version, digest, mode: null, agents: [], published: publishedBy(bundle), files, problem };
}

function publishedBy({ by, atMs, signer }: PublishedPolicy): PolicyInForce["published"] {
  return { by, atMs, signer };
}

function withoutText(follows: string | null, version: number | null): string {
  if (follows === null) return "It is of files on the agent's host, and their text does not come here.";
  if (version === null) return `No version of ${follows} has reached it yet.`;
  return `The text of version ${version} is not here: a later one has taken its place, or no key that is trusted here signed it.`;
}

function doubt({ digest: here }: PublishedPolicy, digest: string): string | null {
  if (here === digest) return null;
  return `This text gives ${here === null ? "no policy" : `the digest ${here.slice(0, 16)}`} here: it is not what is in force, or the agent is another version of Weir.`;
}
