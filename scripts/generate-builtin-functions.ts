/**
 * Writes agent/wire/postgres/describe/builtin-functions.ts from the catalog of a real server, asked through psql:
 *
 *     node scripts/generate-builtin-functions.ts -h /var/run/postgresql -U postgres > agent/wire/postgres/describe/builtin-functions.ts
 *
 * Immutable and stable functions of pg_catalog are taken as read-only, but for those that run SQL given as text or
 * a name; volatile ones only when they stand in `volatileReaders`, which was judged by hand.
 */
import { execFileSync } from "node:child_process";

/** Volatile by declaration, but they change nothing that outlives the statement. */
const volatileReaders =
  `clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7 setseed currval lastval
 current_query pg_sleep pg_sleep_for pg_sleep_until txid_status pg_xact_status pg_blocking_pids pg_safe_snapshot_blocking_pids
 pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size pg_is_in_recovery
 pg_is_wal_replay_paused pg_get_wal_replay_pause_state pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_jit_available
 pg_last_xact_replay_timestamp pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_lock_status
 pg_prepared_xact pg_notification_queue_usage pg_partition_tree pg_partition_ancestors pg_partition_root
 pg_sequence_last_value pg_last_committed_xact pg_xact_commit_timestamp pg_collation_actual_version
 pg_database_collation_actual_version pg_get_multixact_members pg_control_checkpoint pg_control_init pg_control_recovery
 pg_control_system pg_get_backend_memory_contexts pg_get_shmem_allocations pg_show_replication_origin_status
 pg_get_wal_resource_managers pg_stat_get_recovery_prefetch pg_stat_have_stats amvalidate`.split(/\s+/);

/** Stable or immutable by declaration, but they run SQL given as text or read a relation given by name, or are of no use to a client. */
const excluded =
  /^(query|cursor|table|schema|database)_to_xml|^ts_(stat|rewrite)$|^pg_event_trigger_|_validator$|^pg_stat_clear/;

/** Read-only functions that came after PostgreSQL 15, which the parser and newer servers know. */
const newer = `any_value array_sample array_shuffle array_reverse array_sort bit_count casefold crc32 crc32c date_add
 date_subtract erf erfc gamma lgamma json_array_elements jsonb_strip_nulls json_strip_nulls pg_basetype
 pg_char_to_encoding pg_get_acl pg_get_loaded_modules pg_input_error_info pg_input_is_valid pg_numa_available
 pg_split_walfile_name pg_stat_get_io pg_stat_get_backend_io pg_stat_get_checkpointer_num_timed pg_wait_events
 random_normal range_agg reverse system_user to_bin to_oct to_regtypemod unicode_assigned unicode_version uuid_extract_timestamp
 uuid_extract_version uuidv4 uuidv7 xmltext has_largeobject_privilege pg_column_toast_chunk_id icu_unicode_version
 min_scale trim_scale string_agg merge_action`.split(/\s+/);

// Some have overloads of both kinds; the name is then kept out.
const functionQuery = `SELECT p.proname, bool_or(p.provolatile = 'v'), bool_or(p.prokind = 'a'),
    bool_or(p.pronargs >= 1 AND format_type(p.proargtypes[0], NULL) IN
      ('"any"', 'any', 'anyelement', 'anynonarray', 'record', 'anycompatible', 'anycompatiblenonarray'))
  FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p'
    AND NOT 'internal'::regtype = ANY (p.proargtypes)
    AND p.prorettype::regtype::text !~ '(trigger|_handler|^internal)$'
  GROUP BY 1 ORDER BY 1`;
const operatorQuery = `SELECT DISTINCT oprname FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace ORDER BY 1`;

const ask = (query: string) =>
  execFileSync("psql", [...process.argv.slice(2), "-AtXF", "\t", "-c", query], { encoding: "utf8" })
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));

const rows = ask(functionQuery);
const readOnly = new Set(newer);
for (const [name, volatile] of rows)
  if (!excluded.test(name!) && (volatile === "f" || volatileReaders.includes(name!))) readOnly.add(name!);
const aggregates = rows.filter((row) => row[2] === "t").map((row) => row[0]!);
aggregates.push("any_value");
const composite = rows.filter((row) => row[3] === "t").map((row) => row[0]!);
const version = ask("SHOW server_version")[0]![0];

const list = (names: Iterable<string>) => {
  const lines: string[] = [];
  let line = "";
  for (const name of [...names].sort()) {
    if (line.length + name.length > 112) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? name : ` ${name}`;
  }
  return [...lines, line].join("\n");
};
const constant = (comment: string, name: string, names: Iterable<string>) =>
  `/** ${comment} */\nexport const ${name}: ReadonlySet<string> = new Set(\n  \`${list(names).replaceAll("\\", "\\\\").replaceAll("`", "\\`")}\`.split(/\\s/),\n);\n`;

process.stdout.write(
  [
    `// Written by scripts/generate-builtin-functions.ts from PostgreSQL ${version}; do not edit.\n`,
    constant("Functions of pg_catalog that change nothing and run no text.", "readOnlyFunctions", readOnly),
    constant("Aggregates of pg_catalog.", "aggregateFunctions", aggregates),
    constant(
      "Functions that take a whole row as their first argument, and so may be written `alias.function`.",
      "wholeRowFunctions",
      composite,
    ),
    constant("Operators of pg_catalog.", "builtinOperators", ask(operatorQuery).flat()),
  ].join("\n"),
);
