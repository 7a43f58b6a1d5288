/** The tree against RFC 6962's definitions written down a second time, and the vectors of its reference implementation. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import {
  consistencyHolds,
  consistencyProof,
  emptyRoot,
  inclusionHolds,
  inclusionProof,
  leafHash,
  rootOf,
} from "../../../controller/audit/tree.ts";
import { hashesOf } from "../../support/tree.ts";

const sha = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** RFC 6962 §2.1, word for word. */
function mth(entries: readonly Buffer[]): Buffer {
  if (entries.length === 0) return sha();
  if (entries.length === 1) return sha(Buffer.from([0]), entries[0] as Buffer);
  const k = 2 ** Math.floor(Math.log2(entries.length - 1));
  return sha(Buffer.from([1]), mth(entries.slice(0, k)), mth(entries.slice(k)));
}

/** The eight leaves that Certificate Transparency's own tests use. */
const known = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"].map(
  (hex) => Buffer.from(hex, "hex"),
);
const knownRoots = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

const entries = (count: number): Buffer[] => Array.from({ length: count }, (_, at) => Buffer.from(`leaf ${at}`));

test("the roots of RFC 6962's reference implementation", () => {
  for (const [size, root] of knownRoots.entries()) {
    const read = hashesOf(known.slice(0, size).map(leafHash));
    assert.equal(rootOf(read, size).toString("hex"), root, `of ${size} leaves`);
  }
  assert.ok(emptyRoot.equals(sha()));
});

test("roots of up to 70 leaves are those of the definition", () => {
  for (let size = 0; size <= 70; size += 1) {
    const data = entries(size);
    assert.ok(rootOf(hashesOf(data.map(leafHash)), size).equals(mth(data)), `of ${size} leaves`);
  }
});

test("every inclusion proof of trees up to 40 holds, and for nothing else", () => {
  const data = entries(40);
  const read = hashesOf(data.map(leafHash));
  for (let size = 1; size <= 40; size += 1) {
    const root = rootOf(read, size);
    for (let index = 0; index < size; index += 1) {
      const proof = inclusionProof(read, index, size);
      const leaf = leafHash(data[index] as Buffer);
      assert.ok(inclusionHolds(leaf, index, size, proof, root), `${index} of ${size}`);
      assert.ok(!inclusionHolds(leafHash(Buffer.from("other")), index, size, proof, root));
      assert.ok(!inclusionHolds(leaf, (index + 1) % size, size, proof, root) || size === 1);
      assert.ok(!inclusionHolds(leaf, index, size, [...proof, root], root), "a longer proof");
      if (proof.length > 0) assert.ok(!inclusionHolds(leaf, index, size, proof.slice(1), root), "a shorter proof");
      for (let at = 0; at < proof.length; at += 1)
        assert.ok(!inclusionHolds(leaf, index, size, proof.with(at, emptyRoot), root), "an altered proof");
    }
  }
});

test("every consistency proof of trees up to 40 holds, and for nothing else", () => {
  const data = entries(40);
  const read = hashesOf(data.map(leafHash));
  const forked = hashesOf(data.with(0, Buffer.from("other")).map(leafHash));
  for (let size = 1; size <= 40; size += 1) {
    const root = rootOf(read, size);
    for (let old = 0; old <= size; old += 1) {
      const oldRoot = rootOf(read, old);
      const proof = consistencyProof(read, old, size);
      assert.ok(consistencyHolds(old, oldRoot, size, root, proof), `${old} to ${size}`);
      if (old === 0) continue;
      assert.ok(!consistencyHolds(old, rootOf(forked, old), size, root, proof), "a fork");
      assert.ok(!consistencyHolds(old, oldRoot, size, rootOf(forked, size), proof), "a fork");
      assert.ok(
        !consistencyHolds(old, rootOf(forked, old), size, root, consistencyProof(forked, old, size)),
        "a proof of another tree",
      );
      assert.ok(!consistencyHolds(old, oldRoot, size, root, [...proof, root]), "a longer proof");
      if (proof.length > 0) assert.ok(!consistencyHolds(old, oldRoot, size, root, proof.slice(0, -1)));
      for (let at = 0; at < proof.length; at += 1)
        assert.ok(!consistencyHolds(old, oldRoot, size, root, proof.with(at, emptyRoot)), "an altered proof");
    }
  }
});

test("sizes beyond 32 bits, and nonsense, are judged and not looped over", () => {
  const root = leafHash(Buffer.from("x"));
  const huge = Number.MAX_SAFE_INTEGER;
  assert.equal(inclusionHolds(root, huge - 1, huge, [], root), false);
  assert.equal(consistencyHolds(2 ** 33, root, huge, root, [root]), false);
  assert.equal(consistencyHolds(1, root, huge, root, []), false);
  for (const bad of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
    assert.equal(inclusionHolds(root, bad, 3, [], root), false);
    assert.equal(inclusionHolds(root, 0, bad, [], root), false);
    assert.equal(consistencyHolds(bad, root, 3, root, []), false);
    assert.equal(consistencyHolds(1, root, bad, root, []), false);
  }
  assert.throws(() => inclusionProof(hashesOf([root]), 1, 1), RangeError);
  assert.throws(() => consistencyProof(hashesOf([root]), 2, 1), RangeError);
});

test("a proof out of a tree of 2^40 leaves: only what is on the way is asked for", () => {
  const size = 2 ** 40 + 5;
  let asked = 0;
  const read = (level: number, index: number): Buffer => {
    asked += 1;
    return sha(Buffer.from(`${level} ${index}`));
  };
  const proof = inclusionProof(read, 2 ** 40 + 4, size);
  assert.equal(proof.length, 2);
  assert.ok(consistencyProof(read, 2 ** 39 + 1, size).length <= 54);
  assert.ok(asked < 100, `${asked} hashes were read`);
});
