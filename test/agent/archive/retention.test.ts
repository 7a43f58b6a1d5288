/** Old parts go, the proof stays: what is left verifies, the archive verifies, and the next run goes on. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { applyRetention } from "../../../agent/archive/retention.ts";
import { readRetention } from "../../../agent/archive/settings.ts";
import { openArchive } from "../../../agent/archive/store.ts";
import { startRetention } from "../../../agent/archive/thread.ts";
import type { WeirError } from "../../../agent/errors.ts";
import { unforwardedFrom, waitedForMs, writePlace } from "../../../agent/forward/place.ts";
import { readPruned } from "../../../agent/record/pruned.ts";
import { openRecorder, type Recorder } from "../../../agent/record/recorder.ts";
import { segmentsOf } from "../../../agent/record/segment.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import { fill, flow, sessionEnd, tempDir } from "../record/sample.ts";

const startMs = 1_790_000_000_000;
const hourMs = 3_600_000;
const code = (wanted: string) => (error: unknown) => (error as WeirError).code === wanted;

/** Four segments, an hour apart; one session is open over all of them. */
async function longLog(t: TestContext): Promise<string> {
  const dir = tempDir(t);
  for (let part = 0; part < 4; part += 1) await run(dir, part, fill);
  return dir;
}

async function run(dir: string, part: number, write: (recorder: Recorder) => void): Promise<void> {
  const spool = join(dir, "spool");
  const before = segmentsOf(spool);
  const recorder = await openRecorder({ stateDir: dir, now: () => startMs + part * hourMs });
  if (part === 0)
    recorder.append("long", { type: "session-start", flow: flow("l"), target: "a", protocol: "postgres" });
  write(recorder);
  if (part === 3) recorder.append("long", sessionEnd);
  await recorder.close();
  // As if the segment had been full: the next run begins another one.
  const last = segmentsOf(spool).at(-1) as string;
  const number = Number(/(\d{8})\.seg$/.exec(last)?.[1]);
  assert.ok(before.length <= number);
  if (part < 3) writeFileSync(join(spool, `${String(number + 1).padStart(8, "0")}.seg`), "");
}

const age = (ageMs: number) => ({ ageMs, bytes: null });

test("by age: old segments go, what is left verifies and says what went; a next run goes on", async (t) => {
  const dir = await longLog(t);
  const { entries } = verifyLog(dir);
  for (const [part, path] of segmentsOf(join(dir, "spool")).entries()) {
    const seconds = (startMs + part * hourMs) / 1000;
    utimesSync(path, seconds, seconds);
  }
  const now = () => startMs + 3 * hourMs;
  assert.equal((await applyRetention({ stateDir: dir, rules: age(4 * hourMs), archive: null, now })).length, 0);
  const old = await applyRetention({ stateDir: dir, rules: age(1.5 * hourMs), archive: null, now });
  assert.deepEqual(
    old.map(({ segment }) => segment),
    [1, 2],
  );
  // One that was touched later is not younger than its entries, and not older than its file.
  assert.equal((await applyRetention({ stateDir: dir, rules: age(1.5 * hourMs), archive: null, now })).length, 0);
  const after = verifyLog(dir);
  assert.deepEqual([after.ok, after.entries, after.pruned], [true, entries, old.at(-1)?.size]);
  const recorder = await openRecorder({ stateDir: dir });
  recorder.append("agent", { type: "agent", event: "start", detail: "" });
  await recorder.close();
  const next = verifyLog(dir);
  assert.deepEqual([next.ok, next.entries, next.interruptions], [true, entries + 1, 0]);
});

test("by size, oldest first, and never the newest entries", async (t) => {
  const dir = await longLog(t);
  const sizes = segmentsOf(join(dir, "spool")).map((path) => readFileSync(path).length);
  const bytes = (sizes[2] as number) + (sizes[3] as number);
  assert.equal((await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes }, archive: null })).length, 2);
  assert.equal((await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes }, archive: null })).length, 0);
  assert.equal((await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes: 1 }, archive: null })).length, 1);
  assert.equal(verifyLog(dir).ok, true);
  assert.equal(segmentsOf(join(dir, "spool")).length, 1);
});

test("what is not published, not signed for, or broken stays", async (t) => {
  const dir = await longLog(t);
  const all = { ageMs: null, bytes: 1 };
  const taken = await applyRetention({ stateDir: dir, rules: all, archive: null, unpublishedFrom: 2 });
  assert.deepEqual(
    taken.map(({ segment }) => segment),
    [1],
  );
  const heads = readFileSync(join(dir, "heads.jsonl"));
  writeFileSync(join(dir, "heads.jsonl"), heads.subarray(0, heads.indexOf(10) + 1));
  assert.equal((await applyRetention({ stateDir: dir, rules: all, archive: null })).length, 0);
  writeFileSync(join(dir, "heads.jsonl"), heads);
  const second = segmentsOf(join(dir, "spool"))[0] as string;
  const bytes = readFileSync(second);
  writeFileSync(second, bytes.subarray(0, bytes.length - 3));
  await assert.rejects(applyRetention({ stateDir: dir, rules: all, archive: null }), code("WEIR_SPOOL_CORRUPT"));
  assert.ok(existsSync(second));
});

test("what a receiver has not got yet stays, unless it took nothing for a week", async (t) => {
  const dir = await longLog(t);
  writePlace(dir, "siem", 20);
  assert.equal(unforwardedFrom(dir, Date.now()), 20);
  writePlace(dir, "other", 1_000);
  const waiting = unforwardedFrom(dir, Date.now());
  const rules = { ageMs: null, bytes: 1 };
  const taken = await applyRetention({ stateDir: dir, rules, archive: null, unforwardedFrom: waiting });
  assert.deepEqual(
    taken.map(({ segment, size }) => [segment, size]),
    [[1, 13]],
  );
  assert.equal(unforwardedFrom(dir, Date.now() + waitedForMs + 60_000), null);
});

test("killed between the word and the removal: verified before, cleaned at the next round", async (t) => {
  const dir = await longLog(t);
  const copy = tempDir(t);
  cpSync(join(dir, "spool"), copy, { recursive: true });
  await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes: 1 }, archive: null });
  for (const name of readdirSync(copy)) cpSync(join(copy, name), join(dir, "spool", name));
  assert.equal(verifyLog(dir).ok, true);
  await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes: 1 }, archive: null });
  assert.equal(segmentsOf(join(dir, "spool")).length, 1);
});

test("a forged word about what went, and entries cut off behind it, are found", async (t) => {
  const dir = await longLog(t);
  await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes: 20_000 }, archive: null });
  await applyRetention({ stateDir: dir, rules: { ageMs: null, bytes: 1 }, archive: null });
  const path = join(dir, "pruned.jsonl");
  const good = readFileSync(path, "utf8");
  const last = readPruned(dir);
  writeFileSync(path, `${JSON.stringify({ ...last, untilMs: 1 })}\n`);
  assert.equal(verifyLog(dir).firstBad?.fault, "wrong-key");
  writeFileSync(path, "{}\n");
  assert.equal(verifyLog(dir).firstBad?.fault, "damaged");
  rmSync(path);
  assert.equal(verifyLog(dir).firstBad?.fault, "gap");
  // An earlier word is as good as signed, but the entries between it and what is left are missing.
  writeFileSync(path, `${good.trim().split("\n").at(0)}\n`);
  assert.equal(verifyLog(dir).firstBad?.fault, "gap");
  writeFileSync(path, `${good}{"agent":`);
  assert.equal(verifyLog(dir).ok, true, "a line that was being written when the process was killed");
});

test("archived to a directory, the copies verify by themselves, and join what is left", async (t) => {
  const dir = await longLog(t);
  const archive = tempDir(t);
  const taken = await applyRetention({
    stateDir: dir,
    rules: { ageMs: null, bytes: 1 },
    archive: openArchive(archive, {}),
  });
  assert.equal(taken.length, 3);
  const [agent = ""] = readdirSync(archive);
  const kept = verifyLog(join(archive, agent));
  assert.deepEqual([kept.ok, kept.entries, kept.unsigned, kept.firstBad], [true, taken.at(-1)?.size, 0, null]);
  for (const { segment, sha256, archived } of taken) {
    assert.match(archived, new RegExp(`/spool/0000000${segment}\\.seg$`));
    assert.equal(createHash("sha256").update(readFileSync(archived)).digest("hex"), sha256);
  }
  // Put back together it is the whole record again.
  const whole = tempDir(t);
  mkdirSync(join(whole, "spool"));
  for (const from of [join(archive, agent), dir])
    cpSync(join(from, "spool"), join(whole, "spool"), { recursive: true });
  for (const name of ["heads.jsonl", "agent-key.pub.pem"]) cpSync(join(dir, name), join(whole, name));
  assert.deepEqual([verifyLog(whole).ok, verifyLog(whole).entries], [true, verifyLog(dir).entries]);
});

interface Put {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A bucket that remembers; botocore says what a signature should be. */
async function bucket(t: TestContext, status = () => 200): Promise<{ url: string; puts: Put[] }> {
  const puts: Put[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      puts.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(pieces) });
      response.writeHead(status()).end("<Error>no room</Error>");
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  const address = server.address() as { port: number };
  return { url: `http://127.0.0.1:${address.port}`, puts };
}

const python = resolve(import.meta.dirname, "../../../build/venv/bin/python");
const botocore = `
import json, sys, datetime
import botocore.auth, botocore.awsrequest, botocore.credentials
one = json.load(sys.stdin)
class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.strptime(one["date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=tz)
    @classmethod
    def utcnow(cls):
        return cls.now()
for name in ("get_current_datetime",):
    if hasattr(botocore.auth, name):
        setattr(botocore.auth, name, lambda *a, **k: Fixed.now())
botocore.auth.datetime = type("m", (), {"datetime": Fixed, "timezone": datetime.timezone, "UTC": getattr(datetime, "UTC", None)})
request = botocore.awsrequest.AWSRequest(method="PUT", url=one["url"], data=bytes.fromhex(one["body"]),
    headers={"x-amz-checksum-sha256": one["checksum"], "X-Amz-Content-SHA256": one["sha256"]})
auth = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials("AKID", "secret"), "s3", "eu-central-1")
auth.payload = lambda request: one["sha256"]
auth.add_auth(request)
print(request.headers["Authorization"])
`;

test("archived to S3: path, checksum, signature as botocore has it; nothing goes while it refuses", async (t) => {
  const dir = await longLog(t);
  let broken = true;
  const { url, puts } = await bucket(t, () => (broken ? 507 : 200));
  const env = {
    AWS_ACCESS_KEY_ID: "AKID",
    AWS_SECRET_ACCESS_KEY: "secret",
    AWS_REGION: "eu-central-1",
    AWS_ENDPOINT_URL: url,
  };
  const rules = { ageMs: null, bytes: 1 };
  const archive = openArchive("s3://audit-bucket/weir (prod)", env);
  await assert.rejects(applyRetention({ stateDir: dir, rules, archive }), code("WEIR_ARCHIVE"));
  assert.equal(segmentsOf(join(dir, "spool")).length, 4);
  broken = false;
  puts.length = 0;
  assert.equal((await applyRetention({ stateDir: dir, rules, archive })).length, 3);
  assert.equal(puts.length, 9);
  const [segment] = puts as [Put];
  assert.match(segment.path, /^\/audit-bucket\/weir%20%28prod%29\/[^/]+\/spool\/00000001\.seg$/);
  const sha256 = createHash("sha256").update(segment.body);
  const hex = sha256.copy().digest("hex");
  assert.equal(segment.headers["x-amz-checksum-sha256"], sha256.digest("base64"));
  assert.equal(segment.headers["x-amz-content-sha256"], hex);
  if (spawnSync(python, ["-c", "import botocore"]).status !== 0) return t.diagnostic("botocore is not installed");
  const input = JSON.stringify({
    url: `${url}${segment.path}`,
    body: segment.body.toString("hex"),
    checksum: segment.headers["x-amz-checksum-sha256"],
    sha256: hex,
    date: segment.headers["x-amz-date"],
  });
  const ran = spawnSync(python, ["-c", botocore], { input, encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(ran.stderr, "");
  assert.equal(segment.headers.authorization, ran.stdout.trim());
});

test("the thread tells what it took out, and what is in its way once", async (t) => {
  const dir = await longLog(t);
  const archive = join(tempDir(t), "archive");
  writeFileSync(archive, "a file is no directory");
  const told: string[] = [];
  const done = Promise.withResolvers<void>();
  const settings = { ageMs: null, bytes: 1, archive };
  const thread = startRetention(
    { stateDir: dir, settings, publishing: false, everyMs: 5 },
    (text) => {
      told.push(text);
      if (told.length === 3) done.resolve();
    },
    (level, message) => {
      if (level !== "warn") return;
      assert.match(message, /ENOTDIR|EEXIST/);
      renameSync(archive, `${archive}.away`);
    },
  );
  await done.promise;
  await thread.close();
  assert.match(told[0] ?? "", /^segment 1 taken out, 13 entries in all, sha256 [0-9a-f]{64}, kept as /);
});

test("words of the command line", () => {
  assert.equal(readRetention({}), null);
  assert.deepEqual(readRetention({ age: "90d", size: "2GiB", archive: "/a" }), {
    ageMs: 90 * 24 * hourMs,
    bytes: 2 * 2 ** 30,
    archive: "/a",
  });
  for (const words of [
    { age: "90" },
    { age: "0d" },
    { age: "1x" },
    { size: "5GB" },
    { size: "-1GiB" },
    { archive: "/a" },
  ])
    assert.throws(() => readRetention(words), code("WEIR_USAGE"), JSON.stringify(words));
  for (const text of ["s3://", "s3://UPPER/x", "ftp://host/dir", "s3://bucket"])
    assert.throws(() => openArchive(text, {}), code("WEIR_USAGE"), text);
});
