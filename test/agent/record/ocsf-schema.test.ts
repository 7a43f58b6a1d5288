/** Every kind of entry as an OCSF event, held against OCSF's own schema. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import type { Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import { Chain, decodeEntry } from "../../../agent/record/chain.ts";
import { ocsfChain } from "../../../agent/record/ocsf.ts";
import { simplify } from "../../../agent/record/read.ts";
import { answer, flow, llm, operation, result, sessionEnd } from "./sample.ts";

const python = resolve(import.meta.dirname, "../../../build/venv/bin/python");
const hasPython = existsSync(python) && spawnSync(python, ["-c", "import ocsf_json_schema, jsonschema"]).status === 0;

/**
 * The newest that any package carries; the events say 1.9.0, whose one difference here is the attestation, which has a test
 * of its own below.
 */
const schemaVersion = "1.8.0";
const newer = ["attestation_list"];

const http = {
  method: "POST",
  scheme: "https",
  host: "api.example",
  path: "/v1/x",
  query: "a=b",
  contentType: "application/json",
} as const;
const request = (id: number, fields: Partial<Operation>, action: "allow" | "deny" | "hold" = "allow"): EntryBody =>
  operation(id, "what was said", { action }, { kind: "request", parameters: [], verbs: [], http, ...fields });
const failed = { code: "42501", message: "permission denied" };

const bodies: EntryBody[] = [
  { type: "agent", event: "start", detail: "policy abc" },
  { type: "session-start", flow: flow("s"), target: "orders", protocol: "postgres" },
  {
    type: "session-start",
    flow: { ...flow("s"), process: null, hostname: null, destination: { address: "2001:db8::1", port: 5432 } },
    target: "v6",
    protocol: "postgres",
  },
  { type: "login", user: "ada", database: "app", application: "psql", clientTls: true, upstreamTls: false },
  ...(["select", "insert", "update", "delete", "drop", "grant", "vacuum"] as const).map((verb, at) =>
    operation(at + 1, `${verb} …`, {}, { verbs: [verb] }),
  ),
  operation(8, "DROP TABLE users", { action: "deny" }),
  operation(9, "SELECT '\ud800'", { action: "hold", mode: "report", wouldBe: "deny" }, { verbs: [] }),
  { type: "approval", operationId: 9, approvalId: "a", decision: "approved", by: "grace", reason: "ok" },
  result(1, 3),
  { ...(result(2, 0) as Extract<EntryBody, { type: "result" }>), error: failed },
  { type: "rows", operationId: 1, columns: ["a"], rows: [["x"], [null]], truncated: false },
  { type: "refused", code: "WEIR_DENIED", reason: "no target", flow: flow("r") },
  { type: "refused", code: "WEIR_DENIED", reason: "udp", flow: null },
  { type: "notice", text: "hello" },
  ...["GET", "POST", "PROPFIND"].map((method, at) => request(20 + at, { protocol: "http", http: { ...http, method } })),
  answer(20, { status: 200 }),
  answer(21, { status: 503 }),
  request(30, { protocol: "llm", llm }, "hold"),
  answer(30, { status: 200, inputTokens: 5, outputTokens: 6, toolCalls: ["weather"], text: "sunny" }),
  request(31, { protocol: "mcp", mcp: { method: "tools/call", name: "find", arguments: {} } }, "deny"),
  request(32, { protocol: "mcp", mcp: { method: "resources/list", name: "", arguments: {} } }),
  answer(32, { status: 200 }),
  request(33, { protocol: "grpc", grpc: { service: "a.B", method: "Get" } as Operation["grpc"] & object }),
  answer(33, { status: 200, grpcStatus: 0 }),
  sessionEnd,
];

/** Every kind of event, and the seal, as JSON. */
function allEvents(): string[] {
  const chain = new Chain("host-1234");
  const ocsf = ocsfChain();
  const lines = bodies.map((body, at) =>
    JSON.stringify(ocsf.eventOf(simplify(decodeEntry(Buffer.from(chain.append("s", body, 1_790_000_000_000 + at)))))),
  );
  const seal = {
    format: "ocsf",
    agent: "host-1234",
    lines: 1,
    firstSeq: 0,
    lastSeq: 0,
    last: "ab",
    timeMs: 1,
  } as const;
  lines.push(JSON.stringify(ocsf.sealEvent({ ...seal, signature: "c2ln" })));
  return lines;
}

/** The object `attestation` of 1.9.0, with `prev_event` and what is new in `fingerprint`: names, and the numbers' meanings. */
test("all events have an attestation as OCSF 1.9.0 has it", () => {
  const keys = (value: object): string => Object.keys(value).sort().join();
  let before: unknown;
  for (const line of allEvents()) {
    const event = JSON.parse(line) as {
      metadata: { version: string; profiles: string[]; uid: string };
      type_uid: number;
      attestation_list: [{ fingerprint: Record<string, unknown>; prev_event?: object }];
    };
    assert.equal(event.metadata.version, "1.9.0");
    assert.ok(event.metadata.profiles.includes("record_integrity"));
    const [{ fingerprint, prev_event, ...rest }] = event.attestation_list;
    assert.equal(keys(rest), "authority_uid,chain_uid");
    const { value, ...how } = fingerprint;
    assert.match(String(value), /^[0-9a-f]{64}$/);
    assert.deepEqual(how, {
      ...{ algorithm: "SHA-256", algorithm_id: 3, encoding: "Hex", encoding_id: 1 },
      ...{ serialization: "JCS", serialization_id: 2 },
    });
    assert.deepEqual(prev_event, before);
    before = { uid: event.metadata.uid, type_uid: event.type_uid, fingerprint };
  }
});

test(`all events are valid OCSF ${schemaVersion}`, {
  skip: hasPython ? false : "ocsf-json-schema is not installed: run scripts/setup --dev",
}, () => {
  const lines = allEvents();
  const ran = spawnSync(python, [join(import.meta.dirname, "ocsf.py"), schemaVersion, ...newer], {
    input: `${lines.join("\n")}\n`,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.equal(ran.status, 0, ran.stderr);
  const said = JSON.parse(ran.stdout) as { events: number; errors: string[]; profiles: string[] };
  assert.deepEqual(said.errors, []);
  assert.equal(said.events, lines.length);
  // A schema that takes anything would prove nothing.
  const wrong = JSON.stringify({ ...JSON.parse(lines[4] as string), severity_id: "high", nonsense: 1 });
  const refused = spawnSync(python, [join(import.meta.dirname, "ocsf.py"), schemaVersion, ...newer], {
    input: wrong,
    encoding: "utf8",
  });
  assert.ok((JSON.parse(refused.stdout) as { errors: string[] }).errors.length >= 2, refused.stdout);
});
