/** Wherever a text is cut, it leaves as it would have in one piece, and no value leaves. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MaskStyle } from "../../../agent/core/verdict.ts";
import { createBodyMasker } from "../../../agent/mask/body-masker.ts";
import { createMasker } from "../../../agent/mask/masker.ts";
import { compileMaskPlan, type MaskPlan } from "../../../agent/mask/plan.ts";
import { heldCharactersMax } from "../../../agent/mask/scanner.ts";
import { createStreamMasker } from "../../../agent/mask/stream-masker.ts";
import { detectorNames, samples, seeded } from "./values.ts";

const key = Buffer.alloc(32, 7);
const styles: readonly MaskStyle[] = ["redact", "last4", "hash", "email", "partial", "null"];

function planFor(style: MaskStyle, detectors = detectorNames): MaskPlan {
  const plan = compileMaskPlan([{ detectors, with: style }], key);
  assert.ok(plan !== null);
  return plan;
}

function whole(text: string, style: MaskStyle): string {
  return createMasker([{ detectors: detectorNames, with: style }], key)?.maskString(text) ?? text;
}

function stream(plan: MaskPlan, pieces: readonly string[]): string {
  const masker = createStreamMasker(plan);
  let out = "";
  for (const piece of pieces) {
    out += masker.push(piece);
    assert.ok(masker.held <= heldCharactersMax);
  }
  return out + masker.end();
}

function body(plan: MaskPlan, pieces: readonly Buffer[]): Buffer {
  const masker = createBodyMasker(plan);
  return Buffer.concat([...pieces.map((piece) => masker.push(piece)), masker.end()]);
}

describe("a value cut in two, at every place", () => {
  for (const { name, value, before = "" } of samples) {
    test(name, () => {
      const head = `Here it is, as asked: ${before}`;
      const text = `${head}${value} and so on.`;
      const plan = planFor("redact");
      const masked = `${head}${"*".repeat(value.length)} and so on.`;
      assert.equal(whole(text, "redact"), masked);
      for (let cut = 0; cut <= text.length; cut += 1) {
        const masker = createStreamMasker(plan);
        const first = masker.push(text.slice(0, cut));
        assert.ok(masked.startsWith(first), `cut at ${cut} let ${JSON.stringify(first)} go`);
        const out = first + masker.push(text.slice(cut));
        assert.ok(masked.startsWith(out));
        assert.equal(out + masker.end(), masked, `cut at ${cut}`);
        assert.equal(masker.masked, 1);
      }
      assert.equal(stream(plan, [...text]), masked, "character by character");
      const bytes = Buffer.from(text);
      const bytesMasked = createMasker([{ detectors: detectorNames, with: "redact" }], key);
      const expected = Buffer.from(bytes);
      bytesMasked?.mask(expected, 0, expected.length);
      for (let cut = 0; cut <= bytes.length; cut += value.length > 1000 ? 7 : 1)
        assert.deepEqual(body(plan, [bytes.subarray(0, cut), bytes.subarray(cut)]), expected);
    });
  }
});

describe("any text, cut anywhere", () => {
  const bits = [
    ..."0123456789ab -.@\\n\n\"':=()+_/é€字😀A",
    ...[
      "sk-",
      "sk-ant-",
      "eyJ",
      "eyJhbGciOiJI.eyJ",
      ".eyJab.",
      "ghp_",
      "ghs_",
      "github_pat_",
      "AKIA",
      "aws ",
      "secret: ",
      "SECRET=",
    ],
    ...[
      "-----BEGIN ",
      "PRIVATE KEY-----",
      "-----END ",
      "-----",
      "\0",
      "GB82",
      "DE89 3704",
      "de",
      "fr14 ",
      "\\u00e9",
      "\\u003c",
      "\\n",
      "\\x41",
    ],
    ...[
      "4111",
      " 1111",
      "\u00a0",
      "\u202f",
      "+1 415",
      "555-",
      "415-555-",
      "536-90-",
      "4399",
      "(212) ",
      "@ex.",
      "co.uk",
      "word",
      " the ",
    ],
    ...["aaaaaaaaaaaaaaaaaaaa", "0123456789ABCDEF", "abcdefghijABCDEFGHIJ0123456789"],
  ];
  const values = samples.map(({ value, before = "" }) => before + value);
  for (const style of styles) {
    test(style, () => {
      for (let seed = 1; seed <= 150; seed += 1) {
        const below = seeded(seed * 7919 + style.length * 31);
        let text = "";
        for (let i = below(60); i >= 0; i -= 1)
          text += below(12) === 0 ? (values[below(values.length)] as string) : (bits[below(bits.length)] as string);
        const plan = planFor(style);
        const pieces: string[] = [];
        for (let at = 0; at < text.length; ) {
          const length = 1 + below(below(3) === 0 ? 60 : 6);
          pieces.push(text.slice(at, at + length));
          at += length;
        }
        const expected = stream(plan, [text]);
        assert.equal(expected.length, text.length);
        assert.equal(stream(plan, pieces), expected, `seed ${seed}: ${JSON.stringify(text)}`);
        if (/^[\0-\x7f]*$/.test(text) && !/\\x/.test(text))
          assert.equal(whole(text, style), expected, `whole, seed ${seed}`);

        const bytes = Buffer.from(text, below(4) === 0 ? "latin1" : "utf8");
        const cuts: Buffer[] = [];
        for (let at = 0; at < bytes.length; ) {
          const length = 1 + below(40);
          cuts.push(bytes.subarray(at, at + length));
          at += length;
        }
        const left = body(plan, cuts);
        assert.deepEqual(left, body(plan, [bytes]), `bytes, seed ${seed}: ${JSON.stringify(text)}`);
        if (!/\\x/.test(text)) {
          const masker = createMasker([{ detectors: detectorNames, with: style }], key);
          masker?.mask(bytes, 0, bytes.length);
          assert.deepEqual(left, bytes, `bytes whole, seed ${seed}`);
        }
      }
    });
  }
});

describe("what is held back", () => {
  const prose =
    "In 2024 the weir held; see page 12 (or 13), task-force minutes, risk-free rates and the secret of it all. " +
    "Über die Brücke — «так» — 今天天气很好，我们去公园。 A smile: 😀👩‍👩‍👧, 3.5 %, $20, e.g. https://example.org/a-b?c=d.";

  test("of prose at most the word that is not yet whole", () => {
    const plan = planFor("redact");
    for (const length of [1, 2, 3, 7, 20]) {
      const masker = createStreamMasker(plan);
      let out = "";
      for (let at = 0; at < prose.length; at += length) {
        const piece = prose.slice(at, at + length);
        out += masker.push(piece);
        const seen = prose.slice(0, at + length);
        const word = /[^\s，。«»—:;?/]*$/.exec(seen)?.[0].length ?? 0;
        // A number may go on behind a blank.
        const number = /[+(]?[0-9][0-9 .()-]*$/.exec(seen)?.[0].length ?? 0;
        assert.ok(
          masker.held <= Math.max(word, number, 1),
          `${masker.held} held of ${JSON.stringify(seen.slice(-20))}`,
        );
      }
      assert.equal(out + masker.end(), prose);
      assert.equal(masker.masked, 0);
    }
  });

  test("nothing, when the policy does not look for words and none of its values may begin", () => {
    const plan = planFor("redact", ["jwt", "private-key", "aws-key", "openai-key"]);
    const masker = createStreamMasker(plan);
    for (const piece of ["Hello", ", world", " of ", "eyes", " and", " ask", " for"])
      assert.equal(masker.push(piece), piece);
  });

  test("of a long value only its beginning: the mask streams", () => {
    const key16 = `-----BEGIN PRIVATE KEY-----\n${`${"MIIEpAIB".repeat(8)}\n`.repeat(250)}-----END PRIVATE KEY-----`;
    const token = `eyJhbGciOiJIUzI1NiJ9.eyJ${"Q".repeat(30_000)}.${"S".repeat(500)}`;
    // The longest local part of an address, which any of their letters might be.
    const heldMax = 70;
    for (const value of [key16, token, `sk-${"a1".repeat(20_000)}`]) {
      for (const style of ["redact", "last4", "partial"] as const) {
        const masker = createStreamMasker(planFor(style));
        let out = "";
        for (let at = 0; at < value.length; at += 5) {
          out += masker.push(value.slice(at, at + 5));
          assert.ok(masker.held <= heldMax, `${masker.held}`);
        }
        out += masker.push(" end");
        const clear = style === "last4" ? [0, 4] : style === "partial" ? [1, 1] : [0, 0];
        const [head = 0, tail = 0] = clear;
        const stars = "*".repeat(value.length - head - tail);
        assert.equal(out + masker.end(), `${value.slice(0, head)}${stars}${value.slice(value.length - tail)} end`);
      }
    }
  });

  test("a value that its style needs whole is held up to a limit, and hidden by stars beyond it", () => {
    const masker = createStreamMasker(planFor("hash"));
    const value = `sk-${"a1".repeat(20_000)}`;
    let out = "";
    for (let at = 0; at < value.length; at += 100) {
      out += masker.push(value.slice(at, at + 100));
      assert.ok(masker.held <= heldCharactersMax);
    }
    assert.equal(out + masker.end(), "*".repeat(value.length));
    assert.equal(
      createMasker([{ detectors: detectorNames, with: "hash" }], key)?.maskString(value),
      "*".repeat(value.length),
    );
  });

  test("halves of a character leave together", () => {
    const masker = createStreamMasker(planFor("redact"));
    const left = [..."a\ud83d", "\ude00 b\ud83d", "x\udc00 ", "\ud83d"].map((piece) => masker.push(piece));
    for (const piece of left.slice(0, -1)) assert.ok(!/[\ud800-\udbff]$/.test(piece));
    assert.equal(left.join("") + masker.end(), "a\ud83d\ude00 b\ud83dx\udc00 \ud83d");
  });
});

test("a token whose first part has no end is one", () => {
  for (const length of [3996, 3997, 3998, 3999, 20_000]) {
    for (const rest of ["", ".eyJab", ".eyJ", ".x y"]) {
      const text = `a eyJ${"h".repeat(length)}${rest} b`;
      const expected = whole(text, "redact");
      if (length > 3997 || rest === ".eyJab") assert.match(expected, /^a \*{4000,}/);
      for (const cut of [3, 500, 3999, 4000, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, text.length - 2]) {
        const plan = planFor("redact");
        assert.equal(stream(plan, [text.slice(0, cut), text.slice(cut)]), expected, `${length} ${rest} ${cut}`);
      }
    }
  }
});

test("bytes that are no UTF-8 stay as they are, and what stands between them is found", () => {
  const bytes = Buffer.concat([
    Buffer.from([0xff, 0xc3, 0x28, 0xed, 0xa0]),
    Buffer.from(" 536-90-4399 "),
    Buffer.from([0xfe, 0x80]),
  ]);
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const left = body(planFor("redact"), [bytes.subarray(0, cut), bytes.subarray(cut)]);
    assert.equal(left.toString("latin1"), bytes.toString("latin1").replace("536-90-4399", "*".repeat(11)));
  }
});
