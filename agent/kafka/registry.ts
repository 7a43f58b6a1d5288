/** A schema registry with Confluent's API: agents register what they write, controllers ask what others wrote. */
import type avro from "avsc";
import { WeirError } from "../errors.ts";
import { entryType, firstEntryType } from "../record/schema.ts";
import { confluent, type Framing } from "./framing.ts";
import { topics } from "./topics.ts";

const answerWithinMs = 5_000;
const answerBytesMax = 1024 * 1024;
const contentType = "application/vnd.schemaregistry.v1+json";

export interface Registry {
  /** Registers the entry's schemas, oldest first, as a rule of compatibility wants; the framing that names them. */
  framing(): Promise<Framing>;
  /** A schema's JSON; null when there is none of this id. Rejects while the registry is away. */
  schema(id: number): Promise<string | null>;
}

/** `url` may hold user and password; of Apicurio it ends in `/apis/ccompat/v7`. */
export function openRegistry(url: string): Registry {
  const base = new URL(url.endsWith("/") ? url : `${url}/`);
  const authorization = authorizationOf(base);
  async function ask(path: string, body?: object): Promise<{ status: number; answer: Record<string, unknown> }> {
    try {
      const response = await fetch(new URL(path, base), {
        method: body === undefined ? "GET" : "POST",
        headers: { accept: contentType, "content-type": contentType, ...authorization },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        redirect: "error",
        signal: AbortSignal.timeout(answerWithinMs),
      });
      return { status: response.status, answer: JSON.parse(await limited(response)) as Record<string, unknown> };
    } catch (cause) {
      throw unreachable(
        `${base.host} did not answer: ${cause instanceof Error ? cause.message : String(cause)}`,
        cause,
      );
    }
  }
  async function register(topic: string, type: avro.Type): Promise<number> {
    const schema = JSON.stringify(type.schema({ exportAttrs: true }));
    const { status, answer } = await ask(`subjects/${topic}-value/versions`, { schema, schemaType: "AVRO" });
    const { id } = answer;
    if (status === 200 && typeof id === "number") return id;
    throw unreachable(`${base.host} did not take the schema of ${topic}: ${status} ${String(answer["message"] ?? "")}`);
  }
  return {
    async framing() {
      const ids = new Map<avro.Type, number>();
      for (const type of [firstEntryType, entryType]) {
        await register(topics.verdicts, type);
        ids.set(type, await register(topics.sessions, type));
      }
      return confluent(ids);
    },
    async schema(id) {
      const { status, answer } = await ask(`schemas/ids/${id}`);
      if (status === 404) return null;
      if (status === 200 && typeof answer["schema"] === "string") return answer["schema"];
      throw unreachable(`${base.host} gave no schema ${id}: ${status}`);
    },
  };
}

/** `fetch` takes no user and password in an address. */
function authorizationOf(base: URL): Record<string, string> {
  const { username, password } = base;
  base.username = "";
  base.password = "";
  if (username === "") return {};
  const plain = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(plain).toString("base64")}` };
}

async function limited(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > answerBytesMax) throw new Error(`more than ${answerBytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

function unreachable(what: string, cause?: unknown): WeirError {
  return new WeirError("WEIR_KAFKA_UNREACHABLE", `The schema registry ${what}.`, { cause });
}
