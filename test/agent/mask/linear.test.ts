/**
 * No text takes a detector long: of four times as much of the worst texts that are known, the work is about four times
 * as much. Measured in CPU time of this process, the least of some runs; sixteen times would be a square.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keysDetector } from "../../../agent/mask/custom-keys.ts";
import { regexDetector } from "../../../agent/mask/custom-regex.ts";
import { sourceDetector } from "../../../agent/mask/custom-source.ts";
import { wordsDetector } from "../../../agent/mask/custom-words.ts";
import type { Detector } from "../../../agent/mask/detector.ts";
import { FingerprintTable } from "../../../agent/mask/fingerprints.ts";
import { maskerOf } from "../../../agent/mask/masker.ts";
import { compileMaskPlan, type MaskPlan } from "../../../agent/mask/plan.ts";
import { createStreamMasker } from "../../../agent/mask/stream-masker.ts";
import { WordList } from "../../../agent/mask/word-list.ts";
import { detectorNames, samples } from "./values.ts";

const key = Buffer.alloc(32);
const short = 12_000;
const ratioMax = 9;
/** What is done faster than this is not worth a ratio. */
const quickMs = 0.5;
const tries = 6;

/** Repeated, these are the worst that each detector may meet. */
const units: readonly string[] = [
  ...[
    "1",
    "1 ",
    "4 ",
    "51-",
    "12.",
    "4111 ",
    "4111 1111 1111 1112 ",
    "415-",
    "+1 ",
    "+",
    "(212) ",
    "123-45-",
    "536 90 ",
  ],
  ...["@", "a@", "a.", "@a.", "é", "\\u00e9", "\\x", "\\x41", "\\x3131313131313131", "a", "A", "-", "\n", " "],
  ...["GB82", "GB82 ", "aa11", "AA11 A ", "eyJ", "eyJ.", "-eyJ", "eyJaaaaaaaa.eyJ", `eyJ${"a".repeat(3990)}`],
  ...[
    "sk-",
    "sk-ant-",
    "ghp_",
    "github_pat_",
    "AKIA",
    "aws",
    "aws ",
    "aws_secret = ",
    "secret=",
    '"password":',
    '"',
    '\\"',
  ],
  ...["-----BEGIN ", "-----BEGIN A ", "-----BEGIN PRIVATE KEY-----", "-----END ", "A B ", "C-1", "x(", "if (a) {\n"],
  ...samples.map(({ value, before = "" }) => `${before}${value} `).filter((unit) => unit.length < 120),
];

function costMs(run: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 2; i += 1) {
    const from = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(from);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

function isLinear(work: (length: number) => void): string | null {
  let said = "";
  for (let i = 0; i < tries; i += 1) {
    const one = Math.max(
      quickMs,
      costMs(() => work(short)),
    );
    const four = costMs(() => work(short * 4));
    if (four / one < ratioMax) return null;
    said = `${one.toFixed(1)} ms, and ${four.toFixed(1)} ms of four times as much`;
  }
  return said;
}

function ways(plan: MaskPlan, unit: string): Readonly<Record<string, (length: number) => void>> {
  const masker = maskerOf(plan);
  const text = (length: number): string => unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
  return {
    "whole bytes": (length) => {
      const bytes = Buffer.from(text(length));
      masker.mask(bytes, 0, bytes.length);
    },
    "whole text": (length) => void masker.maskString(`${text(length)}é`),
    pieces: (length) => {
      const stream = createStreamMasker(plan);
      const all = text(length);
      for (let at = 0; at < all.length; at += 100) stream.push(all.slice(at, at + 100));
      stream.end();
    },
  };
}

function planOf(own: Detector): MaskPlan {
  return compileMaskPlan([{ detectors: [], custom: [own], with: "redact" }], key) as MaskPlan;
}

const list = new WordList();
for (const word of ["C-1001", "A B A B A B C", "A B", "password", `${"A B ".repeat(60)}C`]) list.add(word);
const known = new FingerprintTable();
known.addText("if (a) {\n".repeat(10));

const plans: Readonly<Record<string, MaskPlan>> = {
  ...Object.fromEntries(
    detectorNames.map((name) => [name, compileMaskPlan([{ detectors: [name], with: "redact" }], key) as MaskPlan]),
  ),
  regex: planOf(regexDetector("own", "(?:a+)+b|1+ 1+|[A-Z ]{1,40}x", 200)),
  words: planOf(wordsDetector("own", list)),
  keys: planOf(keysDetector("own", ["password", "*_token"])),
  source: planOf(sourceDetector("own", null)),
  fingerprints: planOf(sourceDetector("own", known)),
};

describe("work grows as the text does", () => {
  for (const [name, plan] of Object.entries(plans)) {
    test(name, () => {
      for (const unit of units) {
        for (const [way, work] of Object.entries(ways(plan, unit))) {
          assert.equal(isLinear(work), null, `${way} of ${JSON.stringify(unit.slice(0, 40))}`);
        }
      }
    });
  }
});

test("a square would be seen", () => {
  const square = (length: number): void => {
    let found = 0;
    const text = "ab".repeat(length / 8);
    for (let at = 0; at < text.length; at += 16) if (text.indexOf("c", at) >= 0) found += 1;
    assert.equal(found, 0);
  };
  // Of a machine that is busy with other things, one try may say anything.
  const seen = Array.from({ length: tries }).some(
    () =>
      costMs(() => square(short * 80)) /
        Math.max(
          quickMs,
          costMs(() => square(short * 20)),
        ) >=
      ratioMax,
  );
  assert.ok(seen);
});
