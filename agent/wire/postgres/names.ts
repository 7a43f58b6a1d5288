/**
 * The server's tables of names (prepared statements, portals, cursors) as they will be when everything sent so far
 * succeeds. A name that a message of an earlier batch changed, and that the server has not confirmed, is in flux:
 * whoever needs it waits, because after a failure the server would still mean the old statement by it.
 */
import { PeerError } from "../../errors.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import { portalsMax, preparedStatementsMax } from "./limits.ts";
import { newPrepared, type Portal, type Prepared } from "./run.ts";

/** NAMEDATALEN - 1: the server compares no more of a name, so two that differ later are one. */
const nameBytesMax = 63;

export type Found<T> = T | null | "in-flux";

interface Named<T> {
  readonly batch: number;
  readonly closed: boolean;
  confirmed: boolean;
  refused: boolean;
  previous: T | null;
}

class Table<T extends Named<T>> {
  readonly #names = new Map<string, T>();
  /**
   * What has no name changes with every query, and stands outside of the map: a map that is filled and emptied all the
   * time leaves a chain of its old tables, which the collector moves into the old generation one after the other.
   */
  #unnamed: T | null = null;
  readonly #max: number;
  readonly #what: string;

  constructor(max: number, what: string) {
    this.#max = max;
    this.#what = what;
  }

  get size(): number {
    return this.#names.size + (this.#unnamed === null ? 0 : 1);
  }

  find(name: string, batch: number): Found<T> {
    const found = this.#get(nameKey(name));
    if (found === null) return null;
    if (!found.confirmed && found.batch !== batch) return "in-flux";
    return found.closed ? null : found;
  }

  set(name: string, value: T): void {
    const key = nameKey(name);
    const previous = this.#get(key);
    if (previous === null && this.size >= this.#max)
      throw new PeerError("WEIR_LIMIT_REACHED", `more than ${this.#max} ${this.#what}`);
    value.previous = previous;
    this.#put(key, value);
  }

  confirm(name: string, value: T): void {
    value.confirmed = true;
    value.previous = null;
    const key = nameKey(name);
    if (value.closed && this.#get(key) === value) this.#put(key, null);
  }

  /** The server skipped the message that made it: the name means what it meant before. */
  refuse(name: string, value: T): void {
    value.refused = true;
    const key = nameKey(name);
    if (this.#get(key) !== value) return;
    let previous = value.previous;
    while (previous?.refused) previous = previous.previous;
    this.#put(key, previous === null || (previous.closed && previous.confirmed) ? null : previous);
  }

  forget(name: string): void {
    if (name === "*") this.clear();
    else this.#put(nameKey(name), null);
  }

  clear(): void {
    this.#unnamed = null;
    if (this.#names.size > 0) this.#names.clear();
  }

  #get(key: string): T | null {
    return key === "" ? this.#unnamed : (this.#names.get(key) ?? null);
  }

  #put(key: string, value: T | null): void {
    if (key === "") this.#unnamed = value;
    else if (value === null) this.#names.delete(key);
    else this.#names.set(key, value);
  }
}

export class Names {
  readonly statements = new Table<Prepared>(preparedStatementsMax, "prepared statements");
  readonly portals = new Table<Portal>(portalsMax, "portals");
  /** Cursors made by DECLARE; null: it is not known what stands behind. */
  readonly #cursors = new Map<string, StatementInfo | null>();

  /** What a text runs by name: EXECUTE and FETCH. Null in the list: not known. */
  through(info: StatementInfo, batch: number): (StatementInfo | null)[] | "in-flux" {
    const infos: (StatementInfo | null)[] = [];
    for (const name of info.executes) {
      const prepared = this.statements.find(sqlName(name), batch);
      if (prepared === "in-flux") return prepared;
      add(infos, prepared === null ? undefined : prepared.info, info.prepares, name);
    }
    for (const name of info.fetches) {
      const cursor = this.cursor(sqlName(name));
      if (cursor !== undefined) add(infos, cursor, info.declares, name);
      else {
        const portal = this.portals.find(sqlName(name), batch);
        if (portal === "in-flux") return portal;
        add(infos, portal === null ? undefined : (portal.prepared?.info ?? null), info.declares, name);
      }
    }
    return infos;
  }

  cursor(name: string): StatementInfo | null | undefined {
    return this.#cursors.get(nameKey(name));
  }

  /**
   * What a text did to the names. When only some of its statements may have run, every name that it touches is
   * not known any more.
   */
  apply(info: StatementInfo, succeeded: boolean): void {
    if (!succeeded && info.statements <= 1) return;
    for (const name of info.deallocates) if (succeeded) this.statements.forget(sqlName(name));
    for (const name of info.closes) {
      if (!succeeded) continue;
      if (name === "*") this.#cursors.clear();
      else this.#cursors.delete(nameKey(sqlName(name)));
      this.portals.forget(sqlName(name));
    }
    for (const { name, info: inner } of info.prepares) {
      this.statements.forget(sqlName(name));
      // Made and dropped again in one text, or made twice: its order would have to be known.
      const certain = succeeded && info.statements === 1;
      this.statements.set(sqlName(name), sqlPrepared(name, certain ? inner : null));
    }
    for (const { name, info: inner } of info.declares) {
      if (this.#cursors.size >= portalsMax)
        throw new PeerError("WEIR_LIMIT_REACHED", `more than ${portalsMax} cursors`);
      this.#cursors.set(nameKey(sqlName(name)), succeeded && declaredOnce(info, name) ? inner : null);
    }
  }
}

/** What the name means now, and what the same text may have made of it on the way: both count. */
function add(
  infos: (StatementInfo | null)[],
  known: StatementInfo | null | undefined,
  named: StatementInfo["prepares"],
  name: string,
): void {
  if (known !== undefined) infos.push(known);
  let inText = false;
  for (const one of named) {
    if (one.name !== name) continue;
    infos.push(one.info);
    inText = true;
  }
  if (known === undefined && !inText) infos.push(null);
}

function declaredOnce(info: StatementInfo, name: string): boolean {
  return info.declares.filter((one) => one.name === name).length === 1 && info.closes.length === 0;
}

function sqlPrepared(name: string, info: StatementInfo | null): Prepared {
  const prepared = newPrepared(name, -1, { text: "", info, traits: [], bytes: 0 });
  prepared.confirmed = true;
  return prepared;
}

/** By bytes, as the server compares; names of messages come as latin1 text, names in SQL as Unicode. */
function nameKey(name: string): string {
  return name.length > nameBytesMax ? name.slice(0, nameBytesMax) : name;
}

function sqlName(name: string): string {
  for (let index = 0; index < name.length; index += 1)
    if (name.charCodeAt(index) > 127) return Buffer.from(name, "utf8").toString("latin1");
  return name;
}
