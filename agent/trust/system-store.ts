/** The system's store (Debian, Ubuntu): files in /usr/local/share/ca-certificates, and update-ca-certificates. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import type { OwnNames } from "./names.ts";

const ownLink = /^weir-[0-9a-f]{16}\.pem$/;
const storeDir = "usr/local/share/ca-certificates";
const bundle = "etc/ssl/certs/ca-certificates.crt";

export interface Change {
  readonly done: readonly string[];
  undo(): void;
}

export function systemPath(root: string, names: OwnNames): string {
  return join(root, storeDir, `${names.current}.crt`);
}

export function isInSystemStore(root: string, names: OwnNames, caPem: string): boolean {
  if (!existsSync(systemPath(root, names))) return false;
  try {
    return readFileSync(join(root, bundle), "utf8").includes(caPem.trim());
  } catch {
    return false;
  }
}

/** Ours and those of former authorities of the same state directory. */
export function ownFiles(root: string, names: OwnNames): string[] {
  return certificatesIn(root).filter((path) => names.isOwn(nameOf(path), readFileSync(path, "utf8")));
}

/** Certificates of Weir that belong to another state directory. */
export function otherFiles(root: string, names: OwnNames): string[] {
  const own = ownFiles(root, names);
  return certificatesIn(root).filter((path) => !own.includes(path));
}

export function addToSystem(root: string, names: OwnNames, caPem: string): Change {
  const path = systemPath(root, names);
  const former = contents(ownFiles(root, names).filter((one) => one !== path));
  const undo = (): void => {
    rmSync(path, { force: true });
    restore(former);
  };
  return changed([path], undo, () => {
    write(path, caPem);
    for (const [old] of former) rmSync(old);
    updateStore(root);
  });
}

export function removeFromSystem(root: string, names: OwnNames): Change {
  const former = contents(ownFiles(root, names));
  const done = former.map(([path]) => path);
  if (done.length === 0) return { done, undo: () => {} };
  return changed(
    done,
    () => restore(former),
    () => {
      for (const path of done) rmSync(path);
      updateStore(root);
    },
  );
}

function changed(done: readonly string[], undo: () => void, change: () => void): Change {
  try {
    change();
  } catch (error) {
    undo();
    throw error;
  }
  return { done, undo };
}

function certificatesIn(root: string): string[] {
  const dir = join(root, storeDir);
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .filter((name) => /^weir-[0-9a-f]{16}\.crt$/.test(name))
    .map((name) => join(dir, name));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1, -".crt".length);
}

function contents(paths: readonly string[]): [string, string][] {
  return paths.map((path) => [path, readFileSync(path, "utf8")]);
}

function restore(files: readonly [string, string][]): void {
  for (const [path, text] of files) write(path, text);
}

function write(path: string, pem: string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(`${path}.new`, pem, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}

/** Debian's own tool. It reads hooks of the host, so for another root it is told every directory. */
function updateStore(root: string): void {
  const at = (path: string): string => join(root, path);
  const elsewhere = [
    ...["--certsconf", at("etc/ca-certificates.conf")],
    ...["--certsdir", at("usr/share/ca-certificates")],
    ...["--localcertsdir", at(storeDir)],
    ...["--etccertsdir", at("etc/ssl/certs")],
    ...["--hooksdir", at("etc/ca-certificates/update.d")],
  ];
  execFileSync("update-ca-certificates", root === "/" ? [] : elsewhere, { stdio: ["ignore", "ignore", "pipe"] });
  // It leaves dangling links when a certificate goes, its own and that of its hash, unless it was asked for a fresh start.
  const certs = at("etc/ssl/certs");
  for (const name of readdirSync(certs)) {
    const path = join(certs, name);
    if (!lstatSync(path).isSymbolicLink() || existsSync(path)) continue;
    if (ownLink.test(name) || ownLink.test(basename(readlinkSync(path)))) rmSync(path, { force: true });
  }
}
