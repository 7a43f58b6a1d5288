/**
 * Who stands behind a process. A run whose token was verified binds its cgroup, and with it all descendants; else the
 * policy's mappings count. A binding that holds no longer (expired, revoked, issuer dropped) is not nobody: what runs
 * in there is refused, so that nobody gets more by losing an identity than by having it.
 */
import type { Identity, ProcessInfo } from "../core/flow.ts";
import { type IdentitySettings, policyIssuer } from "../core/identity.ts";
import { WeirError } from "../errors.ts";
import type { Cgroups } from "./cgroups.ts";
import { type Binding, type Revocation, readState, writeState } from "./state-file.ts";
import { createVerifier, type Proven, type Verifier } from "./verify.ts";

/** Bound runs at once; a further one is refused. */
const bindingsMax = 10_000;
const revocationsMax = 10_000;

export interface RegistryOptions {
  /** Of the policy in force. */
  settings(): IdentitySettings;
  readonly cgroups: Cgroups;
  /** Where revocations and bindings are kept over restarts; null: nowhere. */
  readonly path: string | null;
  now(): number;
}

export interface BindingView extends Binding {
  /** Why it holds no longer; null: it does. */
  readonly refused: string | null;
}

export interface Identities {
  /** Rejects with WEIR_IDENTITY_INVALID or WEIR_IDENTITY_REVOKED. */
  verify(token: string): Promise<Proven>;
  bind(cgroup: string, proven: Proven): void;
  /** What a run that is started from within another one brings along. Throws when that one is refused. */
  inherited(process: ProcessInfo | null): Proven | null;
  of(process: ProcessInfo | null): Identity | null;
  /** Why nothing may leave this process; null: nothing against it. */
  refusal(process: ProcessInfo | null): string | null;
  /** Takes effect at once, for flows of this moment by `version`. */
  revoke(revocation: Omit<Revocation, "atMs">): void;
  /** False: it was not revoked. */
  restore(subject: string, issuer: string | null): boolean;
  bindings(): readonly BindingView[];
  revocations(): readonly Revocation[];
  /** Changes whenever `of` or `refusal` may answer otherwise than before. */
  version(): number;
  /** Forgets bindings whose cgroup is empty. */
  tidy(): void;
}

export function openIdentities(options: RegistryOptions): Identities {
  const { cgroups, now, path } = options;
  const kept = readState(path);
  const bindings = new Map<string, Binding>();
  for (const binding of kept.bindings)
    if (cgroups.idOf(binding.cgroup) === binding.cgroupId) bindings.set(binding.cgroup, binding);
  const revocations = new Map(kept.revocations.map((revocation) => [keyOf(revocation), revocation]));
  let settings = options.settings();
  let verifier: Verifier = createVerifier(settings, { now });
  let version = 0;
  /** When the next binding expires: until then nothing changes by itself. */
  let nextExpiryMs = expiryAfter(Number.NEGATIVE_INFINITY);

  /** The policy is asked, not told: there is no moment at which an old one counts. */
  function current(): IdentitySettings {
    const next = options.settings();
    if (next !== settings) {
      settings = next;
      verifier = createVerifier(next, { now });
      version += 1;
    }
    return settings;
  }

  function save(): void {
    writeState(path, { revocations: [...revocations.values()], bindings: [...bindings.values()] });
  }

  function expiryAfter(ms: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { untilMs } of bindings.values()) if (untilMs > ms && untilMs < next) next = untilMs;
    return next;
  }

  /** The nearest one: of the cgroup itself, else of one above it. */
  function bindingOf(cgroup: string): Binding | null {
    if (bindings.size === 0) return null;
    for (let end = cgroup.length; end > 0; end = cgroup.lastIndexOf("/", end - 1)) {
      const found = bindings.get(cgroup.slice(0, end));
      if (found !== undefined) return found;
    }
    return null;
  }

  function mappingOf(process: ProcessInfo): Identity | null {
    return current().mappings.find((mapping) => mapping.covers(process))?.identity ?? null;
  }

  function revoked({ subject, issuer }: Identity): string | null {
    if (revocations.size === 0) return null;
    const found = revocations.get(keyOf({ subject, issuer })) ?? revocations.get(keyOf({ subject, issuer: null }));
    if (found === undefined) return null;
    return `The identity ${subject} is revoked${found.reason === "" ? "" : `: ${found.reason}`}.`;
  }

  function refusalOf({ identity, untilMs }: Binding): string | null {
    if (identity.issuer !== policyIssuer && !current().issuers.some(({ issuer }) => issuer === identity.issuer))
      return `The policy believes ${identity.issuer} no longer.`;
    if (untilMs <= now())
      return `The identity ${identity.subject} expired ${new Date(untilMs).toISOString()}; start the run anew with a fresh token.`;
    return revoked(identity);
  }

  /** Who hands its connection to another and goes must not come out of a refused run that way. */
  function refusalOfUnknown(): string | null {
    for (const binding of bindings.values()) {
      if (refusalOf(binding) !== null)
        return "The process that opened the connection is gone, and a run here has an identity that holds no longer.";
    }
    return null;
  }

  return {
    async verify(token) {
      current();
      const proven = await verifier.verify(token);
      const refused = revoked(proven.identity);
      if (refused !== null) throw new WeirError("WEIR_IDENTITY_REVOKED", refused);
      return proven;
    },
    bind(cgroup, { identity, untilMs }) {
      if (bindings.size >= bindingsMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${bindingsMax} runs with an identity.`);
      const cgroupId = cgroups.idOf(cgroup);
      if (cgroupId === null) throw new WeirError("WEIR_CONTROL_REFUSED", `The cgroup ${cgroup} is gone.`);
      bindings.set(cgroup, { cgroup, cgroupId, identity, sinceMs: now(), untilMs });
      nextExpiryMs = Math.min(nextExpiryMs, untilMs);
      version += 1;
      save();
    },
    inherited(process) {
      const binding = process === null ? null : bindingOf(process.cgroup);
      if (binding === null) return null;
      const refused = refusalOf(binding);
      if (refused !== null) throw new WeirError("WEIR_IDENTITY_REVOKED", refused);
      return { identity: binding.identity, untilMs: binding.untilMs };
    },
    of(process) {
      if (process === null) return null;
      const binding = bindingOf(process.cgroup);
      if (binding !== null) return refusalOf(binding) === null ? binding.identity : null;
      const mapped = mappingOf(process);
      return mapped === null || revoked(mapped) !== null ? null : mapped;
    },
    refusal(process) {
      if (bindings.size === 0 && revocations.size === 0) return null;
      if (process === null || process.cgroup === "") return refusalOfUnknown();
      const binding = bindingOf(process.cgroup);
      if (binding !== null) return refusalOf(binding);
      const mapped = revocations.size === 0 ? null : mappingOf(process);
      return mapped === null ? null : revoked(mapped);
    },
    revoke(revocation) {
      const key = keyOf(revocation);
      if (revocations.size >= revocationsMax && !revocations.has(key))
        throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${revocationsMax} revocations.`);
      revocations.set(key, { ...revocation, atMs: now() });
      version += 1;
      save();
    },
    restore(subject, issuer) {
      if (!revocations.delete(keyOf({ subject, issuer }))) return false;
      version += 1;
      save();
      return true;
    },
    bindings: () => [...bindings.values()].map((binding) => ({ ...binding, refused: refusalOf(binding) })),
    revocations: () => [...revocations.values()],
    version() {
      current();
      if (nextExpiryMs <= now()) {
        nextExpiryMs = expiryAfter(now());
        version += 1;
      }
      return version;
    },
    tidy() {
      const gone = [...bindings.keys()].filter((cgroup) => !cgroups.inhabited(cgroup));
      for (const cgroup of gone) bindings.delete(cgroup);
      if (gone.length > 0) save();
    },
  };
}

function keyOf({ subject, issuer }: { readonly subject: string; readonly issuer: string | null }): string {
  return JSON.stringify([issuer, subject]);
}
