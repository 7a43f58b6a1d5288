/** How far a receiver has the record, in `forward-NAME.json` of the state directory. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { replaceFile } from "../files/replace-file.ts";

/** A receiver that took nothing for that long is no longer waited for when old parts of the record are taken out. */
export const waitedForMs: number = 7 * 24 * 60 * 60 * 1_000;

/** The lowest entry that a receiver still has to get; null when there is none. */
export function unforwardedFrom(stateDir: string, nowMs: number): number | null {
  const places = readdirSync(stateDir).flatMap((file) => {
    const name = /^forward-([\w.-]+)\.json$/.exec(file)?.[1];
    if (name === undefined || nowMs - statSync(join(stateDir, file)).mtimeMs > waitedForMs) return [];
    const next = readPlace(stateDir, name);
    return next === null ? [] : [next];
  });
  return places.length === 0 ? null : Math.min(...places);
}

function placePath(stateDir: string, name: string): string {
  return join(stateDir, `forward-${name}.json`);
}

export function readPlace(stateDir: string, name: string): number | null {
  try {
    const { next } = JSON.parse(readFileSync(placePath(stateDir, name), "utf8")) as { next?: unknown };
    return Number.isSafeInteger(next) ? (next as number) : null;
  } catch {
    return null;
  }
}

export function writePlace(stateDir: string, name: string, next: number): void {
  replaceFile(placePath(stateDir, name), JSON.stringify({ next }));
}
