import assert from "node:assert/strict";
import { test } from "node:test";
import { compileMaskPlan } from "../../../../agent/mask/plan.ts";
import type { ReplyMasks } from "../../../../agent/wire/llm/masking.ts";
import { Placeholders, Restorer } from "../../../../agent/wire/llm/placeholders.ts";
import { ReplyRuns } from "../../../../agent/wire/llm/runs.ts";
import { estimateTokens } from "../../../../agent/wire/llm/tokens.ts";
import { randomOf } from "../../../support/random.ts";

const key = Buffer.from("k");
const plan = compileMaskPlan([{ detectors: ["credit-card", "email", "jwt"], with: "redact" }], key);
const masks: ReplyMasks = { plan, masker: null, paths: [], key };

function inPieces(text: string, cuts: readonly number[], kind: "text" | "json" = "text"): string {
  const runs = new ReplyRuns(masks, null);
  let from = 0;
  let out = "";
  for (const cut of [...cuts, text.length]) {
    out += runs.push("a", text.slice(from, cut), kind);
    from = cut;
  }
  return out + runs.close("a");
}

test("JSON in the place of text stays JSON: strings, numbers, escapes, names", () => {
  const cases: readonly [string, string][] = [
    ['{"n":4111111111111111}', '{"n":0               }'],
    ['{"n":-4111111111111111 }', '{"n":-0                }'],
    ['["ada\\u0040example.com"]', '["***************"]'],
    ['{"ada@example.com":1}', '{"***************":1}'],
    ['{"a":"\\"ada@example.com\\"\\n","b":true,"c":null}', '{"a":"\\"***************\\"\\n","b":true,"c":null}'],
    ['{"a":"\\ud83d\\ude00 \\u00e9","b":1.5e-3}', '{"a":"\\ud83d\\ude00 \\u00e9","b":1.5e-3}'],
    ["[link](x) 4111 1111 1111 1111", "[link](x) *******************"],
    ['{"a": "half an escape \\u00', '{"a": "half an escape \\u00'],
  ];
  for (const [text, expected] of cases) {
    assert.equal(inPieces(text, []), expected);
    for (let at = 0; at <= text.length; at += 1) assert.equal(inPieces(text, [at]), expected, `${text} cut at ${at}`);
    assert.equal(
      inPieces(
        text,
        Array.from(text, (_, at) => at),
      ),
      expected,
    );
    assert.equal(new ReplyRuns(masks, null).whole(text), expected, "as the event that tells it once more");
  }
});

const leaves = [
  "ada@example.com",
  "x",
  'q"q',
  "a\\b\n",
  4111111111111111,
  12,
  -1.5e30,
  true,
  null,
  "é😀 4111 1111 1111 1111",
  "",
];

function randomValue(next: (below: number) => number, depth: number): unknown {
  const kind = depth > 3 ? 2 : next(4);
  if (kind === 0) return Array.from({ length: next(4) }, () => randomValue(next, depth + 1));
  if (kind === 1)
    return Object.fromEntries(Array.from({ length: next(4) }, (_, i) => [`k${i}"`, randomValue(next, depth + 1)]));
  return leaves[next(leaves.length)];
}

function hidden(value: unknown): unknown {
  if (value === 4111111111111111) return 0;
  if (typeof value === "string")
    return value.replace(/ada@example\.com|4111 1111 1111 1111/g, (found) => "*".repeat(found.length));
  if (Array.isArray(value)) return value.map(hidden);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, hidden(inner)]));
}

test("random JSON, cut at random, parses to the masked value", () => {
  for (let seed = 1; seed <= 400; seed += 1) {
    const next = randomOf(seed);
    const value = { a: randomValue(next, 0), b: randomValue(next, 0) };
    let text = JSON.stringify(value, null, next(3));
    if (next(2) === 0) text = text.replaceAll("@", "\\u0040").replaceAll("é", "\\u00e9");
    const cuts = Array.from({ length: next(12) }, () => next(text.length)).sort((a, b) => a - b);
    assert.deepEqual(JSON.parse(inPieces(text, cuts, "json")), hidden(value), `seed ${seed}: ${text}`);
  }
});

test("a placeholder cut anywhere comes back, and nothing else is held for longer than it takes", () => {
  const names = new Placeholders();
  names.reserve("they wrote <EMAIL_1> themselves");
  assert.equal(names.nameFor("email", "ada@example.com"), "<EMAIL_2>");
  assert.equal(names.nameFor("credit-card", "4111"), "<CREDIT_CARD_1>");
  assert.equal(names.nameFor("email", "ada@example.com"), "<EMAIL_2>");
  const text = "<EMAIL_2><CREDIT_CARD_1> <EMAIL_1> <EMAIL_22> <<EMAIL_2>> <EMAIL_2";
  const expected = "ada@example.com4111 <EMAIL_1> <EMAIL_22> <ada@example.com> <EMAIL_2";
  for (let at = 0; at <= text.length; at += 1) {
    for (const second of [at, at + 1, at + 5]) {
      const restorer = new Restorer(names);
      const out =
        restorer.push(text.slice(0, at)) + restorer.push(text.slice(at, second)) + restorer.push(text.slice(second));
      assert.equal(out + restorer.end(), expected);
    }
  }
  const restorer = new Restorer(names);
  assert.equal(restorer.push("a <b"), "a <b");
  assert.equal(restorer.push("<EMA"), "");
  assert.equal(restorer.held, 4);
});

test("tokens are about four characters of Latin text, and one of an ideograph", () => {
  assert.equal(estimateTokens([]), 0);
  const prose = "The quick brown fox jumps over the lazy dog. ".repeat(10);
  const tokens = estimateTokens([prose]);
  assert.ok(tokens >= 90 && tokens <= 125, String(tokens));
  assert.equal(estimateTokens(["漢字漢字"]), 8);
});
