/** An OpenID provider over TLS in the servers' network namespace. One question at a time. */
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testCa } from "../agent/tls/pki.ts";
import type { Namespace } from "./namespace.ts";
import type { Oidc, OidcOptions, OidcQuestion } from "./oidc-server.ts";

export interface RemoteOidc extends Oidc {
  /** PEM file of the authority that signed its certificate. */
  readonly caPath: string;
}

export async function startOidc(namespace: Namespace, groups: OidcOptions["groups"]): Promise<RemoteOidc> {
  const dir = mkdtempSync(join(tmpdir(), "weir-oidc-"));
  // `weir login` reads the authority's certificate as the user who logs in.
  chmodSync(dir, 0o755);
  const ca = testCa("Provider CA");
  const caPath = join(dir, "ca.pem");
  writeFileSync(caPath, ca.pem);
  const host = namespace.address4;
  const options: OidcOptions = { host, port: 9443, tls: ca.issue({ ip: [host] }), groups };
  const server = join(import.meta.dirname, "oidc-server.ts");
  const words = [`--net=/run/netns/${namespace.name}`, "--", process.execPath, server, JSON.stringify(options)];
  const child = spawn("nsenter", words, {
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: caPath },
  });
  const next = <Message>(): Promise<Message> =>
    new Promise((resolve, reject) => {
      child.once("message", (message) => resolve(message as Message));
      child.once("exit", (code) => reject(new Error(`the provider ended with ${code}`)));
    });
  const issuer = await next<string>();
  const ask = async (question: OidcQuestion): Promise<string> => {
    child.send(question);
    const { answer, error } = await next<{ answer?: string; error?: string }>();
    if (answer === undefined) throw new Error(error);
    return answer;
  };
  return {
    issuer,
    caPath,
    token: (login) => ask({ login }),
    agree: (address, login) => ask({ address, login }),
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((done) => child.once("exit", done));
        child.kill("SIGTERM");
        await ended;
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
