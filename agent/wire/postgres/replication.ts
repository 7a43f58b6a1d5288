/**
 * What only a walsender understands (PostgreSQL docs §55.4): a connection opened with `replication` reads a Query that
 * begins with one of these words by a grammar of its own, and everything else as SQL. No SQL begins with them.
 */
import { describeStatement } from "./describe/index.ts";
import type { StatementInfo } from "./describe/statement-info.ts";

/** In capitals only, as the server's scanner has them. True: whole tables leave by it, in frames that nobody masks. */
const commands: ReadonlyMap<string, { readonly writes: boolean; readonly carriesData: boolean }> = new Map([
  ["IDENTIFY_SYSTEM", { writes: false, carriesData: false }],
  ["READ_REPLICATION_SLOT", { writes: false, carriesData: false }],
  ["TIMELINE_HISTORY", { writes: false, carriesData: false }],
  ["CREATE_REPLICATION_SLOT", { writes: true, carriesData: false }],
  ["ALTER_REPLICATION_SLOT", { writes: true, carriesData: false }],
  ["DROP_REPLICATION_SLOT", { writes: true, carriesData: false }],
  ["UPLOAD_MANIFEST", { writes: true, carriesData: false }],
  ["START_REPLICATION", { writes: true, carriesData: true }],
  ["BASE_BACKUP", { writes: true, carriesData: true }],
]);
const firstWord = /^\s*([A-Z_]+)(?![A-Za-z0-9_$\x80-\uffff])/;

const infos = new Map<string, StatementInfo>();

/** Null: the text is SQL. */
export function replicationCommand(text: string): StatementInfo | null {
  const word = firstWord.exec(text)?.[1] ?? "";
  const command = commands.get(word);
  if (command === undefined) return null;
  let info = infos.get(word);
  if (info === undefined) {
    const nothing = describeStatement("");
    info = {
      ...nothing,
      statements: 1,
      verbs: [word.toLowerCase()],
      writes: command.writes,
      traits: ["replication"],
      flow: { ...nothing.flow, opaque: true },
    };
    infos.set(word, info);
  }
  return info;
}

/** Whether masks in force would have to change what it brings. */
export function carriesData(info: StatementInfo | null): boolean {
  const verb = info?.verbs[0]?.toUpperCase() ?? "";
  return commands.get(verb)?.carriesData === true;
}
