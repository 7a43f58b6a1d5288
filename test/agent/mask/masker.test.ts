/** What detectors find, what they leave alone, and that no cut between two scans lets a part of a match through. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { DetectorName } from "../../../agent/core/verdict.ts";
import { createMasker, type Masker } from "../../../agent/mask/masker.ts";
import { applyStyle } from "../../../agent/mask/style.ts";
import { streamCopy } from "../../../agent/wire/postgres/rows/stream.ts";

const key = Buffer.alloc(32);
const awsSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const found: Readonly<Record<DetectorName, readonly string[]>> = {
  "credit-card": ["4111111111111111", "4111-1111-1111-1111", "378282246310005", "12 4111 1111 1111 1111 99"],
  ssn: ["536-90-4399", "536 90 4399"],
  email: ["a@b.co", "Ada.L+x@ex-ample.co.uk"],
  phone: ["+1 415 555 2671", "(415) 555-2671", "415-555-2671"],
  iban: ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"],
  "aws-key": [
    "AKIAIOSFODNN7EXAMPLE",
    `aws: ${awsSecret}`,
    `AWS_SECRET=${awsSecret}`,
    `SECRET="${awsSecret}"`,
    `Secret: ${awsSecret}`,
    `secret: ${awsSecret}`,
  ],
  "openai-key": ["sk-abcdefghijklmnopqrstuvwx"],
  "anthropic-key": ["sk-ant-api03-abcdefghijklmnopqrst"],
  "github-token": ["ghp_abcdefghijklmnopqrstuvwxyz0123456789", "github_pat_11ABCDEFG0abcdefghijklmnopqrstuvwx"],
  jwt: ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"],
  "private-key": ["-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"],
};
const names = Object.keys(found) as DetectorName[];

function maskerFor(detectors: readonly DetectorName[]): Masker {
  const masker = createMasker([{ detectors, with: "redact" }], key);
  assert.ok(masker !== null);
  return masker;
}

describe("detectors", () => {
  for (const name of names) {
    test(`${name} alone finds its own`, () => {
      for (const text of found[name]) assert.ok(maskerFor([name]).finds(text), text);
    });
  }

  test("what only looks like one stays", () => {
    const masker = maskerFor(names);
    const rowsOfTables = [
      "1  4111  1111  1111  1111",
      "4111  1111  1111  1111  2222",
      "4111  1111 1111  1111",
      "41111  111  1111  1111",
      "4111  1111  1111111  1",
      "4111   1111   1111   1111",
    ];
    const texts = [
      ...rowsOfTables,
      "4111111111111112",
      "000-12-3456",
      "2024-01-02 03:04:05",
      "second digit Asia",
      "10.5.2.1, 10.5.2.2",
    ];
    for (const text of texts) assert.equal(masker.maskString(text), text);
  });
});

describe("a match across the cut between two scans", () => {
  const window = 256 * 1024;
  const secrets: Readonly<Record<string, string>> = {
    card: "4111 1111 1111 1111",
    email: "ada.lovelace@example.com",
    jwt: `eyJhbGciOiJIUzI1NiJ9.eyJ${"Q".repeat(600)}.${"S".repeat(400)}`,
    privateKey: `-----BEGIN PRIVATE KEY-----\n${`${"M".repeat(64)}\n`.repeat(40)}-----END PRIVATE KEY-----`,
    github: `ghp_${"Z".repeat(60)}`,
    aws: awsSecret,
  };
  for (const [name, secret] of Object.entries(secrets)) {
    test(name, () => {
      const masker = maskerFor(names);
      const before = name === "aws" ? " aws_secret_access_key = " : " ";
      for (const cut of [window, window - 20_000, window - 20_064]) {
        for (let back = 0; back <= secret.length; back += secret.length > 200 ? 97 : 4) {
          const at = cut - back;
          const text = Buffer.alloc(window + 90_000, ".");
          text.write(`${before}${secret} `, at - before.length, "latin1");
          const whole = Buffer.from(text);
          masker.mask(whole, 0, whole.length);
          assert.match(whole.toString("latin1", at, at + secret.length), /^\*+$/, `mask, ${back} before ${cut}`);

          const stream = streamCopy(masker, () => {});
          const message = Buffer.concat([Buffer.from([0x64, 0, 0, 0, 0]), text]);
          const out: Buffer[] = [];
          for (let from = 0; from < message.length; from += 65_536) {
            const to = Math.min(message.length, from + 65_536);
            out.push(Buffer.from(stream.push(Buffer.from(message.subarray(from, to)), to === message.length)));
          }
          const left = Buffer.concat(out);
          assert.equal(left.length, message.length);
          assert.match(left.toString("latin1", 5 + at, 5 + at + secret.length), /^\*+$/, `stream, ${back}`);
        }
      }
    });
  }
});

test("deep in the hex form of a bytea, in a text that streams", () => {
  const masker = maskerFor(names);
  const hex = Buffer.from("4111111111111111").toString("hex");
  for (const deep of [10, 128 * 1024 - 1, 118_000, 121_072, 300_001]) {
    const raw = Buffer.from(`${"a".repeat(deep)} 4111111111111111 ${"b".repeat(400_000)}`).toString("hex");
    const message = Buffer.concat([Buffer.from([0x64, 0, 0, 0, 0]), Buffer.from(`1\tx\\\\x${raw}\t\\\\x41\n`)]);
    const stream = streamCopy(masker, () => {});
    const out: Buffer[] = [];
    for (let from = 0; from < message.length; from += 65_536)
      out.push(stream.push(Buffer.from(message.subarray(from, from + 65_536)), from + 65_536 >= message.length));
    const left = Buffer.concat(out).toString("latin1");
    assert.equal(left, message.toString("latin1").replace(hex, "2a".repeat(16)), String(deep));
  }
});

test("a style writes nothing outside of the value, whatever the encoding", () => {
  for (const style of ["redact", "last4", "email", "partial", "hash"] as const) {
    const bytes = Buffer.from([0, 0, 0, 12, 0xa3, 49, 50, 51, 52, 53, 54, 55, 56, 57, 48, 0xbf, 0x80, 0x81, 0, 5]);
    const masked = Buffer.from(bytes);
    applyStyle(masked, 4, 16, style, key);
    assert.deepEqual(masked.subarray(0, 4), bytes.subarray(0, 4), style);
    assert.deepEqual(masked.subarray(16), bytes.subarray(16), style);
  }
});
