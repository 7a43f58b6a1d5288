/**
 * Pinned links: names in a bpffs that keep a redirection standing when the agent is gone.
 *
 *   weir_connect4-0-1234   the link, and the pid of the agent that pinned it (bpffs refuses a dot in a name with EPERM)
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, statfsSync, statSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { addon } from "./addon.ts";

export interface PinDirectory {
  /** Pins these, then removes what stood there before: the scope is never open in between. */
  replace(links: readonly { readonly fd: number; readonly name: string }[]): void;
  /** Removes our pins, the directory when it is empty, and the mount when it was ours and is empty. */
  remove(): void;
}

const bpfMagic = 0xcafe4a11;
const standardMount = "/sys/fs/bpf";

export function openPinDirectory(dir: string): PinDirectory {
  const mounted = ensureBpfMount(dir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const suffix = `-${process.pid}`;
  return {
    replace(links) {
      const present = new Set(pinsIn(dir));
      for (const link of links) {
        const name = `${link.name}${suffix}`;
        if (!present.has(name)) addon().bpfPin(link.fd, join(dir, name));
      }
      for (const name of present) if (!name.endsWith(suffix)) unlinkSync(join(dir, name));
    },
    remove() {
      for (const name of pinsIn(dir)) if (name.endsWith(suffix)) unlinkSync(join(dir, name));
      tidy(dir, mounted);
    },
  };
}

/**
 * Removes every pin in the directory, whoever made it, and so the redirection they keep: for an operator who wants a
 * host open again after its agent died. Returns how many there were.
 */
export function removePins(dir: string): number {
  if (!existsSync(dir) || !isBpf(dir)) return 0;
  const names = pinsIn(dir);
  for (const name of names) unlinkSync(join(dir, name));
  tidy(dir, null);
  return names.length;
}

/** The path that was mounted, or null when there was a bpffs already. */
function ensureBpfMount(dir: string): string | null {
  let above = dir;
  while (!existsSync(above)) above = dirname(above);
  if (isBpf(above)) return null;
  const at = `${dir}/`.startsWith(`${standardMount}/`) && existsSync(standardMount) ? standardMount : dir;
  mkdirSync(at, { recursive: true, mode: 0o700 });
  addon().mountBpf(at);
  return at;
}

/** The directory may be a bpffs of its own, mounted by us or by an agent that died: then that goes too. */
function tidy(dir: string, mounted: string | null): void {
  if (!readdirSync(dir).every(isKernels)) return;
  if (mounted === dir || isMountPoint(dir)) addon().unmount(dir);
  rmdirSync(dir);
  if (mounted !== null && mounted !== dir && readdirSync(mounted).every(isKernels)) addon().unmount(mounted);
}

function isMountPoint(dir: string): boolean {
  return statSync(dir).dev !== statSync(dirname(dir)).dev;
}

/** The root of a bpffs also holds maps.debug and progs.debug, which nobody can remove. */
const isKernels = (name: string): boolean => name.endsWith(".debug");

function pinsIn(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith("weir_"));
}

function isBpf(path: string): boolean {
  return statfsSync(path).type === bpfMagic;
}
