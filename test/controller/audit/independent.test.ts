/** Our tree, tiles, notes and cosignatures against others that were written from the same specifications. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { openAgentKey, signHead } from "../../../agent/record/heads.ts";
import { cosign, parseCheckpoint, withSignature } from "../../../controller/audit/checkpoint.ts";
import { readFrom } from "../../../controller/audit/files.ts";
import { openOwnKey, witnessKeyFiles } from "../../../controller/audit/keys.ts";
import { openAuditLog } from "../../../controller/audit/log.ts";
import { cosignatureKeyType, formatVerifier } from "../../../controller/audit/note.ts";
import { Edge, tileHashes } from "../../../controller/audit/tiles.ts";
import { consistencyProof, emptyRoot, inclusionProof, leafHash, rootOf } from "../../../controller/audit/tree.ts";
import { hashesOf } from "../../support/tree.ts";

const python = resolve(import.meta.dirname, "../../../build/venv/bin/python");
const hasPython = existsSync(python) && spawnSync(python, ["-c", "import aics_tlog"]).status === 0;
const noPython = hasPython ? false : "aics-tlog is not installed: run scripts/setup --dev";
const noGo = spawnSync("go", ["version"]).status === 0 ? false : "there is no go here";

const sizeMax = 40;
const leaves = Array.from({ length: sizeMax }, (_, at) => Buffer.from(`leaf ${at}`));
const read = hashesOf(leaves.map(leafHash));
const text = (hash: Buffer): string => hash.toString("base64");
const pairs = Array.from({ length: sizeMax }, (_, at) => at + 1).flatMap((size) =>
  Array.from({ length: size }, (_, index) => ({ index, size })),
);
const proofs = {
  leaves: leaves.map(text),
  roots: Array.from({ length: sizeMax + 1 }, (_, size) => text(size === 0 ? emptyRoot : rootOf(read, size))),
  inclusion: pairs.map(({ index, size }) => ({ index, size, proof: inclusionProof(read, index, size).map(text) })),
  consistency: pairs.map(({ index, size }) => ({
    old: index + 1,
    size,
    proof: consistencyProof(read, index + 1, size).map(text),
  })),
};

/** Wide enough for a full tile of level 1: 65,536 leaves would be too slow here, 700 have two full tiles of level 0. */
const logSize = 700;
const indexes = [0, 255, 256, 511, 512, 698, 699];
let scratch = "";
let log: { dir: string; logKey: string; witnessKey: string };

before(async () => {
  scratch = mkdtempSync(join(tmpdir(), "weir-tlog-"));
  const key = openAgentKey(scratch);
  const audit = openAuditLog({ stateDir: scratch, everyMs: 1 });
  for (let size = 1; size <= logSize; size += 1)
    audit.addHead(signHead({ agent: "agent-1", size, link: "ab".repeat(32), timeMs: size, closed: false }, key));
  await audit.close();
  const dir = join(scratch, "audit");
  const own = openOwnKey(scratch, witnessKeyFiles, () => "w.example/1", cosignatureKeyType);
  const checkpoint = parseCheckpoint(readFileSync(join(dir, "checkpoint")));
  const note = withSignature(checkpoint.note, cosign(checkpoint, "w.example/1", own.key, 1_800_000_000));
  writeFileSync(join(dir, "checkpoint.witnessed"), note);
  log = { dir, logKey: formatVerifier(audit.verifier), witnessKey: formatVerifier(own.verifier) };
});
after(() => rmSync(scratch, { recursive: true, force: true }));

test("aics-tlog (Python) agrees: roots, proofs, tiles, the note and the cosignature", { skip: noPython }, () => {
  const theirs = join(scratch, "theirs");
  const input = JSON.stringify({ ...proofs, ...log, indexes, agent: "agent-1", theirs });
  const said = JSON.parse(
    execFileSync(python, [join(import.meta.dirname, "tlog.py")], { input, encoding: "utf8", maxBuffer: 1 << 28 }),
  ) as { findings: [string, boolean][]; root: string };
  const bad = said.findings.filter(([, good]) => !good);
  assert.deepEqual(bad, []);
  assert.ok(said.findings.length > pairs.length * 3, `${said.findings.length} findings`);
  // Tiles that they wrote, read by us.
  assert.equal(said.root, text(rootOf(read, sizeMax)));
  assert.equal(text(rootOf(tileHashes(readFrom(theirs), sizeMax), sizeMax)), said.root);
  assert.equal(text(Edge.load(sizeMax, readFrom(theirs)).root()), said.root);
});

test("golang.org/x/mod/sumdb (Go) agrees: roots, proofs, the note", { skip: noGo }, (t) => {
  const dir = join(scratch, "go");
  cpSync(join(import.meta.dirname, "tlog-go"), dir, { recursive: true });
  const env = { ...process.env, GOFLAGS: "-mod=mod", GOTOOLCHAIN: "local" };
  const got = spawnSync("go", ["mod", "download"], { cwd: dir, env, encoding: "utf8" });
  if (got.status !== 0) return t.skip(`the Go module cannot be had: ${got.stderr.slice(0, 200)}`);
  const note = readFileSync(join(log.dir, "checkpoint"), "utf8");
  const input = JSON.stringify({ ...proofs, note, logKey: log.logKey });
  const ran = spawnSync("go", ["run", "."], { cwd: dir, env, input, encoding: "utf8" });
  assert.deepEqual([ran.status, ran.stdout], [0, "ok\n"], ran.stderr);
});
