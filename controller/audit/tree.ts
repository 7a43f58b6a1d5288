/**
 * The Merkle tree of RFC 6962 §2.1: SHA-256, leaves and nodes told apart by their first byte, so that a node can never
 * be shown as a leaf. Pure: hashes come from a `HashReader`, which tiles or memory give.
 */
import { hash } from "node:crypto";

export const hashBytes = 32;
/** Longest proof of a tree that fits a safe integer: 53 levels, and one more for a consistency proof. */
export const proofHashesMax = 54;

/** The hash over leaves [index·2^level, (index+1)·2^level), all of which are there. */
export type HashReader = (level: number, index: number) => Buffer;

const leafByte = Buffer.from([0]);
const nodeByte = Buffer.from([1]);

export const emptyRoot: Buffer = digest(Buffer.alloc(0));

export function leafHash(data: Uint8Array): Buffer {
  return digest(Buffer.concat([leafByte, data]));
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return digest(Buffer.concat([nodeByte, left, right]));
}

export function rootOf(read: HashReader, size: number): Buffer {
  return size === 0 ? emptyRoot : rangeHash(read, 0, size);
}

/** RFC 6962 §2.1.1: what has to stand beside leaf `index`, from below, to come to the root over `size` leaves. */
export function inclusionProof(read: HashReader, index: number, size: number): Buffer[] {
  if (!(Number.isSafeInteger(size) && Number.isInteger(index) && index >= 0 && index < size))
    throw outside(index, size);
  const proof: Buffer[] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + splitOf(end - start);
    if (index < middle) {
      proof.push(rangeHash(read, middle, end));
      end = middle;
    } else {
      proof.push(rangeHash(read, start, middle));
      start = middle;
    }
  }
  return proof.reverse();
}

/** RFC 6962 §2.1.2: shows that the first `oldSize` leaves of both trees are the same. Empty when there is nothing to show. */
export function consistencyProof(read: HashReader, oldSize: number, size: number): Buffer[] {
  if (!(Number.isSafeInteger(size) && Number.isInteger(oldSize) && oldSize >= 0 && oldSize <= size))
    throw outside(oldSize, size);
  if (oldSize === 0 || oldSize === size) return [];
  const proof: Buffer[] = [];
  let [start, end] = [0, size];
  let whole = true;
  while (oldSize !== end) {
    const middle = start + splitOf(end - start);
    if (oldSize <= middle) {
      proof.push(rangeHash(read, middle, end));
      end = middle;
    } else {
      proof.push(rangeHash(read, start, middle));
      start = middle;
      whole = false;
    }
  }
  // The old root is known to who asks; a part of it is not.
  if (!whole) proof.push(rangeHash(read, start, end));
  return proof.reverse();
}

/** RFC 9162 §2.1.3.2. */
export function inclusionHolds(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!Number.isSafeInteger(size) || !Number.isInteger(index) || index < 0 || index >= size) return false;
  if (!wellFormed(proof)) return false;
  let [node, last] = [index, size - 1];
  let value: Buffer = Buffer.from(leaf);
  for (const beside of proof) {
    if (last === 0) return false;
    if (odd(node) || node === last) {
      value = nodeHash(beside, value);
      while (!odd(node) && node !== 0) [node, last] = [half(node), half(last)];
    } else value = nodeHash(value, beside);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && value.equals(root);
}

/** RFC 9162 §2.1.4.2. An empty tree is the beginning of every tree. */
export function consistencyHolds(
  oldSize: number,
  oldRoot: Uint8Array,
  size: number,
  root: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!Number.isSafeInteger(size) || !Number.isInteger(oldSize) || oldSize < 0 || oldSize > size) return false;
  if (!wellFormed(proof)) return false;
  if (oldSize === size) return proof.length === 0 && Buffer.from(oldRoot).equals(root);
  if (oldSize === 0) return proof.length === 0 && emptyRoot.equals(oldRoot);
  // An old tree that is a whole subtree is not in the proof: its root is known.
  const path = isPowerOfTwo(oldSize) ? [oldRoot, ...proof] : proof;
  let [node, last] = [oldSize - 1, size - 1];
  while (odd(node)) [node, last] = [half(node), half(last)];
  const first = path[0];
  if (first === undefined) return false;
  let [before, after]: [Buffer, Buffer] = [Buffer.from(first), Buffer.from(first)];
  for (const beside of path.slice(1)) {
    if (last === 0) return false;
    if (odd(node) || node === last) {
      before = nodeHash(beside, before);
      after = nodeHash(beside, after);
      while (!odd(node) && node !== 0) [node, last] = [half(node), half(last)];
    } else after = nodeHash(after, beside);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && before.equals(oldRoot) && after.equals(root);
}

/** MTH(D[start:end]) where `start` is a multiple of the largest whole subtree in it. */
function rangeHash(read: HashReader, start: number, end: number): Buffer {
  const count = end - start;
  const split = splitOf(count);
  if (count === 1 || split * 2 === count) return read(levelOf(count), start / count);
  const middle = start + split;
  return nodeHash(rangeHash(read, start, middle), rangeHash(read, middle, end));
}

/** The largest power of two below `count`. Not by shifts: they end at 32 bits. */
function splitOf(count: number): number {
  let split = 1;
  while (split * 2 < count) split *= 2;
  return split;
}

function isPowerOfTwo(count: number): boolean {
  return count === 1 || splitOf(count) * 2 === count;
}

/** Of a power of two. */
function levelOf(count: number): number {
  let level = 0;
  for (let rest = count; rest > 1; rest /= 2) level += 1;
  return level;
}

function odd(value: number): boolean {
  return value % 2 === 1;
}

function half(value: number): number {
  return Math.floor(value / 2);
}

function wellFormed(proof: readonly Uint8Array[]): boolean {
  return proof.length <= proofHashesMax && proof.every((one) => one.length === hashBytes);
}

function digest(bytes: Uint8Array): Buffer {
  return Buffer.from(hash("sha256", bytes, "hex"), "hex");
}

function outside(index: number, size: number): RangeError {
  return new RangeError(`${index} is outside of a tree of ${size} leaves.`);
}
