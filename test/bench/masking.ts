/**
 * What detectors cost, all of them on: MB per CPU-second of texts that are whole, microseconds per piece of a text that
 * streams. The prose is this repository's own pages; "rows" are short and full of numbers, which is the hard case.
 *
 *   node test/bench/masking.ts
 *
 * The same prose through Presidio's pattern recognizers for English, all of them and those for cards, e-mail, IBAN and SSN
 * alone, where it is installed:
 *
 *   python3 -m venv build/presidio && build/presidio/bin/pip install presidio-analyzer
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createBodyMasker } from "../../agent/mask/body-masker.ts";
import { wordsDetector } from "../../agent/mask/custom-words.ts";
import { fingerprintSource } from "../../agent/mask/fingerprints.ts";
import { createMasker } from "../../agent/mask/masker.ts";
import { compileMaskPlan } from "../../agent/mask/plan.ts";
import { createStreamMasker } from "../../agent/mask/stream-masker.ts";
import { WordList } from "../../agent/mask/word-list.ts";
import { detectorNames, samples, seeded } from "../agent/mask/values.ts";

const root = resolve(import.meta.dirname, "../..");
const key = Buffer.alloc(32, 7);
const specs = [{ detectors: detectorNames, with: "redact" as const }];
const masker = createMasker(specs, key);
const plan = compileMaskPlan(specs, key);
if (masker === null || plan === null) throw new Error("no detectors");

const cpuMsMin = 300;
/** Between two looks at the clock: one of them takes as long as a third of a pass over the prose. */
const betweenLooksMs = 10;
const rounds = 3;

const pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
  .map((file) => join(root, file))
  .concat(readdirSync(join(root, "docs/decisions")).map((file) => join(root, "docs/decisions", file)));
const prose = pages.map((file) => readFileSync(file, "utf8")).join("\n");
const ascii = prose.replace(/[^\0-\x7f]/g, "'");
const below = seeded(4242);
const rows = Array.from({ length: 4000 }, (_, id) =>
  [
    id,
    `customer ${below(1e6)}`,
    "open",
    below(1e5) / 100,
    `2026-0${1 + below(9)}-1${below(10)} 10:${10 + below(50)}:00`,
  ].join("\t"),
).join("\n");

function cut<T>(whole: { length: number; slice(a: number, b: number): T }, length: number): T[] {
  const pieces: T[] = [];
  for (let at = 0; at < whole.length; at += length) pieces.push(whole.slice(at, at + length));
  return pieces;
}

/** CPU-milliseconds of one run, the best of some rounds. */
function cost(run: () => void): number {
  run();
  const once = performance.now();
  run();
  const batch = Math.max(1, Math.ceil(betweenLooksMs / (performance.now() - once)));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) {
    let runs = 0;
    const from = process.cpuUsage();
    let used = 0;
    do {
      for (let i = 0; i < batch; i += 1) run();
      runs += batch;
      const { user, system } = process.cpuUsage(from);
      used = (user + system) / 1000;
    } while (used < cpuMsMin);
    best = Math.min(best, used / runs);
  }
  return best;
}

function perSecond(name: string, bytes: number, run: () => void): void {
  const ms = cost(run);
  console.log(`${name.padEnd(58)} ${(bytes / 1000 / ms).toFixed(0).padStart(6)} MB per CPU-second`);
}

function perPiece(name: string, pieces: number, run: () => void): void {
  const ms = cost(run);
  console.log(`${name.padEnd(58)} ${((ms * 1000) / pieces).toFixed(2).padStart(6)} µs per piece`);
}

for (const [name, text] of [
  ["prose", prose],
  ["prose in ASCII", ascii],
  ["rows", rows],
] as const) {
  const bytes = Buffer.from(text);
  for (const length of [100, 1024, 4096]) {
    const pieces = cut(bytes, length).map((piece) => Buffer.from(piece));
    perSecond(`${name}, whole texts of ${length} bytes`, bytes.length, () => {
      for (const piece of pieces) masker.mask(piece, 0, piece.length);
    });
  }
  const strings = cut(text, 2048);
  perSecond(`${name}, whole strings of 2048 characters`, bytes.length, () => {
    for (const piece of strings) masker.maskString(piece);
  });
  const chunks = cut(bytes, 16_384);
  perSecond(`${name}, body in chunks of 16 KiB`, bytes.length, () => {
    const body = createBodyMasker(plan);
    for (const chunk of chunks) body.push(chunk);
    body.end();
  });
  for (const length of [5, 20]) {
    const deltas = cut(text.slice(0, 40_000), length);
    perPiece(`${name}, deltas of ${length} characters`, deltas.length, () => {
      const stream = createStreamMasker(plan);
      for (const delta of deltas) stream.push(delta);
      stream.end();
    });
  }
}

for (const { name, value, before = "" } of samples.filter(({ value }) => value.length > 1000)) {
  const deltas = cut(`${before}${value} `, 5);
  perPiece(`${name}, deltas of 5 characters`, deltas.length, () => {
    const stream = createStreamMasker(plan);
    for (const delta of deltas) stream.push(delta);
    stream.end();
  });
}
perPiece("a masker made, for 10 characters", 1000, () => {
  for (let i = 0; i < 1000; i += 1) {
    const stream = createStreamMasker(plan);
    stream.push("0123456789");
    stream.end();
  }
});

const ids = Array.from({ length: 1_000_000 }, (_, id) => `cus_${id.toString(36).padStart(12, "x")}`);
const idle = process.memoryUsage();
const words = new WordList();
const began = process.cpuUsage();
for (const id of ids) words.add(id);
const built = process.cpuUsage(began);
const list = wordsDetector("ids", words);
const after = process.memoryUsage();
console.log(
  `${"a list of a million ids".padEnd(58)} ${((after.arrayBuffers - idle.arrayBuffers) / 1e6).toFixed(0).padStart(6)} MB in tables, built in ${((built.user + built.system) / 1000).toFixed(0)} ms of CPU`,
);
const listed = createMasker([{ detectors: [], custom: [list], with: "redact" }], key);
const asciiBytes = Buffer.from(ascii);
perSecond("prose, whole, a list of a million ids", asciiBytes.length, () => {
  listed?.mask(asciiBytes, 0, asciiBytes.length);
});
perSecond("fingerprints of prose", ascii.length, () => {
  fingerprintSource(ascii);
});

const python = join(root, "build/presidio/bin/python");
if (!existsSync(python)) console.log("Presidio: not installed, see the head of this file");
else {
  const same = prose.repeat(Math.ceil(300_000 / prose.length));
  const said = execFileSync(python, [join(import.meta.dirname, "presidio.py")], { input: same, encoding: "utf8" });
  const pieces = cut(same, 2048);
  const ms = cost(() => {
    for (const piece of pieces) masker.maskString(piece);
  });
  const ours = Buffer.byteLength(same) / 1000 / ms;
  console.log(`the same prose in texts of 2048 characters: ${ours.toFixed(0)} MB per CPU-second with eleven detectors`);
  for (const { count, rate } of JSON.parse(said) as { count: number; rate: number }[])
    console.log(`Presidio, ${count} pattern recognizers: ${rate.toFixed(2)}, 1/${(ours / rate).toFixed(0)} of it`);
}
