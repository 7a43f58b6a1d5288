/** The policy in force: loaded at start, reloaded on change; a bad reload keeps the last good one and says so. */
import { type FSWatcher, statSync, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { WeirError } from "../errors.ts";
import { loadPolicy, type Policy } from "../policy/index.ts";
import { type BuiltDetectors, buildAllDetectors } from "./custom-detectors.ts";

/** Editors write in several steps: the files are read when they have been quiet this long. */
const settleMs = 200;

export interface PolicyInForce {
  readonly current: Policy;
  close(): void;
}

export interface PolicySource {
  readonly paths: readonly string[];
  read(paths: readonly string[]): { file: string; text: string }[];
  /** Before the policy is in force: what it defines is ready. */
  prepared(built: BuiltDetectors): void;
  loaded(policy: Policy): void;
  rejected(problems: string): void;
}

interface Loaded {
  readonly policy: Policy;
  readonly built: BuiltDetectors;
}

/** Rejects with WEIR_POLICY_INVALID when the policy at start is bad. */
export async function openPolicy(source: PolicySource): Promise<PolicyInForce> {
  let current = await load(source);
  source.prepared(current.built);
  let timer: NodeJS.Timeout | null = null;
  /** Lists of millions take their time: a change while one is read is looked at after it. */
  let reloading: "no" | "yes" | "again" = "no";
  let closed = false;
  const reload = async (): Promise<void> => {
    timer = null;
    if (reloading !== "no") {
      reloading = "again";
      return;
    }
    reloading = "yes";
    try {
      const next = await load(source);
      if (closed) return;
      watchAll(next.built.files);
      if (next.policy.digest !== current.policy.digest || next.built.digest !== current.built.digest) {
        current = next;
        source.prepared(next.built);
        source.loaded(next.policy);
      }
    } catch (error) {
      if (!closed) source.rejected(error instanceof Error ? error.message : String(error));
    }
    const again = (reloading as string) === "again";
    reloading = "no";
    if (again) schedule();
  };
  const schedule = (): void => {
    if (closed) return;
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(() => void reload(), settleMs);
    timer.unref();
  };
  const watchers = new Map<string, FSWatcher>();
  /** Of a watched directory: the files that count; null: every policy file does. */
  let watched = new Map<string, Set<string> | null>();
  // Editors and config management replace a file by rename: its directory is what stays.
  const watchAll = (files: readonly string[]): void => {
    watched = new Map();
    for (const path of [...source.paths, ...files]) {
      if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) watched.set(path, null);
      else if (watched.get(dirname(path)) === undefined) watched.set(dirname(path), new Set([basename(path)]));
      else watched.get(dirname(path))?.add(basename(path));
    }
    for (const [directory, watcher] of watchers) {
      if (watched.has(directory)) continue;
      watcher.close();
      watchers.delete(directory);
    }
    for (const directory of watched.keys()) {
      if (watchers.has(directory)) continue;
      const watcher = watch(directory, { persistent: false }, (_, name) => {
        if (name === null || counts(watched.get(directory) ?? null, name)) schedule();
      });
      watcher.on("error", schedule);
      watchers.set(directory, watcher);
    }
  };
  watchAll(current.built.files);
  process.on("SIGHUP", schedule);
  return {
    get current() {
      return current.policy;
    },
    close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      process.off("SIGHUP", schedule);
      for (const watcher of watchers.values()) watcher.close();
    },
  };
}

/** Where a directory is a set of links, as a ConfigMap's is, only a name like `..data` changes. */
function counts(names: ReadonlySet<string> | null, name: string): boolean {
  return name.startsWith("..") || (names === null ? /\.ya?ml$/.test(name) : names.has(name));
}

async function load(source: PolicySource): Promise<Loaded> {
  const result = loadPolicy(source.read(source.paths));
  if ("errors" in result)
    throw new WeirError("WEIR_POLICY_INVALID", `the policy cannot be used:\n${result.errors.map(String).join("\n")}`);
  return { policy: result.policy, built: await buildAllDetectors(result.policy.detectors) };
}
