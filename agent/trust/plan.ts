/** What a command sees in the place of the host's bundles: each with our certificate added, and where it is mounted. */
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bundle } from "./bundles.ts";
import { readStore, withCertificate } from "./java-store.ts";

export interface Bind {
  /** A file of this run alone. */
  readonly source: string;
  readonly target: string;
  readonly kind: Bundle["kind"];
}

export interface Plan {
  readonly binds: readonly Bind[];
  /** Mount points whose mounts must not be seen on the host. */
  readonly slaves: readonly string[];
  /** Files and directories that are not needed once the binds stand, in the order in which they go. */
  readonly temporary: readonly string[];
  /** Files that could not be read or extended. */
  readonly skipped: readonly string[];
}

const bundleBytesMax = 16 * 1024 * 1024;
const alias = "weir";

/** Null when every bundle has our certificate already. */
export function planBinds(bundles: readonly Bundle[], caPem: string, nowMs: number): Plan | null {
  const binds: Bind[] = [];
  const skipped: string[] = [];
  let directory: string | null = null;
  for (const { path, kind } of bundles) {
    const next = extended(path, kind, caPem, nowMs);
    if (next === null) skipped.push(path);
    if (next === null || next === "same") continue;
    directory ??= makeDirectory();
    const source = join(directory, String(binds.length));
    writeLike(source, next);
    binds.push({ source, target: path, kind });
  }
  if (directory === null) return null;
  const targets = binds.map(({ target }) => target);
  return {
    binds,
    slaves: mountPointsOf(targets, readFileSync("/proc/self/mountinfo", "utf8")),
    temporary: [...binds.map(({ source }) => source), directory],
    skipped,
  };
}

function makeDirectory(): string {
  let problem: unknown;
  for (const parent of [tmpdir(), "/tmp", "/var/tmp", "/dev/shm"]) {
    try {
      return mkdtempSync(join(parent, "weir-run-"));
    } catch (error) {
      problem ??= error;
    }
  }
  throw problem;
}

/** Readable for whom the original is: inside the namespace the copy stands in its place for every user. */
function writeLike(path: string, { bytes, mode, uid, gid }: Extended): void {
  writeFileSync(path, bytes, { mode: 0o600 });
  if (process.geteuid?.() === 0) chownSync(path, uid, gid);
  chmodSync(path, mode & 0o777);
}

interface Extended {
  readonly bytes: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** The file with our certificate at its end; "same" when it has it already, null when it cannot be. */
function extended(path: string, kind: Bundle["kind"], caPem: string, nowMs: number): Extended | "same" | null {
  let fd: number;
  try {
    // Who owns a directory of packages may put anything there: nothing that is waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stat = fstatSync(fd);
    const { size, mode, uid, gid } = stat;
    if (!stat.isFile() || size > bundleBytesMax) return null;
    const next = withOurs(readFileSync(fd), kind, caPem, nowMs);
    return next === null || next === "same" ? next : { bytes: next, mode, uid, gid };
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}

function withOurs(bytes: Buffer, kind: Bundle["kind"], caPem: string, nowMs: number): Buffer | "same" | null {
  if (kind === "java") {
    const certificateDer = new X509Certificate(caPem).raw;
    const has = readStore(bytes)?.some((entry) => entry.certificateDer.equals(certificateDer));
    return has === true ? "same" : withCertificate(bytes, { alias, certificateDer }, nowMs);
  }
  if (bytes.includes(caPem.trim())) return "same";
  // A link with the name of a bundle may lead anywhere: only certificates are copied, and never a key.
  if (!/-----BEGIN (TRUSTED )?CERTIFICATE-----/.test(bytes.toString("latin1")) || bytes.includes("PRIVATE KEY-----"))
    return null;
  return Buffer.concat([bytes, Buffer.from(`\n${caPem}`)]);
}

/** The mounts that hold these files, from proc(5) mountinfo. */
export function mountPointsOf(files: readonly string[], mountinfo: string): string[] {
  const points = mountinfo
    .split("\n")
    .map((line) => line.split(" ")[4])
    .filter((point) => point !== undefined)
    .map((point) => point.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))));
  const holding = files.map((file) => {
    let best = "/";
    for (const point of points)
      if (point.length > best.length && (file === point || file.startsWith(`${point}/`))) best = point;
    return best;
  });
  return [...new Set(holding)];
}
