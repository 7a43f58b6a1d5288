/** The files that `weir install` places, and the list of them that `weir uninstall` goes by. */
import { createHash } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { WeirError } from "../../errors.ts";
import { closedRules } from "../../kernel/firewall-rules.ts";

/** Where this Weir lives; the units name it. */
export const prefix = resolve(import.meta.dirname, "../../..");
export const manifestPath = "/etc/weir/installed.json";
export const settingsPath = "/etc/weir/weir.yaml";
export const policyDirectory = "/etc/weir/policy";
const unitDir = "/etc/systemd/system";
export const units = ["weir-firewall.service", "weir.service"] as const;
/** The chains and pins of the agent on the default state directory. */
export const installedInstance = "main";

export interface Placed {
  readonly path: string;
  /** Of a file that is ours for good: written anew by each install. Others are the operator's once they are there. */
  readonly ours: boolean;
  readonly text?: string;
  readonly link?: string;
}

export interface InstallSettings {
  readonly scope: string;
  readonly onFailure: string;
  readonly policy: readonly string[] | null;
}

export function filesToPlace(root: string, { scope, onFailure, policy }: InstallSettings): Placed[] {
  const config = [
    "# Settings of the installed agent; `weir up --help` explains them. Restart after a change: systemctl restart weir",
    `policy: ${JSON.stringify(policy ?? [policyDirectory])}`,
    `scope: ${scope}`,
    `onFailure: ${onFailure}`,
    "# An ordered stop leaves the host closed; `weir uninstall` opens it.",
    "onStop: closed",
    "",
  ];
  const defaults = join(prefix, "policies/defaults");
  const policies = readdirSync(defaults).filter((name) => /\.yaml$/.test(name) && !name.endsWith(".cases.yaml"));
  return [
    { path: settingsPath, ours: false, text: config.join("\n") },
    // What the operator took out of it does not come back with an upgrade.
    ...(policy === null && !existsSync(join(root, policyDirectory))
      ? policies.map((name) => ({
          path: `${policyDirectory}/${name}`,
          ours: false,
          text: readFileSync(join(defaults, name), "utf8"),
        }))
      : []),
    { path: "/etc/weir/firewall/closed.v4", ours: true, text: closedRules(4, installedInstance) },
    { path: "/etc/weir/firewall/closed.v6", ours: true, text: closedRules(6, installedInstance) },
    ...units.map((name) => ({ path: `${unitDir}/${name}`, ours: true, text: unitText(name) })),
    {
      path: `${unitDir}/sysinit.target.wants/weir-firewall.service`,
      ours: true,
      link: `${unitDir}/weir-firewall.service`,
    },
    { path: `${unitDir}/multi-user.target.wants/weir.service`, ours: true, link: `${unitDir}/weir.service` },
  ];
}

function unitText(name: string): string {
  return readFileSync(join(prefix, "packaging/systemd", name), "utf8").replaceAll("@PREFIX@", prefix);
}

/** Digest of each file as it was placed, and the directories that were made for them, innermost first. */
export interface Manifest {
  readonly files: Readonly<Record<string, string>>;
  readonly directories: readonly string[];
  /** Whether the trust stores are Weir's business: an upgrade does as the first install did. */
  readonly trust: boolean;
}

export function readManifest(root: string): Manifest | null {
  let text: string;
  try {
    text = readFileSync(join(root, manifestPath), "utf8");
  } catch {
    return null;
  }
  try {
    return JSON.parse(text) as Manifest;
  } catch (cause) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${manifestPath} is damaged; install again, then uninstall.`, { cause });
  }
}

/** What would change, in words; nothing for a file that stands as it has to. */
export function changeOf(root: string, file: Placed): "new" | "changed" | null {
  const path = join(root, file.path);
  if (!isThere(path)) return "new";
  if (!file.ours) return null;
  return contentOf(path) === (file.link ?? file.text) ? null : "changed";
}

export function place(root: string, files: readonly Placed[], trust: boolean): void {
  const former = readManifest(root);
  const placed: Record<string, string> = { ...former?.files };
  const made = [...(former?.directories ?? [])];
  for (const file of files) {
    makeDirectory(root, dirname(file.path), made);
    if (changeOf(root, file) === null) continue;
    const path = join(root, file.path);
    // In one step: a unit that is half written must not be loaded.
    rmSync(`${path}.new`, { force: true });
    if (file.link !== undefined) symlinkSync(file.link, `${path}.new`);
    else writeFileSync(`${path}.new`, file.text ?? "", { mode: 0o644 });
    renameSync(`${path}.new`, path);
    placed[file.path] = digest(file.link ?? file.text ?? "");
  }
  const manifest: Manifest = { files: placed, directories: made, trust };
  writeFileSync(join(root, `${manifestPath}.new`), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o644 });
  renameSync(join(root, `${manifestPath}.new`), join(root, manifestPath));
}

/** Takes away what was placed. A file that the operator has changed stays, and is returned, unless all has to go. */
export function takeAway(root: string, manifest: Manifest, all: boolean): { gone: string[]; kept: string[] } {
  const gone: string[] = [];
  const kept: string[] = [];
  for (const [file, expected] of Object.entries(manifest.files)) {
    const path = join(root, file);
    if (!isThere(path)) continue;
    if (!all && digest(contentOf(path)) !== expected) {
      kept.push(file);
      continue;
    }
    rmSync(path);
    gone.push(file);
  }
  rmSync(join(root, manifestPath), { force: true });
  // What an uninstall before this one has kept is in no list any more.
  if (all) rmSync(join(root, dirname(settingsPath)), { recursive: true, force: true });
  for (const directory of manifest.directories) removeEmpty(join(root, directory));
  return { gone, kept };
}

function makeDirectory(root: string, directory: string, made: string[]): void {
  if (existsSync(join(root, directory))) return;
  makeDirectory(root, dirname(directory), made);
  mkdirSync(join(root, directory), { mode: 0o755 });
  if (!made.includes(directory)) made.unshift(directory);
}

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // it holds what somebody else has put there, or is gone
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function contentOf(path: string): string {
  return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : readFileSync(path, "utf8");
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
