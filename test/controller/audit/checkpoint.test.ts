/** Notes, checkpoints and cosignatures, with the examples of the C2SP specifications as they are printed there. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import {
  checkpointIsSigned,
  cosign,
  cosignedAt,
  parseCheckpoint,
  signCheckpoint,
  withSignature,
} from "../../../controller/audit/checkpoint.ts";
import {
  cosignatureKeyType,
  formatNote,
  formatVerifier,
  noteIsSigned,
  parseNote,
  parseVerifier,
  verifierOf,
} from "../../../controller/audit/note.ts";
import { leafHash } from "../../../controller/audit/tree.ts";

/** From c2sp.org/tlog-cosignature. */
const example = `example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
`;

/** A key, a note and its signature from the tests of golang.org/x/mod/sumdb/note, which other logs check theirs by. */
const peter = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const peterNote = `If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
`;

const { privateKey: key } = generateKeyPairSync("ed25519");
const { privateKey: witnessKey } = generateKeyPairSync("ed25519");
const root = leafHash(Buffer.from("x"));

test("the specification's example reads and comes out as it went in", () => {
  const parsed = parseCheckpoint(example);
  assert.deepEqual([parsed.origin, parsed.size], ["example.com/behind-the-sofa", 20852163]);
  assert.equal(parsed.note.signatures.length, 2);
  assert.equal(parsed.note.signatures[0]?.keyId.toString("hex"), "033de0ae");
  assert.equal(formatNote(parsed.note), example);
});

test("a key and a note that others made", () => {
  const verifier = parseVerifier(peter);
  assert.equal(formatVerifier(verifier), peter);
  const note = parseNote(peterNote);
  assert.equal(formatNote(note), peterNote);
  assert.equal(note.signatures[0]?.keyId.toString("hex"), "c74f20a3");
  assert.ok(noteIsSigned(note, verifier));
});

test("signed, read, cosigned by several, verified", () => {
  const verifier = verifierOf("weir.example/log", key);
  const signed = parseCheckpoint(signCheckpoint({ origin: "weir.example/log", size: 3, root }, key));
  assert.ok(checkpointIsSigned(signed, verifier));
  const witnesses = ["w.example/1", "w.example/2"];
  let text = formatNote(signed.note);
  for (const [at, name] of witnesses.entries()) {
    const parsed = parseCheckpoint(text);
    text = withSignature(parsed.note, cosign(parsed, name, witnessKey, 1_700_000_000 + at));
  }
  // A later one by the same witness takes the place of the earlier one.
  const again = parseCheckpoint(text);
  text = withSignature(again.note, cosign(again, "w.example/1", witnessKey, 1_800_000_000));
  const all = parseCheckpoint(text);
  assert.equal(all.note.signatures.length, 3);
  assert.ok(checkpointIsSigned(all, verifier));
  const witness = (name: string) => verifierOf(name, witnessKey, cosignatureKeyType);
  assert.equal(cosignedAt(all, witness("w.example/1")), 1_800_000_000);
  assert.equal(cosignedAt(all, witness("w.example/2")), 1_700_000_001);
  assert.equal(cosignedAt(all, witness("w.example/3")), null);
  assert.equal(cosignedAt(all, verifierOf("w.example/1", witnessKey)), null, "a log's key is no witness's");
  assert.equal(cosignedAt(all, verifierOf("w.example/1", key, cosignatureKeyType)), null, "another key");
});

test("every byte of a cosigned checkpoint, changed, is found", () => {
  const verifier = verifierOf("weir.example/log", key);
  const witness = verifierOf("w.example/1", witnessKey, cosignatureKeyType);
  const signed = parseCheckpoint(signCheckpoint({ origin: "weir.example/log", size: 3, root }, key));
  const whole = Buffer.from(withSignature(signed.note, cosign(signed, "w.example/1", witnessKey, 1_700_000_000)));
  const holds = (bytes: Buffer): boolean => {
    try {
      const parsed = parseCheckpoint(bytes);
      return checkpointIsSigned(parsed, verifier) && cosignedAt(parsed, witness) !== null;
    } catch {
      return false;
    }
  };
  assert.ok(holds(whole));
  for (let at = 0; at < whole.length; at += 1) {
    for (const bit of [1, 4, 0x80]) {
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] as number) ^ bit;
      assert.ok(!holds(bytes), `byte ${at} ^ ${bit}`);
    }
    assert.ok(!holds(whole.subarray(0, at)), `cut at ${at}`);
  }
});

test("what is no checkpoint is refused with its code", () => {
  const line = signCheckpoint({ origin: "o", size: 3, root }, key).split("\n").at(-2);
  const hash = root.toString("base64");
  const bad = [
    "",
    "\n\n",
    `o\n3\n${hash}\n`,
    `o\n3\n${hash}\n\n`,
    `o\n3\n${hash}\n\n${line}`,
    `o\n03\n${hash}\n\n${line}\n`,
    `o\n-3\n${hash}\n\n${line}\n`,
    `o\n9007199254740993\n${hash}\n\n${line}\n`,
    `o\n3\n${hash.slice(4)}\n\n${line}\n`,
    `o\n3\n${hash}\nextension\n\n${line}\n`,
    `\n3\n${hash}\n\n${line}\n`,
    `o\n3\n${hash}\n\n- o AAAAAAA=\n`,
    `o\n3\n${hash}\n\n— o  AAAAAAA=\n`,
    `o\n3\n${hash}\r\n\n${line}\n`,
    `o\n3\n${hash}\n\n${`${line}\n`.repeat(65)}`,
  ];
  for (const text of bad) assert.throws(() => parseCheckpoint(text), { code: "WEIR_CHAIN_BROKEN" }, text);
  for (const text of ["", "x", "name+00000000+AQ==", peter.replace("c74f", "c74e")])
    assert.throws(() => parseVerifier(text), { code: "WEIR_USAGE" }, text);
});
