/** The trust stores of installed JVMs, changed by a JVM's own keytool. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { findBundles } from "./bundles.ts";
import { readStore } from "./java-store.ts";
import { nameIn, type OwnNames } from "./names.ts";

/** Of every JDK's own store. */
const password = "changeit";
const keytoolMsMax = 60_000;

export interface JavaHost {
  readonly root: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Stores of the host, without those in homes; Debian's, which all its JVMs link to, is one of them. */
export function javaStores({ root, env }: JavaHost): string[] {
  const search = { root, env: { PATH: env.PATH, JAVA_HOME: env.JAVA_HOME }, cwd: null, program: null };
  return findBundles(search).flatMap(({ path, kind }) => (kind === "java" ? [path] : []));
}

/** Adds the certificate where it is not; the stores that were changed. */
export function addToJava(host: JavaHost, names: OwnNames, caPath: string): string[] {
  return javaStores(host).filter((store) => {
    const keytool = keytoolFor(store, host.env);
    if (keytool === null) return false;
    const aliases = ownAliases(store, keytool, names);
    if (aliases.some((alias) => nameIn(alias) === names.current)) return false;
    for (const alias of aliases) change(keytool, store, ["-delete", "-alias", alias]);
    change(keytool, store, ["-importcert", "-noprompt", "-trustcacerts", "-alias", names.current, "-file", caPath]);
    return true;
  });
}

export function removeFromJava(host: JavaHost, names: OwnNames): string[] {
  return javaStores(host).filter((store) => {
    const keytool = keytoolFor(store, host.env);
    if (keytool === null) return false;
    const aliases = ownAliases(store, keytool, names);
    for (const alias of aliases) change(keytool, store, ["-delete", "-alias", alias]);
    return aliases.length > 0;
  });
}

/** Our aliases in a store. One that we cannot read is read by keytool, which takes half a second. */
function ownAliases(store: string, keytool: string, names: OwnNames): string[] {
  const entries = readStore(readFileSync(store));
  if (entries === null) {
    const aliases = change(keytool, store, ["-list"]).matchAll(/^(\S*weir-[0-9a-f]{16}\S*),/gm);
    return [...aliases].flatMap(([, alias = ""]) => (names.isOwn(nameIn(alias) ?? "") ? [alias] : []));
  }
  return entries.flatMap(({ alias, certificateDer }) => {
    const name = nameIn(alias);
    return name !== null && names.isOwn(name, pemOf(certificateDer)) ? [alias] : [];
  });
}

function change(keytool: string, store: string, words: readonly string[]): string {
  return execFileSync(keytool, [...words, "-keystore", store, "-storepass", password], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: keytoolMsMax,
  });
}

/** That of the JVM the store belongs to, else the one on PATH, else that of any JVM of the host. */
function keytoolFor(store: string, env: NodeJS.ProcessEnv): string | null {
  const home = dirname(dirname(dirname(store)));
  const jvms = existsSync("/usr/lib/jvm") ? readdirSync("/usr/lib/jvm").map((name) => join("/usr/lib/jvm", name)) : [];
  const candidates = [
    join(home, "bin/keytool"),
    join(dirname(home), "bin/keytool"),
    ...(env.PATH ?? "/usr/bin").split(":").map((dir) => join(dir, "keytool")),
    ...jvms.map((dir) => join(dir, "bin/keytool")),
  ];
  const found = candidates.find((path) => existsSync(path));
  return found === undefined ? null : realpathSync(found);
}

function pemOf(der: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
}
