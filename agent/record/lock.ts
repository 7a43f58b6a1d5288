/**
 * One process a directory: a lock file with the pid and the start time of the process, so that a number that was given
 * out again is not taken for the holder. That of a dead process is taken over.
 */
import { readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../errors.ts";

/** Directories that this process holds. */
const held = new Set<string>();

/** Throws WEIR_STATE_LOCKED with what `lockedBy` says of the holder; returns how to let go. */
export function lockDirectory(dir: string, lockedBy: (pid: number) => string): () => void {
  const path = join(realpathSync(dir), "lock");
  if (held.has(path)) throw new WeirError("WEIR_STATE_LOCKED", lockedBy(process.pid));
  for (let tries = 0; tries < 2; tries += 1) {
    try {
      writeFileSync(path, `${process.pid} ${startTicks(process.pid)}`, { flag: "wx", mode: 0o644 });
      held.add(path);
      return () => {
        held.delete(path);
        rmSync(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const [pid = "", ticks = ""] = readFileSync(path, "utf8").split(" ");
      if (ticks !== "" && startTicks(Number(pid)) === ticks)
        throw new WeirError("WEIR_STATE_LOCKED", lockedBy(Number(pid)));
      rmSync(path, { force: true });
    }
  }
  throw new WeirError("WEIR_STATE_LOCKED", `${path} cannot be taken.`);
}

/** proc(5) field 22 of a process; null when it is gone. */
function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
