/**
 * The search index's words. One document for each statement of a session (and one for its facts): its words, and its
 * facets as one word each, so that any combination of text and facets is a single look into the index. Pure.
 */
import { hash } from "node:crypto";
import { bodyOf, type ChainedEntry } from "../../agent/record/chain.ts";
import type { SessionQuery, SessionRow } from "./store.ts";

export interface SearchDocument {
  readonly words: string;
  /** Words of the form `f0123456789abcdef`. */
  readonly facets: readonly string[];
}

/** Of a statement; what is longer is found by its beginning. */
const wordsCharactersMax = 4_000;
const tokenCharactersMax = 64;
/** Characters before a `*`; of fewer the whole word is looked for. */
const beginningMin = 2;
const dayMs = 24 * 60 * 60 * 1_000;
const weekMs = 7 * dayMs;
const daysMax = 62;
const weeksMax = 530;

/** Null: nothing in this entry is to be found. */
export function documentOf(row: SessionRow, entry: ChainedEntry): SearchDocument | null {
  const { name, fields } = bodyOf(entry);
  switch (name) {
    case "SessionStart":
    case "Login":
      return { words: factsOf(row), facets: facetsOf(row, entry, null) };
    case "Operation":
      return {
        words: `${String(fields["text"]).slice(0, wordsCharactersMax)} ${String(fields["rule"])}`,
        facets: facetsOf(row, entry, String(fields["action"])),
      };
    case "Refused":
      return { words: String(fields["reason"]).slice(0, wordsCharactersMax), facets: facetsOf(row, entry, "deny") };
    default:
      return null;
  }
}

function factsOf(row: SessionRow): string {
  const { id, agent, target, destination, hostname, process, job, identity, user, database } = row;
  return [id, agent, target, destination, hostname, process, job, identity, user, database].filter(Boolean).join(" ");
}

function facetsOf(row: SessionRow, { timeMs }: ChainedEntry, verdict: string | null): string[] {
  const address = row.destination.slice(0, row.destination.lastIndexOf(":"));
  const pairs: (readonly [string, string | null | undefined])[] = [
    ["identity", row.identity],
    ["target", row.target],
    ["host", row.agent],
    ["host", row.hostname],
    ["host", address],
    ["job", row.job],
    ["job", row.job?.slice(row.job.indexOf(":") + 1)],
    ["user", row.user],
    ["database", row.database],
    ["protocol", row.protocol],
    ["verdict", verdict],
  ];
  const facets = pairs.flatMap(([name, value]) => (value ? [facet(name, value)] : []));
  facets.push(`d${Math.floor(timeMs / dayMs)}`, `w${Math.floor(timeMs / weekMs)}`);
  return facets;
}

const remembered = new Map<string, string>();
const rememberedMax = 20_000;

function facet(name: string, value: string): string {
  const key = `${name}\n${value.toLowerCase()}`;
  let word = remembered.get(key);
  if (word === undefined) {
    word = `f${hash("sha256", key, "hex").slice(0, 16)}`;
    if (remembered.size >= rememberedMax) remembered.clear();
    remembered.set(key, word);
  }
  return word;
}

/** The words of a text as both indexes have them: letters and digits, lower case, without accents. */
export function tokensOf(text: string): string[] {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return [...new Set(plain.match(/[\p{L}\p{N}]+/gu) ?? [])].map((token) => token.slice(0, tokenCharactersMax));
}

/** Days or weeks that a query's time lies in: one of them has to be there. Empty: any. */
export function periodsOf({ fromMs, toMs }: SessionQuery): string[] {
  if (fromMs === undefined || toMs === undefined) return [];
  const [name, length] = toMs - fromMs <= daysMax * dayMs ? (["d", dayMs] as const) : (["w", weekMs] as const);
  const first = Math.floor(fromMs / length);
  const count = Math.floor(toMs / length) - first + 1;
  return count > 0 && count <= weeksMax ? Array.from({ length: count }, (_, at) => `${name}${first + at}`) : [];
}

const facetNames = ["identity", "target", "host", "job", "user", "database", "protocol", "verdict"] as const;

/** Of a query: the facets that have to be there, and the words of its text. */
export function termsOf(query: SessionQuery): { facets: string[]; words: string[] } {
  const facets = facetNames.flatMap((name) => (query[name] ? [facet(name, query[name])] : []));
  const words = (query.text ?? "").split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
  return { facets, words: words.map(withoutShortBeginning) };
}

/** Half of all words begin with a letter: their lists together would take longer than anybody waits. */
function withoutShortBeginning(word: string): string {
  const beginning = word.replace(/\*+$/, "");
  return [...beginning].length < beginningMin ? beginning : word;
}

/** A line as people type it: `target:orders-db verdict:deny drop table`; what is no facet is text. */
export function parseSearch(line: string): SessionQuery {
  const query: { -readonly [name in keyof SessionQuery]: SessionQuery[name] } = {};
  const text: string[] = [];
  for (const word of line.split(/\s+/).filter(Boolean)) {
    const colon = word.indexOf(":");
    const name = word.slice(0, Math.max(colon, 0));
    const value = word.slice(colon + 1);
    if (word.includes(":") && value !== "" && (facetNames as readonly string[]).includes(name)) {
      if (name !== "verdict") query[name as "target"] = value;
      else if (value === "allow" || value === "deny" || value === "hold") query.verdict = value;
      else text.push(word);
    } else text.push(word);
  }
  if (text.length > 0) query.text = text.join(" ");
  return query;
}
