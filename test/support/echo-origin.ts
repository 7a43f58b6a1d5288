/** Servers that repeat what they are sent, each with an address, a name and a certificate of its own; see named-origin.ts. */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testCa } from "../agent/tls/pki.ts";
import type { EchoServer } from "./echo-origin-server.ts";
import type { NamedOrigin } from "./named-origin.ts";
import type { Namespace } from "./namespace.ts";

const firstHost = 101;

export async function startEchoOrigin(namespace: Namespace, names: readonly string[]): Promise<NamedOrigin> {
  const dir = mkdtempSync(join(tmpdir(), "weir-echo-"));
  const ca = testCa("Weir test origins");
  const caPath = join(dir, "ca.pem");
  writeFileSync(caPath, ca.pem);
  const servers = names.map((name, at): EchoServer => {
    const address = namespace.address4.replace(/\d+$/, String(firstHost + at));
    execFileSync("ip", ["-n", namespace.name, "addr", "add", `${address}/24`, "dev", "veth0"], { stdio: "ignore" });
    return { name, address, ...ca.issue({ name, dns: [name] }) };
  });
  const hosts = join(dir, "hosts");
  const lines = servers.map(({ name, address }) => `${address} ${name}\n`);
  writeFileSync(hosts, `127.0.0.1 localhost\n::1 localhost\n${lines.join("")}`);
  const program = join(import.meta.dirname, "echo-origin-server.ts");
  const words = [`--net=/run/netns/${namespace.name}`, "--", process.execPath, program, JSON.stringify(servers)];
  const child = spawn("nsenter", words, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve());
    child.once("exit", (code) => reject(new Error(`the servers ended with ${code}`)));
  });
  return {
    caPath,
    withNames: (command) => [
      ...["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts],
      ...command,
    ],
    seen: () =>
      new Promise((resolve) => {
        child.once("message", (said) => resolve(said as string[]));
        child.send("seen");
      }),
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((done) => child.once("exit", done));
        child.kill("SIGTERM");
        await ended;
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
