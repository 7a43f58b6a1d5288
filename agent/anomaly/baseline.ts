/**
 * What somebody usually does at a target, and how far he is from it now. Each finding is a sentence; the score is that of
 * the strongest one, in standard deviations, so that 3 is odd and 6 is very odd. Time comes with each call.
 */
import type { AnomalyFacts, HttpFacts, Operation } from "../core/operation.ts";
import { Samples } from "./samples.ts";

/** Operations before anything is odd: a newcomer's first steps are all new. */
const warmUpOperations = 20;
/** Tables, tools and endpoints that are remembered; the oldest goes. */
const seenMax = 1_000;
/** Findings stand for this long, so that the operation after a dump is still seen beside it. */
const standsMs = 15 * 60_000;
const newWithinMs = 10 * 60_000;
/** So many new things within that time are a search for something. */
const newMin = 4;
const deniedWithinMs = 60_000;
const deniedMin = 5;
/** An hour of the day with less than this share of what was ever done, … */
const oddShare = 0.005;
/** … once so many operations on so many days are known. */
const oddOperations = 300;
const oddDays = 5;
/** Below it nothing is said. */
export const scoreMin = 3;

export const usual: AnomalyFacts = { score: 0, reasons: [] };

interface Finding {
  readonly score: number;
  readonly reason: string;
  readonly untilMs: number;
}

/** As it is kept on the disk. */
export interface KeptBaseline {
  readonly operations: number;
  readonly samples: Readonly<Record<string, readonly number[]>>;
  readonly seen: readonly string[];
  readonly hours: readonly number[];
  readonly days: readonly number[];
}

const quantities = ["rows", "bytes", "tokens", "rate"] as const;
type Quantity = (typeof quantities)[number];

const told: Readonly<Record<Quantity, (value: number, usually: number) => string>> = {
  rows: (value, usually) => `It read ${value} rows; usual are about ${usually}.`,
  bytes: (value, usually) => `It sent ${value} bytes; usual are about ${usually}.`,
  tokens: (value, usually) => `It cost ${value} tokens; usual are about ${usually}.`,
  rate: (value, usually) => `${value} operations in a minute; usual are about ${usually}.`,
};

export class Baseline {
  #operations: number;
  readonly #samples: Readonly<Record<Quantity, Samples>>;
  readonly #seen: Set<string>;
  readonly #hours: number[];
  /** Days since 1970 on which something was done, newest last. */
  readonly #days: number[];
  readonly #findings = new Map<string, Finding>();
  #minute = 0;
  #inMinute = 0;
  /** Of the last operation: an application runs its prepared statements over and over. */
  #relations: readonly string[] | null = null;
  #database = "";
  #http: HttpFacts | null = null;
  #model: string | null = null;
  #news: { readonly name: string; readonly atMs: number }[] = [];
  #denied: number[] = [];

  constructor(kept?: KeptBaseline) {
    this.#operations = kept?.operations ?? 0;
    const samples = (name: Quantity): Samples => new Samples(kept?.samples[name]);
    this.#samples = {
      rows: samples("rows"),
      bytes: samples("bytes"),
      tokens: samples("tokens"),
      rate: samples("rate"),
    };
    this.#seen = new Set(kept?.seen);
    this.#hours = kept?.hours.slice(0, 24) ?? new Array<number>(24).fill(0);
    this.#days = kept?.days.slice(-oddDays) ?? [];
  }

  /** Before it is decided: counts the operation, and says what is odd now. */
  operation(operation: Operation, nowMs: number): AnomalyFacts {
    this.#rate(nowMs);
    this.#hour(nowMs);
    const { database, relations } = operation;
    if (relations !== this.#relations || database !== this.#database || !this.#isAsBefore(operation)) {
      for (const name of thingsOf(operation)) this.#thing(name, nowMs);
      this.#relations = relations;
      this.#database = database;
      if (operation.llm !== undefined) this.#model = operation.llm.model;
      else if (operation.http !== undefined) this.#http = operation.http;
    }
    if (operation.bytes < Number.MAX_SAFE_INTEGER) this.#quantity("bytes", operation.bytes, nowMs);
    if (operation.llm !== undefined) this.#quantity("tokens", operation.llm.tokens, nowMs);
    this.#operations += 1;
    return this.#now(nowMs);
  }

  /** Nothing else is touched, or the same as last time. */
  #isAsBefore({ http, mcp, llm, grpc }: Operation): boolean {
    if (mcp !== undefined || grpc !== undefined) return false;
    if (llm !== undefined) return llm.model === this.#model;
    const before = this.#http;
    if (http === undefined || http === before) return true;
    return http.path === before?.path && http.host === before.host && http.method === before.method;
  }

  rows(rows: number, nowMs: number): AnomalyFacts {
    this.#quantity("rows", rows, nowMs);
    return this.#now(nowMs);
  }

  denied(nowMs: number): AnomalyFacts {
    this.#denied = this.#denied.filter((atMs) => nowMs - atMs < deniedWithinMs);
    this.#denied.push(nowMs);
    const count = this.#denied.length;
    if (count >= deniedMin)
      this.#found(
        "denied",
        scoreMin + (count - deniedMin) / 2,
        `${count} operations were denied within a minute.`,
        nowMs,
      );
    if (count > deniedMin * 10) this.#denied.shift();
    return this.#now(nowMs);
  }

  kept(): KeptBaseline {
    return {
      operations: this.#operations,
      samples: Object.fromEntries(quantities.map((name) => [name, this.#samples[name].values])),
      seen: [...this.#seen],
      hours: this.#hours,
      days: this.#days,
    };
  }

  #now(nowMs: number): AnomalyFacts {
    if (this.#findings.size === 0) return usual;
    let score = 0;
    const reasons: string[] = [];
    for (const [name, finding] of this.#findings) {
      if (finding.untilMs <= nowMs) {
        this.#findings.delete(name);
        continue;
      }
      score = Math.max(score, finding.score);
      reasons.push(finding.reason);
    }
    return score === 0 ? usual : { score, reasons };
  }

  #found(name: string, score: number, reason: string, nowMs: number): void {
    const before = this.#findings.get(name);
    if (before !== undefined && before.untilMs > nowMs && before.score > score) return;
    this.#findings.set(name, { score: Math.round(score * 10) / 10, reason, untilMs: nowMs + standsMs });
  }

  #quantity(name: Quantity, value: number, nowMs: number): void {
    const samples = this.#samples[name];
    const score = samples.above(value);
    if (score >= scoreMin) this.#found(name, score, told[name](value, samples.usual), nowMs);
    samples.add(value);
  }

  #rate(nowMs: number): void {
    const minute = Math.floor(nowMs / 60_000);
    if (minute !== this.#minute) {
      if (this.#inMinute > 0) this.#samples.rate.add(this.#inMinute);
      this.#minute = minute;
      this.#inMinute = 0;
    }
    this.#inMinute += 1;
    // Asked at doublings only: a median for every operation is work that tells the same.
    if ((this.#inMinute & (this.#inMinute - 1)) !== 0) return;
    const score = this.#samples.rate.above(this.#inMinute);
    if (score >= scoreMin) this.#found("rate", score, told.rate(this.#inMinute, this.#samples.rate.usual), nowMs);
  }

  #hour(nowMs: number): void {
    const day = Math.floor(nowMs / 86_400_000);
    const hour = Math.floor(nowMs / 3_600_000) % 24;
    if (this.#operations >= oddOperations && this.#days.length >= oddDays) {
      const share = (this.#hours[hour] as number) / this.#operations;
      if (share < oddShare)
        this.#found("hour", scoreMin, `Nearly nothing is done between ${hour}:00 and ${hour}:59 UTC.`, nowMs);
    }
    this.#hours[hour] = (this.#hours[hour] as number) + 1;
    if (this.#days.at(-1) !== day) this.#days.push(day);
    if (this.#days.length > oddDays) this.#days.shift();
  }

  #thing(name: string, nowMs: number): void {
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    if (this.#seen.size > seenMax) this.#seen.delete(this.#seen.values().next().value as string);
    if (this.#operations < warmUpOperations) return;
    this.#news = this.#news.filter(({ atMs }) => nowMs - atMs < newWithinMs);
    this.#news.push({ name, atMs: nowMs });
    const count = this.#news.length;
    if (count < newMin) return;
    const names = this.#news.slice(-3).map((news) => news.name);
    const reason = `${count} things never used before within ten minutes, ${names.join(", ")} among them.`;
    this.#found("new", scoreMin + (count - newMin) / 2, reason, nowMs);
    if (count > newMin * 25) this.#news.shift();
  }
}

/** What an operation touches: databases and tables, an endpoint, a tool, a model. */
function thingsOf({ database, relations, http, mcp, llm, grpc }: Operation): string[] {
  const things = relations.map((relation) => `table ${relation}`);
  if (database !== "") things.unshift(`database ${database}`);
  // A resource's URI can hold what the record may not.
  if (mcp !== undefined)
    things.push(/^(tools\/call|prompts\/get)$/.test(mcp.method) ? `${mcp.method} ${mcp.name}` : mcp.method);
  else if (llm !== undefined) things.push(`model ${llm.model}`);
  else if (grpc !== undefined) things.push(`${grpc.service}/${grpc.method}`);
  else if (http !== undefined) things.push(`${http.method} ${http.host}${endpointOf(http.path)}`);
  return things;
}

/** Ids and names in a path are not endpoints: /orders/4711 and /orders/ada@example.org are one. */
function endpointOf(path: string): string {
  return path
    .split("/", 5)
    .map((part) => (/^(v\d{1,2}|[A-Za-z_-]{0,24})$/.test(part) ? part : "*"))
    .join("/");
}
