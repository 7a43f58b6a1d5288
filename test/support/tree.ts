import { type HashReader, nodeHash } from "../../controller/audit/tree.ts";

/** A tree in memory. */
export function hashesOf(leaves: readonly Buffer[]): HashReader {
  const read: HashReader = (level, index) => {
    if (level > 0) return nodeHash(read(level - 1, index * 2), read(level - 1, index * 2 + 1));
    const leaf = leaves[index];
    if (leaf === undefined) throw new RangeError(`There is no leaf ${index}.`);
    return leaf;
  };
  return read;
}
