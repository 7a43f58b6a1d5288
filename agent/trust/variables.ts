/**
 * Variables for whole hosts: files that login shells and systemd read. They name the system's own bundle, which has the
 * authority after `weir trust install`, so that programs with roots of their own (Node, requests, pip) look there too.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { trustEnvironment } from "./environment.ts";
import type { OwnNames } from "./names.ts";

const bundle = "/etc/ssl/certs/ca-certificates.crt";
/** A login shell; systemd's user sessions; systemd's services. Only directories that exist are written to. */
const places = [
  { dir: "etc/profile.d", end: ".sh", text: shell },
  { dir: "etc/environment.d", end: ".conf", text: lines },
  { dir: "etc/systemd/system.conf.d", end: ".conf", text: systemd, below: "etc/systemd" },
] as const;

/** Programs with roots of their own only: what looks at the system's store needs no variable, and keeps its own settings. */
const needed = new Set([
  "SSL_CERT_FILE",
  "NODE_EXTRA_CA_CERTS",
  "REQUESTS_CA_BUNDLE",
  "AWS_CA_BUNDLE",
  "DENO_CERT",
  "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
  "HTTPLIB2_CA_CERTS",
  "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
  "HEX_CACERTS_PATH",
]);

/** What a new login gets. */
export function hostEnvironment(): Record<string, string> {
  return Object.fromEntries(Object.entries(trustEnvironment(bundle)).filter(([name]) => needed.has(name)));
}

export function addVariables(root: string, names: OwnNames): string[] {
  const added: string[] = [];
  for (const place of places) {
    if (!existsSync(join(root, "below" in place ? place.below : place.dir))) continue;
    const path = join(root, place.dir, `${names.current}${place.end}`);
    if (existsSync(path)) continue;
    mkdirSync(join(root, place.dir), { recursive: true });
    writeFileSync(path, place.text(Object.entries(hostEnvironment())), { mode: 0o644 });
    added.push(path);
  }
  for (const path of variableFiles(root, names)) if (!path.includes(names.current)) rmSync(path);
  return added;
}

export function removeVariables(root: string, names: OwnNames): string[] {
  const found = variableFiles(root, names);
  for (const path of found) rmSync(path);
  // A directory that was made for it goes, too; one that holds something else stays.
  for (const place of places) {
    const dir = join(root, place.dir);
    if (!("below" in place) || !found.some((path) => path.startsWith(`${dir}/`))) continue;
    if (readdirSync(dir).length === 0) rmdirSync(dir);
  }
  return found;
}

export function variableFiles(root: string, names: OwnNames): string[] {
  return places.flatMap(({ dir, end }) => {
    const at = join(root, dir);
    if (!existsSync(at)) return [];
    return readdirSync(at)
      .filter((name) => name.endsWith(end) && names.isOwn(name.slice(0, -end.length)))
      .map((name) => join(at, name));
  });
}

type Variables = readonly (readonly [string, string])[];

/** What the user has set stays his. */
function shell(variables: Variables): string {
  return variables.map(([name, value]) => `export ${name}="\${${name}:-${value}}"\n`).join("");
}

function lines(variables: Variables): string {
  return variables.map(([name, value]) => `${name}=${value}\n`).join("");
}

function systemd(variables: Variables): string {
  return `[Manager]\nDefaultEnvironment=${variables.map(([name, value]) => `${name}=${value}`).join(" ")}\n`;
}
