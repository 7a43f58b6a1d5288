/** The cgroups of a scope: where cgroup2 is mounted, the agent's own parent, one child for each `weir run`. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WeirError } from "../errors.ts";

/** How long a killed process may take to leave its cgroup. */
const emptyMsMax = 3000;
const nameCharsMax = 32;

/** Where cgroup2 is mounted; null where it is not. It is below `unified` on hosts that still use version 1. */
export function cgroupRoot(mounts = readFileSync("/proc/self/mounts", "utf8")): string | null {
  for (const line of mounts.split("\n")) {
    const [, path, type] = line.split(" ");
    if (type === "cgroup2" && path !== undefined) return path.replace(/\\040/g, " ");
  }
  return null;
}

export interface CgroupTree {
  /** Relative to the cgroup2 root, without a leading slash: as `-m cgroup --path` takes it. */
  readonly path: string;
  readonly directory: string;
}

export function openCgroup(path: string, options: { create: boolean }): CgroupTree {
  const root = cgroupRoot();
  if (root === null) {
    throw new WeirError(
      "WEIR_KERNEL_UNSUPPORTED",
      "No cgroup2 is mounted; try: mount -t cgroup2 none /sys/fs/cgroup/unified",
    );
  }
  const relative = path.replace(/^\/+|\/+$/g, "");
  if (relative.split("/").includes("..")) throw new WeirError("WEIR_USAGE", `The cgroup path ${path} leaves its root.`);
  const directory = join(root, relative);
  try {
    if (options.create) mkdirSync(directory, { recursive: true });
  } catch (cause) {
    throw new WeirError("WEIR_KERNEL_UNSUPPORTED", `The cgroup ${directory} could not be made.`, { cause });
  }
  if (!existsSync(join(directory, "cgroup.procs")) && relative !== "") {
    throw new WeirError("WEIR_USAGE", `There is no cgroup ${path} below ${root}.`);
  }
  return { path: relative, directory };
}

let runs = 0;

/** A child cgroup with the process moved in; all its descendants are born there. */
export function createRunCgroup(parent: CgroupTree, pid: number, name: string): CgroupTree {
  const label = name.replace(/[^A-Za-z0-9_.-]/g, "_").slice(0, nameCharsMax);
  const leaf = `run-${process.pid}-${++runs}${label === "" ? "" : `-${label}`}`;
  const directory = join(parent.directory, leaf);
  mkdirSync(directory);
  try {
    writeFileSync(join(directory, "cgroup.procs"), String(pid));
  } catch (cause) {
    rmdirSync(directory);
    throw new WeirError("WEIR_CONTROL_REFUSED", `Process ${pid} could not be moved into its cgroup.`, { cause });
  }
  return { path: `${parent.path}/${leaf}`, directory };
}

/** True when the cgroup is gone; false while processes live in it. */
export function removeIfEmpty(tree: CgroupTree): boolean {
  for (const child of children(tree)) removeIfEmpty(child);
  try {
    rmdirSync(tree.directory);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
  return true;
}

/** Ends every process in it and takes it away. False when something would not go. */
export async function killAndRemove(tree: CgroupTree): Promise<boolean> {
  if (removeIfEmpty(tree)) return true;
  try {
    writeFileSync(join(tree.directory, "cgroup.kill"), "1");
  } catch {
    for (const pid of processesOf(tree)) kill(pid); // before Linux 5.14 there is no cgroup.kill
  }
  for (let waitedMs = 0; waitedMs < emptyMsMax; waitedMs += 20) {
    if (removeIfEmpty(tree)) return true;
    await sleep(20);
  }
  return false;
}

/** Processes of the tree, children included. */
export function processesOf(tree: CgroupTree): number[] {
  let own: number[] = [];
  try {
    own = readFileSync(join(tree.directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  } catch {
    // gone meanwhile
  }
  return [...own, ...children(tree).flatMap(processesOf)];
}

function children(tree: CgroupTree): CgroupTree[] {
  try {
    return readdirSync(tree.directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => ({ path: `${tree.path}/${entry.name}`, directory: join(tree.directory, entry.name) }));
  } catch {
    return [];
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone meanwhile
  }
}
