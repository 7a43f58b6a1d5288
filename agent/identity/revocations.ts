/** Who is revoked. A logout is a revocation of the tokens made before it; what an operator revokes stays revoked. */
import { logoutKeptMs } from "../core/identity.ts";
import { WeirError } from "../errors.ts";
import type { Revocation } from "./state-file.ts";
import type { Proven } from "./verify.ts";

const revocationsMax = 10_000;
/** Logouts come from outside, day by day: beyond this the oldest go, so that they never keep a revocation out. */
const logoutsMax = 10_000;

export type RevocationKey = Pick<Revocation, "subject" | "sid" | "issuer">;
export type Claimed = Pick<Proven, "identity"> & Partial<Pick<Proven, "sid" | "issuedAtMs">>;

export class Revocations {
  readonly #all: Map<string, Revocation>;

  constructor(kept: readonly Revocation[]) {
    this.#all = new Map(kept.map((revocation) => [keyOf(revocation), revocation]));
  }

  get size(): number {
    return this.#all.size;
  }

  list(): readonly Revocation[] {
    return [...this.#all.values()];
  }

  /** False: he is revoked for good, or logged out later, already; an earlier logout adds nothing to that, nor one that is over. */
  add(revocation: Revocation): boolean {
    const key = keyOf(revocation);
    const known = this.#all.get(key);
    const logout = revocation.beforeMs !== null;
    if (logout && known !== undefined && (known.beforeMs ?? Number.POSITIVE_INFINITY) >= (revocation.beforeMs ?? 0))
      return false;
    if (logout && isOver(revocation, revocation.atMs)) return false;
    for (const [kept, one] of this.#all) if (isOver(one, revocation.atMs)) this.#all.delete(kept);
    const alike = this.list().filter(({ beforeMs }) => (beforeMs !== null) === logout);
    if (!logout && alike.length >= revocationsMax && known === undefined)
      throw new WeirError("WEIR_LIMIT_REACHED", `There are more than ${revocationsMax} revocations.`);
    if (logout && alike.length >= logoutsMax) this.#all.delete(keyOf(alike[0] as Revocation));
    this.#all.delete(key);
    this.#all.set(key, revocation);
    return true;
  }

  remove(key: RevocationKey): boolean {
    return this.#all.delete(keyOf(key));
  }

  /** Why this proof counts no longer; null: nothing against it. */
  against({ identity: { subject, issuer }, sid = null, issuedAtMs = null }: Claimed): string | null {
    if (this.#all.size === 0) return null;
    const keys: RevocationKey[] = [
      { subject, sid: null, issuer },
      { subject, sid: null, issuer: null },
      ...(sid === null ? [] : [{ subject: null, sid, issuer }]),
    ];
    for (const key of keys) {
      const found = this.#all.get(keyOf(key));
      if (found === undefined) continue;
      // A token that does not say when it was made may be an old one.
      if (found.beforeMs !== null && issuedAtMs !== null && issuedAtMs > found.beforeMs) continue;
      const what = found.beforeMs === null ? "is revoked" : "has logged out";
      return `The identity ${subject} ${what}${found.reason === "" ? "" : `: ${found.reason}`}.`;
    }
    return null;
  }
}

/** No proof of before it counts any more. */
function isOver({ beforeMs }: Revocation, nowMs: number): boolean {
  return beforeMs !== null && beforeMs + logoutKeptMs <= nowMs;
}

function keyOf({ subject, sid, issuer }: RevocationKey): string {
  return JSON.stringify([issuer, subject, sid]);
}
