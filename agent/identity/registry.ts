/**
 * Who stands behind a process. A run whose token was verified binds its cgroup, and with it all descendants; else the
 * login of its user counts, else the policy's mappings. What holds no longer (expired, revoked, issuer dropped) is not
 * nobody: it is refused, so that nobody gets more by losing an identity than by having it.
 */
import type { Identity, JobHint, ProcessInfo } from "../core/flow.ts";
import { type IdentitySettings, policyIssuer, provenMsMax } from "../core/identity.ts";
import { WeirError } from "../errors.ts";
import type { Cgroups } from "./cgroups.ts";
import { type Claimed, type RevocationKey, Revocations } from "./revocations.ts";
import { type Binding, type Block, type Login, type Revocation, readState, writeState } from "./state-file.ts";
import { createVerifier, type Proven, type Verifier } from "./verify.ts";

/** Bound runs at once; a further one is refused. The same for users who are logged in, and for ended sessions. */
const bindingsMax = 10_000;
const loginsMax = 10_000;
const blocksMax = 1_000;

export interface RegistryOptions {
  /** Of the policy in force. */
  settings(): IdentitySettings;
  readonly cgroups: Cgroups;
  /** Where revocations and bindings are kept over restarts; null: nowhere. */
  readonly path: string | null;
  now(): number;
}

/** Why it holds no longer; null: it does. */
interface Judged {
  readonly refused: string | null;
}

export interface Identities {
  /** Rejects with WEIR_IDENTITY_INVALID or WEIR_IDENTITY_REVOKED. */
  verify(token: string): Promise<Proven>;
  bind(cgroup: string, proven: Proven): void;
  login(uid: number, proven: Proven): void;
  /** Null: nobody was logged in. */
  logout(uid: number): Login | null;
  /** What a run that is started from within another one brings along. Throws when that one is refused. */
  inherited(process: ProcessInfo | null): Proven | null;
  of(process: ProcessInfo | null): Identity | null;
  /** The CI job that was proven; null: there is none, or it is only a hint. */
  jobOf(process: ProcessInfo | null): JobHint | null;
  /** Why nothing may leave this process; null: nothing against it. */
  refusal(process: ProcessInfo | null): string | null;
  /** Why somebody who has proven himself elsewhere is not believed; null: nothing against him. */
  against(claimed: Claimed): string | null;
  /** Takes effect at once, for flows of this moment by `version`. False: it says nothing new. */
  revoke(revocation: Omit<Revocation, "atMs">): boolean;
  /** Nothing leaves any more from where this session came. */
  block(session: string, process: ProcessInfo, reason: string, by: string): void;
  /** False: it was not revoked. */
  restore(key: RevocationKey): boolean;
  bindings(): readonly (Binding & Judged)[];
  logins(): readonly (Login & Judged)[];
  revocations(): readonly Revocation[];
  blocks(): readonly Block[];
  /** Changes whenever `of` or `refusal` may answer otherwise than before. */
  version(): number;
  /** Forgets what belongs to cgroups that are empty. */
  tidy(): void;
}

export function openIdentities(options: RegistryOptions): Identities {
  const { cgroups, now, path } = options;
  const kept = readState(path);
  const still = ({ cgroup, cgroupId }: Binding | Block): boolean => cgroups.idOf(cgroup) === cgroupId;
  const bindings = new Map(kept.bindings.filter(still).map((binding) => [binding.cgroup, ending(binding)]));
  const logins = new Map(kept.logins.map((login) => [login.uid, ending(login)]));
  let blocks = kept.blocks.filter(still);
  const revocations = new Revocations(kept.revocations);
  let settings = options.settings();
  let verifier: Verifier = createVerifier(settings, { now });
  let version = 0;
  /** When the next proof expires: until then nothing changes by itself. */
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

  /** Throws when it cannot be written: then nothing was promised. */
  function changed(): void {
    version += 1;
    nextExpiryMs = expiryAfter(now());
    save();
  }

  function save(): void {
    const [runs, users] = [[...bindings.values()], [...logins.values()]];
    writeState(path, { revocations: revocations.list(), bindings: runs, logins: users, blocks });
  }

  function expiryAfter(ms: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const known of [bindings, logins])
      for (const { untilMs } of known.values()) if (untilMs > ms && untilMs < next) next = untilMs;
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

  function proofOf(process: ProcessInfo): Proven | null {
    return bindingOf(process.cgroup) ?? logins.get(process.uid) ?? null;
  }

  function mappingOf(process: ProcessInfo): Identity | null {
    return current().mappings.find((mapping) => mapping.covers(process))?.identity ?? null;
  }

  function refusalOf(proven: Proven): string | null {
    const { identity, untilMs } = proven;
    if (identity.issuer !== policyIssuer && !current().issuers.some(({ issuer }) => issuer === identity.issuer))
      return `The policy believes ${identity.issuer} no longer.`;
    if (untilMs <= now())
      return `The identity ${identity.subject} expired ${new Date(untilMs).toISOString()}: a fresh token is needed.`;
    return revocations.against(proven);
  }

  function blockOf(process: ProcessInfo): string | null {
    for (const block of blocks) {
      const meant =
        block.process === null
          ? isWithin(process.cgroup, block.cgroup)
          : process.pid === block.process.pid && process.startTicks === block.process.startTicks;
      if (meant) return `Its session ${block.session} was revoked${block.reason === "" ? "" : `: ${block.reason}`}.`;
    }
    return null;
  }

  return {
    async verify(token) {
      current();
      const proven = await verifier.verify(token);
      const refused = revocations.against(proven);
      if (refused !== null) throw new WeirError("WEIR_IDENTITY_REVOKED", refused);
      return proven;
    },
    bind(cgroup, proven) {
      if (bindings.size >= bindingsMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${bindingsMax} runs with an identity.`);
      const cgroupId = cgroups.idOf(cgroup);
      if (cgroupId === null) throw new WeirError("WEIR_CONTROL_REFUSED", `The cgroup ${cgroup} is gone.`);
      bindings.set(cgroup, { ...proven, cgroup, cgroupId, sinceMs: now() });
      changed();
    },
    login(uid, proven) {
      if (logins.size >= loginsMax && !logins.has(uid))
        throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${loginsMax} users logged in.`);
      logins.set(uid, { ...proven, uid, sinceMs: now() });
      changed();
    },
    logout(uid) {
      const login = logins.get(uid) ?? null;
      if (logins.delete(uid)) changed();
      return login;
    },
    inherited(process) {
      const binding = process === null ? null : bindingOf(process.cgroup);
      if (binding === null) return null;
      const refused = refusalOf(binding);
      if (refused !== null) throw new WeirError("WEIR_IDENTITY_REVOKED", refused);
      const { identity, job, issuedAtMs, sid, untilMs } = binding;
      return { identity, job, issuedAtMs, sid, untilMs };
    },
    of(process) {
      if (process === null) return null;
      const proven = proofOf(process);
      if (proven !== null) return refusalOf(proven) === null ? proven.identity : null;
      const mapped = mappingOf(process);
      return mapped === null || revocations.against({ identity: mapped }) !== null ? null : mapped;
    },
    jobOf: (process) => (process === null ? null : (proofOf(process)?.job ?? null)),
    refusal(process) {
      const bound = bindings.size > 0 || blocks.length > 0;
      if (!bound && logins.size === 0 && revocations.size === 0) return null;
      // Who hands his connection to another and goes must not be taken for nobody, nor come out of a refused run so.
      if (process === null) return bound || logins.size > 0 ? goneReason : null;
      if (process.cgroup === "" && bound) return goneReason;
      return blockOf(process) ?? refusalOfUser(process);
    },
    against: (claimed) => revocations.against(claimed),
    revoke(revocation) {
      const news = revocations.add({ ...revocation, atMs: now() });
      if (news) changed();
      return news;
    },
    block(session, process, reason, by) {
      const cgroupId = cgroups.idOf(process.cgroup);
      if (cgroupId === null)
        throw new WeirError("WEIR_CONTROL_REFUSED", `Where the session ${session} came from is gone.`);
      if (blocks.length >= blocksMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${blocksMax} revoked sessions.`);
      const { cgroup, pid, startTicks } = process;
      const only = cgroup === "/" ? { pid, startTicks } : null;
      blocks = [...blocks, { session, cgroup, cgroupId, process: only, reason, by, atMs: now() }];
      changed();
    },
    restore(key) {
      const before = blocks.length;
      blocks = blocks.filter(({ session }) => session !== key.subject);
      if (!revocations.remove(key) && blocks.length === before) return false;
      changed();
      return true;
    },
    bindings: () => [...bindings.values()].map((binding) => ({ ...binding, refused: refusalOf(binding) })),
    logins: () => [...logins.values()].map((login) => ({ ...login, refused: refusalOf(login) })),
    revocations: () => revocations.list(),
    blocks: () => blocks,
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
      const before = blocks.length;
      blocks = blocks.filter((block) => block.process !== null || cgroups.inhabited(block.cgroup));
      if (gone.length > 0 || blocks.length < before) save();
    },
  };

  function refusalOfUser(process: ProcessInfo): string | null {
    const proven = proofOf(process);
    if (proven !== null) return refusalOf(proven);
    const mapped = revocations.size === 0 ? null : mappingOf(process);
    return mapped === null ? null : revocations.against({ identity: mapped });
  }
}

const goneReason =
  "The process that opened the connection is gone, and others here have identities: whose it is cannot be told.";

/** The same cgroup, or one below it. */
function isWithin(cgroup: string, parent: string): boolean {
  return cgroup === parent || cgroup.startsWith(`${parent}/`);
}

/** What an earlier version kept knows no such end. */
function ending<Kept extends Binding | Login>(kept: Kept): Kept {
  return { ...kept, untilMs: Math.min(kept.untilMs, (kept.issuedAtMs ?? kept.sinceMs) + provenMsMax) };
}
