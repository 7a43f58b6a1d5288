/** Decodes what agents of this version, of earlier and, with a registry, of later versions wrote. */
import avro from "avsc";
import { fingerprintOf, unframe } from "../../agent/kafka/framing.ts";
import type { ChainedEntry } from "../../agent/record/chain.ts";
import { entryType, firstEntryType } from "../../agent/record/schema.ts";

export interface DecodedEntry {
  /** The entry's own bytes: what the chain is made over. */
  readonly payload: Buffer;
  readonly entry: ChainedEntry;
}

/** Answers with the JSON of a registered schema; null when there is none of this id. Rejects while it is away. */
export type SchemaLookup = (id: number) => Promise<string | null>;

/** Schemas of writers that are remembered; each version of Weir has one. */
const schemasMax = 256;

type Decode = (payload: Buffer) => ChainedEntry;

export class EntrySchemas {
  readonly #byFingerprint: ReadonlyMap<string, Decode>;
  readonly #byId = new Map<number, Decode | null>();
  readonly #lookup: SchemaLookup | null;

  constructor(lookup: SchemaLookup | null = null) {
    this.#lookup = lookup;
    this.#byFingerprint = new Map(
      [entryType, firstEntryType].map((type) => [fingerprintOf(type).toString("hex"), decoderOf(type)]),
    );
  }

  /** A text says why the bytes are no entry that can be read here. Rejects only while the registry is away. */
  async decode(value: Buffer | null): Promise<DecodedEntry | string> {
    const framed = value === null ? null : unframe(value);
    if (framed === null) return "it does not say its schema";
    const decode =
      framed.by === "registry" ? await this.#registered(framed.id) : this.#byFingerprint.get(framed.fingerprint);
    if (!decode) return `its schema ${framed.by === "registry" ? framed.id : framed.fingerprint} is not known here`;
    const { payload } = framed;
    try {
      return { payload, entry: decode(payload) };
    } catch (error) {
      return `it is not what its schema says: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  async #registered(id: number): Promise<Decode | null> {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    const text = this.#lookup === null ? null : await this.#lookup(id);
    const decode = text === null ? null : decoderOfSchema(text);
    if (this.#byId.size >= schemasMax) this.#byId.clear();
    this.#byId.set(id, decode);
    return decode;
  }
}

/** Null for a schema that is none of an entry. */
function decoderOfSchema(text: string): Decode | null {
  try {
    return decoderOf(avro.Type.forSchema(JSON.parse(text) as avro.Schema, { wrapUnions: true }));
  } catch {
    return null;
  }
}

/** Avro 1.11 specification, schema resolution: fields that the writer had not take their defaults. */
function decoderOf(writer: avro.Type): Decode {
  if (writer.equals(entryType)) return (payload) => entryType.fromBuffer(payload) as ChainedEntry;
  const resolver = entryType.createResolver(writer);
  return (payload) => entryType.fromBuffer(payload, resolver) as ChainedEntry;
}
