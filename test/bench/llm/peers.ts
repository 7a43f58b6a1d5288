/**
 * Gateways that others made, as rows beside Weir: `npm run bench -- llm portkey litellm`. Installed on demand into
 * build/peers, started beside the agent, asked in plain HTTP: a TLS leg less than Weir has, no policy, no record.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../../../build/peers");
const startMs = 240_000;
/** LiteLLM does not start without a key of its own. */
const litellmKey = `sk-${randomBytes(32).toString("hex")}`;

export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly headers: Readonly<Record<string, string>>;
  /** So many requests fewer, where all of them would take minutes. */
  readonly slower: number;
  readonly process: ChildProcess;
}

interface Origin {
  readonly address: string;
  readonly port: number;
  readonly caFile: string;
}

interface PeerKind {
  readonly name: string;
  readonly port: number;
  readonly slower: number;
  headers(origin: Origin): Readonly<Record<string, string>>;
  /** Installs it where it is not yet, and says how it is started. `dir` is of this run. */
  prepare(origin: Origin, dir: string): Promise<{ words: readonly string[]; env: Readonly<Record<string, string>> }>;
}

const kinds: readonly PeerKind[] = [
  {
    // What a relay costs in Node that reads nothing: the scale for the others.
    name: "http-proxy-3",
    port: 8788,
    slower: 1,
    headers: () => ({}),
    async prepare({ address, port, caFile }) {
      const dir = join(root, "http-proxy-3");
      await install(dir, "http-proxy-3@2.0.1");
      const program = join(dir, "start.cjs");
      writeFileSync(
        program,
        `const { readFileSync } = require("node:fs");
const { Agent } = require("node:https");
const { createProxyServer } = require("http-proxy-3");
const ca = readFileSync(${JSON.stringify(caFile)});
const agent = new Agent({ keepAlive: true, ca });
createProxyServer({ target: "https://${address}:${port}", agent, secure: true }).listen(8788, "127.0.0.1");
`,
      );
      return { words: [process.execPath, program], env: {} };
    },
  },
  {
    name: "portkey",
    port: 8787,
    slower: 1,
    headers: ({ address, port }) => ({
      "x-portkey-provider": "openai",
      "x-portkey-custom-host": `https://${address}:${port}/v1`,
    }),
    async prepare({ address, caFile }) {
      const dir = join(root, "portkey");
      const program = join(dir, "node_modules/@portkey-ai/gateway/build/start-server.js");
      await install(dir, "@portkey-ai/gateway@1.15.2");
      return {
        words: [process.execPath, program, "--headless", "--port=8787"],
        env: { TRUSTED_CUSTOM_HOSTS: address, NODE_EXTRA_CA_CERTS: caFile },
      };
    },
  },
  {
    name: "litellm",
    port: 4000,
    slower: 20,
    headers: () => ({ authorization: `Bearer ${litellmKey}` }),
    async prepare({ address, port, caFile }, dir) {
      const venv = join(root, "litellm");
      const program = join(venv, "bin/litellm");
      if (!existsSync(program)) {
        mkdirSync(root, { recursive: true });
        await run("python3", ["-m", "venv", venv]);
        await run(join(venv, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", "litellm[proxy]"]);
      }
      const config = join(dir, "litellm.yaml");
      const model = `openai/gpt-4o-mini, api_base: "https://${address}:${port}/v1", api_key: sk-bench`;
      writeFileSync(config, `model_list: [{ model_name: gpt-4o-mini, litellm_params: { model: ${model} } }]\n`);
      return {
        words: [program, "--config", config, "--host", "127.0.0.1", "--port", "4000"],
        env: { SSL_CERT_FILE: caFile, LITELLM_MASTER_KEY: litellmKey, LITELLM_LOCAL_MODEL_COST_MAP: "True" },
      };
    },
  },
];

/** From npm into a folder of its own, where it is not yet. */
async function install(dir: string, dependency: string): Promise<void> {
  if (existsSync(join(dir, "node_modules"))) return;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "package.json"), '{"private":true}\n');
  await run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", dependency], { cwd: dir });
}

export const peerNames: ReadonlySet<string> = new Set(kinds.map(({ name }) => name));

export async function startPeer(wanted: string, namespace: string, origin: Origin, dir: string): Promise<Peer> {
  const kind = kinds.find(({ name }) => name === wanted);
  if (kind === undefined) throw new Error(`no peer ${wanted}`);
  const { words, env } = await kind.prepare(origin, dir);
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", ...words], {
    stdio: "ignore",
    env: { ...process.env, ...env },
  });
  const { name, port, slower } = kind;
  for (const untilMs = Date.now() + startMs; Date.now() < untilMs; await sleep(200)) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    const { stdout } = await run("nsenter", [`--net=/run/netns/${namespace}`, "--", "ss", "-Hltn", `sport = :${port}`]);
    if (stdout !== "") return { name, port, slower, headers: kind.headers(origin), process: child };
  }
  child.kill();
  throw new Error(`${name} does not listen after ${startMs} ms`);
}
