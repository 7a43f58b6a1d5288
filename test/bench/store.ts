/**
 * The controller's store: sessions of four entries written in batches as the consumer writes them, over thirty days; then
 * searches, in a process that did not write them:
 *   npm run bench -- store [--sessions 100000] [--dir DIR | --store postgres://…] [--rounds 20] [--controller] [--json]
 * `search` is every question of a fixed mix, `--rounds` times, one after another, as a person asks them: wall time, and the
 * CPU time of the whole process. With `--controller` a whole `weir controller` with Kafka and its page opens the store, too,
 * and its memory after the same questions by HTTP is told. A DIR that has sessions already is asked and not written.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { createTopics } from "../../agent/kafka/admin.ts";
import type { CheckedEntry } from "../../controller/consume/sink.ts";
import { parseSearch } from "../../controller/store/search.ts";
import { storeFile } from "../../controller/store/sqlite-schema.ts";
import { openStore, type SessionQuery } from "../../controller/store/store.ts";
import { flow, operation, result, sessionEnd } from "../agent/record/sample.ts";
import { batch, Writer } from "../controller/store/checked.ts";
import { weirCommand } from "../support/agent.ts";
import { startKafka } from "../support/kafka.ts";
import { stop, usage } from "./process.ts";

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "100000" },
    store: { type: "string" },
    /** Stays; `store` in it is what `weir controller --state` has. */
    dir: { type: "string" },
    rounds: { type: "string", default: "20" },
    controller: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    /** The questions alone, in the process that this is. */
    ask: { type: "string" },
  },
});
const sessions = Number(values.sessions);
const perBatch = 2_000;
const targets = ["orders-db", "crm", "billing", "warehouse"];
const verbs = ["SELECT", "UPDATE", "DELETE FROM", "INSERT INTO"];
const tables = "customer account balance orders invoice shipment product price stock session audit".split(" ");
const dayMs = 24 * 60 * 60 * 1_000;
const agents = 4;

type Figures = Record<string, number | Record<string, number>>;

let seed = 1;
function pick<T>(list: readonly T[]): T {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
  return list[(seed >>> 8) % list.length] as T;
}

function sessionAt(at: number, writer: Writer): CheckedEntry[] {
  const id = `019a0000-0000-7000-8000-${String(at).padStart(12, "0")}`;
  const identity = { subject: `user${at % 5_000}@example.com`, issuer: "https://login.example", groups: [] };
  const text = `${pick(verbs)} ${pick(tables)} ${pick(tables)} WHERE id = ${at} AND ${pick(tables)} = 'x${at % 977}'`;
  const denied = at % 50 === 0 ? ({ action: "deny", rule: "no-delete" } as const) : {};
  writer.wait((30 * dayMs * agents) / sessions);
  return [
    writer.append(id, {
      type: "session-start",
      flow: { ...flow(id), identity },
      target: pick(targets),
      protocol: "postgres",
    }),
    writer.append(id, operation(1, text, denied)),
    writer.append(id, result(1, at % 100)),
    writer.append(id, sessionEnd),
  ];
}

/** What a person asks; `days` gives the times between two days after the first session. */
type Question = (days: (from: number, to: number) => Pick<SessionQuery, "fromMs" | "toMs">) => SessionQuery;
const questions: readonly Question[] = [
  () => ({}),
  (days) => days(10, 11),
  () => parseSearch("select"),
  () => parseSearch("where"),
  () => parseSearch("customer"),
  () => parseSearch("identity:user77@example.com"),
  () => parseSearch("identity:user12@example.com select"),
  () => parseSearch("target:crm verdict:deny"),
  () => parseSearch("target:billing delete invoice x12"),
  () => parseSearch("verdict:deny customer balance"),
  () => parseSearch("host:host-3 x5*"),
  () => parseSearch("12*"),
  () => parseSearch("nothing-has-this-word"),
  () => parseSearch("target:crm billing"),
  () => parseSearch("333"),
  (days) => ({ ...parseSearch("verdict:deny"), ...days(29, 29.04) }),
  (days) => ({ ...parseSearch("select"), ...days(2, 2.5) }),
  (days) => ({ ...parseSearch("identity:user12@example.com"), ...days(0, 15) }),
  () => parseSearch("job:12 target:warehouse shipment"),
];

const dir = values.dir ?? mkdtempSync(join(tmpdir(), "weir-bench-store-"));
const where = values.ask ?? values.store ?? join(dir, "store");
if (values.ask !== undefined) process.stdout.write(JSON.stringify(await asked()));
else await main();

async function main(): Promise<void> {
  let figures: Figures = {};
  try {
    if (values.store !== undefined || !existsSync(join(where, storeFile))) figures = await filled();
    const words = [import.meta.filename, "--ask", where, "--rounds", values.rounds];
    const { stdout } = await promisify(execFile)(process.execPath, words);
    Object.assign(figures, JSON.parse(stdout) as Figures);
    if (values.controller) Object.assign(figures, await controlled());
  } finally {
    if (values.dir === undefined) rmSync(dir, { recursive: true, force: true });
  }
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  else
    for (const [name, value] of Object.entries(figures))
      if (typeof value === "number") process.stdout.write(`${name.padEnd(28)} ${value.toFixed(1)}\n`);
      else
        for (const [what, ms] of Object.entries(value))
          process.stdout.write(`${ms.toFixed(1).padStart(8)} ms ${name}  ${what}\n`);
}

async function filled(): Promise<Figures> {
  if (values.store === undefined) mkdirSync(where, { recursive: true, mode: 0o700 });
  const store = await openStore(where);
  try {
    const writers = Array.from({ length: agents }, (_, at) => new Writer(`host-${at}`));
    let pending: CheckedEntry[] = [];
    let [writtenMs, cpu] = [0, 0];
    for (let at = 0; at < sessions; at += 1) {
      pending.push(...sessionAt(at, writers[at % agents] as Writer));
      if (pending.length < perBatch && at < sessions - 1) continue;
      const [start, before] = [performance.now(), process.cpuUsage()];
      await store.store(batch(pending));
      writtenMs += performance.now() - start;
      const { user, system } = process.cpuUsage(before);
      cpu += (user + system) / 1e6;
      pending = [];
    }
    const started = performance.now();
    await store.advance();
    const bytes = values.store === undefined ? statSync(join(where, storeFile)).size : 0;
    return {
      storedPerSecond: (4 * sessions) / (writtenMs / 1_000),
      storeCpuMicrosAnEntry: (cpu * 1e6) / (4 * sessions),
      followedSeconds: (performance.now() - started) / 1_000,
      fileMb: bytes / 1_048_576,
    };
  } finally {
    await store.close();
  }
}

async function asked(): Promise<Figures> {
  const store = await openStore(where);
  try {
    const [newest] = (await store.sessions({ limit: 1 })).sessions;
    const end = newest?.startedAtMs ?? 0;
    const days = (from: number, to: number) => ({ fromMs: end - (30 - from) * dayMs, toMs: end - (30 - to) * dayMs });
    const [times, cpus]: [number[], number[]] = [[], []];
    const slowest = new Map<string, number>();
    for (let round = 0; round < Number(values.rounds); round += 1)
      for (const question of questions) {
        const query = { ...question(days), limit: 50 };
        const [start, before] = [performance.now(), process.cpuUsage()];
        await store.sessions(query);
        const took = performance.now() - start;
        const { user, system } = process.cpuUsage(before);
        times.push(took);
        cpus.push((user + system) / 1_000);
        const name = JSON.stringify(query);
        slowest.set(name, Math.max(slowest.get(name) ?? 0, took));
      }
    const at = (list: number[], share: number): number =>
      list.sort((a, b) => a - b)[Math.floor(list.length * share)] as number;
    return {
      searchP50Ms: at(times, 0.5),
      searchP95Ms: at(times, 0.95),
      searchCpuP50Ms: at(cpus, 0.5),
      searchCpuP95Ms: at(cpus, 0.95),
      searchRssMb: process.memoryUsage.rss() / 1_048_576,
      "at most": Object.fromEntries(slowest),
    };
  } finally {
    await store.close();
  }
}

async function controlled(): Promise<Figures> {
  const kafka = await startKafka();
  let controller: ChildProcess | null = null;
  try {
    await createTopics(kafka.settings, { partitions: 6, replicas: 1 });
    const words = ["controller", "--kafka", kafka.brokers.join(","), "--state", dir, "--listen-ui", "127.0.0.1:0"];
    const child = spawn(weirCommand, words, { stdio: ["ignore", "pipe", "inherit"] });
    controller = child;
    const page = await new Promise<URL>((resolve, reject) => {
      let said = "";
      child.stdout.on("data", (bytes) => {
        said += String(bytes);
        const found = /page: (\S+)\n/.exec(said)?.[1];
        if (found !== undefined) resolve(new URL(found));
      });
      child.once("exit", (code) => reject(new Error(`weir controller ended with ${code}`)));
    });
    const headers = { authorization: `Bearer ${page.hash.slice(1)}` };
    for (const line of ["", "select", "where", "12*", "identity:user77@example.com", "target:crm verdict:deny"]) {
      const answer = await fetch(`${page.origin}/api/sessions?q=${encodeURIComponent(line)}`, { headers });
      if (answer.status !== 200 || ((await answer.json()) as unknown[]).length === 0) throw new Error(`no ${line}`);
    }
    const { rss, peak } = usage(child.pid);
    return { controllerRssMb: rss, controllerPeakMb: peak };
  } finally {
    await stop(controller);
    await kafka.stop();
  }
}
