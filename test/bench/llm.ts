/**
 * A model's API through Weir against direct, in one run, TLS on both legs, policy and record on.
 *
 *   npm run bench -- llm            every row
 *   npm run bench -- llm stream     only the rows whose name contains the word
 *   npm run bench -- llm portkey litellm http-proxy-3   the rows without masks through these, too (llm/peers.ts)
 *   npm run bench -- llm aimock     the rows that do not stream, with npm @copilotkit/aimock behind nginx's TLS in place
 *                                   of an origin that answers as quick as Node can (llm/origin.ts)
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
import { type Peer, peerNames, startPeer } from "./llm/peers.ts";
import { startNginx } from "./nginx.ts";
import { median, startWeir, stop, usage } from "./process.ts";

const run = promisify(execFile);
const weir = resolve(import.meta.dirname, "../../scripts/weir");
const rounds = Number(process.env["WEIR_BENCH_ROUNDS"] ?? 3);
const peersWanted = process.argv.slice(2).filter((word) => peerNames.has(word));
const withAimock = process.argv.includes("aimock");
const only = process.argv.slice(2).filter((word) => !peerNames.has(word) && word !== "aimock");
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
const aimockPort = 9000;
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
  readonly calls: number;
}

/** `by`: direct, through Weir with this state directory, or through a peer. */
async function measure(net: NamespacePair, by: "direct" | Peer | { state: string }, row: Row): Promise<Measured> {
  const { kind, connections } = row;
  const isPeer = typeof by === "object" && "process" in by;
  const slower = isPeer && kind === "rate" ? by.slower : 1;
  const requests = Math.max(connections, Math.ceil(row.requests / slower));
  const to = isPeer
    ? { host: "127.0.0.1", port: by.port, plain: true, headers: by.headers }
    : { host: net.b.address4, port: row.masked ? maskedPort : plainPort, plain: false, headers: {} };
  const work = { ...to, path: "/v1/chat/completions", kind, connections, requests };
  const client = [process.execPath, join(import.meta.dirname, "llm/client.ts"), JSON.stringify(work)];
  const through = typeof by === "object" && !isPeer ? [weir, "run", "--state", by.state, "--"] : [];
  const { stdout } = await run("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...through, ...client]);
  return JSON.parse(stdout) as Measured;
}

interface Way {
  readonly name: string;
  readonly by: Peer | { state: string };
  readonly pid: number | undefined;
}

async function startOrigin(namespace: string, address: string, dir: string, caFile: string): Promise<ChildProcess[]> {
  const ca = testCa("bench");
  writeFileSync(caFile, ca.pem);
  const pair = ca.issue({ dns: ["bench"], ip: [address] });
  const ports = [plainPort, maskedPort];
  if (!withAimock) return [await startProgram(namespace, "llm/origin.ts", { ...pair, address, ports })];
  const aimock = await startProgram(namespace, "llm/aimock.ts", { port: aimockPort });
  const listens = ports.map((port) => `listen ${address}:${port} ssl;`).join(" ");
  const server = `upstream aimock { server 127.0.0.1:${aimockPort}; keepalive 64; }
  server { ${listens} location / { proxy_pass http://aimock; proxy_http_version 1.1; proxy_set_header Connection ""; } }`;
  return [aimock, await startNginx(namespace, join(dir, "origin"), server, pair)];
}

/** Resolves when it says over IPC that it is ready. */
async function startProgram(namespace: string, file: string, work: object): Promise<ChildProcess> {
  const words = [`--net=/run/netns/${namespace}`, "--", process.execPath, join(import.meta.dirname, file)];
  const child = spawn("nsenter", [...words, JSON.stringify(work)], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  await new Promise<void>((done, failed) => {
    child.once("message", () => done());
    child.once("exit", (code) => failed(new Error(`the origin ended with ${code}`)));
  });
  return child;
}

async function main(): Promise<void> {
  if (wanted("loop") && !withAimock) await measureLoop();
  const chosen = rows.filter(({ name, kind }) => wanted(name) && (kind === "rate" || !withAimock));
  if (chosen.length === 0) return;
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-"));
  chmodSync(dir, 0o755);
  const net = await makeNamespacePair("benchllm");
  const children: ChildProcess[] = [];
  try {
    const caFile = join(dir, "ca.pem");
    children.push(...(await startOrigin(net.b.name, net.b.address4, dir, caFile)));
    const policyFile = join(dir, "policy.yaml");
    writeFileSync(policyFile, policy);
    const state = join(dir, "state");
    const agent = await startWeir(net.a.name, weir, ["--state", state, "--policy", policyFile]);
    children.push(agent);
    const ways: Way[] = [{ name: "weir", by: { state }, pid: agent.pid }];
    for (const name of peersWanted) {
      const origin = { address: net.b.address4, port: plainPort, caFile };
      const peer = await startPeer(name, net.a.name, origin, dir);
      children.push(peer.process);
      ways.push({ name, by: peer, pid: peer.process.pid });
    }
    process.stdout.write("row | by | rate/direct | added p50 | added first token | added per token | CPU per unit\n");
    for (const row of chosen) await measureRow(net, row, row.masked ? ways.slice(0, 1) : ways);
  } finally {
    for (const child of children.reverse()) await stop(child);
    await net.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measureRow(net: NamespacePair, row: Row, ways: readonly Way[]): Promise<void> {
  const figures = ways.map((way) => ({
    way,
    cpu: 0,
    units: 0,
    pairs: [] as { direct: Measured; through: Measured }[],
  }));
  for (const { by } of ways) await measure(net, by, row);
  for (let round = 0; round < rounds; round += 1) {
    const direct = await measure(net, "direct", row);
    for (const figure of figures) {
      const { by, pid } = figure.way;
      const before = usage(pid, true).cpu;
      const through = await measure(net, by, row);
      figure.cpu += usage(pid, true).cpu - before;
      figure.units += row.kind === "rate" ? through.calls : through.tokens;
      figure.pairs.push({ direct, through });
    }
  }
  for (const { way, cpu, units, pairs } of figures) {
    const of = (figure: (pair: { direct: Measured; through: Measured }) => number): number => median(pairs.map(figure));
    const added = (key: "p50" | "first"): string => `${of((p) => p.through[key] - p.direct[key]).toFixed(2)} ms`;
    const perUnit = `${((cpu / units) * 1e6).toFixed(0)} µs a ${row.kind === "rate" ? "call" : "token"}`;
    const cells =
      row.kind === "rate"
        ? [of((p) => p.through.rate / p.direct.rate).toFixed(3), added("p50"), "", ""]
        : ["", "", added("first"), `${of((p) => p.through.token - p.direct.token).toFixed(0)} µs`];
    process.stdout.write(`${[row.name, way.name, ...cells, perUnit].join(" | ")}\n`);
  }
}

await main();
