/**
 * What one SQL text says about itself. Frozen and shared by everyone who sends the same text, so it holds nothing
 * of a session. The whole text (which may be several statements) gives one StatementInfo.
 */
export interface StatementInfo {
  /** Statements in the text; 0 for an empty one and for one that could not be parsed. */
  readonly statements: number;
  /** Lower case, each once, in order of appearance: sub-statements, CTEs, bodies and actions included. */
  readonly verbs: readonly string[];
  /** `schema.table` as written, CTE names taken out; a part with a dot or a quote in it stands in double quotes. */
  readonly relations: readonly string[];
  /** Column names that appear, without table; `*` for a star. */
  readonly columns: readonly string[];
  /** Functions as written, lower case unless quoted; a foreign operator appears as `operator(schema.@@)`. */
  readonly functions: readonly string[];
  /** True when the text writes, or when that cannot be decided from the text. */
  readonly writes: boolean;
  /** See the table in README.md. */
  readonly traits: readonly Trait[];
  /** `PREPARE name AS …`: the inner statement's own info. */
  readonly prepares: readonly NamedStatement[];
  readonly executes: readonly string[];
  /** `DECLARE name CURSOR FOR …`. */
  readonly declares: readonly NamedStatement[];
  /** Cursors named by FETCH or MOVE. */
  readonly fetches: readonly string[];
  /** `*` stands for CLOSE ALL. */
  readonly closes: readonly string[];
  /** `*` stands for DEALLOCATE ALL (and DISCARD ALL). */
  readonly deallocates: readonly string[];
  /** The last transaction control statement of the text; null when there is none. */
  readonly transaction: TransactionControl | null;
  /** The last COPY of the text; null when there is none. */
  readonly copy: CopyInfo | null;
  /** SET, RESET (value null), and set_config with constant arguments. `RESET ALL` and `DISCARD ALL` have the name `*`. */
  readonly sets: readonly Setting[];
  /** The parser's message when the trait `unparsable` is set; it may quote a part of the text. */
  readonly problem: string | null;
  /** What `mayCarry` works on. */
  readonly flow: ColumnFlow;
  /** What each of its statements reads and stores in the server; those that read nothing are left out. */
  readonly storage: readonly StorageFlow[];
}

export interface NamedStatement {
  readonly name: string;
  readonly info: StatementInfo;
}

export interface Setting {
  /** Lower case. */
  readonly name: string;
  /** Null for RESET, SET … TO DEFAULT, and a value that is not a constant. */
  readonly value: string | null;
  readonly local: boolean;
}

export type TransactionControl =
  | "begin"
  | "commit"
  | "rollback"
  | "savepoint"
  | "release"
  | "rollback-to"
  | "prepare-transaction"
  | "commit-prepared"
  | "rollback-prepared";

export interface CopyInfo {
  readonly direction: "in" | "out";
  /** The data goes over this connection; false for a server file or a program. */
  readonly stdio: boolean;
  readonly format: "text" | "csv" | "binary";
  /** `schema.table` as in `relations`; null for COPY (query). */
  readonly relation: string | null;
  /** The parts of `relation` as the server knows them, unquoted: [catalog?, schema?, table]. */
  readonly relationParts: readonly string[] | null;
  /** Column list; null when none was written. */
  readonly columns: readonly string[] | null;
  /** The text of the query of COPY (query) TO, cut out of the statement; null for COPY table. */
  readonly query: string | null;
  /** Option name (lower case) to value (`delimiter`, `null`, `header`, `quote`, `escape`, `encoding`, …). */
  readonly options: Readonly<Record<string, string>>;
}

/** What can flow into a result column, collected over the text but for places whose values never leave (WHERE, ON, …). */
export interface ColumnFlow {
  /** Names of columns in places from which a value can reach the result. */
  readonly mentioned: ReadonlySet<string>;
  /** A star, whole row, NATURAL/USING join or column alias list: columns flow without being named. */
  readonly unnamed: boolean;
  /** Something the text does not show: an unknown function, dynamic SQL, or no parse at all. */
  readonly opaque: boolean;
  /** EXECUTE or FETCH: the rows are those of a statement named elsewhere. */
  readonly named: boolean;
  /** RETURNING gives back what the text itself stores, so that a column's origin proves nothing. */
  readonly stores: boolean;
  /** Relations read, each as [schema or null, table]. */
  readonly tables: readonly (readonly [string | null, string])[];
}

/** What a statement reads and may store in another column: CREATE TABLE AS, SELECT INTO, INSERT … SELECT, UPDATE, MERGE. */
export interface StorageFlow {
  /** It stores something that it reads. */
  readonly copies: boolean;
  /** Names of columns read, but for places whose values go nowhere (WHERE, ON, …), and a column kept in its own place. */
  readonly values: ReadonlySet<string>;
  /** A star or a whole row: columns are read without being named. */
  readonly unnamed: boolean;
  /** Relations read, each as [schema or null, table]. */
  readonly sources: readonly (readonly [string | null, string])[];
}

/** A base column, or a view's column; null stands for any. */
export interface BaseColumn {
  readonly schema: string | null;
  readonly table: string | null;
  readonly column: string;
}

export type Trait =
  | "empty"
  | "unparsable"
  | "too-large"
  | "invalid-text"
  | "backslash"
  | "multi-statement"
  | "unknown-statement"
  | "unknown-function"
  | "dynamic-sql"
  | "do-block"
  | "procedural-body"
  | "prepare"
  | "execute"
  | "explain"
  | "explain-analyze"
  | "no-where"
  | "trivial-where"
  | "no-limit"
  | "whole-table"
  | "select-into"
  | "for-update"
  | "upsert"
  | "cursor"
  | "ddl"
  | "drop-column"
  | "privilege"
  | "security-definer"
  | "set-meaning"
  | "copy-in"
  | "copy-out"
  | "copy-file"
  | "copy-program"
  | "server-file"
  | "large-object"
  | "load-library"
  | "replication"
  | "statistics"
  | "remote"
  | "admin-function"
  | "system-setting"
  | "two-phase";
