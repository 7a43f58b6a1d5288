/**
 * FunctionCall names a function by its number. Those for large objects (PostgreSQL docs §35.3) are known: libpq, and with
 * it psql and pg_dump, and JDBC know no other way, and their numbers stand in pg_proc.dat and never change. Every other
 * one may be anything.
 */
import type { Operation } from "../../core/operation.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import { plainOperation, type Speaker } from "./operation.ts";

interface LargeObjectFunction {
  readonly name: string;
  /** What comes back was stored; of all others a number. */
  readonly reads: boolean;
}

const functions = new Map<number, LargeObjectFunction>();
const add = (reads: boolean, ...named: readonly (readonly [name: string, ...oids: number[]])[]): void => {
  for (const [name, ...oids] of named) for (const oid of oids) functions.set(oid, { name, reads });
};
add(true, ["loread", 954], ["lo_get", 3458, 3459]);
add(
  false,
  ...([
    ["lo_create", 715],
    ["lo_creat", 957],
    ["lo_open", 952],
    ["lo_close", 953],
    ["lowrite", 955],
    ["lo_lseek", 956],
    ["lo_lseek64", 3170],
    ["lo_tell", 958],
    ["lo_tell64", 3171],
    ["lo_truncate", 1004],
    ["lo_truncate64", 3172],
    ["lo_unlink", 964],
    ["lo_from_bytea", 3457],
    ["lo_put", 3460],
    ["lo_import", 764, 767],
    ["lo_export", 765],
  ] as const),
);

export const largeObjectFunction = (oid: number): LargeObjectFunction | undefined => functions.get(oid);

/** `describe` reads SQL text. */
export function callOperation(
  speaker: Speaker,
  call: { readonly oid: number; readonly bytes: number },
  describe: (text: string) => StatementInfo,
): { operation: Operation; info: StatementInfo | null } {
  const { oid, bytes } = call;
  const known = largeObjectFunction(oid);
  const info = known === undefined ? null : describe(`SELECT ${known.name}()`);
  const operation = plainOperation("call", speaker, {
    text: known === undefined ? `function call ${oid}` : `function call ${oid} (${known.name})`,
    verbs: ["call"],
    functions: info?.functions ?? [String(oid)],
    writes: true,
    // Only a number is known: it may be pg_read_file or query_to_xml, which rules know by what they do.
    traits: info?.traits ?? ["unknown-function", "unknown-statement"],
    bytes,
  });
  return { operation, info };
}
