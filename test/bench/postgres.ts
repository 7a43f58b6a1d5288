/**
 * Weir against direct and against pgbouncer, in one run, TLS on both legs, decoding, policy and record on.
 *
 *   npm run bench              every row
 *   npm run bench -- prepared  only the rows whose name contains the word
 *
 * Prints ratios and CPU-seconds per unit; absolute figures of a shared machine prove nothing. Rounds are interleaved
 * and the median of the rounds' ratios is shown, so that a slow minute hits all three alike.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { median, startWeir, stop, usage } from "./process.ts";

const run = promisify(execFile);
const weir = resolve(import.meta.dirname, "../../scripts/weir");
const rounds = Number(process.env["WEIR_BENCH_ROUNDS"] ?? 3);
const seconds = Number(process.env["WEIR_BENCH_SECONDS"] ?? 4);
const only = process.argv.slice(2);
const bulkRows = 950_000;

type Way = "direct" | "pgbouncer" | "weir";

interface Measured {
  /** Units per second: transactions or megabytes. */
  readonly rate: number;
  readonly units: number;
}

interface Row {
  readonly name: string;
  readonly policy: string;
  readonly unit: "100k queries" | "GB";
  measure(bench: Bench, way: Way): Promise<Measured>;
  /** Lower is better: the rate is a latency in milliseconds. */
  readonly latency?: boolean;
}

const plainPolicy = policy("");
const columnPolicy = policy("    mask: [{ column: bulk.body, with: redact }]\n");
const detectorPolicy = policy("    mask: [{ detector: all, with: redact }]\n");

function policy(extra: string, durability = "process"): string {
  return `apiVersion: weir/v1
record: { durability: ${durability} }
targets:
  bench: { protocol: postgres, hosts: ["*"], ports: [5432], tls: { verify: first-use } }
rules:
  - name: no-destructive-sql
    match: { verb: [drop, truncate], user: { not: [postgres] } }
    verdict: deny
    reason: Destructive statements are denied.
  - name: all
    match: { target: bench }
${extra === "" ? "    record: statement\n" : extra}`;
}

const rowsOfTable: readonly Row[] = [
  {
    name: "prepared c=16",
    policy: plainPolicy,
    unit: "100k queries",
    measure: (b, w) => b.pgbench(w, ["-M", "prepared", "-c", "16", "-j", "2"]),
  },
  {
    name: "prepared c=16 durability host",
    policy: policy("", "host"),
    unit: "100k queries",
    measure: (b, w) => b.pgbench(w, ["-M", "prepared", "-c", "16", "-j", "2"]),
  },
  {
    name: "simple c=16",
    policy: plainPolicy,
    unit: "100k queries",
    measure: (b, w) => b.pgbench(w, ["-M", "simple", "-c", "16", "-j", "2"]),
  },
  {
    name: "simple c=16 durability host",
    policy: policy("", "host"),
    unit: "100k queries",
    measure: (b, w) => b.pgbench(w, ["-M", "simple", "-c", "16", "-j", "2"]),
  },
  {
    name: "latency c=1 (added ms)",
    policy: plainPolicy,
    unit: "100k queries",
    latency: true,
    measure: (b, w) => b.pgbench(w, ["-M", "simple", "-c", "1", "-j", "1"]),
  },
  { name: "bulk SELECT 95 MB", policy: plainPolicy, unit: "GB", measure: (b, w) => b.bulk(w) },
  { name: "bulk SELECT, one masked column", policy: columnPolicy, unit: "GB", measure: (b, w) => b.bulk(w) },
  { name: "bulk SELECT, all detectors", policy: detectorPolicy, unit: "GB", measure: (b, w) => b.bulk(w) },
];

class Bench {
  readonly #net: NamespacePair;
  readonly #postgres: Postgres;
  readonly #bouncerPort = 6432;
  readonly dir: string;
  agent: ChildProcess | null = null;
  bouncer: ChildProcess | null = null;

  constructor(net: NamespacePair, postgres: Postgres, dir: string) {
    this.#net = net;
    this.#postgres = postgres;
    this.dir = dir;
  }

  #command(way: Way, words: readonly string[]): { file: string; args: string[]; env: NodeJS.ProcessEnv } {
    const p = this.#postgres;
    const host = way === "pgbouncer" ? "127.0.0.1" : p.host;
    const port = way === "pgbouncer" ? this.#bouncerPort : p.port;
    const prefix = [`--net=/run/netns/${this.#net.a.name}`, "--"];
    if (way === "weir") prefix.push(weir, "run", "--state", join(this.dir, "state"), "--");
    const env = {
      ...process.env,
      PGHOST: host,
      PGPORT: String(port),
      PGUSER: p.user,
      PGPASSWORD: p.password,
      PGDATABASE: p.database,
      PGSSLMODE: "require",
    };
    return { file: "nsenter", args: [...prefix, ...words], env };
  }

  async pgbench(way: Way, words: readonly string[]): Promise<Measured> {
    const { file, args, env } = this.#command(way, ["pgbench", "-n", "-S", "-T", String(seconds), ...words]);
    const { stdout } = await run(file, args, { env, maxBuffer: 1 << 24 });
    const tps = Number(/tps = ([\d.]+)/.exec(stdout)?.[1]);
    const units = Number(/number of transactions actually processed: (\d+)/.exec(stdout)?.[1]);
    if (!(tps > 0 && units > 0)) throw new Error(`pgbench by ${way} printed no figures:\n${stdout}`);
    return { rate: tps, units: units / 100_000 };
  }

  /** The rows are counted on the client's side: an error or a missing row is no result. */
  async bulk(way: Way): Promise<Measured> {
    const { file, args, env } = this.#command(way, ["sh", "-c", `psql -XqAt -c 'SELECT * FROM bulk' | wc -l`]);
    const started = process.hrtime.bigint();
    const { stdout } = await run(file, args, { env, maxBuffer: 1 << 24 });
    const elapsed = Number(process.hrtime.bigint() - started) / 1e9;
    if (Number(stdout.trim()) !== bulkRows) throw new Error(`bulk by ${way} brought ${stdout.trim()} rows`);
    return { rate: 95 / elapsed, units: 95 / 1000 };
  }

  async startAgent(policyText: string): Promise<void> {
    const file = join(this.dir, "policy.yaml");
    writeFileSync(file, policyText);
    const state = join(this.dir, "state");
    this.agent = await startWeir(this.#net.a.name, weir, ["--state", state, "--policy", file]);
  }

  async startBouncer(): Promise<void> {
    const p = this.#postgres;
    const dir = join(this.dir, "bouncer");
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    writeFileSync(join(dir, "users.txt"), `"${p.user}" "${p.password}"\n`);
    await run("openssl", [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      "/CN=localhost",
      "-days",
      "2",
      "-keyout",
      join(dir, "key.pem"),
      "-out",
      join(dir, "cert.pem"),
    ]);
    writeFileSync(
      join(dir, "pgbouncer.ini"),
      `[databases]
* = host=${p.host} port=${p.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${this.#bouncerPort}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(dir, "users.txt")}
pool_mode = session
default_pool_size = 64
client_tls_sslmode = require
client_tls_key_file = ${join(dir, "key.pem")}
client_tls_cert_file = ${join(dir, "cert.pem")}
server_tls_sslmode = require
ignore_startup_parameters = extra_float_digits
logfile = ${join(dir, "log")}
user = postgres
`,
    );
    await run("chown", ["-R", "postgres", dir]);
    await run("chmod", ["755", this.dir]);
    this.bouncer = spawn(
      "nsenter",
      [`--net=/run/netns/${this.#net.a.name}`, "--", "pgbouncer", "-q", join(dir, "pgbouncer.ini")],
      {
        stdio: "ignore",
      },
    );
    await new Promise((done) => setTimeout(done, 700));
  }

  async stopAgent(): Promise<void> {
    await stop(this.agent);
    this.agent = null;
    rmSync(join(this.dir, "state"), { recursive: true, force: true });
  }
}

async function measureRow(bench: Bench, row: Row): Promise<string[]> {
  await bench.startAgent(row.policy);
  const rest = usage(bench.agent?.pid).rss;
  const rates: Record<Way, number[]> = { direct: [], pgbouncer: [], weir: [] };
  const cpu = { weir: 0, pgbouncer: 0 };
  const units = { weir: 0, pgbouncer: 0 };
  await row.measure(bench, "weir");
  for (let round = 0; round < rounds; round += 1) {
    for (const way of ["direct", "pgbouncer", "weir"] as const) {
      const pid = way === "weir" ? bench.agent?.pid : bench.bouncer?.pid;
      const before = usage(pid).cpu;
      const measured = await row.measure(bench, way);
      rates[way].push(measured.rate);
      if (way !== "direct") {
        cpu[way] += usage(pid).cpu - before;
        units[way] += measured.units;
      }
    }
  }
  const peak = usage(bench.agent?.pid).peak;
  await bench.stopAgent();
  const ratio = (over: Way, under: Way): number =>
    median(rates[over].map((rate, at) => rate / (rates[under][at] as number)));
  const added = (way: Way): number =>
    median(rates[way].map((rate, at) => 1000 / rate - 1000 / (rates.direct[at] as number)));
  const figures = row.latency
    ? [
        `+${added("weir").toFixed(3)}`,
        `+${added("pgbouncer").toFixed(3)}`,
        (added("weir") / added("pgbouncer")).toFixed(2),
      ]
    : [
        ratio("weir", "direct").toFixed(2),
        ratio("pgbouncer", "direct").toFixed(2),
        ratio("weir", "pgbouncer").toFixed(2),
      ];
  return [
    row.name,
    ...figures,
    (cpu.weir / units.weir).toFixed(1),
    (cpu.pgbouncer / units.pgbouncer).toFixed(1),
    row.unit,
    `${rest.toFixed(0)} / ${peak.toFixed(0)}`,
    row.unit === "GB" ? `${median(rates.weir).toFixed(0)} MB/s` : `${median(rates.weir).toFixed(0)} tps`,
  ];
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-"));
  const net = await makeNamespacePair("bench");
  const postgres = await startPostgres({
    namespace: net.b.name,
    host: net.b.address4,
    port: 5432,
    settings: { log_statement: "none", shared_buffers: "256MB", max_connections: "100" },
  });
  const bench = new Bench(net, postgres, dir);
  try {
    const p = postgres;
    const env = {
      ...process.env,
      PGHOST: p.host,
      PGPORT: String(p.port),
      PGUSER: p.user,
      PGPASSWORD: p.password,
      PGDATABASE: p.database,
      PGSSLMODE: "require",
    };
    await run("nsenter", [`--net=/run/netns/${net.a.name}`, "--", "pgbench", "-i", "-q", "-s", "10"], { env });
    const filler = "rpad('row ' || i || ' ', 86, 'lorem ipsum dolor ')";
    await run(
      "nsenter",
      [
        `--net=/run/netns/${net.a.name}`,
        "--",
        "psql",
        "-Xqc",
        `CREATE TABLE bulk AS SELECT i AS id, ${filler} AS body FROM generate_series(1, ${bulkRows}) i`,
      ],
      { env },
    );
    await bench.startBouncer();
    const head = [
      "row",
      "weir/direct",
      "pgbouncer/direct",
      "weir/pgbouncer",
      "CPU-s weir",
      "CPU-s pgb",
      "per",
      "RSS rest/peak MB",
      "weir",
    ];
    const lines = [head];
    for (const row of rowsOfTable.filter((r) => only.length === 0 || only.some((word) => r.name.includes(word)))) {
      const line = await measureRow(bench, row);
      process.stderr.write(`${line.join("  ")}\n`);
      lines.push(line);
    }
    for (const line of lines) process.stdout.write(`| ${line.join(" | ")} |\n`);
  } finally {
    await bench.stopAgent();
    await stop(bench.bouncer);
    await postgres.stop();
    await net.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
