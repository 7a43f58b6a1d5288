/** Statements at a steady rate until a file is there; each one's start and latency in milliseconds on standard output. */
import { existsSync } from "node:fs";
import pg from "pg";

const [rate = "100", stopFile = ""] = process.argv.slice(2);
const everyMs = 1_000 / Number(rate);
const client = new pg.Client({ ssl: { rejectUnauthorized: false } });
await client.connect();
const startedAt = performance.now();
for (let at = 0; !existsSync(stopFile); at += 1) {
  const waitMs = startedAt + at * everyMs - performance.now();
  // Behind the beat the next one follows at once; it is measured from its own start.
  if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  const atMs = Date.now();
  const begun = performance.now();
  await client.query(`SELECT ${at} AS n, 'a statement of the usual length, about customers and orders' AS what`);
  process.stdout.write(`${atMs} ${(performance.now() - begun).toFixed(3)}\n`);
}
await client.end();
