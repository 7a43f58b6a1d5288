/** What calling a function means, by its name alone. */
import { builtinOperators, readOnlyFunctions } from "./builtin-functions.ts";
import type { Trait } from "./statement-info.ts";

export interface FunctionMeaning {
  readonly traits: readonly Trait[];
  readonly writes: boolean;
  /** It may return anything of the database. */
  readonly opaque: boolean;
}

const harmless: FunctionMeaning = { traits: [], writes: false, opaque: false };
const unknown: FunctionMeaning = { traits: ["unknown-function"], writes: true, opaque: true };

/** First match counts. An extension may put these in any schema, so the schema is not looked at. */
const special: readonly (readonly [pattern: RegExp, meaning: FunctionMeaning])[] = [
  [/^dblink/, { traits: ["dynamic-sql", "remote", "unknown-function"], writes: true, opaque: true }],
  [/^(postgres_fdw_|http(_|$)|curl_)/, { traits: ["remote", "unknown-function"], writes: true, opaque: true }],
  [
    /^(query|cursor|table|schema|database)_to_xml|^ts_(stat|rewrite)$|^crosstab|^connectby$|^xpath_table$/,
    { traits: ["dynamic-sql"], writes: true, opaque: true },
  ],
  [/^lo_(im|ex)port$/, { traits: ["server-file", "large-object", "dynamic-sql"], writes: true, opaque: true }],
  [/^lo(read|_get)$/, { traits: ["large-object"], writes: true, opaque: true }],
  // A number comes back.
  [/^lo(_|write$)/, { traits: ["large-object"], writes: true, opaque: false }],
  [/^pg_(file_(write|unlink|rename|sync))/, { traits: ["server-file"], writes: true, opaque: true }],
  [
    /^pg_(read_(binary_)?file|file_read|stat_file|ls_|logdir_ls|current_logfile|hba_file_rules|ident_file_mappings|show_all_file_settings)/,
    { traits: ["server-file"], writes: false, opaque: true },
  ],
  [
    /^pg_(logical_|replication_|create_(logical|physical)_|drop_replication|copy_(logical|physical)_|sync_replication|get_replication_slots)/,
    { traits: ["replication"], writes: true, opaque: true },
  ],
  [
    /^(pg_(terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_wal_replay_|pg_(backup|start|stop)_|pg_switch_|pg_create_restore_point|pg_stat_reset|pg_log_backend|pg_export_snapshot|binary_upgrade_|pg_import_system|pg_restore_|pg_clear_)/,
    { traits: ["admin-function"], writes: true, opaque: false },
  ],
  [/^(nextval|setval|pg_notify|pg_(try_)?advisory_)/, { traits: [], writes: true, opaque: false }],
  // What it sets is told by the walk.
  [/^set_config$/, harmless],
];

/** What these are given is kept in the server, and can be asked for by another text. */
export const keepsArguments = (name: string): boolean =>
  /^(set_config|setval|pg_notify|pg_logical_emit_message|lo_.+|lowrite|pg_file_write|pg_(try_)?advisory_.+)$/.test(
    name,
  );

/** The helpers of information_schema that drivers call themselves (JDBC for primary keys); all are immutable or stable. */
const ofInformationSchema =
  /^_pg_(char_(max|octet)_length|datetime_precision|expandarray|index_position|interval_type|numeric_(precision(_radix)?|scale)|truetyp(id|mod))$/;

/** `parts` as written: [schema?, name]. */
export function meaningOfFunction(parts: readonly string[]): FunctionMeaning {
  const name = parts[parts.length - 1] ?? "";
  const builtin = parts.length === 1 || (parts.length === 2 && parts[0] === "pg_catalog");
  if (builtin && readOnlyFunctions.has(name)) return harmless;
  if (parts.length === 2 && parts[0] === "information_schema" && ofInformationSchema.test(name)) return harmless;
  for (const [pattern, meaning] of special)
    if (pattern.test(name)) return builtin ? meaning : { ...unknown, traits: [...meaning.traits, "unknown-function"] };
  return unknown;
}

/** An operator is a function call; true when it is one of pg_catalog's. */
export function operatorIsBuiltin(parts: readonly string[]): boolean {
  const name = parts[parts.length - 1] ?? "";
  return (parts.length === 1 || parts[0] === "pg_catalog") && builtinOperators.has(name);
}

const meaningful =
  /^(search_path|client_encoding|names|standard_conforming_strings|role|session_authorization|backslash_quote|row_security|transform_null_equals|session_replication_role|dynamic_library_path|(local|session)_preload_libraries|default_transaction_.*|\*)$/;

/** Settings that change what a later text means, or who runs it. */
export const settingChangesMeaning = (name: string): boolean => meaningful.test(name);
