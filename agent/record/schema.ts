/**
 * The Avro form of an entry, a public contract: fields are only added, with defaults, and every enum has a default
 * symbol (Avro 1.11 specification, schema resolution). Arrays and strings are as in agent/core/record.ts.
 */
import avro from "avsc";

const string = "string";
const optional = (type: unknown): unknown => ["null", type];
const list = (items: unknown): unknown => ({ type: "array", items });
const enumeration = (name: string, symbols: readonly string[]): unknown => ({
  type: "enum",
  name,
  symbols: ["unknown", ...symbols],
  default: "unknown",
});
const record = (name: string, fields: Readonly<Record<string, unknown>>, added: readonly Added[] = []): unknown => ({
  type: "record",
  name,
  fields: [...Object.entries(fields).map(([field, type]) => ({ name: field, type })), ...added],
});

/** A field that came later: always at the end, with what it is for an entry that was written before. */
interface Added {
  readonly name: string;
  readonly type: string;
  readonly default: string;
}

/** JSON; empty: nothing. */
const details: Added = { name: "details", type: string, default: "" };

const endpoint = record("Endpoint", { address: string, port: "int" });
const processInfo = record("Process", {
  pid: "int",
  ppid: "int",
  uid: "long",
  gid: "long",
  comm: string,
  exe: string,
  commandLine: list(string),
  startTicks: "long",
  cgroup: string,
  containerId: optional(string),
  job: optional(
    record("Job", {
      system: string,
      id: string,
      repository: optional(string),
      workflow: optional(string),
      actor: optional(string),
      ref: optional(string),
    }),
  ),
});
const flow = record("Flow", {
  id: string,
  destination: endpoint,
  source: "Endpoint",
  hostname: optional(string),
  process: optional(processInfo),
  identity: optional(record("Identity", { subject: string, issuer: string, groups: list(string) })),
  openedAtMs: "long",
  via: string,
});

const bodies = [
  record("SessionStart", { flow, target: string, protocol: string }),
  record("Login", {
    user: string,
    database: string,
    application: string,
    clientTls: "boolean",
    upstreamTls: "boolean",
  }),
  record(
    "Operation",
    {
      operationId: "long",
      kind: string,
      text: string,
      user: string,
      database: string,
      verbs: list(string),
      relations: list(string),
      columns: list(string),
      functions: list(string),
      writes: "boolean",
      traits: list(string),
      parameters: list(["null", string]),
      bytes: "long",
      action: enumeration("Action", ["allow", "deny", "hold"]),
      rule: string,
      reason: string,
      mode: enumeration("Mode", ["enforce", "report", "open"]),
      wouldBe: optional("Action"),
      policy: string,
      approvalId: optional(string),
    },
    [{ name: "protocol", type: string, default: "postgres" }, details],
  ),
  record("Approval", {
    operationId: "long",
    approvalId: string,
    decision: enumeration("ApprovalDecision", ["approved", "denied", "timeout", "withdrawn"]),
    by: string,
    reason: string,
  }),
  record(
    "Result",
    {
      operationId: "long",
      tag: string,
      rows: "long",
      bytes: "long",
      masked: "long",
      durationMs: "double",
      error: optional(record("ResultError", { code: string, message: string })),
    },
    [details],
  ),
  record("Rows", {
    operationId: "long",
    columns: list(string),
    rows: list(list(["null", string])),
    truncated: "boolean",
  }),
  record("Refused", { code: string, reason: string, flow: optional("Flow") }),
  record("Notice", { text: string }),
  record("Agent", { event: string, detail: string }),
  record("SessionEnd", {
    reason: string,
    bytesUp: "long",
    bytesDown: "long",
    operations: "long",
    denied: "long",
  }),
];

const entryOf = (body: unknown) => ({
  type: "record",
  name: "Entry",
  namespace: "weir.v1",
  fields: [
    { name: "agent", type: string },
    { name: "agentSeq", type: "long" },
    { name: "session", type: string },
    { name: "seq", type: "long" },
    { name: "timeMs", type: "long" },
    { name: "previous", type: { type: "fixed", name: "Link", size: 32 } },
    { name: "sessionPrevious", type: "Link" },
    { name: "body", type: body },
  ],
});

export const entrySchema = entryOf(bodies);

export const entryType = avro.Type.forSchema(entrySchema as avro.Schema, { wrapUnions: true });

/** The union of bodies alone, and its record names in order. */
export const bodyType = (entryType as avro.types.RecordType).field("body").type;
export const bodyNames: readonly string[] = (bodies as { name: string }[]).map(({ name }) => name);

/** What agents wrote before requests over HTTP were recorded: the same without the added fields. */
const firstBodies = (bodies as { fields: object[] }[]).map((body) => ({
  ...body,
  fields: body.fields.filter((field) => !("default" in field)),
}));
export const firstEntryType = avro.Type.forSchema(entryOf(firstBodies) as avro.Schema, { wrapUnions: true });
/** Made when it is needed: it takes longer than the schemas themselves. */
let fromFirst: object | null = null;

/**
 * A spool holds no schema. The added fields are the last of an entry, so an entry from before them ends too early for
 * the schema of now, and one of now is too long for the first.
 */
export function readEntry(bytes: Buffer): unknown {
  try {
    return entryType.fromBuffer(bytes);
  } catch (error) {
    try {
      fromFirst ??= entryType.createResolver(firstEntryType);
      return entryType.fromBuffer(bytes, fromFirst);
    } catch {
      throw error;
    }
  }
}

/** The schema that these bytes were written with, for whoever passes them on as they are. */
export function writerOf(bytes: Buffer): avro.Type {
  try {
    entryType.fromBuffer(bytes);
    return entryType;
  } catch {
    return firstEntryType;
  }
}
