/**
 * Entries as rows of a table (RFC 4180), for a spreadsheet. A spreadsheet runs what begins with `=`, `+`, `-` or `@`: such
 * a value gets an apostrophe before it.
 */
import { bracketed } from "../core/address.ts";
import { inertText } from "./inert.ts";
import type { Fields, ReadEntry } from "./read.ts";

export const csvHeader =
  "time,agent,number,session,type,target,user,database,process,source,destination,action,rule,reason,text,rows,masked,error";

interface Known {
  readonly target: string;
  readonly process: string;
  readonly source: string;
  readonly destination: string;
}

const unknown: Known = { target: "", process: "", source: "", destination: "" };

/** Feed it every entry in order: where a session goes is told at its start only. */
export function csvRows(): (entry: ReadEntry) => string {
  const sessions = new Map<string, Known>();
  return (entry) => {
    const { type, fields, session } = entry;
    if (type === "SessionStart") sessions.set(session, knownOf(fields));
    const known = sessions.get(session) ?? unknown;
    if (type === "SessionEnd") sessions.delete(session);
    const error = fields["error"] as { code: string; message: string } | null | undefined;
    const values = [
      new Date(entry.timeMs).toISOString(),
      entry.agent,
      entry.agentSeq,
      session,
      type,
      known.target,
      fields["user"],
      fields["database"],
      known.process,
      known.source,
      known.destination,
      fields["action"] ?? fields["decision"] ?? fields["event"],
      fields["rule"] ?? fields["code"],
      fields["reason"] ?? fields["detail"],
      fields["text"] ?? fields["tag"],
      type === "Rows" ? (fields["rows"] as unknown[]).length : fields["rows"],
      fields["masked"],
      error ? `${error.code} ${error.message}` : "",
    ];
    return values.map(cell).join(",");
  };
}

function knownOf(fields: Fields): Known {
  const flow = fields["flow"] as Fields;
  const process = flow["process"] as { exe: string; pid: number } | null;
  return {
    target: String(fields["target"]),
    process: process === null ? "" : `${process.exe}[${process.pid}]`,
    source: end(flow["source"]),
    destination: end(flow["destination"]),
  };
}

function end(value: unknown): string {
  const { address, port } = value as { address: string; port: number };
  return `${bracketed(address)}:${port}`;
}

function cell(value: unknown): string {
  if (typeof value === "number") return String(value);
  const text = inertText(value === null || value === undefined ? "" : String(value));
  const tame = /^[=+\-@]/.test(text.trimStart()) ? `'${text}` : text;
  return /[",]/.test(tame) ? `"${tame.replaceAll('"', '""')}"` : tame;
}
