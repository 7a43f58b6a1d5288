/**
 * A statement that stores a masked column elsewhere in the server (CREATE TABLE AS, INSERT … SELECT, UPDATE …) makes a
 * copy that no mask knows. Its text says which names it reads; the catalog says whether one of them is a masked column,
 * or a view's over one.
 */
import type { MaskSpec } from "../../core/verdict.ts";
import type { CatalogColumn, TableName } from "../protocol.ts";
import type { StorageFlow } from "./describe/index.ts";
import { catalogEntryMs, catalogTablesMax } from "./limits.ts";
import { copiedMask } from "./rows/copies.ts";
import type { Run } from "./run.ts";
import type { SessionState } from "./state.ts";

interface Known {
  readonly columns: readonly CatalogColumn[];
  readonly untilMs: number;
}

const none: readonly never[] = Object.freeze([]);

export class CopiedColumns {
  readonly #state: SessionState;
  readonly #known = new Map<string, Known>();
  #asked = false;
  #failed = false;

  constructor(state: SessionState) {
    this.#state = state;
  }

  /** Null: it may go. `wait`: names are asked for. Else the reason why it may not. */
  refusal(run: Run): string | "wait" | null {
    const masks = (run.verdict?.transforms.masks ?? none).filter(isKept);
    if (masks.length === 0) return null;
    const copies = copiesOf(run);
    if (copies.length === 0) return null;
    // pg_statistic and its kin hold values of any column.
    const infos = run.info === null ? run.through : [run.info, ...run.through];
    if (infos.some(({ traits }) => traits.includes("statistics"))) return reasonOf(masks[0] as MaskSpec);
    const sources = copies.flatMap((copy) => copy.sources);
    const columns = sources.length === 0 ? none : this.#columns(sources);
    if (columns === null) return "wait";
    const copied = copiedMask(copies, masks, this.#failed ? null : columns);
    this.#failed = false;
    return copied === null ? null : reasonOf(copied);
  }

  answered(tables: readonly TableName[], columns: readonly CatalogColumn[], failed: boolean): void {
    this.#asked = false;
    this.#failed = failed;
    if (failed) return;
    if (this.#known.size > catalogTablesMax) this.#known.clear();
    const untilMs = this.#state.context.now() + catalogEntryMs;
    for (const table of tables)
      this.#known.set(keyOf(table), {
        columns: columns.filter((column) => column.table === table[1] && (table[0] ?? column.schema) === column.schema),
        untilMs,
      });
  }

  #columns(sources: StorageFlow["sources"]): readonly CatalogColumn[] | null {
    if (this.#failed) return none;
    const nowMs = this.#state.context.now();
    const missing = sources.filter((table) => (this.#known.get(keyOf(table))?.untilMs ?? 0) <= nowMs);
    if (missing.length === 0) return sources.flatMap((table) => this.#known.get(keyOf(table))?.columns ?? none);
    if (!this.#asked) {
      this.#asked = true;
      this.#state.out.push({ type: "catalog", question: { tableOids: none, tables: missing } });
    }
    return null;
  }
}

/** What it stores itself, and what stands behind the names that it runs. */
function copiesOf({ info, through }: Run): StorageFlow[] {
  const behind = through.flatMap(({ storage }) => storage);
  const own = info === null ? none : info.storage;
  const copies = [...own, ...behind].filter((storage) => storage.copies);
  // CREATE TABLE AS EXECUTE: it stores what the other reads.
  if (behind.length > 0 && own.some((storage) => storage.copies))
    copies.push(...behind.map((storage) => ({ ...storage, copies: true })));
  return copies;
}

/** `copied` follows `derived` where it is not written. */
function isKept({ column, copied, derived }: MaskSpec): boolean {
  return column !== null && (copied ?? (derived === "deny" ? "deny" : "allow")) === "deny";
}

function reasonOf({ rule, column }: MaskSpec): string {
  return `rule "${rule}" masks ${column}, and the statement would leave its values where no mask knows them`;
}

const keyOf = (table: TableName): string => JSON.stringify(table);
