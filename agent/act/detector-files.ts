/** The files that detectors of a policy name: lists of words, fingerprints, source code. Read in pieces, with limits. */
import { isUtf8 } from "node:buffer";
import { createReadStream } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { readFingerprint } from "../mask/fingerprint-file.ts";
import { FingerprintTable } from "../mask/fingerprints.ts";
import { WordList, wordCharactersMax } from "../mask/word-list.ts";

/** A list of words or of fingerprints. */
export const listBytesMax = 256 * 1024 * 1024;
/** Entries of one list: some 100 MB of tables. */
export const entriesMax = 4_000_000;
/** Of directories: a longer file is none that people write. */
export const sourceFileBytesMax = 1024 * 1024;
export const sourceBytesMax = 256 * 1024 * 1024;
export const sourceFilesMax = 50_000;
const depthMax = 40;

/** The event loop gets its turn after so much of a list. */
const readBytes = 64 * 1024;
const lineBytesMax = 4 * 1024;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;

/** What is wrong with a file, and where in it. */
export class FileProblem extends Error {
  readonly file: string;
  /** 0: with the file as a whole. */
  readonly line: number;
  readonly column: number;

  constructor(file: string, message: string, line = 0, column = 1) {
    super(message);
    this.file = file;
    this.line = line;
    this.column = column;
  }
}

export async function readWords(file: string, digest: (bytes: Buffer) => void): Promise<WordList> {
  const list = new WordList();
  await readLines(file, digest, (line, number) => {
    if (line.trim() === "") return;
    if (!list.add(line)) throw new FileProblem(file, `A word has at most ${wordCharactersMax} characters.`, number);
    if (list.size > entriesMax) throw new FileProblem(file, `There are more than ${entriesMax} words.`, number);
  });
  if (list.size === 0) throw new FileProblem(file, "There is no word in it.");
  return list;
}

export async function readFingerprints(file: string, digest: (bytes: Buffer) => void): Promise<FingerprintTable> {
  const table = new FingerprintTable();
  await readLines(file, digest, (line, number) => {
    const problem = readFingerprint(line, number, table);
    if (problem !== null) throw new FileProblem(file, problem, number);
    if (table.size > entriesMax) throw new FileProblem(file, `There are more than ${entriesMax} fingerprints.`, number);
  });
  if (table.size === 0) throw new FileProblem(file, "There is no fingerprint in it.");
  return table;
}

/** Adds what is below a directory: files of text, without those that a tool wrote. */
export async function readSource(
  directory: string,
  table: FingerprintTable,
  digest: (bytes: Buffer) => void,
): Promise<{ files: number; bytes: number }> {
  const read = { files: 0, bytes: 0 };
  const walk = async (path: string, depth: number): Promise<void> => {
    const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
      throw new FileProblem(path, `It cannot be read: ${messageOf(error)}.`);
    });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const below = join(path, entry.name);
      // Links may lead out of what was named.
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name) && depth < depthMax) await walk(below, depth + 1);
      } else if (entry.isFile() && !written.test(entry.name)) {
        const bytes = await readSourceFile(below);
        if (bytes === null) continue;
        read.files += 1;
        read.bytes += bytes.length;
        if (read.files > sourceFilesMax) throw new FileProblem(directory, `It has more than ${sourceFilesMax} files.`);
        if (read.bytes > sourceBytesMax)
          throw new FileProblem(directory, `It has more than ${sourceBytesMax} bytes of source code.`);
        digest(bytes);
        table.addText(bytes.toString("utf8"));
        if (table.size > entriesMax) throw new FileProblem(directory, `It has more than ${entriesMax} fingerprints.`);
        await nextTurn();
      }
    }
  };
  await walk(directory, 0);
  return read;
}

const skipped: ReadonlySet<string> = new Set([
  ".git",
  ".hg",
  ".svn",
  "node_modules",
  "vendor",
  "dist",
  "build",
  "target",
]);

/** Files that a tool writes: what they share with a prompt is no one's secret. */
const written = /(?:\.lock|-lock\.(?:json|yaml)|\.min\.(?:js|css)|\.map|\.svg|^go\.sum|\.fingerprints)$/;

/** Null: too long, or no text. */
async function readSourceFile(path: string): Promise<Buffer | null> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      if (size > sourceFileBytesMax) return null;
      const bytes = await file.readFile();
      return bytes.length <= sourceFileBytesMax && !bytes.includes(0) ? bytes : null;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new FileProblem(path, `It cannot be read: ${messageOf(error)}.`);
  }
}

/** Lines without their ends; `number` counts from 1. */
async function readLines(
  file: string,
  digest: (bytes: Buffer) => void,
  take: (line: string, number: number) => void,
): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  let number = 0;
  let bytes = 0;
  const takeLine = (line: Buffer): void => {
    number += 1;
    if (line.length > lineBytesMax) throw new FileProblem(file, "The line is too long.", number);
    if (!isUtf8(line)) throw new FileProblem(file, "The line is no UTF-8.", number);
    const end = line.at(-1) === carriageReturn ? line.length - 1 : line.length;
    take(line.toString("utf8", 0, end), number);
  };
  try {
    for await (const piece of createReadStream(file, { highWaterMark: readBytes }) as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > listBytesMax) throw new FileProblem(file, `It has more than ${listBytesMax} bytes.`);
      digest(piece);
      const text = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
      let from = 0;
      for (let end = text.indexOf(lineFeed); end >= 0; end = text.indexOf(lineFeed, from)) {
        takeLine(text.subarray(from, end));
        from = end + 1;
      }
      rest = text.subarray(from);
      if (rest.length > lineBytesMax) throw new FileProblem(file, "The line is too long.", number + 1);
    }
    if (rest.length > 0) takeLine(rest);
  } catch (error) {
    if (error instanceof FileProblem) throw error;
    throw new FileProblem(file, `It cannot be read: ${messageOf(error)}.`);
  }
}

/** The system's word for it, without the path that is told anyway. */
function messageOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "that is not allowed";
  if (code === "EISDIR") return "it is a directory";
  if (code === "ENOTDIR") return "it is no directory";
  return code ?? message;
}
