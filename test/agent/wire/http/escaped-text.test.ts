import assert from "node:assert/strict";
import { test } from "node:test";
import { bodyReader, bodyRedactor } from "../../../../agent/wire/http/body-mask.ts";
import { maskOf, redactOf, verdictOf } from "../llm/exchange.ts";

const email = "ada@example.com";
const card = "4111 1111 1111 1111";
const masking = { maskKey: Buffer.from("key"), custom: new Map() };
const verdict = verdictOf({
  redactions: [{ ...redactOf(["email", "credit-card"]), with: "redact" }],
  masks: [maskOf(["email", "credit-card"])],
});
const form = "application/x-www-form-urlencoded";

/** What leaves of a request's and of a reply's body, cut into parts of so many bytes. */
function masked(type: string, text: string, bytes: number): [string, string] {
  return [bodyRedactor(type, "", verdict, masking), bodyReader(type, verdict, masking)].map((reader) => {
    const out: Buffer[] = [];
    const body = Buffer.from(text);
    for (let at = 0; at < body.length; at += bytes)
      out.push(Buffer.from(reader?.push(Buffer.from(body.subarray(at, at + bytes))) ?? []));
    out.push(reader?.end() ?? Buffer.alloc(0));
    return Buffer.concat(out).toString();
  }) as [string, string];
}

const hex = (letter: string, digits: number): string => letter.charCodeAt(0).toString(16).padStart(digits, "0");
const all = (text: string, write: (letter: string) => string): string => [...text].map(write).join("");
const unicode = (letter: string): string => `\\u${hex(letter, 4)}`;
const percent = (letter: string): string => `%${hex(letter, 2)}`;

const jsonTexts = [
  ...[email, card].flatMap((value) => [
    `{"a":"${all(value, unicode)}"}`,
    `{"a":"${value.replaceAll(/[@1]/g, unicode)}","b":"é\\n${value}"}`,
    `["\\ud83d\\ude00${value.replace(/[@ ]/, unicode)}\\ud83d\\ude00", "${all(value, (l) => unicode(l).toUpperCase().replace("U", "u"))}"]`,
  ]),
  '{"\\u0061da@example.com":4111111111111111,"n":12}',
];
const formTexts = [email, card].flatMap((value) => [
  `a=${encodeURIComponent(value)}&b=1`,
  `a=${all(value, percent)}&b=${all(value, percent).toUpperCase()}`,
  `a=b+c&d=${value.replaceAll(" ", "+")}`,
]);

for (const [type, texts] of [
  ["application/json", jsonTexts],
  [form, formTexts],
] as const)
  test(`${type}: a value is found however it is written and wherever it is cut`, () => {
    for (const text of texts) {
      const whole = masked(type, text, text.length);
      for (const out of whole) {
        assert.equal(out.length, text.length, out);
        const said = type === form ? decodeURIComponent(out.replaceAll("+", " ")) : JSON.stringify(JSON.parse(out));
        for (const value of [email, card, card.replaceAll(" ", "")]) assert.ok(!said.includes(value), `${text} ${out}`);
        assert.match(said, /\*{4}|0{8}|10{7}/, out);
      }
      for (let bytes = 1; bytes < text.length; bytes += 1)
        assert.deepEqual(masked(type, text, bytes), whole, `${bytes}`);
    }
  });

test("what is not masked leaves as it was written", () => {
  for (const [type, text] of [
    ["application/json", String.raw`{"a":"\u00e9\\u0040\ud83d\ude00 \ud800 \u0041\/\"\n","b":[1.0,"%40+"]} \u12 \x \u`],
    ["application/json", '{"a":"\\u00'],
    ["application/json", '{"a":"\\ud83d\\ud'],
    [form, "a=%C3%A9+b&c=%4&d=%zz+&e=%"],
    ["text/plain", "a%40b \\u0040 +"],
  ] as const)
    for (let bytes = 1; bytes <= text.length; bytes += 1) assert.deepEqual(masked(type, text, bytes), [text, text]);
});

test("an escape beside a value stays, and one within it becomes a letter of the mask", () => {
  const [out] = masked("application/json", String.raw`"\u00e9 \u0061da@example.com\u0020\ud83d\ude00"`, 7);
  assert.equal(out, String.raw`"\u00e9 \u002a**************\u0020\ud83d\ude00"`);
  assert.equal(masked("", String.raw`C:\users \u0061da@example.com`, 5)[0], String.raw`C:\users \u002a**************`);
  // JSON that curl calls a form.
  assert.equal(
    masked(form, String.raw`{"a":"\u0061da%40example.com"}`, 3)[0],
    String.raw`{"a":"\u002a**%2A***********"}`,
  );
  assert.equal(masked(form, "a=x+ada%40example.com+%C3%A9", 5)[0], "a=x+***%2A***********+%C3%A9");
});
