/** A registry with Confluent's API, as small as one can be: what is sent to it, and what its bad days do. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { after, before, test } from "node:test";
import avro from "avsc";
import { openRegistry } from "../../../agent/kafka/registry.ts";
import { entryType, firstEntryType } from "../../../agent/record/schema.ts";

interface Asked {
  readonly line: string;
  readonly authorization: string | undefined;
}

const schemas: string[] = [];
const asked: Asked[] = [];
let answer: (line: string, body: string) => { status: number; body: string };
let server: Server;
let url: string;

before(async () => {
  server = createServer((request, response) => void reply(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  url = `http://user:p%40ss@127.0.0.1:${typeof address === "object" ? address?.port : 0}/apis/ccompat/v7`;
});
after(() => void server.close());

async function reply(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const line = `${request.method} ${request.url}`;
  asked.push({ line, authorization: request.headers.authorization });
  const { status, body } = answer(line, await text(request));
  response.writeHead(status).end(body);
}

async function text(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const piece of request) body += String(piece);
  return body;
}

function good(line: string, body: string): { status: number; body: string } {
  const id = /\/schemas\/ids\/(\d+)$/.exec(line)?.[1];
  if (id !== undefined) {
    const schema = schemas[Number(id) - 1];
    return schema === undefined
      ? { status: 404, body: '{"error_code":40403}' }
      : { status: 200, body: JSON.stringify({ schema }) };
  }
  const { schema } = JSON.parse(body) as { schema: string };
  if (!schemas.includes(schema)) schemas.push(schema);
  return { status: 200, body: JSON.stringify({ id: schemas.indexOf(schema) + 1 }) };
}

test("schemas are registered oldest first, and read back as what they were", async () => {
  answer = good;
  const registry = openRegistry(url);
  const framing = await registry.framing();
  assert.deepEqual([...framing(firstEntryType)], [0, 0, 0, 0, 1]);
  assert.deepEqual([...framing(entryType)], [0, 0, 0, 0, 2]);
  const read = avro.Type.forSchema(JSON.parse((await registry.schema(2)) as string) as avro.Schema, {
    wrapUnions: true,
  });
  assert.ok(read.equals(entryType));
  assert.equal(await registry.schema(3), null);
  assert.equal(asked[0]?.line, "POST /apis/ccompat/v7/subjects/weir.verdicts.v1-value/versions");
  assert.equal(asked[1]?.line, "POST /apis/ccompat/v7/subjects/weir.sessions.v1-value/versions");
  assert.ok(asked.every(({ authorization }) => authorization === `Basic ${btoa("user:p@ss")}`));
});

test("a registry that refuses, talks nonsense, or talks without end is a rejection", async () => {
  const registry = openRegistry(url);
  for (const [status, body] of [
    [409, '{"message":"incompatible"}'],
    [200, "{}"],
    [200, "not json"],
    [200, '"x'.padEnd(2_000_000, "x")],
    [302, "{}"],
  ] as const) {
    answer = () => ({ status, body });
    await assert.rejects(registry.framing(), { code: "WEIR_KAFKA_UNREACHABLE" });
    await assert.rejects(registry.schema(1), { code: "WEIR_KAFKA_UNREACHABLE" });
  }
  await assert.rejects(openRegistry("http://127.0.0.1:9").framing(), { code: "WEIR_KAFKA_UNREACHABLE" });
});
