/** `weir summary`: what was decided, as a page of Markdown: for the summary of a CI job, or a mail. */
import { type Fields, type ReadEntry, readEntries } from "../record/read.ts";
import { readArguments, readSince } from "./arguments.ts";
import { type CommandIo, recordedStateDir } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir summary [--since TIME] [--fail-on-deny] [--json] [--state DIR]

What was decided: how many operations for each target, what was denied or refused, what a rule or policy in mode report
would have denied or held, and what happened to the agent.
As Markdown, or as JSON. With --fail-on-deny the exit code is 1 when anything was denied or refused.
TIME is ISO 8601.
`;

/** Lines of a table; more are only counted. */
const linesMax = 50;
const textCharactersMax = 200;

interface Counts {
  allow: number;
  deny: number;
  hold: number;
  masked: number;
}

interface Summary {
  sessions: number;
  readonly targets: Record<string, Counts>;
  /** What was denied, with how often. */
  readonly denied: Record<string, number>;
  /** What passed because of mode `report`. */
  readonly wouldBe: Record<string, number>;
  readonly refused: Record<string, number>;
  readonly events: string[];
}

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      since: { type: "string" },
      state: { type: "string" },
      json: { type: "boolean", default: false },
      "fail-on-deny": { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const sinceMs = readSince(values.since);
  const summary = summarize(readEntries(recordedStateDir(values.state, io)), sinceMs);
  io.stdout.write(values.json ? `${JSON.stringify(summary, null, 2)}\n` : markdown(summary));
  const anything = Object.keys(summary.denied).length + Object.keys(summary.refused).length > 0;
  return values["fail-on-deny"] && anything ? 1 : 0;
}

export function summarize(entries: Iterable<ReadEntry>, sinceMs: number): Summary {
  const summary: Summary = { sessions: 0, targets: {}, denied: {}, wouldBe: {}, refused: {}, events: [] };
  const targetOf = new Map<string, string>();
  for (const { session, type, timeMs, fields } of entries) {
    if (type === "SessionStart") targetOf.set(session, String(fields["target"]));
    if (timeMs < sinceMs) continue;
    const target = targetOf.get(session) ?? "unknown";
    if (type === "SessionStart") summary.sessions += 1;
    else if (type === "Operation") countOperation(summary, target, fields);
    else if (type === "Result") countsOf(summary, target).masked += Number(fields["masked"]);
    else if (type === "Refused") add(summary.refused, String(fields["reason"]));
    else if (type === "Agent" && fields["event"] !== "start" && fields["event"] !== "stop")
      summary.events.push(`${fields["event"]}: ${fields["detail"]}`);
    else if (type === "SessionEnd") targetOf.delete(session);
  }
  return summary;
}

function countOperation(summary: Summary, target: string, fields: Fields): void {
  const action = String(fields["action"]);
  if (action !== "allow" && action !== "deny" && action !== "hold") return;
  countsOf(summary, target)[action] += 1;
  const what = `${fields["text"] || fields["kind"]}\n${fields["rule"]}`;
  if (action === "deny") add(summary.denied, `${what}: ${fields["reason"]}`);
  else if (action === "allow" && fields["wouldBe"] !== null)
    add(summary.wouldBe, `${what} would ${fields["wouldBe"]}: ${fields["reason"]}`);
}

function countsOf(summary: Summary, target: string): Counts {
  summary.targets[target] ??= { allow: 0, deny: 0, hold: 0, masked: 0 };
  return summary.targets[target];
}

function add(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}

function markdown(summary: Summary): string {
  const targets = Object.entries(summary.targets);
  const lines = ["## Weir", "", `${summary.sessions} sessions.`, ""];
  if (targets.length > 0) {
    lines.push("| target | allowed | denied | held | values masked |", "|---|--:|--:|--:|--:|");
    for (const [name, { allow, deny, hold, masked }] of targets.slice(0, linesMax))
      lines.push(`| ${cell(name)} | ${allow} | ${deny} | ${hold} | ${masked} |`);
    lines.push("");
  }
  lines.push(...operations("Denied", summary.denied));
  lines.push(...operations("Would be denied or held, in mode report", summary.wouldBe));
  const refused = Object.entries(summary.refused);
  if (refused.length > 0) {
    lines.push("### Refused connections", "", "| times | what |", "|--:|---|");
    for (const [what, times] of refused.slice(0, linesMax)) lines.push(`| ${times} | ${cell(what)} |`);
    lines.push(...rest(refused.length), "");
  }
  if (summary.events.length > 0) {
    lines.push("### The agent", "", ...summary.events.slice(0, linesMax).map((event) => `- ${cell(event)}`));
    lines.push(...rest(summary.events.length), "");
  }
  return `${lines.join("\n")}\n`;
}

function operations(heading: string, counts: Readonly<Record<string, number>>): string[] {
  const entries = Object.entries(counts);
  if (entries.length === 0) return [];
  const lines = entries.slice(0, linesMax).map(([key, times]) => {
    const at = key.lastIndexOf("\n");
    return `| ${times} | ${cell(key.slice(0, at))} | ${cell(key.slice(at + 1))} |`;
  });
  return [`### ${heading}`, "", "| times | operation | rule |", "|--:|---|---|", ...lines, ...rest(entries.length), ""];
}

function rest(count: number): string[] {
  return count > linesMax ? ["", `and ${count - linesMax} more: weir sessions, weir export`] : [];
}

/** Text of a job must not become markup, nor end the table: what is no plain letter is written as its number. */
function cell(text: string): string {
  return printable(text.replaceAll("\n", " "), textCharactersMax).replace(
    /[|`<>&*_[\]#!\\]/g,
    (sign) => `&#${sign.charCodeAt(0)};`,
  );
}
