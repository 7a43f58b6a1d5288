/**
 * libpg_query's JSON tree: a node is an object with one key, its type in CamelCase, over its fields in lower case;
 * a field of a fixed type holds the fields alone. Zero, false and empty fields are left out.
 */
export type Value = string | number | boolean | null | undefined | Fields | Value[];
export interface Fields {
  readonly [field: string]: Value;
}
export type Tree = Fields;

export const fieldsOf = (value: Value): Fields | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;

export const listOf = (value: Value): readonly Value[] => (Array.isArray(value) ? value : []);

export const textOf = (value: Value): string => (typeof value === "string" ? value : "");

/** The type and fields of a tagged node. */
export function nodeOf(value: Value): readonly [type: string, fields: Fields] | null {
  const object = fieldsOf(value);
  if (object === undefined) return null;
  for (const key in object) {
    const first = key.charCodeAt(0);
    if (first < 65 || first > 90) return null;
    return [key, fieldsOf(object[key]) ?? {}];
  }
  return null;
}

/** The fields of `value` when it is a node of this type. */
export function only(value: Value, type: string): Fields | undefined {
  return fieldsOf(fieldsOf(value)?.[type]);
}

/** The text of a String node, or of a constant that is a string. */
export function stringOf(value: Value): string | null {
  const plain = only(value, "String");
  if (plain !== undefined) return textOf(plain.sval);
  const constant = only(value, "A_Const");
  const sval = fieldsOf(constant?.sval);
  return sval === undefined ? null : textOf(sval.sval);
}

/** Any constant as text; null for NULL and for what is no constant. */
export function constantOf(value: Value): string | null {
  const text = stringOf(value);
  if (text !== null) return text;
  const constant = only(value, "A_Const");
  if (constant === undefined) {
    const cast = only(value, "TypeCast");
    if (cast !== undefined) return constantOf(cast.arg);
    for (const type of ["Integer", "Float", "Boolean"]) {
      const bare = only(value, type);
      if (bare !== undefined) return scalar(bare, type.toLowerCase());
    }
    return null;
  }
  for (const kind of ["ival", "fval", "boolval", "bsval"] as const) {
    const inner = fieldsOf(constant[kind]);
    if (inner !== undefined) return scalar(inner, kind === "ival" ? "integer" : kind === "boolval" ? "boolean" : "");
  }
  return null;
}

function scalar(fields: Fields, kind: string): string {
  const value = Object.values(fields)[0];
  if (value !== undefined) return String(value);
  return kind === "boolean" ? "false" : kind === "integer" ? "0" : "";
}

/** Strings of a list of String nodes: a qualified name. */
export const namesOf = (value: Value): string[] => listOf(value).map((item) => stringOf(item) ?? "");

const needsQuotes = /[."]/;

/** One name for policies: parts joined by dots, a part that has a dot or a quote itself in double quotes. */
export const joinName = (parts: readonly string[]): string =>
  parts.map((part) => (needsQuotes.test(part) ? `"${part.replaceAll('"', '""')}"` : part)).join(".");
