/** What a command gets from the world, so that a test can give its own. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Writable } from "node:stream";
import { WeirError } from "../errors.ts";

export interface CommandIo {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: NodeJS.ProcessEnv;
  readonly stateDir: string;
}

export const defaultStateDir = "/var/lib/weir";

/** Who finds nothing in a directory that is not there, or not for him, would take that for an answer. */
export function recordedStateDir(option: string | undefined, io: CommandIo): string {
  const dir = option ?? io.stateDir;
  try {
    readdirSync(join(dir, "spool"));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "EACCES")
      throw new WeirError("WEIR_NOT_ROOT", `The record in ${dir} is for root alone: ask with sudo.`, { cause });
    if (!existsSync(dir))
      throw new WeirError("WEIR_USAGE", `There is no state directory ${dir}. Name the agent's with --state.`);
  }
  return dir;
}

/** The control socket of the agent that has this state directory. */
export function controlSocketPath(stateDir: string): string {
  return resolve(stateDir) === defaultStateDir ? "/run/weir/control.sock" : `${resolve(stateDir)}/control.sock`;
}

/** Names an agent's chains, cgroups and pins; agents with different state directories do not meet. */
export function instanceName(stateDir: string): string {
  const path = resolve(stateDir);
  return path === defaultStateDir ? "main" : createHash("sha256").update(path).digest("hex").slice(0, 8);
}
