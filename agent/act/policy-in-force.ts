/** The policy in force: loaded at start, reloaded on change; a bad reload keeps the last good one and says so. */
import { type FSWatcher, statSync, watch } from "node:fs";
import { dirname } from "node:path";
import { WeirError } from "../errors.ts";
import { loadPolicy, type Policy } from "../policy/index.ts";

/** Editors write in several steps: the files are read when they have been quiet this long. */
const settleMs = 200;

export interface PolicyInForce {
  readonly current: Policy;
  close(): void;
}

export interface PolicySource {
  readonly paths: readonly string[];
  read(paths: readonly string[]): { file: string; text: string }[];
  loaded(policy: Policy): void;
  rejected(problems: string): void;
}

/** Throws WEIR_POLICY_INVALID when the policy at start is bad. */
export function openPolicy(source: PolicySource): PolicyInForce {
  let current = load(source);
  let timer: NodeJS.Timeout | null = null;
  const reload = (): void => {
    timer = null;
    try {
      const next = load(source);
      if (next.digest === current.digest) return;
      current = next;
      source.loaded(next);
    } catch (error) {
      source.rejected(error instanceof Error ? error.message : String(error));
    }
  };
  const schedule = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(reload, settleMs);
    timer.unref();
  };
  // Editors and config management replace a file by rename: its directory is what stays.
  const directories = new Set(source.paths.map((path) => (statSync(path).isDirectory() ? path : dirname(path))));
  const watchers: FSWatcher[] = [...directories].map((path) => watch(path, { persistent: false }, schedule));
  for (const watcher of watchers) watcher.on("error", schedule);
  process.on("SIGHUP", schedule);
  return {
    get current() {
      return current;
    },
    close() {
      if (timer !== null) clearTimeout(timer);
      process.off("SIGHUP", schedule);
      for (const watcher of watchers) watcher.close();
    },
  };
}

function load(source: PolicySource): Policy {
  const result = loadPolicy(source.read(source.paths));
  if ("policy" in result) return result.policy;
  throw new WeirError("WEIR_POLICY_INVALID", `the policy cannot be used:\n${result.errors.map(String).join("\n")}`);
}
