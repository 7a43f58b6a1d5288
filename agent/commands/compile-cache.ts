/**
 * The program as it was stripped of its types and compiled, kept below the state directory: half a second less at each start
 * but the first. Node takes an entry only for the very source that it was made of; but an entry is code, so the directory
 * has to be root's alone.
 */
import { mkdirSync, statSync } from "node:fs";
import { enableCompileCache, flushCompileCache } from "node:module";
import { join } from "node:path";
import { defaultStateDir } from "./io.ts";

const directory = "compile-cache";

/** Before the command is loaded; so the state directory is read from the words themselves, and a first start has none yet. */
export function useCompileCache(args: readonly string[], env: NodeJS.ProcessEnv): void {
  const at = args.findIndex((word) => word === "--state" || word.startsWith("--state="));
  const said = at < 0 ? undefined : args[at] === "--state" ? args[at + 1] : args[at]?.slice("--state=".length);
  const stateDir = said ?? env["WEIR_STATE"] ?? defaultStateDir;
  try {
    if (process.getuid?.() !== 0 || !isRootsAlone(stateDir)) return;
    const path = join(stateDir, directory);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    if (isRootsAlone(path)) enableCompileCache(path);
  } catch {
    // No such directory, or no room: it starts without.
  }
}

/** Blocks for some tens of milliseconds. It is not left to the end of the process: that may be a kill. */
export function keepCompiled(): void {
  flushCompileCache();
}

function isRootsAlone(path: string): boolean {
  const { uid, mode } = statSync(path);
  return uid === 0 && (mode & 0o022) === 0;
}
