/**
 * Pinned links: names in a bpffs that keep a redirection standing when the agent is gone.
 *
 *   weir_connect4-0.1234   the link, and the pid of the agent that pinned it
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, statfsSync, unlinkSync } from "node:fs";
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
  const suffix = `.${process.pid}`;
  return {
    replace(links) {
      const before = readdirSync(dir).filter((name) => !name.endsWith(suffix));
      const present = new Set(readdirSync(dir));
      for (const link of links) {
        const name = `${link.name}${suffix}`;
        if (!present.has(name)) addon().bpfPin(link.fd, join(dir, name));
      }
      for (const name of before) unlinkSync(join(dir, name));
    },
    remove() {
      for (const name of readdirSync(dir)) if (name.endsWith(suffix)) unlinkSync(join(dir, name));
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
  const names = readdirSync(dir);
  for (const name of names) unlinkSync(join(dir, name));
  rmdirSync(dir);
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

/** An agent before us may have made the mount, died, and left it to us: then it stays, as one of the host's. */
function tidy(dir: string, mounted: string | null): void {
  if (dir !== mounted && readdirSync(dir).length === 0) rmdirSync(dir);
  if (mounted !== null && readdirSync(mounted).length === 0) addon().unmount(mounted);
}

function isBpf(path: string): boolean {
  return statfsSync(path).type === bpfMagic;
}
