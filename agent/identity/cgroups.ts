/** What the registry asks about a cgroup. Paths are relative to the cgroup2 root, with a leading slash. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export interface Cgroups {
  /** Differs between two cgroups that had the same path, also over a restart of the host. Null: there is none. */
  idOf(path: string): string | null;
  /** False: no process lives in it or below it. */
  inhabited(path: string): boolean;
}

export function watchCgroups(root: string): Cgroups {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return {
    idOf(path) {
      try {
        return `${boot}/${statSync(join(root, path), { bigint: true }).ino}`;
      } catch {
        return null;
      }
    },
    inhabited(path) {
      try {
        return /^populated 1$/m.test(readFileSync(join(root, path, "cgroup.events"), "utf8"));
      } catch {
        return false;
      }
    },
  };
}
