/** What a walk gathers over one text; `finish` turns it into the frozen StatementInfo. */
import type {
  CopyInfo,
  NamedStatement,
  Setting,
  StatementInfo,
  StorageFlow,
  Trait,
  TransactionControl,
} from "./statement-info.ts";

export class Collector {
  statements = 0;
  writes = false;
  problem: string | null = null;
  transaction: TransactionControl | null = null;
  copy: CopyInfo | null = null;
  readonly verbs = new Set<string>();
  readonly relations = new Set<string>();
  readonly columns = new Set<string>();
  readonly functions = new Set<string>();
  readonly traits = new Set<Trait>();
  readonly prepares: NamedStatement[] = [];
  readonly executes: string[] = [];
  readonly declares: NamedStatement[] = [];
  readonly fetches: string[] = [];
  readonly closes: string[] = [];
  readonly deallocates: string[] = [];
  readonly sets: Setting[] = [];
  readonly mentioned = new Set<string>();
  /** Names that stand for a row: tables, aliases, CTEs. A column reference by one of them is the whole row. */
  readonly rowNames = new Set<string>();
  /** Single names in the select list: no mention, for they have an origin, unless they name a row. */
  readonly bare = new Set<string>();
  readonly tables: (readonly [string | null, string])[] = [];
  copies = false;
  star = false;
  /** Columns whose values go somewhere, and those that an assignment to the very column reads. */
  readonly values = new Set<string>();
  readonly kept = new Set<string>();
  /** Relations of conditions: read for a function there that keeps what it is given. */
  readonly conditions: (readonly [string | null, string])[] = [];
  keeps = false;
  readonly storage: StorageFlow[] = [];
  readonly sources: (readonly [string | null, string])[] = [];
  unnamed = false;
  opaque = false;
  named = false;
  stores = false;

  /** Takes over what an inner text (a prepared statement, a body) was found to hold. */
  absorb(inner: Collector): void {
    for (const verb of inner.verbs) this.verbs.add(verb);
    for (const relation of inner.relations) this.relations.add(relation);
    for (const column of inner.columns) this.columns.add(column);
    for (const name of inner.functions) this.functions.add(name);
    for (const trait of inner.traits) if (trait !== "empty" && trait !== "multi-statement") this.traits.add(trait);
    for (const name of inner.mentioned) this.mentioned.add(name);
    for (const name of inner.rowNames) this.rowNames.add(name);
    for (const name of inner.bare) this.bare.add(name);
    this.tables.push(...inner.tables);
    for (const name of inner.values) this.values.add(name);
    for (const name of inner.kept) this.kept.add(name);
    this.sources.push(...inner.sources);
    this.conditions.push(...inner.conditions);
    this.keeps ||= inner.keeps;
    this.copies ||= inner.copies;
    this.star ||= inner.star;
    this.writes ||= inner.writes;
    this.unnamed ||= inner.unnamed;
    this.opaque ||= inner.opaque;
    this.named ||= inner.named;
    this.stores ||= inner.stores;
  }

  finish(): StatementInfo {
    this.statementEnd();
    return Object.freeze({
      statements: this.statements,
      verbs: freeze(this.verbs),
      relations: freeze(this.relations),
      columns: freeze(this.columns),
      functions: freeze(this.functions),
      writes: this.writes,
      traits: freeze(this.traits),
      prepares: freeze(this.prepares),
      executes: freeze(this.executes),
      declares: freeze(this.declares),
      fetches: freeze(this.fetches),
      closes: freeze(this.closes),
      deallocates: freeze(this.deallocates),
      transaction: this.transaction,
      copy: this.copy,
      sets: freeze(this.sets),
      problem: this.problem,
      storage: freeze(this.storage),
      flow: Object.freeze({
        mentioned: this.mentioned,
        unnamed: this.unnamed || this.namesRow(),
        opaque: this.opaque,
        named: this.named,
        stores: this.stores,
        tables: freeze(this.tables),
      }),
    });
  }

  /** One statement of the text has been walked. */
  statementEnd(): void {
    const read = this.keeps ? [...this.sources, ...this.conditions] : this.sources;
    const sources = new Map(read.map((source) => [JSON.stringify(source), source]));
    // `SET a = upper(a)` keeps it where it is, when nothing else is read.
    if (sources.size > 1) {
      for (const name of this.kept) this.values.add(name);
      this.copies ||= this.kept.size > 0;
    }
    let unnamed = this.star || this.unnamed;
    for (const name of this.rowNames) unnamed ||= this.values.has(name);
    if (this.copies || sources.size > 0)
      this.storage.push(
        Object.freeze({
          copies: this.copies,
          values: new Set(this.values),
          unnamed,
          sources: freeze(sources.values()),
        }),
      );
    this.copies = false;
    this.star = false;
    this.values.clear();
    this.kept.clear();
    this.sources.length = 0;
    this.conditions.length = 0;
    this.keeps = false;
  }

  private namesRow(): boolean {
    for (const name of this.rowNames) if (this.mentioned.has(name) || this.bare.has(name)) return true;
    return false;
  }
}

const none: readonly never[] = Object.freeze([]);

/** Most of the lists are empty: they share one. */
function freeze<Item>(items: Iterable<Item>): readonly Item[] {
  const list = [...items];
  return list.length === 0 ? none : Object.freeze(list);
}
