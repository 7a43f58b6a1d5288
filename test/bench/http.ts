/**
 * HTTP through Weir against direct and against nginx, in one run, TLS on both legs, policy and record on.
 *
 *   npm run bench -- http            every row
 *   npm run bench -- http keep       only the rows whose name contains the word
 *
 * Ratios of interleaved rounds and CPU-seconds per unit: absolute figures of a shared machine prove nothing.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { startNginx } from "./nginx.ts";
import { median, startWeir, stop, usage } from "./process.ts";

const run = promisify(execFile);
const weir = resolve(import.meta.dirname, "../../scripts/weir");
const rounds = Number(process.env["WEIR_BENCH_ROUNDS"] ?? 3);
const tickets = process.env["WEIR_BENCH_TICKETS"] ?? "on";
const only = process.argv.slice(2);

type Way = "direct" | "nginx" | "weir";

interface Row {
  readonly name: string;
  readonly requests: number;
  /** Words of h2load or ab; requests per second are read from what it prints. */
  readonly tool: (requests: number, url: string) => readonly string[];
}

const rowsOfTable: readonly Row[] = [
  {
    name: "1 KB keep-alive c=32",
    requests: 30_000,
    tool: (n, url) => ["h2load", "--h1", "-c", "32", "-t", "1", "-n", String(n), url],
  },
  {
    name: "1 KB keep-alive c=1",
    requests: 4_000,
    tool: (n, url) => ["h2load", "--h1", "-c", "1", "-t", "1", "-n", String(n), url],
  },
  {
    name: "1 KB HTTP/2 c=8 m=4",
    requests: 12_000,
    tool: (n, url) => ["h2load", "-c", "8", "-m", "4", "-t", "1", "-n", String(n), url],
  },
  { name: "new connections c=8", requests: 5_000, tool: (n, url) => ["ab", "-q", "-c", "8", "-n", String(n), url] },
  { name: "new connections c=1", requests: 300, tool: (n, url) => ["ab", "-q", "-c", "1", "-n", String(n), url] },
];

const idleConnections = 1_000;
const idleName = `${idleConnections} idle connections`;
/** Opens that many connections, asks once on each, says so and keeps them until its input ends. */
const idleClient = `
import { connect } from "node:tls";
const [host, port, count] = [process.argv[1], Number(process.argv[2]), Number(process.argv[3])];
for (let at = 0; at < count; at += 1)
  await new Promise((answered, failed) => {
    const socket = connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
    socket.once("error", failed);
    socket.once("data", answered);
    socket.write("GET /1k HTTP/1.1\\r\\nhost: " + host + "\\r\\n\\r\\n");
  });
console.log("open");
process.stdin.on("end", () => process.exit(0)).resume();
`;

const visits = 150;
const visitName = "first visit to a name";
/** Asks once on each of so many connections, each with a name that was never asked for; prints the median milliseconds. */
const visitClient = `
import { connect } from "node:tls";
const [host, port, count, first] = [process.argv[1], Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const taken = [];
for (let at = 0; at < count; at += 1) {
  const name = first + at + ".example.com";
  const startMs = performance.now();
  await new Promise((answered, failed) => {
    const socket = connect({ host, port, servername: name, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
    socket.once("error", failed);
    socket.once("data", (head) => {
      taken.push(performance.now() - startMs);
      if (!head.toString().startsWith("HTTP/1.1 200 ")) failed(new Error(name + " was answered: " + head));
      socket.destroy();
      answered();
    });
    socket.write("GET /1k HTTP/1.1\\r\\nhost: " + name + ":" + port + "\\r\\n\\r\\n");
  });
}
console.log(taken.sort((a, b) => a - b)[taken.length >> 1]);
`;

const visitPort = 444;
const policy = (port: number, caFile: string): string => `apiVersion: weir/v1
targets:
  bench: { protocol: http, hosts: ["10.231.0.0/16"], ports: [${port}], tls: { verify: first-use } }
  visits: { protocol: http, hosts: ["10.231.0.0/16"], ports: [${visitPort}], tls: { verify: full, ca: ${caFile} } }
rules:
  - { name: no-deletes, match: { method: DELETE }, verdict: deny, reason: "Nothing is deleted." }
`;

async function measure(net: NamespacePair, state: string, way: Way, row: Row): Promise<number> {
  const url = way === "nginx" ? "https://127.0.0.1:8443/1k" : `https://${net.b.address4}:443/1k`;
  const through = way === "weir" ? [weir, "run", "--state", state, "--"] : [];
  const words = [`--net=/run/netns/${net.a.name}`, "--", ...through, ...row.tool(row.requests, url)];
  const { stdout } = await run("nsenter", words, { maxBuffer: 1 << 24 });
  const rate = Number(
    /finished in .*?, ([\d.]+) req\/s/.exec(stdout)?.[1] ?? /Requests per second:\s+([\d.]+)/.exec(stdout)?.[1],
  );
  const good = Number(/(\d+) succeeded/.exec(stdout)?.[1] ?? /Complete requests:\s+(\d+)/.exec(stdout)?.[1]);
  const bad = /Non-2xx responses|Failed requests:\s+[1-9]/.test(stdout);
  if (!(rate > 0) || good !== row.requests || bad) throw new Error(`${row.name} by ${way} is no result:\n${stdout}`);
  return rate;
}

/** MB that the agent grew by while so many clients did nothing. Asked first: memory that another row left free would hide some. */
async function measureIdle(net: NamespacePair, state: string, agentPid: number | undefined): Promise<number> {
  const before = usage(agentPid).rss;
  const client = [process.execPath, "--input-type=module", "-e", idleClient, net.b.address4, "443"];
  const words = [`--net=/run/netns/${net.a.name}`, "--", weir, "run", "--state", state, "--", ...client];
  const child = spawn("nsenter", [...words, String(idleConnections)], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = new Promise<void>((done) => child.once("exit", () => done()));
  await Promise.race([
    new Promise<void>((open) => child.stdout.once("data", () => open())),
    gone.then(() => Promise.reject(new Error(`${idleName}: the client failed`))),
  ]);
  const grown = usage(agentPid).rss - before;
  child.stdin.end();
  await gone;
  return grown;
}

async function startVisited(namespace: string, work: object): Promise<ChildProcess> {
  const program = [process.execPath, join(import.meta.dirname, "visited-origin.ts"), JSON.stringify(work)];
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", ...program], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  await new Promise<void>((done, failed) => {
    child.once("message", () => done());
    child.once("exit", (code) => failed(new Error(`the origin of visits ended with ${code}`)));
  });
  return child;
}

/** Milliseconds that a visit takes longer than direct. */
async function measureVisits(net: NamespacePair, state: string): Promise<number> {
  const visit = async (through: readonly string[], first: string): Promise<number> => {
    const to = [net.b.address4, String(visitPort)];
    const client = [process.execPath, "--input-type=module", "-e", visitClient, ...to];
    const words = [`--net=/run/netns/${net.a.name}`, "--", ...through, ...client, String(visits), first];
    return Number((await run("nsenter", words)).stdout);
  };
  const weirRun = [weir, "run", "--state", state, "--"];
  await visit(weirRun, "warm");
  const added: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const direct = await visit([], `direct${round}-`);
    added.push((await visit(weirRun, `weir${round}-`)) - direct);
  }
  return median(added);
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-"));
  chmodSync(dir, 0o755);
  const net = await makeNamespacePair("benchhttp");
  const children: ChildProcess[] = [];
  try {
    writeFileSync(join(dir, "1k"), "x".repeat(1024));
    chmodSync(join(dir, "1k"), 0o644);
    children.push(
      await startNginx(
        net.b.name,
        join(dir, "origin"),
        // It gives tickets, as servers do where nobody says otherwise.
        `server { listen ${net.b.address4}:443 ssl http2; ssl_session_tickets ${tickets}; root ${dir}; }`,
      ),
    );
    const peer = await startNginx(
      net.a.name,
      join(dir, "peer"),
      `upstream origin { server ${net.b.address4}:443; keepalive 64; }
  server { listen 127.0.0.1:8443 ssl http2; location / { proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_ssl_session_reuse on; } }`,
    );
    children.push(peer);
    const caFile = join(dir, "ca.pem");
    children.push(await startVisited(net.b.name, { address: net.b.address4, port: visitPort, caFile }));
    const policyFile = join(dir, "policy.yaml");
    writeFileSync(policyFile, policy(443, caFile));
    const state = join(dir, "state");
    const agent = await startWeir(net.a.name, weir, ["--state", state, "--policy", policyFile]);
    children.push(agent);
    if (only.length === 0 || only.some((word) => idleName.includes(word)))
      process.stdout.write(`${idleName} | ${(await measureIdle(net, state, agent.pid)).toFixed(0)} MB\n`);
    if (only.length === 0 || only.some((word) => visitName.includes(word)))
      process.stdout.write(`${visitName}, p50 ms added | +${(await measureVisits(net, state)).toFixed(2)}\n`);
    process.stdout.write(
      "row | weir/direct | nginx/direct | weir/nginx | CPU-s per 10k: weir | nginx | RSS rest / peak MB\n",
    );
    for (const row of rowsOfTable) {
      if (only.length > 0 && !only.some((word) => row.name.includes(word))) continue;
      const rest = usage(agent.pid).rss;
      const rates: Record<Way, number[]> = { direct: [], nginx: [], weir: [] };
      const cpu = { weir: 0, nginx: 0 };
      await measure(net, state, "weir", row);
      for (let round = 0; round < rounds; round += 1) {
        for (const way of ["direct", "nginx", "weir"] as const) {
          const of = (): number => (way === "weir" ? usage(agent.pid).cpu : usage(peer.pid, true).cpu);
          const before = of();
          rates[way].push(await measure(net, state, way, row));
          if (way !== "direct") cpu[way] += of() - before;
        }
      }
      const ratio = (over: Way, under: Way): string =>
        median(rates[over].map((rate, at) => rate / (rates[under][at] as number))).toFixed(2);
      const per = (way: "weir" | "nginx"): string => ((cpu[way] / (row.requests * rounds)) * 10_000).toFixed(2);
      process.stdout.write(
        `${row.name} | ${ratio("weir", "direct")} | ${ratio("nginx", "direct")} | ${ratio("weir", "nginx")} | ${per("weir")} | ${per("nginx")} | ${rest.toFixed(0)} / ${usage(agent.pid).peak.toFixed(0)}\n`,
      );
      const added = (way: Way): string =>
        median(rates[way].map((rate, at) => 1000 / rate - 1000 / (rates.direct[at] as number))).toFixed(2);
      if (row.name.endsWith("c=1"))
        process.stdout.write(`${row.name}, ms added | weir +${added("weir")} | nginx +${added("nginx")}\n`);
    }
  } finally {
    for (const child of children.reverse()) await stop(child);
    await net.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
