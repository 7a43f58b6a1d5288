/** A witness over HTTP, the log that shows it its checkpoints, and every way in which a log lies to it. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { serveWitness } from "../../../agent/commands/witness.ts";
import { openAgentKey, signHead } from "../../../agent/record/heads.ts";
import { cosignedAt, parseCheckpoint, signCheckpoint } from "../../../controller/audit/checkpoint.ts";
import { type KeyFiles, openOwnKey, witnessKeyFiles } from "../../../controller/audit/keys.ts";
import { openAuditLog } from "../../../controller/audit/log.ts";
import { cosignatureKeyType, formatVerifier, type VerifierKey, verifierOf } from "../../../controller/audit/note.ts";
import { consistencyProof, emptyRoot, leafHash, rootOf } from "../../../controller/audit/tree.ts";
import { openWitness, type Witness } from "../../../controller/audit/witness.ts";
import { parseWitness, startWitnesses } from "../../../controller/audit/witnesses.ts";
import { tempDir } from "../../agent/record/sample.ts";
import { hashesOf } from "../../support/tree.ts";

const { privateKey: logKey } = generateKeyPairSync("ed25519");
const origin = "weir.example/log";
const read = hashesOf(Array.from({ length: 50 }, (_, at) => leafHash(Buffer.from(`leaf ${at}`))));
const forked = hashesOf(Array.from({ length: 50 }, (_, at) => leafHash(Buffer.from(`other ${at}`))));

function witnessOf(t: TestContext, logs: readonly VerifierKey[], dir = tempDir(t)) {
  const files: KeyFiles = witnessKeyFiles;
  const own = openOwnKey(dir, files, () => "w.example/1", cosignatureKeyType);
  const witness = openWitness({ dir, own, logs, now: () => 1_800_000_000_000 });
  t.after(() => witness.close());
  return { dir, own, witness };
}

function request(old: number, size: number, tree = read, key = logKey, name = origin): Buffer {
  const proof = consistencyProof(tree, Math.min(old, size), size).map((hash) => hash.toString("base64"));
  const root = size === 0 ? emptyRoot : rootOf(tree, size);
  return Buffer.from(`${[`old ${old}`, ...proof].join("\n")}\n\n${signCheckpoint({ origin: name, size, root }, key)}`);
}

test("growth is cosigned; a fork, a shrunk log, a stranger and nonsense are not", async (t) => {
  const { dir, own, witness } = witnessOf(t, [verifierOf(origin, logKey)]);
  const first = await witness.addCheckpoint(request(0, 5));
  assert.equal(first.status, 200);
  const whole = parseCheckpoint(witness.lastOf(origin) ?? "");
  assert.equal(cosignedAt(whole, own.verifier), 1_800_000_000);
  assert.equal((await witness.addCheckpoint(request(5, 5))).status, 200, "the same again");
  assert.equal((await witness.addCheckpoint(request(5, 20))).status, 200);
  const said = async (body: Buffer) => {
    const { status, body: text, contentType } = await witness.addCheckpoint(body);
    return [status, status === 409 ? text : contentType.slice(0, 10)];
  };
  assert.deepEqual(await said(request(5, 30)), [409, "20\n"], "another old size than the last");
  assert.deepEqual(await said(request(20, 20, forked)), [409, "20\n"], "the same size, another root");
  assert.deepEqual(await said(request(20, 30, forked)), [422, "text/plain"], "a fork from before");
  assert.deepEqual(await said(request(10, 10)), [409, "20\n"], "shrunk");
  assert.deepEqual(await said(request(31, 30)), [400, "text/plain"]);
  assert.deepEqual(await said(request(20, 30, read, generateKeyPairSync("ed25519").privateKey)), [403, "text/plain"]);
  assert.deepEqual(await said(request(0, 3, read, logKey, "unknown")), [404, "text/plain"]);
  const withProof = Buffer.from(
    request(20, 30)
      .toString()
      .replace("old 20\n", `old 20\n${"A".repeat(43)}=\n`),
  );
  assert.deepEqual(await said(withProof), [422, "text/plain"], "a proof that is too long");
  for (const text of [
    "",
    "old\n\n",
    "old 1",
    "old 01\n\nx",
    `old 20\nAAA\n\n${request(20, 30)}`,
    "old 20\n\nnot a note",
  ])
    assert.deepEqual(await said(Buffer.from(text)), [400, "text/plain"], text);
  assert.deepEqual(await said(Buffer.alloc(70_000, 97)), [400, "text/plain"]);
  assert.equal(parseCheckpoint(witness.lastOf(origin) ?? "").size, 20, "nothing of it was taken");
  const kinds = readdirSync(join(dir, "conflicts")).map((name) => name.replace(/-.*/, ""));
  assert.deepEqual(
    kinds.toSorted((a, b) => a.localeCompare(b)),
    ["fork", "shrunk", "unproven", "unproven"],
  );
});

test("what it has seen survives a restart, and requests at once are judged one by one", async (t) => {
  const dir = tempDir(t);
  const logs = [verifierOf(origin, logKey)];
  const before = witnessOf(t, logs, dir);
  assert.equal((await before.witness.addCheckpoint(request(0, 7))).status, 200);
  assert.throws(() => witnessOf(t, logs, dir), { code: "WEIR_STATE_LOCKED" });
  before.witness.close();
  const { witness } = witnessOf(t, logs, dir);
  const answers = await Promise.all([
    witness.addCheckpoint(request(7, 9)),
    witness.addCheckpoint(request(7, 9, forked)),
    witness.addCheckpoint(request(7, 12)),
  ]);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 409, 409],
  );
});

async function served(t: TestContext, witness: Witness): Promise<string> {
  const server = await serveWitness(witness, "127.0.0.1", 0);
  t.after(() => server.close());
  return `http://127.0.0.1:${server.port}`;
}

test("a log shows its checkpoints and keeps the cosigned one; put back to an older state it is caught", async (t) => {
  const stateDir = tempDir(t);
  const key = openAgentKey(stateDir);
  const head = (size: number, link = "ab") =>
    signHead({ agent: "a", size, link: link.repeat(32), timeMs: size, closed: false }, key);
  const dir = join(stateDir, "audit");
  const empty = openAuditLog({ stateDir });
  const { verifier } = empty;
  await empty.close();
  const { witness, own } = witnessOf(t, [verifier]);
  const url = await served(t, witness);
  const name = parseWitness(`${url}/#${formatVerifier(own.verifier)}`);
  const grow = async (...heads: ReturnType<typeof head>[]): Promise<string | null> => {
    const witnesses = startWitnesses({ dir, witnesses: [name], log: () => {} });
    const log = openAuditLog({ stateDir, onCheckpoint: (note) => witnesses.submit(note) });
    for (const one of heads) {
      log.addHead(one);
      await log.flush();
    }
    await log.close();
    await witnesses.close();
    return witnesses.problem;
  };
  assert.equal(await grow(head(1), head(2), head(3)), null);
  const cosigned = parseCheckpoint(readFileSync(join(dir, "checkpoint.witnessed")));
  assert.equal(cosigned.size, 3);
  assert.equal(cosignedAt(cosigned, own.verifier), 1_800_000_000);
  const stored = await (await fetch(`${url}/checkpoint/${encodeURIComponent(verifier.name)}`)).text();
  assert.equal(parseCheckpoint(stored).size, 3);
  const backup = tempDir(t);
  cpSync(dir, backup, { recursive: true });
  assert.equal(await grow(head(4), head(5)), null);
  // Someone puts the log back to three leaves, and writes two others.
  rmSync(dir, { recursive: true });
  cpSync(backup, dir, { recursive: true });
  rmSync(join(dir, "lock"), { force: true });
  assert.match((await grow(head(4, "cd"))) ?? "", /has seen 5 leaves, and the log has 4/);
  assert.match((await grow(head(5, "cd"))) ?? "", /has seen this log otherwise/);
  assert.match((await grow(head(6, "cd"))) ?? "", /refused \(422\)/);
});

test("a witness's name on the command line", () => {
  const vkey = formatVerifier(verifierOf("w.example/1", logKey, cosignatureKeyType));
  assert.equal(parseWitness(`https://w.example/a/#${vkey}`).url, "https://w.example/a");
  const asLog = formatVerifier(verifierOf("w.example/1", logKey));
  for (const text of ["", "https://w.example", `ftp://w#${vkey}`, "https://w.example#x", `https://w.example#${asLog}`])
    assert.throws(() => parseWitness(text), { code: "WEIR_USAGE" }, text);
});
