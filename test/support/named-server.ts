/** What servers under names of their own have in common: a hosts file for their clients, and an end. */
import type { ChildProcess } from "node:child_process";
import { copyFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** `lines`: `ADDRESS NAME`. The path of the file, and words that run where its names lead to those addresses. */
export function hostsIn(dir: string, lines: readonly string[]) {
  const hostsFile = join(dir, "hosts");
  writeFileSync(hostsFile, `127.0.0.1 localhost\n::1 localhost\n${lines.map((line) => `${line}\n`).join("")}`);
  const bind = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hostsFile];
  return { hostsFile, withNames: (words: readonly string[]): string[] => [...bind, ...words] };
}

/** Ends the server, then its directory goes. */
export async function endServer(child: ChildProcess, dir: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    await ended;
  }
  rmSync(dir, { recursive: true, force: true });
}

/** A module's packages are looked for beside it: client programs run from where the packages are. */
export function placeScripts(from: string, to: string): void {
  for (const name of readdirSync(from).filter((file) => file.endsWith(".mjs"))) {
    // Renamed into place: tests that run side by side never see half a file.
    const part = join(to, `.${name}.${process.pid}`);
    copyFileSync(join(from, name), part);
    renameSync(part, join(to, name));
  }
}
