/**
 * A file of JSON lines that tells what was seen, kept over restarts: one line more for each, so that a host with
 * thousands remembers the next one as fast as the first. A line that a crash cut off is dropped, as nothing was answered
 * for it yet; other damage is an error, for to begin with nothing would take whatever comes for the first.
 */
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, statSync, writeSync } from "node:fs";
import { readFileOr } from "../errors.ts";
import { readTextOf } from "./read-text.ts";
import { replaceFile } from "./replace-file.ts";

/** Of lines that go to the disk in one write when all are written anew. */
const pieceCharsMax = 64 * 1024;

export interface Journal<T> {
  /** As they were when it was opened. */
  readonly lines: readonly T[];
  /** Outlives this process at once, and the host a moment later: nobody waits for the disk. Throws when it cannot be written. */
  append(line: T): void;
  /** In place of all that were. */
  replace(lines: Iterable<T>): void;
}

/** `asLine` throws for a value that is none; `nextStep`: what to do about a file that cannot be read. */
export function openJournal<T>(path: string, asLine: (value: unknown) => T, nextStep: string): Journal<T> {
  const { lines, torn } = readFileOr("WEIR_CONFIG_INVALID", path, nextStep, () => readLines(path, asLine));
  if (torn) replaceFile(path, piecesOf(lines));
  return {
    lines,
    append: appendTo(path),
    replace: (all) => replaceFile(path, piecesOf(all)),
  };
}

function readLines<T>(path: string, asLine: (value: unknown) => T): { lines: T[]; torn: boolean } {
  const texts = (readTextOf(path) ?? "").split("\n");
  const last = texts.pop() ?? "";
  const lines = texts.map((text) => asLine(JSON.parse(text)));
  if (last === "") return { lines, torn: false };
  try {
    // Somebody's editor left out the end of the line.
    lines.push(asLine(JSON.parse(last)));
  } catch {
    // Its beginning only.
  }
  return { lines, torn: true };
}

function appendTo(path: string): (line: unknown) => void {
  let file: number | null = null;
  let syncing: number | null = null;
  let more = false;
  let failure: Error | null = null;

  function sync(which: number): void {
    more = syncing !== null;
    if (more) return;
    syncing = which;
    fdatasync(which, (error) => {
      syncing = null;
      failure ??= error;
      if (which !== file) closeSync(which);
      if (more && file !== null) sync(file);
    });
  }

  /** No file stands in its place, or another: an editor's, or all lines were written anew. */
  function leave(former: number): void {
    file = null;
    if (syncing !== former) closeSync(former);
  }

  return (line) => {
    if (failure !== null) throw failure;
    if (file !== null && fstatSync(file).ino !== statSync(path, { throwIfNoEntry: false })?.ino) leave(file);
    file ??= openSync(path, "a", 0o600);
    const text = textOf(line);
    const { size } = fstatSync(file);
    if (writeSync(file, text) < Buffer.byteLength(text)) {
      // The next line would stand behind half of this one.
      ftruncateSync(file, size);
      throw new Error(`no space is left for ${path}`);
    }
    sync(file);
  };
}

function textOf(line: unknown): string {
  return `${JSON.stringify(line)}\n`;
}

function* piecesOf(lines: Iterable<unknown>): Generator<string> {
  let piece = "";
  for (const line of lines) {
    piece += textOf(line);
    if (piece.length < pieceCharsMax) continue;
    yield piece;
    piece = "";
  }
  yield piece;
}
