/** Values of members by their names: in texts, cut anywhere, in bytes, and where JSON is walked through. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createBodyMasker } from "../../../agent/mask/body-masker.ts";
import { keysDetector } from "../../../agent/mask/custom-keys.ts";
import { sourceDetector } from "../../../agent/mask/custom-source.ts";
import { maskerOf } from "../../../agent/mask/masker.ts";
import { compileMaskPlan, type MaskPlan } from "../../../agent/mask/plan.ts";
import { createStreamMasker } from "../../../agent/mask/stream-masker.ts";
import { maskJson } from "../../../agent/wire/http/json-mask.ts";
import { ReplyRuns } from "../../../agent/wire/llm/runs.ts";
import { seeded } from "./values.ts";

const key = Buffer.alloc(32);
const own = keysDetector("own", ["password", "*_token", "api*key", "pin"]);
const plan = compileMaskPlan([{ detectors: [], custom: [own], with: "redact" }], key) as MaskPlan;

function stream(pieces: readonly string[]): string {
  const masker = createStreamMasker(plan);
  return pieces.map((piece) => masker.push(piece)).join("") + masker.end();
}

function bytes(pieces: readonly Buffer[]): string {
  const masker = createBodyMasker(plan);
  return Buffer.concat([...pieces.map((piece) => masker.push(piece)), masker.end()]).toString();
}

describe("in a text", () => {
  const cases: readonly (readonly [string, string])[] = [
    ['{"password":"hunter2","user":"ada"}', '{"password":"*******","user":"ada"}'],
    ['{ "Password" : "a\\"b\\\\" , "x":"y"}', '{ "Password" : "******" , "x":"y"}'],
    [
      '"a_token": "x", "b_token_c": "y", "api-secret-Key": "z"',
      '"a_token": "*", "b_token_c": "y", "api-secret-Key": "*"',
    ],
    ['{"pin":1234,"pins":1234,"pin2":5}', '{"pin":****,"pins":1234,"pin2":5}'],
    ['{"pin":-1.5e+3}', '{"pin":*******}'],
    ['{"p\\u0061ssword":"x"}', '{"p\\u0061ssword":"*"}'],
    ['{"password":"","user":"ada"}', '{"password":"","user":"ada"}'],
    ['{"password":null,"user":"password"}', '{"password":null,"user":"password"}'],
    [
      '{"body":"{\\"password\\": \\"hun\\\\\\"ter\\", \\"pin\\":7}"}',
      '{"body":"{\\"password\\": \\"**********\\", \\"pin\\":*}"}',
    ],
    ['He said "password: x" and "pin"', 'He said "password: x" and "pin"'],
    ['{"password":"without an end', '{"password":"**************'],
  ];
  test("strings and numbers behind a name, whole and cut at every place", () => {
    for (const [text, masked] of cases) {
      assert.equal(stream([text]), masked);
      assert.equal(stream([...text]), masked);
      assert.equal(maskerOf(plan).maskString(text), masked);
      for (let cut = 0; cut <= text.length; cut += 1) {
        assert.equal(stream([text.slice(0, cut), text.slice(cut)]), masked, `cut at ${cut}`);
        const raw = Buffer.from(text);
        assert.equal(bytes([raw.subarray(0, cut), raw.subarray(cut)]), masked, `bytes cut at ${cut}`);
      }
    }
  });

  test("any text, cut anywhere", () => {
    const bits = [
      '"',
      "\\",
      "{",
      ":",
      ",",
      " ",
      "\n",
      "password",
      '"password"',
      "pin",
      '"pin":',
      "a_token",
      "1",
      "-",
      "é",
      "😀",
      '\\"',
      "x",
    ];
    for (let seed = 1; seed <= 2_000; seed += 1) {
      const below = seeded(seed * 48_271);
      let text = "";
      for (let i = below(16); i >= 0; i -= 1) text += bits[below(bits.length)];
      const pieces = [...text.matchAll(/[\s\S]{1,3}/g)].map(([piece]) => piece);
      assert.equal(stream(pieces), stream([text]), JSON.stringify(text));
      const raw = Buffer.from(text);
      assert.equal(bytes([...raw].map((byte) => Buffer.from([byte]))), bytes([raw]), JSON.stringify(text));
    }
  });

  test("a long value streams, and prose is not held", () => {
    // Of a name that may begin with anything everything behind a quote may be one.
    const named = keysDetector("own", ["password", "api*key"]);
    const masker = createStreamMasker(
      compileMaskPlan([{ detectors: [], custom: [named], with: "redact" }], key) as MaskPlan,
    );
    assert.equal(masker.push('She wrote "hello", '), 'She wrote "hello", ');
    assert.equal(masker.push('"pass'), "");
    assert.equal(masker.push('word": "'), "");
    for (let i = 0; i < 1_000; i += 1) assert.equal(masker.push("abcde").length > 0 || i === 0, true);
    assert.ok(masker.held <= 8);
  });
});

test("where JSON is walked through, everything below the name is hidden, and types stay", () => {
  const text = JSON.stringify({
    password: { a: "x", b: [1, true] },
    user: "ada",
    list: [{ my_token: 12, n: 1 }],
    pin: 'a"b',
  });
  const masked = maskJson(Buffer.from(text), { masker: maskerOf(plan), paths: [], key });
  assert.deepEqual(JSON.parse(masked?.bytes.toString() ?? ""), {
    password: { a: "*", b: [0, false] },
    user: "ada",
    list: [{ my_token: 0, n: 1 }],
    pin: "***",
  });
});

describe("arguments of a tool that stream", () => {
  const code = "def f(a):\n  if a:\n    return g(a[0])\n  for x in a:\n    x += 1\n";
  const text = JSON.stringify({ password: 'a"b', n: 1, code });
  const outs = (plan: MaskPlan, text: string): Set<string> => {
    const found = new Set<string>();
    for (let cut = 0; cut <= text.length; cut += 1) {
      const runs = new ReplyRuns({ plan, masker: maskerOf(plan), paths: [], key }, null);
      found.add(runs.push("a", text.slice(0, cut), "json") + runs.push("a", text.slice(cut), "json") + runs.close("a"));
    }
    return found;
  };

  test("are masked by the names of members", () => {
    const [out, ...more] = outs(plan, text);
    assert.deepEqual(more, []);
    assert.deepEqual(JSON.parse(out ?? ""), { password: "***", n: 1, code });
  });

  test("JSON is no source code, a string in it may be", () => {
    const source = compileMaskPlan(
      [{ detectors: ["email"], custom: [sourceDetector("s", null)], with: "redact" }],
      key,
    );
    const [out, ...more] = outs(source as MaskPlan, text.replace('a\\"b', "a@b.org"));
    assert.deepEqual(more, []);
    assert.deepEqual(JSON.parse(out ?? ""), { password: "*".repeat(7), n: 1, code: "*".repeat(code.length) });
  });
});

test("text that is judged as a whole is held until its end, then hidden or let go", () => {
  const code = "const total = rows.reduce((sum, row) => sum + row.price, 0);\nif (total > 0) {\n  return total;\n}\n";
  const prose = "Dear Ada,\n\nplease find the report of PRJ-1, as promised; the rest follows.\n";
  const source = compileMaskPlan([{ detectors: ["email"], custom: [sourceDetector("s", null)], with: "redact" }], key);
  for (const [text, out] of [
    [code, "*".repeat(code.length)],
    [`${prose}a@b.org`, `${prose}*******`],
  ] as const) {
    const masker = createStreamMasker(source as MaskPlan);
    for (const letter of text) assert.equal(masker.push(letter), "");
    assert.equal(masker.held, text.length);
    assert.equal(masker.end(), out);
    assert.equal(masker.masked, 1);
    const body = createBodyMasker(source as MaskPlan);
    assert.equal(body.push(Buffer.from(text)).length, 0);
    assert.equal(body.end().toString(), out);
  }
});
