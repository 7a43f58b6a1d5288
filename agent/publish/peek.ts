/**
 * What the publisher has to know of an entry: whose it is, and whether a person would want to hear of it. Read by a
 * projection of the schema, so that the rest of the body is skipped, not decoded.
 */
import avro from "avsc";
import { entrySchema, entryType, writerOf } from "../record/schema.ts";

export interface EntryPeek {
  readonly agent: string;
  readonly agentSeq: number;
  readonly session: string;
  readonly seq: number;
  /** A verdict that is not a plain allow, a person's decision, or a refused connection. */
  readonly notable: boolean;
  /** The schema it was written with: a spool may be older than the agent that publishes it. */
  readonly writer: avro.Type;
}

/** Throws for bytes that are no entry. */
export function peekEntry(bytes: Buffer): EntryPeek {
  try {
    return projected(bytes, entryType);
  } catch {
    return projected(bytes, writerOf(bytes));
  }
}

function projected(bytes: Buffer, writer: avro.Type): EntryPeek {
  const { agent, agentSeq, session, seq, body } = projection.fromBuffer(bytes, resolverOf(writer)) as Projected;
  return { agent, agentSeq, session, seq, notable: isNotable(body), writer };
}

interface Projected extends Omit<EntryPeek, "notable" | "writer"> {
  readonly body: Readonly<Record<string, { readonly action: string; readonly wouldBe: unknown }>>;
}

function isNotable(body: Projected["body"]): boolean {
  const operation = body["weir.v1.Operation"];
  if (operation !== undefined) return operation.action !== "allow" || operation.wouldBe !== null;
  return "weir.v1.Approval" in body || "weir.v1.Refused" in body;
}

interface RecordSchema {
  readonly name: string;
  readonly fields: readonly { readonly name: string; readonly type: unknown }[];
}

const kept: Readonly<Record<string, readonly string[]>> = {
  Entry: ["agent", "agentSeq", "session", "seq", "body"],
  Operation: ["action", "wouldBe"],
};

function pruned(schema: RecordSchema): RecordSchema {
  const fields = schema.fields
    .filter(({ name }) => kept[schema.name]?.includes(name))
    .map((field) => (field.name === "body" ? { ...field, type: (field.type as RecordSchema[]).map(pruned) } : field));
  return { ...schema, fields };
}

const projection = avro.Type.forSchema(pruned(entrySchema as RecordSchema) as unknown as avro.Schema, {
  wrapUnions: true,
});
const resolvers = new Map<avro.Type, object>();

function resolverOf(writer: avro.Type): object {
  const known = resolvers.get(writer) ?? projection.createResolver(writer);
  resolvers.set(writer, known);
  return known;
}
