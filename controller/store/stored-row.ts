/** A session's row as either database gives it: PostgreSQL its whole numbers as text. */
import type { SessionRow } from "./store.ts";

export function sessionOf(row: Readonly<Record<string, unknown>>): SessionRow {
  const text = (name: string): string => String(row[name]);
  const maybe = (name: string): string | null => (row[name] === null ? null : String(row[name]));
  const number = (name: string): number => Number(row[name]);
  return {
    id: text("id"),
    agent: text("agent"),
    startedAtMs: number("started_at"),
    endedAtMs: row["ended_at"] === null ? null : number("ended_at"),
    lastAtMs: number("last_at"),
    target: text("target"),
    protocol: text("protocol"),
    destination: text("destination"),
    hostname: maybe("hostname"),
    process: text("process"),
    uid: row["uid"] === null ? null : number("uid"),
    job: maybe("job"),
    identity: maybe("identity"),
    issuer: maybe("issuer"),
    user: text("user"),
    database: text("database"),
    operations: number("operations"),
    denied: number("denied"),
    held: number("held"),
    end: maybe("ending"),
    rows: number("rows"),
    masked: number("masked"),
    entries: number("entries"),
    first: number("first"),
  };
}
