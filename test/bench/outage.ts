/**
 * Kafka is down under load: what verdicts take before, meanwhile and after, what the spool and the memory become, and
 * whether all of it is delivered in the end, in order. A whole agent in a namespace, psql's protocol, a real broker:
 *   npm run bench -- outage [--rate 100] [--json]
 * WEIR_OUTAGE_SECONDS=600 for ten minutes (default 20); before and after are a quarter of it, at least 10 s. One statement
 * is two records. A second client goes straight to the server: what it sees is the machine's own drift.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { unframe } from "../../agent/kafka/framing.ts";
import { topics } from "../../agent/kafka/topics.ts";
import { peekEntry } from "../../agent/publish/peek.ts";
import { readHeads } from "../../agent/record/heads.ts";
import { readFrames, segmentsOf } from "../../agent/record/segment.ts";
import { collect, startTestAgent, weirCommand } from "../support/agent.ts";
import { startKafka } from "../support/kafka.ts";
import { readTopic } from "../support/kafka-read.ts";
import { makeNamespacePair } from "../support/namespace.ts";
import { clientEnvironment, startPostgres } from "../support/postgres.ts";
import { usage } from "./process.ts";

const { values } = parseArgs({
  options: {
    rate: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
    /** In the namespace: what the topic holds, as JSON. */
    count: { type: "string" },
  },
});
const outageSeconds = Number(process.env["WEIR_OUTAGE_SECONDS"] ?? 20);
const besideSeconds = Math.max(10, outageSeconds / 4);
const deliverWithinMs = 120_000;

const policy = `apiVersion: weir/v1
targets: { bench: { protocol: postgres, hosts: ["*"], ports: [5432], tls: { verify: first-use } } }
rules: [{ name: all, match: { target: bench }, record: statement }]
`;

interface Delivered {
  readonly messages: number;
  readonly entries: number;
  /** Entries that were first seen behind a later one of their session. */
  readonly outOfOrder: number;
}

if (values.count !== undefined) process.stdout.write(JSON.stringify(await deliveredTo(values.count)));
else await main();

async function deliveredTo(brokers: string): Promise<Delivered> {
  const messages = await readTopic({ brokers: brokers.split(",") }, topics.sessions);
  const seen = new Set<number>();
  const last = new Map<string, number>();
  let outOfOrder = 0;
  for (const { value } of messages) {
    const framed = unframe(value);
    if (framed === null) throw new Error("a message is not framed");
    const { agentSeq, session, seq } = peekEntry(framed.payload);
    if (seen.has(agentSeq)) continue;
    seen.add(agentSeq);
    if (seq !== (last.get(session) ?? -1) + 1) outOfOrder += 1;
    last.set(session, seq);
  }
  return { messages: messages.length, entries: seen.size, outOfOrder };
}

interface Sample {
  readonly atMs: number;
  readonly ms: number;
}

function samplesOf(child: ChildProcess): Sample[] {
  const samples: Sample[] = [];
  let rest = "";
  child.stdout?.on("data", (bytes: Buffer) => {
    const lines = (rest + String(bytes)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [atMs, ms] = line.split(" ").map(Number) as [number, number];
      samples.push({ atMs, ms });
    }
  });
  return samples;
}

function share(samples: readonly Sample[], fromMs: number, toMs: number, part: number): number {
  const times = samples.filter(({ atMs }) => atMs >= fromMs && atMs < toMs).map(({ ms }) => ms);
  return times.sort((a, b) => a - b)[Math.floor(times.length * part)] ?? Number.NaN;
}

function spoolOf(stateDir: string): { entries: number; bytes: number } {
  let [entries, bytes] = [0, 0];
  for (const path of segmentsOf(join(stateDir, "spool")))
    for (const { payload } of readFrames(path)) {
      entries += 1;
      bytes += payload.length;
    }
  return { entries, bytes };
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "weir-outage-"));
  const net = await makeNamespacePair("outage");
  const server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
  const kafka = await startKafka({ namespace: net.a.name });
  const inside = (...words: string[]): [string, string[]] => [
    "nsenter",
    [`--net=/run/netns/${net.a.name}`, "--", ...words],
  ];
  const brokers = kafka.brokers.join(",");
  const made = [weirCommand, "topics", "create", "--kafka", brokers, "--replicas", "1", "--partitions", "3"];
  await collect(spawn(...inside(...made)));
  const config = join(dir, "agent.yaml");
  writeFileSync(config, `kafka: ${brokers}\n`);
  const agent = await startTestAgent({ namespace: net.a, policy, args: ["--config", config] });
  const client = [process.execPath, resolve(import.meta.dirname, "outage-client.ts"), values.rate, join(dir, "stop")];
  const env = clientEnvironment(server);
  const through = agent.start(client, { env }).child;
  through.stderr?.pipe(process.stderr);
  const direct = spawn(...inside(...client), { env, stdio: ["pipe", "pipe", "inherit"] });
  try {
    const [verdicts, straight] = [samplesOf(through), samplesOf(direct)];
    while (verdicts.length < 50) {
      if (through.exitCode !== null || direct.exitCode !== null) throw new Error(`a client ended:\n${agent.output()}`);
      await delay(50);
    }
    const times = [Date.now()];
    const rss: number[] = [usage(agent.pid).rss];
    await delay(besideSeconds * 1_000);
    rss.push(usage(agent.pid).rss);
    times.push(Date.now());
    await kafka.kill(0);
    for (const end = Date.now() + outageSeconds * 1_000; Date.now() < end; ) {
      await delay(Math.min(1_000, outageSeconds * 100));
      rss.push(usage(agent.pid).rss);
    }
    times.push(Date.now());
    const waited = spoolOf(agent.stateDir);
    await kafka.restart(0);
    times.push(Date.now());
    await delay(besideSeconds * 1_000);
    times.push(Date.now());
    const gone = new Promise((resolved) => through.once("exit", resolved));
    writeFileSync(join(dir, "stop"), "");
    await gone;
    const peak = usage(agent.pid).peak;
    // Its end publishes what is left; what it still holds is signed for.
    await agent.stop();
    const spool = spoolOf(agent.stateDir);
    const signed = readHeads(agent.stateDir).at(-1)?.size ?? 0;
    let there: Delivered = { messages: 0, entries: 0, outOfOrder: 0 };
    const count = [process.execPath, import.meta.filename, "--count", brokers];
    for (const end = Date.now() + deliverWithinMs; Date.now() < end; ) {
      const { code, stdout, stderr } = await collect(spawn(...inside(...count)));
      if (code !== 0) throw new Error(stderr);
      there = JSON.parse(stdout) as Delivered;
      if (there.entries >= spool.entries) break;
      // The agent gave up at its end: the next start goes on from its cursor.
      await agent.restart();
      await delay(2_000);
      await agent.stop();
    }
    const [start = 0, down = 0, back = 0, up = 0, end = 0] = times;
    const figures: Record<string, number> = { seconds: outageSeconds, statements: verdicts.length };
    for (const [name, part] of [
      ["p50", 0.5],
      ["p95", 0.95],
    ] as const)
      for (const [whose, samples] of [
        ["weir", verdicts],
        ["direct", straight],
      ] as const) {
        const [before, without, after] = [
          share(samples, start, down, part),
          share(samples, down, back, part),
          share(samples, up, end, part),
        ];
        Object.assign(figures, {
          [`${whose} ${name} ms before`]: before,
          [`${whose} ${name} ms without Kafka`]: without,
          [`${whose} ${name} ms after`]: after,
          [`${whose} ${name} without/with`]: without / ((before + after) / 2),
        });
      }
    Object.assign(figures, {
      "spool MB at the end of the outage": waited.bytes / 1_048_576,
      "bytes a record": waited.bytes / waited.entries,
      "RSS MB before": rss[1] ?? Number.NaN,
      "RSS MB highest without Kafka": Math.max(...rss.slice(2)),
      "RSS MB peak": peak,
      "entries recorded": spool.entries,
      "entries signed for": signed,
      "entries in Kafka": there.entries,
      "messages that came twice": there.messages - there.entries,
      "out of order": there.outOfOrder,
    });
    if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
    else
      for (const [name, value] of Object.entries(figures))
        process.stdout.write(`${name.padEnd(36)} ${Number.isInteger(value) ? value : value.toFixed(2)}\n`);
    if (there.entries < spool.entries || there.outOfOrder > 0) process.exitCode = 1;
  } finally {
    for (const child of [through, direct]) if (child.exitCode === null) child.kill("SIGKILL");
    await agent.remove();
    await kafka.stop();
    await server.stop();
    await net.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}
