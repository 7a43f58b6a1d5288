/**
 * What has to outlive the agent: who is revoked, and which run is bound to whom. No token is kept. A state that cannot
 * be read keeps the agent from starting: whoever was revoked would be back.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Identity } from "../core/flow.ts";
import { WeirError } from "../errors.ts";

export interface Revocation {
  readonly subject: string;
  /** Null: of every issuer. */
  readonly issuer: string | null;
  readonly reason: string;
  readonly by: string;
  readonly atMs: number;
}

/** All that runs in a cgroup, or below it, is this identity. */
export interface Binding {
  readonly cgroup: string;
  /** The kernel's id of the cgroup: a later one of the same name is another. */
  readonly cgroupId: string;
  readonly identity: Identity;
  readonly sinceMs: number;
  readonly untilMs: number;
}

export interface State {
  readonly revocations: readonly Revocation[];
  readonly bindings: readonly Binding[];
}

/** `path` null: nothing is kept. */
export function readState(path: string | null): State {
  if (path === null) return { revocations: [], bindings: [] };
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { revocations: [], bindings: [] };
    throw damaged(path, error);
  }
  try {
    const state = JSON.parse(text) as State;
    if (!Array.isArray(state.revocations) || !Array.isArray(state.bindings)) throw new Error("not a state");
    return state;
  } catch (error) {
    throw damaged(path, error);
  }
}

/** Throws when it cannot be written: a revocation that is lost at the next start is none. */
export function writeState(path: string | null, state: State): void {
  if (path === null) return;
  writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}

function damaged(path: string, cause: unknown): WeirError {
  return new WeirError(
    "WEIR_CONFIG_INVALID",
    `${path} cannot be read, so nobody knows who is revoked. Put it right, or remove it and revoke anew.`,
    { cause },
  );
}
