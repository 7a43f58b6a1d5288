/**
 * The policy in force: loaded at start, reloaded on change; a bad reload keeps the last good one and says so. It comes
 * from files, or is given: then files of the host count no longer, but for those that its detectors name.
 */
import { type FSWatcher, statSync, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { WeirError } from "../errors.ts";
import { loadPolicy, type Policy } from "../policy/index.ts";
import { type BuiltDetectors, buildAllDetectors } from "./custom-detectors.ts";

/** Editors write in several steps: the files are read when they have been quiet this long. */
const settleMs = 200;

export interface PolicyFile {
  readonly file: string;
  readonly text: string;
}

/** Where a given policy comes from. */
export interface PolicyOrigin {
  readonly id: string;
  readonly version: number;
  /** The key that signed it, by its name. */
  readonly signer: string;
  readonly by: string;
}

export interface GivenPolicy {
  readonly files: readonly PolicyFile[];
  /** Null: nobody has given one yet. */
  readonly origin: PolicyOrigin | null;
}

export interface PolicyInForce {
  readonly current: Policy;
  /** As they were read for `current`. */
  readonly files: readonly PolicyFile[];
  /** Null: it is the host's own. */
  readonly origin: PolicyOrigin | null;
  /** Puts it in force from now on. Rejects with WEIR_POLICY_INVALID, and then the one before stays. One at a time. */
  use(given: GivenPolicy): Promise<void>;
  /** Takes changes from now on, and one that came since it was read: before, nobody may be there to be told of it. */
  follow(): void;
  close(): void;
}

export interface PolicySource {
  readonly paths: readonly string[];
  read(paths: readonly string[]): PolicyFile[];
  /** Counts in place of the files at `paths`. */
  readonly given?: GivenPolicy | null;
  /** Before the policy is in force: what it defines is ready. */
  prepared(built: BuiltDetectors): void;
  loaded(policy: Policy, origin: PolicyOrigin | null): void;
  rejected(problems: string): void;
}

interface Loaded {
  readonly files: readonly PolicyFile[];
  readonly policy: Policy;
  readonly built: BuiltDetectors;
}

/** Rejects with WEIR_POLICY_INVALID when the policy at start is bad. */
export async function openPolicy(source: PolicySource): Promise<PolicyInForce> {
  let given = source.given ?? null;
  let following = false;
  let changed = false;
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
    const before = given;
    try {
      const next = await load(read());
      if (closed) return;
      // Another one was given meanwhile: this one is of yesterday.
      if (given === before) {
        watchAll(next.built.files);
        if (next.policy.digest !== current.policy.digest || next.built.digest !== current.built.digest) enforce(next);
      }
    } catch (error) {
      if (!closed && given === before) source.rejected(error instanceof Error ? error.message : String(error));
    }
    const again = (reloading as string) === "again";
    reloading = "no";
    if (again) schedule();
  };
  function read(): readonly PolicyFile[] {
    return given === null ? source.read(source.paths) : given.files;
  }
  function enforce(next: Loaded): void {
    current = next;
    source.prepared(next.built);
    source.loaded(next.policy, given?.origin ?? null);
  }
  const schedule = (): void => {
    if (closed) return;
    changed = true;
    if (!following) return;
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
    for (const path of [...(given === null ? source.paths : []), ...files]) {
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
  const close = (): void => {
    closed = true;
    if (timer !== null) clearTimeout(timer);
    process.off("SIGHUP", schedule);
    for (const watcher of watchers.values()) watcher.close();
  };
  process.on("SIGHUP", schedule);
  let current: Loaded;
  try {
    // Read twice: what cannot be read is told as such, and a change while detectors are built counts.
    read();
    watchAll([]);
    current = await load(read());
    watchAll(current.built.files);
  } catch (error) {
    close();
    throw error;
  }
  source.prepared(current.built);
  return {
    get current() {
      return current.policy;
    },
    get files() {
      return current.files;
    },
    get origin() {
      return given?.origin ?? null;
    },
    async use(next) {
      const loaded = await load(next.files);
      if (closed) return;
      given = next;
      watchAll(loaded.built.files);
      enforce(loaded);
    },
    follow() {
      following = true;
      if (changed) schedule();
    },
    close,
  };
}

/** Where a directory is a set of links, as a ConfigMap's is, only a name like `..data` changes. */
function counts(names: ReadonlySet<string> | null, name: string): boolean {
  return name.startsWith("..") || (names === null ? /\.ya?ml$/.test(name) : names.has(name));
}

async function load(files: readonly PolicyFile[]): Promise<Loaded> {
  const result = loadPolicy(files);
  if ("errors" in result)
    throw new WeirError("WEIR_POLICY_INVALID", `the policy cannot be used:\n${result.errors.map(String).join("\n")}`);
  return { files, policy: result.policy, built: await buildAllDetectors(result.policy.detectors) };
}
