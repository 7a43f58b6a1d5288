/** The Avro form: written by hand as avsc writes it, and read back whoever wrote it. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { HttpFacts, LlmFacts, Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import { bodyOf, Chain, decodeEntry, linkOf } from "../../../agent/record/chain.ts";
import { readDetails } from "../../../agent/record/details.ts";
import { readEntries } from "../../../agent/record/read.ts";
import { entrySchema, entryType, firstEntryType, writerOf } from "../../../agent/record/schema.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import { llm as asked, operation, payloadsOf, result, sampleLog, sessionA, tempDir, writePayloads } from "./sample.ts";

const http: HttpFacts = {
  method: "POST",
  scheme: "https",
  host: "api.openai.com",
  path: "/v1/chat/ü",
  query: "key=***",
  contentType: "application/json",
};
const llm: LlmFacts = { ...asked, prompt: "never in details" };
const request = (fields: Partial<Operation>): EntryBody =>
  operation(1, "text 🎉", {}, { kind: "request", protocol: "llm", http, ...fields });

const bodies: EntryBody[] = [
  operation(1, "SELECT 1"),
  operation(2, "", { wouldBe: "deny" }, { parameters: [], verbs: [], bytes: 0 }),
  request({ llm }),
  request({ protocol: "http", bytes: Number.MAX_SAFE_INTEGER, parameters: ["ß", null] }),
  request({ protocol: "mcp", mcp: { method: "tools/call", name: "find", arguments: { a: "never" } } }),
  request({ protocol: "grpc", grpc: { service: "a.B", method: "Get", message: { a: "never" } } }),
  request({ llm: { ...llm, tools: Array.from({ length: 500 }, (_, i) => `tool-${i}-${"x".repeat(500)}`) } }),
  result(1, 3),
  {
    type: "result",
    operationId: 7,
    tag: "200",
    rows: 0,
    bytes: 9,
    masked: 0,
    durationMs: 0.25,
    error: null,
    details: '{"status":200,"text":"ö"}',
  },
];

test("entries written by hand are the bytes that avsc writes", () => {
  const chain = new Chain("agent-ö");
  for (const body of bodies) {
    const bytes = Buffer.from(chain.append(sessionA, body, 1_790_000_000_123));
    const entry = entryType.fromBuffer(bytes);
    assert.deepEqual(entryType.toBuffer(entry), bytes, JSON.stringify(body).slice(0, 200));
    assert.equal(writerOf(bytes), entryType);
  }
});

test("a request keeps its facts, and not what stands in the text", () => {
  const chain = new Chain("a");
  const fields = (body: EntryBody) => bodyOf(decodeEntry(Buffer.from(chain.append("s", body, 1)))).fields;
  const call = fields(request({ llm }));
  assert.equal(call["protocol"], "llm");
  const { prompt: _, ...facts } = llm;
  assert.deepEqual(readDetails(call), { http, llm: facts });
  const mcp = fields(request({ mcp: { method: "tools/call", name: "find", arguments: { a: "never" } } }));
  assert.deepEqual(readDetails(mcp).mcp, { method: "tools/call", name: "find" });
  const grpc = fields(request({ grpc: { service: "a.B", method: "Get", message: { a: "never" } } }));
  assert.deepEqual(readDetails(grpc).grpc, { service: "a.B", method: "Get" });
  for (const one of [call, mcp, grpc]) assert.doesNotMatch(String(one["details"]), /never/);
  assert.equal(fields(request({ bytes: Number.MAX_SAFE_INTEGER }))["bytes"], -1);
  const statement = fields(operation(1, "SELECT 1"));
  assert.deepEqual([statement["protocol"], statement["details"], readDetails(statement)], ["postgres", "", {}]);
  const many = readDetails(fields(request({ llm: { ...llm, tools: new Array<string>(500).fill("x".repeat(500)) } })));
  assert.equal((many.llm?.["tools"] as string[] | undefined)?.length, 128);
  assert.equal(many.llm?.["toolsLeftOut"], 372);
  assert.ok(JSON.stringify(many).length < 32_000);
});

test("details that are no JSON map are none", () => {
  for (const details of ["", "{", "[1]", "null", "7", undefined]) assert.deepEqual(readDetails({ details }), {});
});

/** An entry as an agent wrote it before there were requests. */
function asFirst(payload: Buffer): Buffer {
  const entry = decodeEntry(payload);
  return firstEntryType.toBuffer(entry);
}

test("an entry of before is read, with what the new fields are for it", () => {
  const chain = new Chain("a");
  for (const body of bodies.filter((one) => one.type !== "operation" || one.operation.protocol === "postgres")) {
    const now = Buffer.from(chain.append("s", body, 1));
    const before = asFirst(now);
    assert.equal(writerOf(before), firstEntryType);
    const { fields } = bodyOf(decodeEntry(before));
    assert.deepEqual(fields["details"], "");
    if (body.type === "operation") assert.equal(fields["protocol"], "postgres");
    assert.ok(before.length < now.length);
    assert.throws(() => decodeEntry(before.subarray(0, -1)));
    assert.throws(() => decodeEntry(Buffer.concat([before, Buffer.alloc(9, 0xff)])));
  }
});

test("a spool of before verifies, and is read along with what is added to it now", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  // Chained anew: links are over the bytes.
  let previous: Buffer = Buffer.alloc(32);
  const tails = new Map<string, Buffer>();
  const old = payloadsOf(path).map((payload) => {
    const entry = decodeEntry(payload);
    const bytes = firstEntryType.toBuffer({
      ...entry,
      previous,
      sessionPrevious: tails.get(entry.session) ?? Buffer.alloc(32),
    });
    previous = linkOf(bytes);
    tails.set(entry.session, previous);
    return bytes;
  });
  writePayloads(path, old);
  const headsFile = `${dir}/heads.jsonl`;
  assert.ok(readFileSync(headsFile, "utf8").length > 0);
  // The heads of the sample sign the new form; only the chain is looked at here.
  writeFileSync(headsFile, "");
  const read = [...readEntries(dir)];
  assert.deepEqual(
    read.filter(({ type }) => type === "Operation").map(({ fields }) => [fields["protocol"], fields["details"]]),
    [
      ["postgres", ""],
      ["postgres", ""],
    ],
  );
  await sampleLog(dir);
  const { firstBad, entries } = verifyLog(dir);
  assert.equal(firstBad, null);
  assert.ok(entries > 24);
});

test("every field that was added has a default, so that readers of either schema understand each other", () => {
  const forwards = firstEntryType.createResolver(entryType);
  const now = entryType.toBuffer(entryType.random());
  assert.doesNotThrow(() => firstEntryType.fromBuffer(now, forwards));
  assert.doesNotThrow(() => entryType.createResolver(firstEntryType));
  const added = JSON.stringify(entrySchema).match(/\{"name":"[a-z]+","type":"string","default":"[a-z]*"\}/g);
  assert.deepEqual(added, [
    '{"name":"protocol","type":"string","default":"postgres"}',
    '{"name":"details","type":"string","default":""}',
    '{"name":"details","type":"string","default":""}',
  ]);
});
