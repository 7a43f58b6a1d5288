/** Expressions of a policy: the same matches as re2js itself, whole, cut anywhere, and in bytes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RE2JS } from "re2js";
import { createBodyMasker } from "../../../agent/mask/body-masker.ts";
import { regexDetector } from "../../../agent/mask/custom-regex.ts";
import { compileMaskPlan, type MaskPlan } from "../../../agent/mask/plan.ts";
import { createStreamMasker } from "../../../agent/mask/stream-masker.ts";
import { seeded } from "./values.ts";

const key = Buffer.alloc(32);

function planFor(expression: string, max = 64): MaskPlan {
  const plan = compileMaskPlan(
    [{ detectors: [], custom: [regexDetector("own", expression, max)], with: "redact" }],
    key,
  );
  assert.ok(plan !== null);
  return plan;
}

function stream(plan: MaskPlan, pieces: readonly string[]): string {
  const masker = createStreamMasker(plan);
  return pieces.map((piece) => masker.push(piece)).join("") + masker.end();
}

function byRe2js(expression: string, text: string): string {
  return RE2JS.compile(expression)
    .matcher(text)
    .replaceAll((found: string) => "*".repeat(found.length));
}

const expressions = [
  "CUST-[0-9]{4,6}",
  "(?i)project (?:falcon|osprey)",
  "\\bab+c?\\b",
  "a+?b|ab+c",
  "(?:ab|a)(?:bc|c)?",
  "(?m)^x[^\\n]{0,8}$",
  "[^a-z \\n]{3}",
  "é+|字.",
  "(?s)b.{1,5}?a",
  "\\Aab|c\\z",
  "a|abc|b+",
  "x\\B[abc]{2,}",
  "\\p{Greek}{2}",
];

describe("any text, cut anywhere, as re2js has it", () => {
  for (const expression of expressions) {
    test(expression, () => {
      const plan = planFor(expression);
      const bits = [..."abcxAB0129- \n.é字😀", "CUST-", "12345", "Project ", "FALCON", "osprey", "ab", "abbc", "λόγ"];
      for (let seed = 1; seed <= 250; seed += 1) {
        const below = seeded(seed * 104_729);
        let text = "";
        for (let i = below(24); i >= 0; i -= 1) text += bits[below(bits.length)];
        const expected = byRe2js(expression, text);
        const pieces: string[] = [];
        for (let at = 0; at < text.length; ) {
          const length = 1 + below(5);
          pieces.push(text.slice(at, at + length));
          at += length;
        }
        assert.equal(stream(plan, [text]), expected, JSON.stringify(text));
        assert.equal(stream(plan, pieces), expected, JSON.stringify(pieces));
        const masker = createBodyMasker(plan);
        const bytes = Buffer.from(text);
        const out: Buffer[] = [];
        for (let at = 0; at < bytes.length; ) {
          const length = 1 + below(5);
          out.push(masker.push(bytes.subarray(at, at + length)));
          at += length;
        }
        out.push(masker.end());
        // Stars are as many as there were bytes.
        assert.equal(
          Buffer.concat(out).toString().replace(/\*+/g, "*"),
          expected.replace(/\*+/g, "*"),
          JSON.stringify(text),
        );
      }
    });
  }
});

test("what is held back is bounded, and prose is not held", () => {
  const masker = createStreamMasker(planFor("START.*", 100));
  assert.equal(masker.push("Nothing to wait for. "), "Nothing to wait for. ");
  for (let i = 0; i < 50; i += 1) {
    masker.push("START and on and on");
    assert.ok(masker.held <= 100);
  }
});

test("an expression that would take a backtracking engine for ever takes no time", () => {
  const text = "a".repeat(20_000);
  assert.equal(stream(planFor("(?:a+)+b", 4096), [text]), text);
});

test("what cannot be compiled is a coded error", () => {
  assert.throws(() => regexDetector("own", "(", 10), { code: "WEIR_POLICY_INVALID" });
  assert.throws(() => regexDetector("own", "(?<=a)b", 10), { code: "WEIR_POLICY_INVALID" });
});
