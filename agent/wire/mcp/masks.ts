/** The masks of a verdict, made ready for MCP's messages. */
import type { Verdict } from "../../core/verdict.ts";
import { maskerOf } from "../../mask/masker.ts";
import type { JsonMasks, TextMasker } from "../http/json-mask.ts";
import { type Masking, plansOf } from "../http/mask-plans.ts";
import { isList } from "./lists.ts";
import { answerTokensMax, type Message } from "./message.ts";

/** A blob in base64 is no text; a shorter one is looked at like any string, as a card number is base64 too. */
const blobCharactersMin = 256;

/** Values that both sides only compare, and that would be worth nothing when changed: where they stand, by their key. */
const handles: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ...(["jsonrpc", "id", "method"] as const).map((key): [string, string[]] => [key, ["$"]]),
  ["progressToken", ["$.params", "$.params._meta"]],
  ["requestId", ["$.params"]],
  ["taskId", ["$.params", "$.result", "$.result.task"]],
  ...(["requestState", "nextCursor", "resultType", "protocolVersion"] as const).map((key): [string, string[]] => [
    key,
    ["$.result"],
  ]),
]);

/** Letters of base64, by their code. */
const base64 = new Uint8Array(256);
for (const letter of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  base64[letter.charCodeAt(0)] = 1;

/** Null: nothing is masked. */
export function compileMasks(verdict: Verdict, masking: Masking): JsonMasks | null {
  const { reply, paths } = plansOf(verdict, masking);
  if (reply === null && paths.length === 0) return null;
  const masker = reply === null ? null : maskerOf(reply);
  return {
    ...{ masker, paths, key: masking.maskKey, roots: [["$", "result", "structuredContent"]], spares },
    tokensMax: answerTokensMax,
  };
}

/**
 * What is taken out of requests. A placeholder is written as a mask: an MCP server gives nothing back in which it could
 * be found again.
 */
export function compileRedactions(verdict: Verdict, masking: Masking): TextMasker | null {
  const { request } = plansOf(verdict, masking);
  return request === null ? null : maskerOf(request);
}

/** What a list or a handshake says is the protocol's own: paths are meant for what tools bring. */
export function masksFor(masks: JsonMasks, message: Message): JsonMasks {
  const { inner } = message;
  const own = isList(message) || inner.has("protocolVersion") || inner.has("supportedVersions");
  const brings = ["content", "structuredContent", "contents", "messages"].some((member) => inner.has(member));
  return own && !brings && masks.paths.length > 0 ? { ...masks, paths: [] } : masks;
}

function spares(way: readonly string[], bytes: Buffer, start: number, end: number, named: boolean): boolean {
  const last = way[way.length - 1] as string;
  const places = handles.get(last);
  if (places !== undefined) return places.includes(way.slice(0, -1).join("."));
  return !named && (last === "data" || last === "blob") && isBlob(bytes, start, end);
}

function isBlob(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < blobCharactersMin || (end - start) % 4 !== 0) return false;
  let to = end;
  while (to > end - 2 && bytes[to - 1] === 0x3d) to -= 1;
  for (let at = start; at < to; at += 1) if (base64[bytes[at] as number] !== 1) return false;
  return true;
}
