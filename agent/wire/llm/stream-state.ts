/** What the readers of streams know between two events, as plain data. */
import { isObject, type JsonObject } from "./message-leaves.ts";

export interface Counts {
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly toolCalls: readonly string[];
  readonly error: string | null;
}

interface CountsHolder {
  inputTokens: number | null;
  outputTokens: number | null;
  readonly toolCalls: string[];
  error: string | null;
}

export function countsOf({ inputTokens, outputTokens, toolCalls, error }: Counts): Counts {
  return { inputTokens, outputTokens, toolCalls, error };
}

export function restoreCounts(holder: CountsHolder, counts: Counts): void {
  holder.inputTokens = counts.inputTokens;
  holder.outputTokens = counts.outputTokens;
  holder.error = counts.error;
  refill(holder.toolCalls, counts.toolCalls);
}

export function refill<T>(list: T[], items: readonly T[]): void {
  list.length = 0;
  for (const item of items) list.push(item);
}

export function refillMap<Key, Value>(map: Map<Key, Value>, entries: ReadonlyMap<Key, Value>): void {
  const all = [...entries];
  map.clear();
  for (const [key, value] of all) map.set(key, value);
}

/** An event, or a part of one, that takes a text in at one place. */
export type Carry = (text: string) => JsonObject;

export interface CarryState {
  readonly like: JsonObject;
  readonly way: readonly string[];
}

export function saveCarry(carry: Carry): CarryState {
  return { like: carry(""), way: placeOf(carry("a"), carry("b")) ?? [] };
}

export function carryOf({ like, way }: CarryState): Carry {
  return (text) => {
    const event = structuredClone(like);
    let node: unknown = event;
    for (const key of way.slice(0, -1)) node = (node as JsonObject)[key];
    (node as JsonObject)[way.at(-1) as string] = text;
    return event;
  };
}

/** Where two values differ, which are alike but for one text; null: nowhere. */
function placeOf(one: unknown, other: unknown): string[] | null {
  if (typeof one === "string") return one === other ? null : [];
  if (!isObject(one) && !Array.isArray(one)) return null;
  for (const [key, value] of Object.entries(one)) {
    const place = placeOf(value, (other as JsonObject)[key]);
    if (place !== null) return [key, ...place];
  }
  return null;
}
