/**
 * HTTPS servers under several names in the servers' network namespace, each name at an address of its own; they answer
 * with what they were asked, and remember it. Names lead there by a hosts file that is bound over /etc/hosts in a
 * private mount namespace.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testCa } from "../agent/tls/pki.ts";
import { endServer, hostsIn } from "./named-server.ts";
import type { Namespace } from "./namespace.ts";

export interface NamedOrigin {
  readonly caPath: string;
  /** The same words, run where the names lead to the servers. */
  withNames(words: readonly string[]): string[];
  /** `METHOD host/path bytes` of every request that arrived. */
  seen(): Promise<string[]>;
  stop(): Promise<void>;
}

const firstHost = 51;

export async function startNamedOrigin(namespace: Namespace, names: readonly string[]): Promise<NamedOrigin> {
  const dir = mkdtempSync(join(tmpdir(), "weir-origins-"));
  const ca = testCa("Weir test origins");
  const caPath = join(dir, "ca.pem");
  writeFileSync(caPath, ca.pem);
  const lines = names.map((name, at) => {
    const address = namespace.address4.replace(/\d+$/, String(firstHost + at));
    execFileSync("ip", ["-n", namespace.name, "addr", "add", `${address}/24`, "dev", "veth0"], { stdio: "ignore" });
    return `${address} ${name}`;
  });
  const { withNames } = hostsIn(dir, lines);
  const pair = ca.issue({ dns: names });
  const child = spawn(
    "nsenter",
    [
      `--net=/run/netns/${namespace.name}`,
      "--",
      process.execPath,
      join(import.meta.dirname, "named-origin-server.ts"),
      JSON.stringify(pair),
    ],
    { stdio: ["ignore", "ignore", "inherit", "ipc"] },
  );
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve());
    child.once("exit", (code) => reject(new Error(`the servers ended with ${code}`)));
  });
  return {
    caPath,
    withNames,
    seen: () => ask(child),
    stop: () => endServer(child, dir),
  };
}

function ask(child: ChildProcess): Promise<string[]> {
  return new Promise((resolve) => {
    child.once("message", (seen) => resolve(seen as string[]));
    child.send("seen");
  });
}
