/**
 * What has to outlive the agent: who is revoked, and which run or user is bound to whom. No token is kept. A state that
 * cannot be read keeps the agent from starting: whoever was revoked would be back.
 */
import { readFileSync } from "node:fs";
import { WeirError } from "../errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { Proven } from "./verify.ts";

/** Somebody, or one session of his at the issuer, is not believed any more: `subject` or `sid` is said. */
export interface Revocation {
  readonly subject: string | null;
  readonly sid: string | null;
  /** Null: of every issuer. */
  readonly issuer: string | null;
  /** Tokens made later are believed: he logged out, and may come back. Null: none is. */
  readonly beforeMs: number | null;
  readonly reason: string;
  readonly by: string;
  readonly atMs: number;
}

/** All that runs in a cgroup, or below it, is this identity. */
export interface Binding extends Proven {
  readonly cgroup: string;
  /** The kernel's id of the cgroup: a later one of the same name is another. */
  readonly cgroupId: string;
  readonly sinceMs: number;
}

/** A user has logged in: what runs under his id, and in no bound cgroup, is this identity. */
export interface Login extends Proven {
  readonly uid: number;
  readonly sinceMs: number;
}

/** One session was revoked: nothing leaves from where it came any more. */
export interface Block {
  readonly session: string;
  readonly cgroup: string;
  readonly cgroupId: string;
  /** Only this one, where the cgroup is everybody's. */
  readonly process: { readonly pid: number; readonly startTicks: number } | null;
  readonly reason: string;
  readonly by: string;
  readonly atMs: number;
}

export interface State {
  readonly revocations: readonly Revocation[];
  readonly bindings: readonly Binding[];
  readonly logins: readonly Login[];
  readonly blocks: readonly Block[];
}

const emptyState: State = { revocations: [], bindings: [], logins: [], blocks: [] };

/** `path` null: nothing is kept. */
export function readState(path: string | null): State {
  if (path === null) return emptyState;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return emptyState;
    throw damaged(path, error);
  }
  try {
    const state = JSON.parse(text) as State;
    for (const part of Object.keys(emptyState) as (keyof State)[])
      if (!Array.isArray(state[part])) throw new Error(`no list of ${part}`);
    return state;
  } catch (error) {
    throw damaged(path, error);
  }
}

/** Throws when it cannot be written: a revocation that is lost at the next start is none. */
export function writeState(path: string | null, state: State): void {
  if (path !== null) replaceFile(path, JSON.stringify(state));
}

function damaged(path: string, cause: unknown): WeirError {
  return new WeirError(
    "WEIR_CONFIG_INVALID",
    `${path} cannot be read, so nobody knows who is revoked. Put it right, or remove it and revoke anew.`,
    { cause },
  );
}
