/** Sessions and the state of the record, from the thread that reads it. */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { RecordQuestion, RecordReader } from "./record-reader.ts";

const limitMax = 200;
const entriesMax = 1_000;

export function recordRoutes(app: FastifyInstance, record: RecordReader): void {
  app.get<{ Querystring: { q?: string; before?: number; limit?: number } }>(
    "/api/sessions",
    { schema: { querystring: listSchema } },
    ({ query: { q = "", before, limit = 50 } }, reply) =>
      answer(reply, record, { type: "sessions", search: q, beforeMs: before ?? null, limit }),
  );
  app.get<{ Params: { id: string }; Querystring: { after?: number; limit?: number } }>(
    "/api/sessions/:id(^[0-9a-f-]{36}$)",
    { schema: { querystring: pageSchema } },
    ({ params: { id }, query: { after = -1, limit = entriesMax } }, reply) =>
      answer(reply, record, { type: "entries", session: id, after, limit }),
  );
  app.get("/api/verify", (_request, reply) => answer(reply, record, { type: "verify" }));
}

const listSchema = {
  type: "object",
  properties: {
    q: { type: "string", maxLength: 200 },
    before: { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
    limit: { type: "integer", minimum: 1, maximum: limitMax },
  },
} as const;

const pageSchema = {
  type: "object",
  properties: {
    after: { type: "integer", minimum: -1, maximum: Number.MAX_SAFE_INTEGER },
    limit: { type: "integer", minimum: 1, maximum: entriesMax },
  },
} as const;

/** What is wrong with the record is for the page to see. */
async function answer(reply: FastifyReply, record: RecordReader, question: RecordQuestion): Promise<unknown> {
  try {
    const json = await record.ask(question);
    if (json === null) return reply.code(404).send({ error: "not found" });
    return reply.header("Content-Type", "application/json; charset=utf-8").send(json);
  } catch (error) {
    return reply.code(500).send({ error: error instanceof Error ? error.message : String(error) });
  }
}
