/** Lists of words, and source code. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, test } from "node:test";
import { createBodyMasker } from "../../../agent/mask/body-masker.ts";
import { sourceDetector } from "../../../agent/mask/custom-source.ts";
import { wordsDetector } from "../../../agent/mask/custom-words.ts";
import type { Detector } from "../../../agent/mask/detector.ts";
import { FingerprintTable, fingerprintSource, matchesFingerprints } from "../../../agent/mask/fingerprints.ts";
import { createMasker } from "../../../agent/mask/masker.ts";
import { compileMaskPlan, type MaskPlan } from "../../../agent/mask/plan.ts";
import { looksLikeSource } from "../../../agent/mask/source.ts";
import { createStreamMasker } from "../../../agent/mask/stream-masker.ts";
import { WordList } from "../../../agent/mask/word-list.ts";
import { seeded } from "./values.ts";

const key = Buffer.alloc(32);
const root = resolve(import.meta.dirname, "../../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");

function listOf(words: Iterable<string>): WordList {
  const list = new WordList();
  for (const word of words) assert.ok(list.add(word), word);
  return list;
}

function collectFingerprints(texts: Iterable<string>): FingerprintTable {
  const table = new FingerprintTable();
  for (const text of texts) table.addText(text);
  return table;
}

function planFor(custom: Detector): MaskPlan {
  const plan = compileMaskPlan([{ detectors: [], custom: [custom], with: "redact" }], key);
  assert.ok(plan !== null);
  return plan;
}

function stream(plan: MaskPlan, pieces: readonly string[]): string {
  const masker = createStreamMasker(plan);
  return pieces.map((piece) => masker.push(piece)).join("") + masker.end();
}

describe("words", () => {
  const words = ["C-1001", "C-1002", "falcon", "Project Osprey", "Project", "#42", "Müller", "A B C", "A B"];
  const detector = wordsDetector("own", listOf(words));

  test("are whole words, the longest first", () => {
    const cases: readonly (readonly [string, string])[] = [
      ["C-1001, C-10012 and xC-1001", "******, C-10012 and xC-1001"],
      ["the falcon, Falcon and falcons", "the ******, Falcon and falcons"],
      ["Project Osprey, Project X, Projects", "**************, ******* X, Projects"],
      ["“Müller”—Müllers", "“******”—Müllers"],
      ["see #42, #421", "see ***, #421"],
      ["A B C D, A B D", "***** D, *** D"],
    ];
    for (const [text, masked] of cases) {
      assert.equal(stream(planFor(detector), [text]), masked);
      assert.equal(stream(planFor(detector), [...text]), masked);
      const masker = createBodyMasker(planFor(detector));
      const bytes = [...Buffer.from(text)].map((byte) => masker.push(Buffer.from([byte])));
      const out = Buffer.concat([...bytes, masker.end()]).toString();
      assert.equal(out.replace(/\*+/g, "*"), masked.replace(/\*+/g, "*"));
    }
  });

  test("cut anywhere", () => {
    const plan = planFor(detector);
    const bits = [...words, ..."AB CÉé—#.- ", "Pro", "ject ", "Os", "prey", "C-", "1001", "😀"];
    for (let seed = 1; seed <= 500; seed += 1) {
      const below = seeded(seed * 31_337);
      let text = "";
      for (let i = below(14); i >= 0; i -= 1) text += bits[below(bits.length)];
      const pieces = [...text.matchAll(/[\s\S]{1,3}/g)].map(([piece]) => piece);
      assert.equal(stream(plan, pieces), stream(plan, [text]), JSON.stringify(text));
      const bytes = Buffer.from(text);
      const [one, cut] = [createBodyMasker(plan), createBodyMasker(plan)];
      const whole = Buffer.concat([one.push(bytes), one.end()]);
      const out = [...bytes].map((byte) => cut.push(Buffer.from([byte])));
      assert.deepEqual(Buffer.concat([...out, cut.end()]), whole, JSON.stringify(text));
    }
  });

  test("a hundred thousand ids are all found, and others are not", () => {
    const many = wordsDetector("ids", listOf(Array.from({ length: 100_000 }, (_, i) => `cus_${i * 7}`)));
    for (let i = 0; i < 100_000; i += 997) {
      assert.deepEqual(many.next(`id cus_${i * 7}.`, 0, 99), { start: 3, end: 3 + `cus_${i * 7}`.length });
      assert.equal(many.next(`id cus_${i * 7 + 1}.`, 0, 99), null);
    }
  });
});

describe("source code", () => {
  const files = ["agent/mask/iban.ts", "agent/mask/keys.ts", "agent/policy/schema.ts"];
  const pages = ["README.md", "docs/decisions/0005-masks-keep-the-length.md", "SECURITY.md", "CONTRIBUTING.md"];

  test("is told from prose", () => {
    for (const file of files) assert.ok(looksLikeSource(read(file)), file);
    assert.ok(
      looksLikeSource(
        "def total(rows):\n    result = 0\n    for row in rows:\n        result += row.price\n    return result\n",
      ),
    );
    assert.ok(
      looksLikeSource('int main(void) {\n  for (int i = 0; i < 3; i++) {\n    printf("%d", i);\n  }\n  return 0;\n}\n'),
    );
    const prose = pages.map(read).join("\n");
    assert.ok(
      !looksLikeSource(
        prose
          .split("\n")
          .filter((line) => /^[A-Z].{40}/.test(line))
          .join("\n"),
      ),
    );
    assert.ok(
      !looksLikeSource(
        "Dear Ada,\n\nplease find the report, as promised; the rest (see below) follows.\n\nBest,\nBob\n",
      ),
    );
    assert.ok(!looksLikeSource("Shopping:\n- milk\n- bread, butter\n- tea\n"));
  });

  test("that was copied is recognised, with other spaces, case and neighbours", () => {
    const known = collectFingerprints(files.map(read));
    assert.ok(known.size > 100);
    const piece = read("agent/mask/iban.ts").split("\n").slice(60, 90).join("\n");
    const prompt = `Please explain what this does:\n${piece.replace(/\n/g, "\r\n    ").toUpperCase()}\nThank you!`;
    assert.ok(matchesFingerprints(prompt, known).share > 0.6);
    assert.ok(
      createMasker([{ detectors: [], custom: [sourceDetector("own", known)], with: "redact" }], key)?.finds(prompt),
    );
    assert.equal(matchesFingerprints(read("controller/main.ts"), known).share < 0.1, true);
    assert.equal(matchesFingerprints(read("SECURITY.md"), known).matched, 0);
  });

  test("every copied stretch of the guaranteed length shares a fingerprint", () => {
    const below = seeded(99);
    const text = Array.from({ length: 600 }, () => String.fromCharCode(97 + below(26))).join("");
    const known = collectFingerprints([text]);
    for (let at = 0; at + 39 <= text.length; at += 1)
      assert.ok(matchesFingerprints(text.slice(at, at + 39), known).matched >= 1, `at ${at}`);
    assert.equal(fingerprintSource("too short").size, 0);
  });
});
