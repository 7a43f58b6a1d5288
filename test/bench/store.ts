/**
 * The controller's store alone: sessions of four entries written in batches as the consumer writes them, then searches.
 *   node --liftoff-only test/bench/store.ts [--sessions 100000] [--store postgres://…|--dir DIR] [--json]
 * `search` is every question of a fixed mix, `--rounds` times, one after another, as a person asks them.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { CheckedEntry } from "../../controller/consume/sink.ts";
import { parseSearch } from "../../controller/store/search.ts";
import { storeFile } from "../../controller/store/sqlite-schema.ts";
import { openStore, type SessionQuery } from "../../controller/store/store.ts";
import { flow, operation, result, sessionEnd } from "../agent/record/sample.ts";
import { batch, Writer } from "../controller/store/checked.ts";

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "100000" },
    store: { type: "string" },
    /** Directory for SQLite that stays. */
    dir: { type: "string" },
    rounds: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});
const sessions = Number(values.sessions);
const perBatch = 2_000;
const targets = ["orders-db", "crm", "billing", "warehouse"];
const verbs = ["SELECT", "UPDATE", "DELETE FROM", "INSERT INTO"];
const tables = "customer account balance orders invoice shipment product price stock session audit".split(" ");

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

const dayMs = 24 * 60 * 60 * 1_000;
const questions: readonly ((last: number) => SessionQuery)[] = [
  () => ({}),
  () => parseSearch("select"),
  () => parseSearch("customer"),
  () => parseSearch("identity:user77@example.com"),
  () => parseSearch("target:crm verdict:deny"),
  () => parseSearch("target:billing delete invoice x12"),
  () => parseSearch("verdict:deny customer balance"),
  () => parseSearch("identity:user12@example.com select"),
  () => parseSearch("host:host-3 x5*"),
  () => parseSearch("nothing-has-this-word"),
  () => parseSearch(`${Math.floor(sessions / 3)}`),
  (last) => ({ ...parseSearch("verdict:deny"), fromMs: last - dayMs / 24, toMs: last }),
  () => parseSearch("job:12 user:ada target:warehouse shipment"),
];

const dir = values.store ?? values.dir ?? mkdtempSync(join(tmpdir(), "weir-bench-store-"));
const store = await openStore(dir);
const figures: Record<string, number> = { sessions };
try {
  const writers = Array.from({ length: 4 }, (_, at) => new Writer(`host-${at}`));
  let pending: CheckedEntry[] = [];
  let writtenMs = 0;
  const cpu = process.cpuUsage();
  for (let at = 0; at < sessions; at += 1) {
    pending.push(...sessionAt(at, writers[at % 4] as Writer));
    if (pending.length < perBatch && at < sessions - 1) continue;
    const start = performance.now();
    await store.store(batch(pending));
    writtenMs += performance.now() - start;
    pending = [];
  }
  const started = performance.now();
  await store.advance();
  const followedMs = performance.now() - started;
  const { user, system } = process.cpuUsage(cpu);
  figures["storedPerSecond"] = Math.round((4 * sessions) / (writtenMs / 1_000));
  figures["followedSeconds"] = followedMs / 1_000;
  figures["cpuSecondsWithMaking"] = (user + system) / 1e6;
  const last = Math.max(...writers.map(({ timeMs }) => timeMs));
  const times: number[] = [];
  const slowest = new Map<string, number>();
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const question of questions) {
      const query = { ...question(last), limit: 50 };
      const start = performance.now();
      await store.sessions(query);
      const took = performance.now() - start;
      times.push(took);
      const name = JSON.stringify(query);
      slowest.set(name, Math.max(slowest.get(name) ?? 0, took));
    }
  }
  times.sort((a, b) => a - b);
  figures["searchP50Ms"] = times[Math.floor(times.length / 2)] as number;
  figures["searchP95Ms"] = times[Math.floor(times.length * 0.95)] as number;
  figures["rssMb"] = process.memoryUsage.rss() / 1_048_576;
  if (values.store === undefined) figures["fileMb"] = statSync(join(dir, storeFile)).size / 1_048_576;
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  else {
    for (const [name, value] of Object.entries(figures))
      process.stdout.write(`${name.padEnd(22)} ${value.toFixed(1)}\n`);
    for (const [name, ms] of slowest) process.stdout.write(`${ms.toFixed(1).padStart(8)} ms at most  ${name}\n`);
  }
} finally {
  await store.close();
  if (values.store === undefined && values.dir === undefined) rmSync(dir, { recursive: true, force: true });
}
