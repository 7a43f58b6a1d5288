/**
 * Tiles by C2SP tlog-tiles: 256 hashes of one level of every eight, and bundles of 256 entries. A tile that is full never
 * changes; the last one of a level is partial, and its width is part of its name. Pure.
 */
import { WeirError } from "../../agent/errors.ts";
import { emptyRoot, type HashReader, hashBytes, leafHash, nodeHash } from "./tree.ts";

export const tileWidth = 256;
const tileLevels = 8;
/** An entry's length is a u16. */
export const entryBytesMax = 65_535;

/** What a log reads and writes, by its path below the log. */
export interface TileFile {
  readonly path: string;
  readonly bytes: Buffer;
}

/** Null: there is no such file. */
export type ReadFile = (path: string) => Buffer | null;

export function tilePath(level: number | "entries", index: number, width: number = tileWidth): string {
  const digits = String(index).padStart(Math.ceil(String(index).length / 3) * 3, "0");
  const groups = digits.match(/\d{3}/g) ?? [];
  const name = groups.map((group, at) => (at === groups.length - 1 ? group : `x${group}`)).join("/");
  return `tile/${level}/${name}${width === tileWidth ? "" : `.p/${width}`}`;
}

/** How wide the tile is in a tree of this size; 0 when it is not there. */
export function widthOf(level: number | "entries", index: number, size: number): number {
  const hashes = level === "entries" ? size : Math.floor(size / tileWidth ** level);
  return Math.max(0, Math.min(tileWidth, hashes - index * tileWidth));
}

export function bundleOf(entries: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    entries.flatMap((entry) => {
      if (entry.length > entryBytesMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `An entry of ${entry.length} bytes is above ${entryBytesMax}.`);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(entry.length);
      return [length, entry];
    }),
  );
}

/** Null when these are not entries from end to end. */
export function entriesOf(bundle: Buffer): Buffer[] | null {
  const entries: Buffer[] = [];
  for (let at = 0; at < bundle.length; ) {
    if (bundle.length - at < 2) return null;
    const end = at + 2 + bundle.readUInt16BE(at);
    if (end > bundle.length) return null;
    entries.push(bundle.subarray(at + 2, end));
    at = end;
  }
  return entries;
}

/** The right edge of a tree: all that is needed to append, one list of less than 256 hashes a level. */
export class Edge {
  #size = 0;
  #levels: Buffer[][] = [];
  /** Entries of the bundle that is not full. */
  #entries: Buffer[] = [];

  get size(): number {
    return this.#size;
  }

  root(): Buffer {
    let root: Buffer | null = null;
    for (const hashes of this.#levels) {
      for (const subtree of wholeSubtrees(hashes)) root = root === null ? subtree : nodeHash(subtree, root);
    }
    return root ?? emptyRoot;
  }

  /** The tree with more leaves, and the files that are new; this one stays as it is. */
  append(entries: readonly Buffer[]): { edge: Edge; files: TileFile[] } {
    const edge = new Edge();
    edge.#size = this.#size;
    edge.#levels = this.#levels.map((hashes) => [...hashes]);
    edge.#entries = [...this.#entries];
    const files: TileFile[] = [];
    const touched = new Set<number>();
    for (const entry of entries) edge.#push(entry, files, touched);
    if (edge.#entries.length > 0 && entries.length > 0) {
      const index = Math.floor(edge.#size / tileWidth);
      files.push({ path: tilePath("entries", index, edge.#entries.length), bytes: bundleOf(edge.#entries) });
    }
    for (const level of touched) {
      const hashes = edge.#levels[level] as Buffer[];
      if (hashes.length === 0) continue;
      const index = Math.floor(edge.#size / tileWidth ** (level + 1));
      files.push({ path: tilePath(level, index, hashes.length), bytes: Buffer.concat(hashes) });
    }
    return { edge, files };
  }

  /** Takes up a tree from its tiles. The caller compares the root with what was signed. */
  static load(size: number, read: ReadFile): Edge {
    const edge = new Edge();
    edge.#size = size;
    for (let level = 0; size >= tileWidth ** level; level += 1) {
      const index = Math.floor(size / tileWidth ** (level + 1));
      edge.#levels.push(hashesIn(readTile(read, level, index, size)));
    }
    const bundle = readTile(read, "entries", Math.floor(size / tileWidth), size);
    const entries = entriesOf(bundle)?.slice(0, size % tileWidth);
    if (entries === undefined || entries.length !== size % tileWidth)
      throw new WeirError("WEIR_CHAIN_BROKEN", `The last entries of a tree of ${size} leaves cannot be read.`);
    edge.#entries = entries;
    return edge;
  }

  #push(entry: Buffer, files: TileFile[], touched: Set<number>): void {
    this.#entries.push(alone(entry));
    const bundle = Math.floor(this.#size / tileWidth);
    this.#size += 1;
    let carried = leafHash(entry);
    for (let level = 0; ; level += 1) {
      const hashes = this.#levels[level] ?? [];
      this.#levels[level] = hashes;
      hashes.push(alone(carried));
      touched.add(level);
      if (hashes.length < tileWidth) break;
      const index = this.#size / tileWidth ** (level + 1) - 1;
      files.push({ path: tilePath(level, index), bytes: Buffer.concat(hashes) });
      carried = wholeSubtrees(hashes)[0] as Buffer;
      this.#levels[level] = [];
    }
    if (this.#entries.length < tileWidth) return;
    files.push({ path: tilePath("entries", bundle), bytes: bundleOf(this.#entries) });
    this.#entries = [];
  }
}

/** Small buffers are cut from slabs of 64 KiB, and each keeps its slab whole: of what comes one by one and stays, 256 a level. */
function alone(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** Hashes of a tree of this size from its tiles; tiles that were read are kept, `tilesMax` of them. */
export function tileHashes(read: ReadFile, size: number, tilesMax = 64): HashReader {
  const kept = new Map<string, Buffer>();
  return (level, index) => {
    const tileLevel = Math.floor(level / tileLevels);
    const inTile = level % tileLevels;
    const first = index * 2 ** inTile;
    const tileIndex = Math.floor(first / tileWidth);
    const name = `${tileLevel}/${tileIndex}`;
    const tile = kept.get(name) ?? readTile(read, tileLevel, tileIndex, size);
    kept.delete(name);
    kept.set(name, tile);
    if (kept.size > tilesMax) kept.delete(kept.keys().next().value as string);
    const at = (first % tileWidth) * hashBytes;
    const hashes = hashesIn(tile.subarray(at, at + 2 ** inTile * hashBytes));
    return wholeSubtrees(hashes)[0] as Buffer;
  };
}

/** A tile as a tree of this size has it: under its partial name, or out of the full tile that came later. */
export function readTile(read: ReadFile, level: number | "entries", index: number, size: number): Buffer {
  const width = widthOf(level, index, size);
  if (width === 0) return Buffer.alloc(0);
  const found = read(tilePath(level, index, width)) ?? read(tilePath(level, index));
  if (found === null)
    throw new WeirError("WEIR_CHAIN_BROKEN", `${tilePath(level, index, width)} of the audit log is missing.`);
  if (level === "entries") return found;
  if (found.length !== width * hashBytes && found.length !== tileWidth * hashBytes)
    throw new WeirError("WEIR_CHAIN_BROKEN", `${tilePath(level, index, width)} has ${found.length} bytes.`);
  return found.subarray(0, width * hashBytes);
}

function hashesIn(tile: Buffer): Buffer[] {
  const hashes: Buffer[] = [];
  for (let at = 0; at + hashBytes <= tile.length; at += hashBytes) hashes.push(tile.subarray(at, at + hashBytes));
  return hashes;
}

/** Roots of the whole subtrees over a row of hashes, the smallest (rightmost) first. */
function wholeSubtrees(row: readonly Buffer[]): Buffer[] {
  const roots: Buffer[] = [];
  let level: readonly Buffer[] = row;
  while (level.length > 0) {
    if (level.length % 2 === 1) roots.push(level.at(-1) as Buffer);
    const above: Buffer[] = [];
    for (let at = 0; at + 1 < level.length; at += 2) above.push(nodeHash(level[at] as Buffer, level[at + 1] as Buffer));
    level = above;
  }
  return roots;
}
