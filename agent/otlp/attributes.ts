/**
 * What a span says of an operation, in the words of OpenTelemetry's semantic conventions (1.37: db, gen_ai, mcp, rpc,
 * http). Who reads traces is not who may read the record: no statement, prompt, argument, path, query or message of a
 * server stands in them, and no reason that quotes one.
 */
import { type RecordedDetails, readDetails } from "../record/details.ts";
import type { Fields } from "../record/read.ts";
import type { AttributeValue } from "./json.ts";

type Attributes = Record<string, AttributeValue>;

interface Described {
  readonly name: string;
  readonly attributes: Attributes;
}

const providers: Readonly<Record<string, string>> = { gemini: "gcp.gemini", bedrock: "aws.bedrock" };
const modelCalls: Readonly<Record<string, string>> = {
  ...{ chat: "chat", responses: "chat", messages: "chat", completions: "text_completion", embeddings: "embeddings" },
};
const methods = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

export function operationAttributes(fields: Fields): Described {
  const details = readDetails(fields);
  const { llm, mcp, grpc, http } = details;
  const base = http === undefined ? {} : httpAttributes(http);
  const called = llm !== undefined ? modelCall(llm) : mcp !== undefined ? mcpCall(mcp) : null;
  if (called !== null) return { name: called.name, attributes: { ...base, ...called.attributes } };
  if (grpc !== undefined) {
    const [service, method] = [text(grpc, "service"), text(grpc, "method")];
    return {
      name: `${service}/${method}`,
      attributes: { ...base, "rpc.system": "grpc", "rpc.service": service, "rpc.method": method },
    };
  }
  if (http !== undefined) return { name: knownMethod(http) ?? "HTTP", attributes: base };
  return statement(fields);
}

export function connectionAttributes(flow: Fields | null): Attributes {
  if (flow === null) return {};
  const destination = (flow["destination"] ?? {}) as Fields;
  const process = (flow["process"] ?? {}) as Fields;
  const identity = (flow["identity"] ?? {}) as Fields;
  const job = (process["job"] ?? {}) as Fields;
  return {
    "server.address": one(flow["hostname"]) ?? one(destination["address"]),
    "server.port": one(destination["port"]),
    "network.peer.address": one(destination["address"]),
    "network.peer.port": one(destination["port"]),
    "process.pid": one(process["pid"]),
    "process.executable.path": one(process["exe"]),
    "enduser.id": one(identity["subject"]),
    "cicd.pipeline.run.id": one(job["id"]),
  };
}

export function verdictAttributes(fields: Fields): Attributes {
  return {
    "weir.verdict": one(fields["action"]),
    "weir.rule": one(fields["rule"]),
    "weir.mode": one(fields["mode"]),
    "weir.would_be": one(fields["wouldBe"]),
    "weir.policy": one(fields["policy"]),
    "weir.approval.id": one(fields["approvalId"]),
  };
}

/** What came back. `error` is its code: what a server says of an error may quote a value. */
export function resultAttributes(fields: Fields, asked: RecordedDetails): { attributes: Attributes; failed: boolean } {
  const answer = readDetails(fields);
  const { status, inputTokens, outputTokens } = answer;
  const error = (fields["error"] as Fields | null) ?? null;
  const code = error === null ? null : String(error["code"]);
  const overHttp = asked.http !== undefined;
  const badStatus = overHttp && typeof status === "number" && status >= 400;
  const isDatabase = !overHttp && fields["rows"] !== undefined;
  return {
    failed: code !== null || badStatus,
    attributes: {
      ...(overHttp && typeof status === "number" && status > 0 ? { "http.response.status_code": status } : {}),
      ...(asked.llm === undefined
        ? {}
        : { "gen_ai.usage.input_tokens": one(inputTokens), "gen_ai.usage.output_tokens": one(outputTokens) }),
      ...(isDatabase ? { "db.response.returned_rows": one(fields["rows"]), "db.response.status_code": code } : {}),
      "error.type": code ?? (badStatus ? String(status) : null),
      "weir.masked_values": one(fields["masked"]),
      "weir.response.bytes": one(fields["bytes"]),
    },
  };
}

function statement(fields: Fields): Described {
  const [verbs, relations] = [texts(fields["verbs"]), texts(fields["relations"])];
  const verb = verbs[0]?.toUpperCase() ?? "";
  const summary = [verb, ...relations].filter((word) => word !== "").join(" ");
  const protocol = String(fields["protocol"]);
  const kind = String(fields["kind"]);
  const name = summary === "" ? `${kind} ${String(fields["database"])}`.trim() : summary;
  if (protocol !== "postgres") return { name, attributes: { "network.protocol.name": protocol } };
  return {
    name,
    attributes: {
      "db.system.name": "postgresql",
      "db.namespace": one(fields["database"]),
      "db.operation.name": verb,
      "db.collection.name": relations.length === 1 ? relations[0] : null,
      "db.query.summary": summary,
    },
  };
}

function modelCall(llm: Fields): Described {
  const [api, provider, model] = [text(llm, "api"), text(llm, "provider"), text(llm, "model")];
  const operation = modelCalls[api] ?? api;
  return {
    name: `${operation} ${model}`.trim(),
    attributes: {
      "gen_ai.operation.name": operation,
      "gen_ai.provider.name": providers[provider] ?? provider,
      "gen_ai.request.model": model,
      "gen_ai.request.max_tokens": one(llm["outputTokensMax"]),
      "weir.gen_ai.estimated_input_tokens": one(llm["tokens"]),
    },
  };
}

/** A resource is named by an address, which may hold more than a name. */
function mcpCall(mcp: Fields): Described {
  const [method, name] = [text(mcp, "method"), text(mcp, "name")];
  const named = method === "tools/call" || method === "prompts/get" ? name : "";
  return {
    name: `${method} ${named}`.trim(),
    attributes: {
      "mcp.method.name": method,
      ...(method === "tools/call" ? { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name } : {}),
      ...(method === "prompts/get" ? { "gen_ai.prompt.name": name } : {}),
    },
  };
}

function httpAttributes(http: Fields): Attributes {
  const known = knownMethod(http);
  return {
    "http.request.method": known ?? "_OTHER",
    "url.scheme": one(http["scheme"]),
    "server.address": one(http["host"]),
  };
}

function knownMethod(http: Fields): string | null {
  const method = text(http, "method");
  return methods.includes(method) ? method : null;
}

function text(facts: Fields, key: string): string {
  const value = facts[key];
  return typeof value === "string" ? value : "";
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** Read from a file, so nothing is certain. */
function one(value: unknown): string | number | null {
  return typeof value === "string" || typeof value === "number" ? value : null;
}
