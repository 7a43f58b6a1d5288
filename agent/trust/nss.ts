/** NSS databases (Chrome, Chromium, Firefox and others), changed by certutil of libnss3-tools. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { nameIn, type OwnNames } from "./names.ts";

export interface NssHost {
  readonly env: NodeJS.ProcessEnv;
  /** Whose databases: existing ones only, none is made. */
  readonly homes: readonly string[];
}

const certutilMsMax = 30_000;
const profilesMax = 50;

export function certutilIsThere(env: NodeJS.ProcessEnv): boolean {
  return (env.PATH ?? "/usr/bin").split(":").some((dir) => existsSync(join(dir, "certutil")));
}

export function nssDatabases({ homes }: NssHost): string[] {
  return homes
    .flatMap((home) => [
      ...[join(home, ".pki/nssdb"), join(home, "snap/chromium/current/.pki/nssdb")],
      ...profiles(join(home, ".mozilla/firefox")),
      ...profiles(join(home, "snap/firefox/common/.mozilla/firefox")),
    ])
    .filter((dir) => existsSync(join(dir, "cert9.db")));
}

export function addToNss(host: NssHost, names: OwnNames, caPath: string): string[] {
  if (!certutilIsThere(host.env)) return [];
  return nssDatabases(host).filter((database) => {
    const own = nicknames(database, names);
    if (own.includes(names.current)) return false;
    for (const name of own) certutil(database, ["-D", "-n", name]);
    certutil(database, ["-A", "-n", names.current, "-t", "C,,", "-i", caPath]);
    return true;
  });
}

export function removeFromNss(host: NssHost, names: OwnNames): string[] {
  if (!certutilIsThere(host.env)) return [];
  return nssDatabases(host).filter((database) => {
    const own = nicknames(database, names);
    for (const name of own) certutil(database, ["-D", "-n", name]);
    return own.length > 0;
  });
}

function nicknames(database: string, names: OwnNames): string[] {
  return certutil(database, ["-L"])
    .split("\n")
    .flatMap((line) => nameIn(line) ?? [])
    .filter((name) => names.isOwn(name));
}

/** As the owner of the database: root does not write where another user decides what a path leads to. */
function certutil(database: string, words: readonly string[]): string {
  const all = ["certutil", "-d", `sql:${database}`, ...words];
  const { uid, gid } = statSync(database);
  const foreign = process.getuid?.() === 0 && uid !== 0;
  return execFileSync(all[0] as string, all.slice(1), {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: certutilMsMax,
    ...(foreign ? { uid, gid } : {}),
  });
}

function profiles(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .slice(0, profilesMax)
    .map((name) => join(dir, name));
}
