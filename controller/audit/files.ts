/** A log's files on the disk: tiles have new names each, so that nothing that was signed for is ever written again. */
import { readFileSync } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { ReadFile, TileFile } from "./tiles.ts";

export const checkpointFile = "checkpoint";

export function readFrom(dir: string): ReadFile {
  return (path) => {
    try {
      return readFileSync(join(dir, path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  };
}

/** Resolves when all of it is on the disk, names included. */
export async function writeTiles(dir: string, files: readonly TileFile[]): Promise<void> {
  const folders = new Set<string>();
  for (const { path, bytes } of files) {
    const folder = dirname(join(dir, path));
    const made = await mkdir(folder, { recursive: true, mode: 0o700 });
    folders.add(folder);
    if (made !== undefined) for (const above of foldersUpTo(dir, folder)) folders.add(above);
    await writeSynced(join(dir, path), bytes);
  }
  for (const folder of folders) await syncFolder(folder);
}

/** In place of the one before, at once or not at all. */
export async function replaceFile(dir: string, name: string, bytes: string): Promise<void> {
  await writeSynced(join(dir, `${name}.new`), bytes);
  await rename(join(dir, `${name}.new`), join(dir, name));
  await syncFolder(dir);
}

/** Partial tiles whose full tile stands in a signed checkpoint are of no more use (tlog-tiles, "Partial Tiles"). */
export async function dropPartials(dir: string, files: readonly TileFile[]): Promise<void> {
  for (const { path } of files) {
    if (!path.includes(".p/")) await rm(join(dir, `${path}.p`), { recursive: true, force: true });
  }
}

async function writeSynced(path: string, bytes: string | Buffer): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function foldersUpTo(dir: string, folder: string): string[] {
  const found: string[] = [];
  for (let at = folder; relative(dir, at) !== "" && at !== dirname(at); at = dirname(at)) found.push(at);
  return [...found, dir];
}
