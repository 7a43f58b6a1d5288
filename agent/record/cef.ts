/**
 * Entries as lines of ArcSight's Common Event Format, version 0:
 *   CEF:0|Weir|Weir|version|class|name|severity|key=value key=value
 * A header escapes backslash and pipe, a value backslash and the equals sign; a line break is `\n` in a value and has
 * no place in a header.
 */
import { readDetails } from "./details.ts";
import { inertText } from "./inert.ts";
import type { Fields, ReadEntry } from "./read.ts";

const version = "0.1.0";

type Extension = readonly (readonly [key: string, value: unknown])[];

/** Feed it every entry in order: the endpoints of a session are told at its start only. */
export function cefLines(): (entry: ReadEntry) => string {
  const sessions = new Map<string, Extension>();
  return (entry) => {
    const { type, fields, session } = entry;
    if (type === "SessionStart")
      sessions.set(session, flowExtension(fields["flow"] as Fields, String(fields["target"])));
    const known = sessions.get(session) ?? [];
    if (type === "SessionEnd") sessions.delete(session);
    const header = ["CEF:0", "Weir", "Weir", version, type, nameOf(type, fields), severityOf(type, fields)]
      .map(escapeHeader)
      .join("|");
    const extension = [
      ["rt", entry.timeMs],
      ["externalId", `${entry.agent}:${entry.agentSeq}`],
      ["cs1Label", "session"],
      ["cs1", session],
      ...known,
      ...ownExtension(type, fields),
    ] as const;
    const values = extension.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return `${header}|${values.map(([key, value]) => `${key}=${escapeValue(String(value))}`).join(" ")}`;
  };
}

function escapeHeader(text: string): string {
  return inertText(text.replace(/[\r\n]+/g, " ")).replace(/[\\|]/g, "\\$&");
}

function escapeValue(text: string): string {
  // A line break has an escape of its own; what else a terminal would act on is shown as what it is.
  return text
    .split(/\r\n|\r|\n/)
    .map((line) => inertText(line).replace(/[\\=]/g, "\\$&"))
    .join("\\n");
}

function nameOf(type: string, fields: Fields): string {
  return type === "Operation" ? `${fields["kind"]} ${fields["action"]}` : type;
}

/** 0–3 low, 4–6 medium, 7–8 high, 9–10 very high. */
function severityOf(type: string, fields: Fields): string {
  if (type === "Refused" || fields["action"] === "deny") return "6";
  if (type === "Approval" || fields["action"] === "hold") return "4";
  return "1";
}

function flowExtension(flow: Fields, target: string): Extension {
  const source = flow["source"] as { address: string; port: number };
  const destination = flow["destination"] as { address: string; port: number };
  const process = flow["process"] as { pid: number; exe: string; uid: number } | null;
  return [
    ...address("src", "c6a2", "Source IPv6 Address", source.address),
    ["spt", source.port],
    ...address("dst", "c6a3", "Destination IPv6 Address", destination.address),
    ["dpt", destination.port],
    ["dhost", flow["hostname"]],
    ["sproc", process?.exe],
    ["spid", process?.pid],
    ["suid", process?.uid],
    ["cs2Label", "target"],
    ["cs2", target],
  ];
}

/** `src` and `dst` take IPv4 only; IPv6 has fields of its own. */
function address(key: string, key6: string, label: string, text: string): Extension {
  if (!text.includes(":")) return [[key, text]];
  return [
    [key6, text],
    [`${key6}Label`, label],
  ];
}

function ownExtension(type: string, fields: Fields): Extension {
  switch (type) {
    case "Operation":
      return [
        ["act", fields["action"]],
        ["duser", fields["user"]],
        ["cs3Label", "database"],
        ["cs3", fields["database"]],
        ["cs4Label", "rule"],
        ["cs4", fields["rule"]],
        ["cn1Label", "operation"],
        ["cn1", fields["operationId"]],
        ["reason", fields["reason"]],
        ...requestExtension(fields),
      ];
    case "Login":
      return [
        ["duser", fields["user"]],
        ["cs3Label", "database"],
        ["cs3", fields["database"]],
        ["requestClientApplication", fields["application"]],
      ];
    case "Approval":
      return [
        ["act", fields["decision"]],
        ["cn1Label", "operation"],
        ["cn1", fields["operationId"]],
        ["suser", fields["by"]],
        ["reason", fields["reason"]],
      ];
    case "Result": {
      const error = fields["error"] as { code: string; message: string } | null;
      const { inputTokens, outputTokens } = readDetails(fields);
      return [
        ...(typeof inputTokens === "number" ? pair("cfp1", "inputTokens", inputTokens) : []),
        ...(typeof outputTokens === "number" ? pair("cfp2", "outputTokens", outputTokens) : []),
        ["outcome", error === null ? "success" : `failure ${error.code}`],
        ["cn1Label", "operation"],
        ["cn1", fields["operationId"]],
        ["cn2Label", "rows"],
        ["cn2", fields["rows"]],
        ["cn3Label", "masked"],
        ["cn3", fields["masked"]],
        ["out", fields["bytes"]],
        ["msg", error?.message ?? fields["tag"]],
      ];
    }
    case "Refused":
      return [
        ["act", "deny"],
        ["cs4Label", "rule"],
        ["cs4", fields["code"]],
        ["reason", fields["reason"]],
      ];
    case "SessionEnd":
      return [
        ["reason", fields["reason"]],
        ["in", fields["bytesUp"]],
        ["out", fields["bytesDown"]],
      ];
    case "SessionStart":
      return [["app", fields["protocol"]]];
    default:
      return [["msg", JSON.stringify(fields)]];
  }
}

/** `request` is a URL where there is one; the text of a call goes into a field of its own. */
function requestExtension(fields: Fields): Extension {
  const { http, llm, mcp, grpc } = readDetails(fields);
  if (http === undefined) return [["request", fields["text"]]];
  const { method, scheme, host, path, query } = http;
  const isCall = llm !== undefined || mcp !== undefined || grpc !== undefined;
  return [
    ["app", fields["protocol"]],
    ["requestMethod", method],
    ["request", `${scheme}://${host}${path}${query === "" ? "" : `?${query}`}`],
    ...(llm === undefined ? [] : pair("cs5", "model", llm["model"])),
    ...(mcp === undefined ? [] : pair("cs5", "mcp", `${mcp["method"]} ${mcp["name"]}`.trim())),
    ...(grpc === undefined ? [] : pair("cs5", "rpc", `${grpc["service"]}/${grpc["method"]}`)),
    ...(isCall ? pair("cs6", "text", fields["text"]) : []),
  ];
}

function pair(key: string, label: string, value: unknown): Extension {
  return [
    [`${key}Label`, label],
    [key, value],
  ];
}
