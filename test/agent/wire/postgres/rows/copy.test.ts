/** Lines of a COPY, held whole and streamed in pieces of any size: the same bytes leave, and no masked one. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { describeStatement, prepareDescriber } from "../../../../../agent/wire/postgres/describe/index.ts";
import { type MaskPlan, planCopy } from "../../../../../agent/wire/postgres/mask-plan.ts";

before(() => prepareDescriber());

const names = ["a", "ssn", "b", "pin"];

function plan(options: string, detectors: boolean, encoding = "UTF8"): MaskPlan {
  const info = describeStatement(`COPY people TO STDOUT (${options})`);
  const spec = { rule: "pii", with: "last4", derived: "deny" } as const;
  return planCopy(
    {
      copy: info.copy,
      binary: false,
      columns: names.length,
      masks: [
        { ...spec, column: "people.ssn", detectors: null },
        { ...spec, column: "people.pin", detectors: null },
        ...(detectors ? [{ ...spec, column: null, detectors: ["credit-card" as const], with: "redact" as const }] : []),
      ],
      statements: [info],
      fields: names.map((name, index) => ({
        name,
        tableOid: 7,
        attribute: index + 1,
        typeOid: 25,
        typeModifier: -1,
        format: 0,
      })),
      catalog: names.map((column, index) => ({
        tableOid: 7,
        attribute: index + 1,
        schema: "public",
        table: "people",
        column,
        dependsOn: null,
      })),
      doubt: null,
      encoding,
    },
    { key: Buffer.from("key"), own: new Map() },
  );
}

function masking(options: string, detectors = false): Extract<MaskPlan, { kind: "mask" }> {
  const made = plan(options, detectors);
  assert.equal(made.kind, "mask");
  return made as Extract<MaskPlan, { kind: "mask" }>;
}

function copyData(line: string): Buffer {
  const body = Buffer.from(line);
  const head = Buffer.from([0x64, 0, 0, 0, 0]);
  head.writeUInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

/** `field` as PostgreSQL writes it (copyto.c), NULL left out. */
function written(field: string, [csv, delimiter, quote, escaping]: readonly [boolean, string, string, string]): string {
  if (!csv)
    return [...field]
      .map((sign) => ({ "\n": "\\n", "\t": "\\t", "\\": "\\\\" })[sign] ?? (sign === delimiter ? `\\${sign}` : sign))
      .join("");
  if (![delimiter, quote, "\n", "\r"].some((sign) => field.includes(sign)) && field !== "") return field;
  const inside = [...field].map((sign) => (sign === quote || sign === escaping ? escaping + sign : sign)).join("");
  return quote + inside + quote;
}

const formats = [
  ["FORMAT text", false, "\t", "", ""],
  ["DELIMITER '|'", false, "|", "", ""],
  ["FORMAT csv", true, ",", '"', '"'],
  ["FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '+'", true, ";", "'", "+"],
  ["FORMAT csv, ESCAPE ','", true, ",", '"', ","],
] as const;

const secret = "Z";
const fillings = ["", "plain", "\\", "a,b;c|d\te", '"', "'+'", '""', "\n", "x\\", '+"+', "é—"];

test("the same line leaves whole and in pieces of any size", () => {
  for (const [options, ...dialect] of formats)
    for (const [index, filling] of fillings.entries()) {
      const hidden = `${secret}${fillings[(index * 3 + 1) % fillings.length]}${secret.repeat(3)}`;
      const values = [filling, hidden, fillings[(index + 4) % fillings.length] ?? "", secret];
      const bytes = copyData(`${values.map((value) => written(value, dialect)).join(dialect[1])}\n`);
      const whole = Buffer.from(bytes);
      assert.equal(masking(options).row(whole, 0, whole.length), null);
      assert.ok(!whole.toString("latin1", 5, whole.length - 1).includes("ZZZZ"));
      assert.ok(!whole.includes(`${dialect[1]}${secret}`), `${options}: ${whole}`);
      for (const size of [1, 2, 3, 7, bytes.length]) {
        const stream = masking(options).stream();
        assert.ok(stream);
        const out: Buffer[] = [];
        for (let at = 0; at < bytes.length; at += size)
          out.push(stream.push(Buffer.from(bytes.subarray(at, at + size)), at + size >= bytes.length));
        assert.deepEqual(Buffer.concat(out), whole, `${options} ${JSON.stringify(values)} by ${size}`);
      }
    }
});

test("of a masked field above what is held nothing stays, and its quotes do", () => {
  const long = secret.repeat(200_000);
  for (const [field, kept] of [
    [long, ""],
    [`"${long}"""`, '"'],
  ] as const) {
    const bytes = copyData(`a,${field},4111111111111111,x\n`);
    const stream = masking("FORMAT csv", true).stream();
    const out: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 50_000)
      out.push(stream?.push(Buffer.from(bytes.subarray(at, at + 50_000)), at + 50_000 >= bytes.length) as Buffer);
    const text = Buffer.concat(out).toString("latin1", 5);
    if (kept === "") assert.equal(text, `a,${"*".repeat(200_000)},${"*".repeat(16)},*\n`);
    else assert.match(text, /^a,"\*{200001}["*]",\*{16},\*\n$/);
  }
});

test("what is not written as the options say ends the session", () => {
  for (const line of ["a,b,c\n", "a,b,c,d,e\n", 'a,"b,c,d\n', 'a,"b"c,c,d\n', "a,b,c,d", "a\n"]) {
    const bytes = copyData(line);
    assert.throws(() => masking("FORMAT csv").row(Buffer.from(bytes), 0, bytes.length), /COPY/);
    assert.throws(() => masking("FORMAT csv").stream()?.push(Buffer.from(bytes), true), /COPY/);
  }
});

test("options that could mean something else are denied", () => {
  const reason = (options: string, encoding?: string): string => {
    const made = plan(options, false, encoding);
    return made.kind === "deny" ? made.reason : made.kind;
  };
  assert.match(reason("FORMAT 'json'"), /format json/);
  assert.match(reason("FORMAT csv, SIDEWAYS 'x'"), /option sideways/);
  assert.match(reason("FORMAT csv", "SJIS"), /encoding SJIS/);
  assert.match(reason("FORMAT csv, ENCODING 'GB18030'"), /encoding GB18030/);
  assert.match(reason("FORMAT csv, QUOTE E'\\n'"), /plain sign/);
  assert.match(reason("FORMAT csv, NULL 'é'"), /plain ASCII/);
  assert.equal(reason("FORMAT csv, ENCODING 'latin-1'"), "mask");
});
