/**
 * Entries as OCSF 1.9 events (schema.ocsf.io): what runs on a database is Datastore Activity (6005), requests over HTTP
 * are told by ocsf-request.ts, sessions, logins and the agent itself by ocsf-session.ts, all else is a Base Event. Each event carries an attestation of the profile
 * `record_integrity`: its fingerprint is over the event's own canonical JSON (RFC 8785) and holds the one before, so
 * that an export can be checked without the record. What is signed is the record; `weir verify` checks that.
 */
import { hash } from "node:crypto";
import { type RecordedDetails, readDetails } from "./details.ts";
import { actor, ends, type Json, wellFormed } from "./ocsf-parts.ts";
import { type RequestEvent, requestEvent, responseEvent } from "./ocsf-request.ts";
import { sessionEvent } from "./ocsf-session.ts";
import type { Fields, ReadEntry } from "./read.ts";
import { type SignedSeal, sealType } from "./seal.ts";

const schemaVersion = "1.9.0";
const datastoreActivity = 6005;
const networkActivity = 4001;

interface Known {
  readonly flow: Fields | null;
  readonly target: string;
  /** Requests whose answer has not come, by their operation: its event is of the same class. */
  readonly requests: Map<unknown, RecordedDetails>;
}

/** Answers of one session that may be waited for; a denied request never gets one. */
const requestsMax = 1_024;

interface Previous {
  readonly uid: string;
  readonly type_uid: number;
  readonly fingerprint: Json;
}

export interface OcsfChain {
  /** Feed it every entry in order, from the first: an event's fingerprint depends on all before it. */
  eventOf(entry: ReadEntry): Json;
  /** How a session began that another chain has told of. */
  know(entry: ReadEntry): void;
  /** A Base Event that holds the seal, as the last link of the chain. */
  sealEvent(seal: SignedSeal): Json;
  /** Of the last event, hex; empty before the first. */
  readonly last: string;
}

export function ocsfChain(chainUid: (entry: ReadEntry) => string = ({ agent }) => agent): OcsfChain {
  const sessions = new Map<string, Known>();
  let previous: Previous | null = null;
  const attested = (event: Json, agent: string, chain: string, uid: string): Json => {
    const attestation: Json = { authority_uid: agent, chain_uid: chain };
    if (previous !== null) attestation["prev_event"] = previous;
    event["attestation_list"] = [attestation];
    attestation["fingerprint"] = fingerprint(hash("sha256", canonicalJson(event)));
    previous = { uid, type_uid: event["type_uid"] as number, fingerprint: attestation["fingerprint"] as Json };
    return event;
  };
  const know = (entry: ReadEntry): void => {
    if (entry.type !== "SessionStart") return;
    const { flow, target } = entry.fields;
    sessions.set(entry.session, { flow: flow as Fields, target: String(target), requests: new Map() });
  };
  return {
    know,
    eventOf(entry) {
      know(entry);
      const known = sessions.get(entry.session) ?? { flow: null, target: "", requests: new Map() };
      if (entry.type === "SessionEnd") sessions.delete(entry.session);
      return attested(eventOf(entry, known), entry.agent, chainUid(entry), uidOf(entry));
    },
    sealEvent(seal) {
      const { agent, lastSeq, timeMs } = seal;
      const entry = { agent, session: "agent", seq: -1, agentSeq: lastSeq + 1, timeMs, type: sealType, fields: {} };
      const event = { ...base(entry, 0, 99, sealType), message: sealType, unmapped: seal };
      return attested(event, agent, chainUid(entry), `${agent}:seal`);
    },
    get last() {
      return String(previous?.fingerprint["value"] ?? "");
    },
  };
}

/** The fingerprint that an event should have, and the one it has; null when it holds no attestation. */
export function fingerprintsOf(event: Json): { made: string; stated: string; previous: string | null } | null {
  const [first] = Array.isArray(event["attestation_list"]) ? (event["attestation_list"] as unknown[]) : [];
  if (first === null || typeof first !== "object") return null;
  const { fingerprint: stated, signatures: _, ...attestation } = first as Json;
  const before = attestation["prev_event"] as { fingerprint?: Json } | undefined;
  return {
    made: hash("sha256", canonicalJson({ ...event, attestation_list: [attestation] })),
    stated: String((stated as Json | undefined)?.["value"]),
    previous: before === undefined ? null : String(before.fingerprint?.["value"]),
  };
}

function fingerprint(value: string): Json {
  return {
    algorithm: "SHA-256",
    algorithm_id: 3,
    encoding: "Hex",
    encoding_id: 1,
    serialization: "JCS",
    serialization_id: 2,
    value,
  };
}

/** RFC 8785: keys in the order of their UTF-16 units, everything else as JSON.stringify has it. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const pairs = Object.entries(value).filter(([, inner]) => inner !== undefined);
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${pairs.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(",")}}`;
}

function uidOf(entry: ReadEntry): string {
  return `${entry.agent}:${entry.agentSeq}`;
}

function eventOf(entry: ReadEntry, known: Known): Json {
  const { type, fields } = entry;
  switch (type) {
    case "Operation": {
      const request = requestEvent(fields);
      if (request === null)
        return { ...base(entry, datastoreActivity, activityOf(fields)), ...operation(fields, known) };
      const { requests } = known;
      requests.set(fields["operationId"], readDetails(fields));
      if (requests.size > requestsMax) requests.delete(requests.keys().next().value);
      return { ...baseOf(entry, request), ...decided(fields, known), ...request.fields };
    }
    case "Result": {
      const asked = known.requests.get(fields["operationId"]);
      known.requests.delete(fields["operationId"]);
      if (asked !== undefined) {
        const answer = responseEvent(fields, asked);
        return { ...baseOf(entry, answer), ...ended(fields, known), ...answer.fields };
      }
      return { ...base(entry, datastoreActivity, 99, "Result"), ...result(fields, known) };
    }
    case "Refused": {
      const flow = (fields["flow"] as Fields | null) ?? null;
      return {
        ...base(entry, networkActivity, 5, "Refuse"),
        ...ends(flow),
        ...control("deny"),
        status_code: fields["code"],
        message: fields["reason"],
      };
    }
    default: {
      const event = sessionEvent(entry, known.flow, known.target);
      if (event === null) return { ...base(entry, 0, 99, type), message: type, unmapped: fields };
      return { ...baseOf(entry, { ...event, profiles: [] }), ...event.fields };
    }
  }
}

function base(entry: ReadEntry, classUid: number, activityId: number, activityName?: string): Json {
  const denied = entry.type === "Refused" || entry.fields["action"] === "deny";
  return {
    metadata: {
      version: schemaVersion,
      product: { name: "Weir", vendor_name: "Weir" },
      profiles: ["host", "security_control", "record_integrity"],
      uid: uidOf(entry),
      sequence: entry.agentSeq,
      correlation_uid: entry.session,
      event_code: entry.type,
      // Its place in its session: by it a removed session is told from a removed event.
      ...(entry.seq < 0 ? {} : { original_event_uid: `${entry.session}:${entry.seq}` }),
    },
    time: entry.timeMs,
    category_uid: Math.floor(classUid / 1000),
    class_uid: classUid,
    activity_id: activityId,
    type_uid: classUid * 100 + activityId,
    severity_id: denied ? 3 : 1,
    ...(activityName === undefined ? {} : { activity_name: activityName }),
  };
}

function baseOf(entry: ReadEntry, event: RequestEvent): Json {
  const json = base(entry, event.classUid, event.activityId, event.activityName);
  const metadata = json["metadata"] as { profiles: string[] };
  metadata.profiles.push(...event.profiles);
  return json;
}

function operation(fields: Fields, known: Known): Json {
  return {
    ...decided(fields, known),
    database: { name: fields["database"], type_id: 1 },
    type_id: 1,
    query_info: { query_string: wellFormed(fields["text"]), uid: String(fields["operationId"]) },
  };
}

/** What every decided operation tells, whatever it was. */
function decided(fields: Fields, known: Known): Json {
  const action = String(fields["action"]);
  const details = readDetails(fields);
  return {
    ...ends(known.flow),
    actor: actor(known.flow, String(fields["user"])),
    ...control(action),
    policy: { name: fields["rule"], uid: fields["policy"], desc: fields["reason"] },
    unmapped: {
      target: known.target,
      mode: fields["mode"],
      would_be: fields["wouldBe"],
      verbs: fields["verbs"],
      relations: fields["relations"],
      traits: fields["traits"],
      parameters: (fields["parameters"] as (string | null)[]).map(wellFormed),
      approval_uid: fields["approvalId"],
      // Of a request its text is no query: a prompt, a call with its arguments.
      ...(fields["kind"] === "request" ? { protocol: fields["protocol"], text: wellFormed(fields["text"]) } : {}),
      ...(details.llm === undefined ? {} : { tools: details.llm["tools"], stream: details.llm["stream"] }),
    },
  };
}

function result(fields: Fields, known: Known): Json {
  return {
    ...ended(fields, known),
    // Datastore Activity wants a database, and the result does not say which: the target stands for it.
    database: { name: known.target, type_id: 1 },
  };
}

/** What every answer tells. */
function ended(fields: Fields, known: Known): Json {
  const error = fields["error"] as { code: string; message: string } | null;
  const { toolCalls, text } = readDetails(fields);
  return {
    ...ends(known.flow),
    actor: actor(known.flow, ""),
    duration: Math.round(Number(fields["durationMs"])),
    status_id: error === null ? 1 : 2,
    ...(error === null ? {} : { status_code: error.code, status_detail: wellFormed(error.message) }),
    unmapped: {
      operation_uid: String(fields["operationId"]),
      ...{ tag: fields["tag"], rows: fields["rows"], masked: fields["masked"], bytes: fields["bytes"] },
      ...(toolCalls === undefined ? {} : { tool_calls: toolCalls }),
      ...(typeof text === "string" ? { text: wellFormed(text) } : {}),
    },
  };
}

/** Profile security_control. A held operation is neither yet: its approval follows as an event of its own. */
function control(action: string): Json {
  if (action === "allow") return { action_id: 1, action: "Allowed", disposition_id: 1, disposition: "Allowed" };
  if (action === "deny") return { action_id: 2, action: "Denied", disposition_id: 2, disposition: "Blocked" };
  return { action_id: 0, action: "Unknown", disposition_id: 99, disposition: "Held for approval" };
}

/** Datastore Activity: 1 Read, 2 Update, 3 Connect, 4 Query, 5 Write, 6 Create, 7 Delete, 99 Other. */
function activityOf(fields: Fields): number {
  if (fields["kind"] === "connect") return 3;
  const verbs = new Set(fields["verbs"] as string[]);
  const any = (...names: string[]): boolean => names.some((name) => verbs.has(name));
  if (any("delete", "drop", "truncate")) return 7;
  if (any("create")) return 6;
  if (any("update", "merge", "alter")) return 2;
  if (any("insert", "copy") && fields["writes"] === true) return 5;
  if (any("select")) return 4;
  return 99;
}
