import assert from "node:assert/strict";
import { test } from "node:test";
import type { MaskStyle } from "../../../../agent/core/verdict.ts";
import { createMasker } from "../../../../agent/mask/masker.ts";
import { type JsonMasks, maskJson } from "../../../../agent/wire/http/json-mask.ts";
import { compileJsonPath } from "../../../../agent/wire/http/json-path.ts";

const key = Buffer.alloc(32, 1);
const masker = createMasker([{ detectors: ["email", "credit-card", "ssn"], with: "redact" }], key);

function paths(...texts: string[]): JsonMasks["paths"] {
  return texts.map((text) => {
    const path = compileJsonPath(text);
    if ("problem" in path) throw new Error(path.problem);
    return { path, with: "redact" as MaskStyle };
  });
}

function mask(text: string, masks: Partial<JsonMasks>): string | null {
  const source = Buffer.from(text);
  const before = Buffer.from(source);
  const result = maskJson(source, { masker: null, paths: [], key, ...masks });
  assert.deepEqual(source, before, "the source is never changed");
  return result?.bytes.toString("utf8") ?? null;
}

test("only what is found changes: spaces, order, big numbers and escapes stay", () => {
  const text = ' {"z" : 12345678901234567890 ,\n\t"mail":"ann@example.com", "e":1.0E+2,"a":"\\u00e9\\/"}\r\n';
  assert.equal(mask(text, { masker }), text.replace("ann@example.com", "***************"));
  assert.equal(mask(text, { masker: null }), text);
});

test("escapes hide nothing", () => {
  const card = "4111111111111111";
  const escaped = [...card].map((digit) => `\\u00${digit.charCodeAt(0).toString(16)}`).join("");
  assert.equal(mask(`["${escaped}"]`, { masker }), '["****************"]');
  assert.equal(mask('["ann\\u0040example.com\\n"]', { masker }), '["***************\\n"]');
});

test("numbers become 0 and keep their room, truth values false", () => {
  assert.equal(mask('{"card":4111111111111111,"n":42}', { masker }), '{"card":0               ,"n":42}');
  assert.equal(
    mask('{"a":{"n":-1.5,"t":true,"f":false,"x":null,"s":"abc"}}', { paths: paths("$.a") }),
    '{"a":{"n":0   ,"t":false,"f":false,"x":null,"s":"***"}}',
  );
});

test("keys are looked at too", () => {
  assert.equal(
    mask('{"ann@example.com":1,"a\\u0040b.example":2}', { masker }),
    '{"***************":1,"***********":2}',
  );
});

test("a JSON text in a string is looked into, also twice", () => {
  const inner = JSON.stringify({ customers: [{ ssn: "none", name: "Ann" }] });
  const outer = JSON.stringify({ text: inner, twice: JSON.stringify({ x: inner }) });
  const out = JSON.parse(mask(outer, { paths: paths("$..name") }) as string) as { text: string; twice: string };
  assert.deepEqual(JSON.parse(out.text), { customers: [{ ssn: "none", name: "***" }] });
  assert.deepEqual(JSON.parse((JSON.parse(out.twice) as { x: string }).x), {
    customers: [{ ssn: "none", name: "***" }],
  });
  assert.equal(mask(outer, { paths: paths("$..nothing") }), outer);
  assert.equal(mask('["[see ann@example.com]"]', { masker }), '["[see ***************]"]');
});

test("paths begin at the body, at named roots, and in nested texts", () => {
  const text = '{"result":{"structuredContent":{"customers":[{"ssn":"1","x":"2"}]},"customers":[{"ssn":"3"}]}}';
  const masks = { paths: paths("$.customers[*].ssn"), roots: [["$", "result", "structuredContent"]] };
  assert.equal(mask(text, masks), text.replace('"ssn":"1"', '"ssn":"*"'));
});

test("spared values stay", () => {
  const spares: JsonMasks["spares"] = (way) => way.join(".") === "$.id";
  const text = '{"id":"ann@example.com","to":"ann@example.com"}';
  assert.equal(mask(text, { masker, spares }), '{"id":"ann@example.com","to":"***************"}');
});

test("what is no JSON, or no UTF-8, is told", () => {
  assert.equal(mask("{", { masker }), null);
  assert.equal(maskJson(Buffer.from([0x22, 0xff, 0x22]), { masker, paths: [], key }), null);
});
