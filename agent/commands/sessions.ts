/** `weir sessions`: list, show and replay what is recorded. */
import { setTimeout as sleep } from "node:timers/promises";
import { WeirError } from "../errors.ts";
import { readDetails } from "../record/details.ts";
import { type Fields, listSessions, type ReadEntry, readEntries, type SessionSummary } from "../record/read.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, recordedStateDir } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir sessions [ls|show ID|replay ID] [options]

  ls            sessions, oldest first (--limit N keeps the newest N, default 50)
  show ID       every operation of one session, with verdict, rule, rows and time
  replay ID     the same with its real timing (--speed N, --max-wait SECONDS)

  --json        machine-readable output
  --state DIR   state directory (default /var/lib/weir)

An id may be cut short as long as it names one session.
`;

const textCharactersMax = 400;
const toolsShownMax = 10;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      state: { type: "string" },
      limit: { type: "string", default: "50" },
      speed: { type: "string", default: "1" },
      "max-wait": { type: "string", default: "3" },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const [verb = "ls", id] = positionals;
  const entries = readEntries(recordedStateDir(values.state, io));
  if (verb === "ls") {
    const sessions = listSessions(entries).slice(-positive(values.limit, "--limit"));
    io.stdout.write(values.json ? `${JSON.stringify(sessions, null, 2)}\n` : table(sessions));
    return 0;
  }
  if ((verb !== "show" && verb !== "replay") || id === undefined) throw new WeirError("WEIR_USAGE", help);
  const session = entriesOf(entries, id);
  if (session === null) {
    io.stderr.write(`weir sessions: no session ${printable(id, 100)}\n`);
    return 1;
  }
  if (values.json) {
    io.stdout.write(`${JSON.stringify(session, null, 2)}\n`);
    return 0;
  }
  const speed = positive(values.speed, "--speed");
  const waitMaxMs = positive(values["max-wait"], "--max-wait") * 1000;
  let before = session[0]?.timeMs ?? 0;
  for (const entry of session) {
    if (verb === "replay") await sleep(Math.min(waitMaxMs, (entry.timeMs - before) / speed));
    before = entry.timeMs;
    io.stdout.write(line(entry));
  }
  return 0;
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new WeirError("WEIR_USAGE", `${option} ${text}: a number above 0 is expected.`);
  return value;
}

/** Throws WEIR_USAGE when the prefix names several. */
function entriesOf(entries: Iterable<ReadEntry>, prefix: string): ReadEntry[] | null {
  const found: ReadEntry[] = [];
  for (const entry of entries) {
    if (!entry.session.startsWith(prefix)) continue;
    const first = found[0];
    if (first !== undefined && first.session !== entry.session) {
      throw new WeirError("WEIR_USAGE", `${prefix} names several sessions: ${first.session}, ${entry.session}, …`);
    }
    found.push(entry);
  }
  return found.length === 0 ? null : found;
}

function table(sessions: readonly SessionSummary[]): string {
  if (sessions.length === 0) return "no sessions yet\n";
  return sessions
    .map((session) => {
      const who = session.user === "" ? "(no login)" : `${session.user}@${session.database}`;
      const counts = `${session.operations} operations, ${session.denied} denied${session.held > 0 ? `, ${session.held} held` : ""}`;
      const job = session.job === null ? "" : ` ${session.job}`;
      return printable(
        `${session.id}  ${time(session.startedAtMs)}  ${who} on ${session.target} (${session.destination})  ${session.process}${job}  ${counts}`,
        1000,
      );
    })
    .join("\n")
    .concat("\n");
}

/** One entry as a person reads it. */
function line({ type, timeMs, fields }: ReadEntry): string {
  const text = describe(type, fields);
  return `${time(timeMs)}  ${printable(text, 2000)}\n`;
}

function describe(type: string, fields: Fields): string {
  switch (type) {
    case "SessionStart": {
      const flow = fields["flow"] as {
        destination: { address: string; port: number };
        process: { comm: string; pid: number; exe: string; uid: number } | null;
      };
      const by =
        flow.process === null
          ? "an unknown process"
          : `${flow.process.exe} (pid ${flow.process.pid}, uid ${flow.process.uid})`;
      return `session to ${flow.destination.address}:${flow.destination.port} (target ${fields["target"]}) by ${by}`;
    }
    case "Login":
      return `login ${fields["user"]}@${fields["database"]} ${fields["application"]}`;
    case "Operation": {
      const verdict = String(fields["action"]).toUpperCase();
      const text = fields["kind"] === "connect" ? "connect" : operationText(fields);
      const parameters = fields["parameters"] as (string | null)[];
      const bound = parameters.length === 0 ? "" : `  [${parameters.map((p) => p ?? "NULL").join(", ")}]`;
      const wouldBe = verdict === "ALLOW" && fields["wouldBe"] !== null ? ` would ${fields["wouldBe"]}` : "";
      const why = verdict === "ALLOW" && wouldBe === "" ? "" : `${wouldBe}: ${fields["reason"]}`;
      return `${verdict.padEnd(5)} ${text}${bound}  (${fields["rule"]}${why})`;
    }
    case "Approval":
      return `      ${fields["decision"]} by ${fields["by"]} ${fields["reason"]}`;
    case "Result": {
      const error = fields["error"] as { code: string; message: string } | null;
      if (error !== null) return `      error ${error.code}: ${error.message}`;
      const answer = answerText(fields);
      if (answer !== null) return `      ${answer}`;
      const masked = Number(fields["masked"]) > 0 ? `, ${fields["masked"]} values masked` : "";
      return `      ${fields["tag"]}, ${fields["rows"]} rows${masked}, ${Number(fields["durationMs"]).toFixed(1)} ms`;
    }
    case "Rows":
      return `      ${(fields["columns"] as string[]).join(" | ")}: ${(fields["rows"] as (string | null)[][]).map((row) => row.map((v) => v ?? "NULL").join(" | ")).join(" ; ")}`;
    case "SessionEnd":
      return `end: ${fields["reason"]}`;
    default:
      return `${type} ${JSON.stringify(fields)}`;
  }
}

/** A request is told by what it is; its text, a prompt or a body, stands behind. */
function operationText(fields: Fields): string {
  const text = String(fields["text"]).slice(0, textCharactersMax);
  const { http, llm, mcp, grpc } = readDetails(fields);
  if (llm !== undefined) {
    const tools = (llm["tools"] ?? []) as readonly string[];
    const offers = tools.length === 0 ? "" : `, tools ${tools.slice(0, toolsShownMax).join(" ")}`;
    const { provider, api, model, tokens, stream } = llm;
    return `${provider} ${api} ${model || "(no model)"}, about ${tokens} tokens${offers}${stream === true ? ", stream" : ""}: ${text}`;
  }
  if (mcp !== undefined) return `mcp ${text}`;
  if (grpc !== undefined) return `grpc ${grpc["service"]}/${grpc["method"]}`;
  if (http === undefined) return text;
  const { method, scheme, host, path, query } = http;
  const bytes = Number(fields["bytes"]);
  const body = bytes === 0 ? "" : bytes < 0 ? ", body of unknown length" : `, ${bytes} bytes`;
  return `${method} ${scheme}://${host}${path}${query === "" ? "" : `?${query}`}${body}`;
}

/** Null: no answer over HTTP. */
function answerText(fields: Fields): string | null {
  const { status, inputTokens, outputTokens, toolCalls, text } = readDetails(fields);
  if (status === undefined) return null;
  const masked = Number(fields["masked"]) > 0 ? `, ${fields["masked"]} values masked` : "";
  const tokens =
    inputTokens === undefined && outputTokens === undefined
      ? ""
      : `, ${inputTokens ?? "?"} tokens in, ${outputTokens ?? "?"} out`;
  const calls = Array.isArray(toolCalls) ? `, calls ${toolCalls.slice(0, toolsShownMax).join(" ")}` : "";
  const said = typeof text === "string" && text !== "" ? `: ${text.slice(0, textCharactersMax)}` : "";
  return `${status}, ${fields["bytes"]} bytes${tokens}${calls}${masked}, ${Number(fields["durationMs"]).toFixed(1)} ms${said}`;
}

function time(ms: number): string {
  return new Date(ms).toISOString().replace("T", " ").slice(0, 23);
}
