/**
 * A model's API through Weir against direct, in one run, TLS on both legs, policy and record on.
 *
 *   npm run bench -- llm            every row
 *   npm run bench -- llm stream     only the rows whose name contains the word
 *   npm run bench -- llm loop       how long bad and large input keeps the event loop
 *
 * Ratios and differences of interleaved rounds: absolute figures of a shared machine prove nothing.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { testCa } from "../agent/tls/pki.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { measureLoop } from "./llm/loop.ts";
import { median, startWeir, stop, usage } from "./process.ts";

const run = promisify(execFile);
const weir = resolve(import.meta.dirname, "../../scripts/weir");
const rounds = Number(process.env["WEIR_BENCH_ROUNDS"] ?? 3);
const only = process.argv.slice(2);
const wanted = (name: string): boolean => only.length === 0 || only.some((word) => name.includes(word));

interface Row {
  readonly name: string;
  readonly kind: "rate" | "stream";
  readonly connections: number;
  readonly requests: number;
  readonly masked: boolean;
}

const rows: readonly Row[] = [
  { name: "non-stream c=32", kind: "rate", connections: 32, requests: 8_000, masked: false },
  { name: "non-stream c=1", kind: "rate", connections: 1, requests: 1_500, masked: false },
  { name: "non-stream masked c=32", kind: "rate", connections: 32, requests: 8_000, masked: true },
  { name: "non-stream masked c=1", kind: "rate", connections: 1, requests: 1_500, masked: true },
  { name: "stream c=1", kind: "stream", connections: 1, requests: 10, masked: false },
  { name: "stream masked c=1", kind: "stream", connections: 1, requests: 10, masked: true },
  { name: "stream c=16", kind: "stream", connections: 16, requests: 64, masked: false },
  { name: "stream masked c=16", kind: "stream", connections: 16, requests: 64, masked: true },
];

const plainPort = 443;
const maskedPort = 8443;
const policy = `apiVersion: weir/v1
targets:
  plain: { protocol: openai, hosts: ["10.231.0.0/16"], ports: [${plainPort}], tls: { verify: first-use } }
  masked: { protocol: openai, hosts: ["10.231.0.0/16"], ports: [${maskedPort}], tls: { verify: first-use } }
rules:
  - { name: keywords, match: { when: 'op.prompt.contains("confidential")' }, verdict: deny, reason: "Not to a model." }
  - name: masks
    match: { target: masked }
    mask: [{ detector: [credit-card, ssn, email, phone, iban, aws-key, openai-key, anthropic-key, github-token, jwt, private-key] }]
    redact: [{ detector: [email, iban], with: placeholder }]
`;

interface Measured {
  readonly rate: number;
  readonly p50: number;
  readonly first: number;
  readonly token: number;
  readonly tokens: number;
}

async function measure(net: NamespacePair, state: string, through: boolean, row: Row): Promise<Measured> {
  const { kind, connections, requests } = row;
  const port = row.masked ? maskedPort : plainPort;
  const path = "/v1/chat/completions";
  const work = { host: net.b.address4, port, path, kind, connections, requests, headers: {} };
  const client = [process.execPath, join(import.meta.dirname, "llm/client.ts"), JSON.stringify(work)];
  const words = [...(through ? [weir, "run", "--state", state, "--"] : []), ...client];
  const { stdout } = await run("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words]);
  return JSON.parse(stdout) as Measured;
}

async function startOrigin(namespace: string, address: string): Promise<ChildProcess> {
  const pair = testCa("bench").issue({ dns: ["bench"], ip: [address] });
  const options = JSON.stringify({ ...pair, address, ports: [plainPort, maskedPort] });
  const origin = join(import.meta.dirname, "llm/origin.ts");
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", process.execPath, origin, options], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  await new Promise<void>((done, failed) => {
    let ready = 0;
    child.on("message", () => {
      ready += 1;
      if (ready === 2) done();
    });
    child.once("exit", (code) => failed(new Error(`the origin ended with ${code}`)));
  });
  return child;
}

async function main(): Promise<void> {
  if (wanted("loop")) await measureLoop();
  const chosen = rows.filter(({ name }) => wanted(name));
  if (chosen.length === 0) return;
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-"));
  chmodSync(dir, 0o755);
  const net = await makeNamespacePair("benchllm");
  const children: ChildProcess[] = [];
  try {
    children.push(await startOrigin(net.b.name, net.b.address4));
    const policyFile = join(dir, "policy.yaml");
    writeFileSync(policyFile, policy);
    const state = join(dir, "state");
    const agent = await startWeir(net.a.name, weir, ["--state", state, "--policy", policyFile]);
    children.push(agent);
    process.stdout.write(
      "row | rate/direct | added p50 | added first token | added per token | agent's CPU per unit\n",
    );
    for (const row of chosen) {
      const pairs: { direct: Measured; through: Measured }[] = [];
      let cpu = 0;
      await measure(net, state, true, row);
      for (let round = 0; round < rounds; round += 1) {
        const direct = await measure(net, state, false, row);
        const before = usage(agent.pid).cpu;
        const through = await measure(net, state, true, row);
        cpu += usage(agent.pid).cpu - before;
        pairs.push({ direct, through });
      }
      const of = (figure: (pair: { direct: Measured; through: Measured }) => number): number =>
        median(pairs.map(figure));
      const added = (key: "p50" | "first"): string => `${of((p) => p.through[key] - p.direct[key]).toFixed(2)} ms`;
      const units = pairs.reduce((sum, { through }) => sum + (row.kind === "rate" ? row.requests : through.tokens), 0);
      const perUnit = `${((cpu / units) * 1e6).toFixed(0)} µs a ${row.kind === "rate" ? "call" : "token"}`;
      const cells =
        row.kind === "rate"
          ? [of((p) => p.through.rate / p.direct.rate).toFixed(2), added("p50"), "", ""]
          : ["", "", added("first"), `${of((p) => p.through.token - p.direct.token).toFixed(0)} µs`];
      process.stdout.write(`${[row.name, ...cells, perUnit].join(" | ")}\n`);
    }
  } finally {
    for (const child of children.reverse()) await stop(child);
    await net.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
