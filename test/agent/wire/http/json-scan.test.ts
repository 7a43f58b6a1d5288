import assert from "node:assert/strict";
import { test } from "node:test";
import { JsonScanner, type JsonToken, jsonDepthMax, jsonString } from "../../../../agent/wire/http/json-scan.ts";

function tokens(text: string): string[] | string {
  const bytes = Buffer.from(text);
  const scanner = new JsonScanner(bytes);
  const out: string[] = [];
  for (;;) {
    const token: JsonToken | null = scanner.next();
    if (token === null) return scanner.problem as string;
    if (token === "end") return out;
    out.push(
      `${token}${token === "key" || token === "string" ? `=${jsonString(bytes, scanner.start, scanner.end, scanner.escaped)}` : token === "number" ? `=${bytes.toString("utf8", scanner.start, scanner.end)}` : ""}`,
    );
  }
}

test("tokens come in order with their text", () => {
  assert.deepEqual(tokens(' {"a" : [1, -2.5e+3,true,null], "b\\u0041":"x\\ny" , "c":{}}\n'), [
    ...["{", "key=a", "[", "number=1", "number=-2.5e+3", "true", "null", "]"],
    ...["key=bA", "string=x\ny", "key=c", "{", "}", "}"],
  ]);
  assert.deepEqual(tokens("[]"), ["[", "]"]);
  assert.deepEqual(tokens("9007199254740993"), ["number=9007199254740993"]);
});

test("what JSON.parse refuses is refused, and nothing else", () => {
  const texts = [
    ...[
      "",
      " ",
      "{",
      "}",
      "[",
      "[1,]",
      "[,1]",
      '{"a"}',
      '{"a":}',
      '{"a":1,}',
      "{a:1}",
      "{'a':1}",
      "[1 2]",
      "1 2",
      "tru",
      "nul",
    ],
    ...[
      "01",
      "-",
      "-01",
      "1.",
      ".5",
      "1e",
      "1e+",
      "+1",
      "0x1",
      "NaN",
      "Infinity",
      '"',
      '"\\x"',
      '"\\u12g4"',
      '"\\u123"',
      '"\n"',
    ],
    ...[
      '"\t"',
      "[}",
      "{]",
      '{"a":1]',
      "[1}",
      "// x\n1",
      "1//",
      "\ufeff1",
      '"a"b',
      "[[]",
      '{"a":{"b":[{}]}}',
      "-0",
      "0",
      "0.0e-0",
    ],
    ...['"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\\ud83d"', "true false", "true", '{"":""}', "[[],{}]", "\u00a01", "1\u2028"],
  ];
  for (const text of texts) {
    let valid = true;
    try {
      JSON.parse(text);
    } catch {
      valid = false;
    }
    assert.equal(typeof tokens(text) !== "string", valid, JSON.stringify(text));
  }
});

test("random damage is judged as JSON.parse judges it", () => {
  const whole = '{"jsonrpc":"2.0","id":17,"params":{"a":[1.5e3,"x\\u00e9\\"y",true,false,null,{"b":""}],"c":-0}}';
  let seed = 7;
  const next = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  for (let round = 0; round < 4000; round += 1) {
    const letters = [...whole];
    for (let i = 0; i <= next(3); i += 1) letters[next(letters.length)] = '{}[],:"\\0-e.tn 1'[next(16)] as string;
    const text = letters.join("").slice(0, next(5) === 0 ? next(whole.length) : undefined);
    let valid = true;
    try {
      JSON.parse(text);
    } catch {
      valid = false;
    }
    assert.equal(typeof tokens(text) !== "string", valid, text);
  }
});

test("depth has a limit, and 100,000 brackets take no stack", () => {
  assert.equal(typeof tokens("[".repeat(jsonDepthMax) + "]".repeat(jsonDepthMax)), "object");
  assert.equal(tokens("[".repeat(jsonDepthMax + 1) + "]".repeat(jsonDepthMax + 1)), "too-deep");
  assert.equal(tokens("[".repeat(100_000)), "too-deep");
  assert.equal(tokens('{"a":'.repeat(100_000)), "too-deep");
});
