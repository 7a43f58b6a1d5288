/** The sessions of a record, read once and then followed: what the page lists, finds and opens. */
import { basename, join } from "node:path";
import { decodeEntry } from "../../agent/record/chain.ts";
import { type ReadEntry, type SessionSummary, simplify, summaryWith } from "../../agent/record/read.ts";
import { readFrames, segmentsOf } from "../../agent/record/segment.ts";

/** Sessions in memory; older ones are left out, newest win. */
const sessionsMax = 20_000;
/** Of statements, prompts and calls of one session that can be searched, in characters. */
const searchedCharactersMax = 4_000;

export interface SessionCard extends SessionSummary {
  readonly protocol: string;
  readonly identity: string | null;
  readonly masked: number;
  readonly rows: number;
  /** The strongest finding's sentences; null: as usual. */
  readonly anomaly: { readonly score: number; readonly text: string } | null;
}

interface Indexed {
  card: SessionCard;
  /** Lower case. */
  searched: string;
  readonly segment: string;
  readonly offset: number;
}

export interface SessionQuery {
  readonly search: string;
  readonly beforeMs: number | null;
  readonly limit: number;
}

export class SessionIndex {
  readonly #dir: string;
  readonly #sessions = new Map<string, Indexed>();
  #segment = "";
  #offset = 0;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "spool");
  }

  /** Newest first. */
  list({ search, beforeMs, limit }: SessionQuery): SessionCard[] {
    this.#catchUp();
    const wanted = wantedBy(search);
    const found: SessionCard[] = [];
    for (const indexed of [...this.#sessions.values()].reverse()) {
      if (beforeMs !== null && indexed.card.startedAtMs >= beforeMs) continue;
      if (wanted.every((fits) => fits(indexed))) found.push(indexed.card);
      if (found.length === limit) break;
    }
    return found;
  }

  /** Entries with a number above `after`; null for a session that is not there. */
  entries(session: string, after: number, limit: number): ReadEntry[] | null {
    this.#catchUp();
    const start = this.#sessions.get(session);
    if (start === undefined) return null;
    const found: ReadEntry[] = [];
    for (const path of segmentsOf(this.#dir)) {
      if (basename(path) < start.segment) continue;
      for (const { payload } of readFrames(path, basename(path) === start.segment ? start.offset : 0)) {
        const entry = simplify(decodeEntry(payload));
        if (entry.session !== session) continue;
        if (entry.seq > after) found.push(entry);
        if (found.length === limit || entry.type === "SessionEnd") return found;
      }
    }
    return found;
  }

  #catchUp(): void {
    for (const path of segmentsOf(this.#dir)) {
      const segment = basename(path);
      if (segment < this.#segment) continue;
      const from = segment === this.#segment ? this.#offset : 0;
      const frames = readFrames(path, from);
      let next = frames.next();
      while (!next.done) {
        this.#add(simplify(decodeEntry(next.value.payload)), segment, next.value.offset);
        next = frames.next();
      }
      this.#segment = segment;
      this.#offset = next.value.goodBytes;
    }
  }

  #add(entry: ReadEntry, segment: string, offset: number): void {
    if (entry.session === "agent") return;
    const known = this.#sessions.get(entry.session);
    const summary = summaryWith(known?.card, entry);
    const indexed: Indexed = known ?? { card: emptyCard(summary), searched: "", segment, offset };
    indexed.card = { ...indexed.card, ...summary, ...addedBy(indexed.card, entry) };
    indexed.searched = searchedBy(indexed, entry);
    if (known !== undefined) return;
    this.#sessions.set(entry.session, indexed);
    if (this.#sessions.size > sessionsMax) this.#sessions.delete(this.#sessions.keys().next().value as string);
  }
}

function emptyCard(summary: SessionSummary): SessionCard {
  return { ...summary, protocol: "", identity: null, masked: 0, rows: 0, anomaly: null };
}

function addedBy(card: SessionCard, { type, fields }: ReadEntry): Partial<SessionCard> {
  if (type === "SessionStart") {
    const { identity } = fields["flow"] as { identity: { subject: string } | null };
    return { protocol: String(fields["protocol"]), identity: identity?.subject ?? null };
  }
  if (type === "Notice") return anomalyOf(card, String(fields["text"]));
  if (type !== "Result") return {};
  return { masked: card.masked + Number(fields["masked"]), rows: card.rows + Number(fields["rows"]) };
}

function anomalyOf(card: SessionCard, text: string): Partial<SessionCard> {
  const [, score, told = ""] = /^anomaly (\d+\.\d): (.*)/s.exec(text) ?? [];
  if (score === undefined || Number(score) <= (card.anomaly?.score ?? 0)) return {};
  return { anomaly: { score: Number(score), text: told } };
}

function searchedBy({ card, searched }: Indexed, { type, fields }: ReadEntry): string {
  if (type === "SessionStart" || type === "Login") {
    const flow = fields["flow"] as { hostname?: string | null } | undefined;
    const who = [card.id, card.target, card.destination, card.process, card.job, card.user, card.database];
    return `${searched} ${[...who, card.protocol, card.identity, flow?.hostname].join(" ").toLowerCase()}`;
  }
  if (type !== "Operation" || fields["kind"] === "connect") return searched;
  const left = searchedCharactersMax - searched.length;
  if (left <= 0) return searched;
  return searched + ` ${fields["action"]} ${fields["rule"]} ${String(fields["text"])}`.slice(0, left).toLowerCase();
}

const fieldOf: Readonly<Record<string, (card: SessionCard) => string>> = {
  user: (card) => card.user,
  database: (card) => card.database,
  target: (card) => card.target,
  host: (card) => card.destination,
  process: (card) => card.process,
  job: (card) => card.job ?? "",
  identity: (card) => card.identity ?? "",
  protocol: (card) => card.protocol,
  anomaly: (card) => (card.anomaly === null ? "no" : `yes ${card.anomaly.text}`),
  verdict: (card) =>
    [card.denied > 0 ? "deny" : "", card.held > 0 ? "hold" : "", card.operations > card.denied ? "allow" : ""].join(
      " ",
    ),
};

/** `user:ada verdict:deny drop table`: every word has to be there, those with a field in that field. */
function wantedBy(search: string): ((indexed: Indexed) => boolean)[] {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  return words.map((word) => {
    const [, name = "", value = ""] = /^([a-z]+):(.+)$/.exec(word) ?? [];
    const field = Object.hasOwn(fieldOf, name) ? fieldOf[name] : undefined;
    if (field === undefined) return ({ searched }) => searched.includes(word);
    return ({ card }) => field(card).toLowerCase().includes(value);
  });
}
