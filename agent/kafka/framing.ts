/**
 * How a reader knows the schema of an entry: with a registry the Confluent wire format (0, schema id in 4 bytes), without
 * one Avro's single-object encoding (C3 01, CRC-64-AVRO of the schema in 8 bytes; Avro 1.11 specification). The entry's
 * own bytes stand behind it as the chain has them.
 */
import type avro from "avsc";

/** What stands in front of entries of this writer's schema. */
export type Framing = (writer: avro.Type) => Buffer;

const confluentMagic = 0;
const singleObjectMagic = Buffer.from([0xc3, 0x01]);
const confluentBytes = 5;
const singleObjectBytes = 10;

export function singleObject(): Framing {
  return remembered((writer) => Buffer.concat([singleObjectMagic, fingerprintOf(writer)]));
}

/** `ids`: what the registry gave each schema. */
export function confluent(ids: ReadonlyMap<avro.Type, number>): Framing {
  return remembered((writer) => {
    const head = Buffer.alloc(confluentBytes, confluentMagic);
    head.writeUInt32BE(ids.get(writer) ?? 0, 1);
    return head;
  });
}

export type Framed =
  | { readonly by: "registry"; readonly id: number; readonly payload: Buffer }
  | { readonly by: "fingerprint"; readonly fingerprint: string; readonly payload: Buffer };

/** Null for bytes that are framed in neither way. */
export function unframe(value: Buffer): Framed | null {
  if (value[0] === confluentMagic && value.length > confluentBytes)
    return { by: "registry", id: value.readUInt32BE(1), payload: value.subarray(confluentBytes) };
  if (value.length > singleObjectBytes && value.subarray(0, 2).equals(singleObjectMagic)) {
    const fingerprint = value.toString("hex", singleObjectMagic.length, singleObjectBytes);
    return { by: "fingerprint", fingerprint, payload: value.subarray(singleObjectBytes) };
  }
  return null;
}

const empty = 0xc15d213aa4d7a795n;
const table = Array.from({ length: 256 }, (_, byte) => {
  let value = BigInt(byte);
  for (let bit = 0; bit < 8; bit += 1) value = (value >> 1n) ^ (value & 1n ? empty : 0n);
  return value;
});

/** CRC-64-AVRO over the Parsing Canonical Form, little-endian. */
export function fingerprintOf(type: avro.Type): Buffer {
  let value = empty;
  for (const byte of Buffer.from(JSON.stringify(type.schema())))
    value = (value >> 8n) ^ (table[Number((value ^ BigInt(byte)) & 0xffn)] as bigint);
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(value);
  return out;
}

function remembered(make: Framing): Framing {
  const heads = new Map<avro.Type, Buffer>();
  return (writer) => {
    let head = heads.get(writer);
    if (head === undefined) {
      head = make(writer);
      heads.set(writer, head);
    }
    return head;
  };
}
