/**
 * The functions that clients call by number for large objects (PostgreSQL docs §35.3): libpq, and with it psql and
 * pg_dump, and JDBC know no other way. Their numbers stand in pg_proc.dat and never change; whoever else is called by a
 * number may be anything.
 */
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
