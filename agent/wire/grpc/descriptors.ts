/**
 * What a service's messages are, from a FileDescriptorSet (descriptor.proto of protocol buffers): `protoc
 * --include_imports --descriptor_set_out`, `buf build -o`, or a server's reflection.
 */
import { WeirError } from "../../errors.ts";
import { type Field, fieldsOf, readVarint } from "./protobuf.ts";

/** Messages and enums of one set. */
export const typesMax = 50_000;

export type ScalarKind =
  | ("double" | "float" | "bool" | "string" | "bytes" | "int32" | "sint32" | "uint32" | "fixed32" | "sfixed32")
  | ("int64" | "sint64" | "uint64" | "fixed64" | "sfixed64");

export interface FieldType {
  readonly number: number;
  /** As JSON calls it (`json_name`), and as the .proto file does. */
  readonly name: string;
  readonly protoName: string;
  readonly kind: ScalarKind | "enum" | "message" | "group";
  /** Full name of the message or enum. */
  readonly typeName: string;
  readonly repeated: boolean;
  /** Left out, it still has a value: a scalar of proto3 that is not `optional` and in no oneof. */
  readonly implicit: boolean;
}

export interface MessageType {
  readonly name: string;
  readonly fields: ReadonlyMap<number, FieldType>;
  /** An entry of a map: key 1, value 2. */
  readonly isMapEntry: boolean;
}

export interface MethodType {
  readonly input: MessageType;
  readonly output: MessageType;
  readonly clientStreams: boolean;
}

export interface GrpcSchema {
  /** null: no such method is described. */
  method(service: string, method: string): MethodType | null;
  message(name: string): MessageType | null;
  /** The name of a value; null: it has none. */
  enumName(type: string, value: number): string | null;
}

/** Numbers of `FieldDescriptorProto.Type`. */
const kinds: readonly (FieldType["kind"] | null)[] = [
  ...([null, "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"] as const),
  ...(["group", "message", "bytes", "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64"] as const),
];
const labelRepeated = 3;

interface RawMethod {
  readonly input: string;
  readonly output: string;
  readonly clientStreams: boolean;
}

/** By the bytes they were read from: a set is read once, and used for each call. */
const known = new WeakMap<Buffer, GrpcSchema>();

/** Throws WEIR_CONFIG_INVALID: half a schema would show half of a message. The bytes may not be changed after. */
export function readDescriptorSet(bytes: Buffer): GrpcSchema {
  let schema = known.get(bytes);
  if (schema === undefined) {
    schema = readSet(bytes);
    known.set(bytes, schema);
  }
  return schema;
}

function readSet(bytes: Buffer): GrpcSchema {
  try {
    return schemaOf([...fieldsOf(bytes)].filter(({ number }) => number === 1).map((file) => part(bytes, file)));
  } catch (cause) {
    if (cause instanceof WeirError && cause.code === "WEIR_CONFIG_INVALID") throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_CONFIG_INVALID", `This is no descriptor set: ${why}`, { cause });
  }
}

function schemaOf(files: readonly Buffer[]): GrpcSchema {
  const messages = new Map<string, MessageType>();
  const enums = new Map<string, ReadonlyMap<number, string>>();
  const methods = new Map<string, RawMethod>();
  if (files.length === 0) throw new WeirError("WEIR_CONFIG_INVALID", "The descriptor set has no file in it.");
  for (const file of files) readFile(file);
  for (const type of messages.values())
    for (const { typeName, protoName } of type.fields.values())
      if (typeName !== "" && !messages.has(typeName) && !enums.has(typeName))
        throw lacking(typeName, `${type.name}.${protoName}`);
  for (const [name, { input, output }] of methods)
    for (const typeName of [input, output]) if (!messages.has(typeName)) throw lacking(typeName, name);

  function readFile(file: Buffer): void {
    const scope = textOf(file, 2);
    const prefix = scope === "" ? "" : `${scope}.`;
    const isProto3 = textOf(file, 12) === "proto3";
    for (const field of fieldsOf(file)) {
      if (field.number === 4) readMessage(part(file, field), prefix, isProto3);
      else if (field.number === 5) readEnum(part(file, field), prefix);
      else if (field.number === 6) readService(part(file, field), prefix);
    }
  }

  function readMessage(bytes: Buffer, prefix: string, isProto3: boolean): void {
    const name = `${prefix}${textOf(bytes, 1)}`;
    const fields = new Map<number, FieldType>();
    let isMapEntry = false;
    if (messages.size + enums.size >= typesMax)
      throw new WeirError("WEIR_CONFIG_INVALID", `The descriptor set has more than ${typesMax} types.`);
    for (const field of fieldsOf(bytes)) {
      const inner = part(bytes, field);
      if (field.number === 2) {
        const type = readField(inner, isProto3);
        fields.set(type.number, type);
      } else if (field.number === 3) readMessage(inner, `${name}.`, isProto3);
      else if (field.number === 4) readEnum(inner, `${name}.`);
      else if (field.number === 7) isMapEntry = numberOf(inner, 7) === 1;
    }
    messages.set(name, { name, fields, isMapEntry });
  }

  function readEnum(bytes: Buffer, prefix: string): void {
    const values = new Map<number, string>();
    for (const field of fieldsOf(bytes)) {
      if (field.number !== 2) continue;
      const value = part(bytes, field);
      const number = numberOf(value, 2) | 0;
      // Of aliases the first one is the name.
      if (!values.has(number)) values.set(number, textOf(value, 1));
    }
    enums.set(`${prefix}${textOf(bytes, 1)}`, values);
  }

  function readService(bytes: Buffer, prefix: string): void {
    const name = `${prefix}${textOf(bytes, 1)}`;
    for (const field of fieldsOf(bytes)) {
      if (field.number !== 2) continue;
      const method = part(bytes, field);
      methods.set(`${name}/${textOf(method, 1)}`, {
        input: textOf(method, 2).replace(/^\./, ""),
        output: textOf(method, 3).replace(/^\./, ""),
        clientStreams: numberOf(method, 5) === 1,
      });
    }
  }

  return {
    method(service, name) {
      const raw = methods.get(`${service}/${name}`);
      const input = raw && messages.get(raw.input);
      const output = raw && messages.get(raw.output);
      return raw === undefined || input === undefined || output === undefined
        ? null
        : { input, output, clientStreams: raw.clientStreams };
    },
    message: (name) => messages.get(name) ?? null,
    enumName: (type, value) => enums.get(type)?.get(value) ?? null,
  };
}

function lacking(typeName: string, where: string): WeirError {
  const how = "write it with --include_imports";
  return new WeirError("WEIR_CONFIG_INVALID", `The descriptor set lacks ${typeName} (${where}); ${how}.`);
}

function readField(bytes: Buffer, isProto3: boolean): FieldType {
  const protoName = textOf(bytes, 1);
  const kind = kinds[numberOf(bytes, 5)] ?? null;
  if (kind === null) throw new WeirError("WEIR_CONFIG_INVALID", `The field ${protoName} is of no known type.`);
  const repeated = numberOf(bytes, 4) === labelRepeated;
  // A field of a oneof has its index, and so has an `optional` one of proto3.
  const hasPresence = [...fieldsOf(bytes)].some(({ number }) => number === 9) || kind === "message" || kind === "group";
  return {
    number: numberOf(bytes, 3),
    name: textOf(bytes, 10) || camel(protoName),
    protoName,
    kind,
    typeName: textOf(bytes, 6).replace(/^\./, ""),
    repeated,
    implicit: isProto3 && !repeated && !hasPresence,
  };
}

/** JSON's name of a field where the set does not say it. */
function camel(name: string): string {
  return name.replace(/_+(.?)/g, (_, letter: string) => letter.toUpperCase());
}

function part(bytes: Buffer, { start, end }: Field): Buffer {
  return bytes.subarray(start, end);
}

/** The last one counts, as everywhere in protocol buffers. */
function textOf(bytes: Buffer, number: number): string {
  let text = "";
  for (const field of fieldsOf(bytes))
    if (field.number === number && field.wire === 2) text = part(bytes, field).toString("utf8");
  return text;
}

function numberOf(bytes: Buffer, number: number): number {
  let value = 0;
  for (const field of fieldsOf(bytes))
    if (field.number === number && field.wire === 0) value = Number(readVarint(bytes, field.start, field.end));
  return value;
}
