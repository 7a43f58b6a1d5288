/** Which policies from the topic count: a trusted key, a higher version than any before, also after a restart. */
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, mock, test } from "node:test";
import { type PolicyBundle, policyMessage } from "../../../agent/kafka/policy-messages.ts";
import { revocationMessage } from "../../../agent/kafka/revocation-messages.ts";
import { policyBytesMax, signMessage } from "../../../agent/kafka/signed.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import { keptPolicy, linkPolicy, type PolicyLink } from "../../../agent/publish/policy-link.ts";

const dirs: string[] = [];
const keys = generateKeyPairSync("ed25519");
const stranger = generateKeyPairSync("ed25519");
let stateDir = "";
let used: PolicyBundle[] = [];
let refused: string[] = [];
const links: PolicyLink[] = [];

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "weir-policy-link-"));
  dirs.push(stateDir);
  [used, refused] = [[], []];
});
after(() => {
  for (const link of links) link.close();
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

/** As the agent does it at each start. */
function start(options: { readonly trusted?: readonly KeyObject[]; readonly unusable?: RegExp } = {}): PolicyLink {
  const link = linkPolicy({
    stateDir,
    id: "default",
    trusted: options.trusted ?? [keys.publicKey],
    async use(bundle) {
      if (options.unusable?.test(bundle.files[0]?.text ?? "")) throw new Error("it cannot be used");
      used.push(bundle);
    },
    refused: (reason) => refused.push(reason),
    log() {},
  });
  links.push(link);
  return link;
}

function bundle(version: number, more: Partial<PolicyBundle> = {}): PolicyBundle {
  const files = [{ file: "main.yaml", text: `apiVersion: weir/v1\n# ${version}\n` }];
  return { id: "default", version, files, by: "eve on ctl", atMs: 1_800_000_000_000, ...more };
}

async function give(link: PolicyLink, ...values: (PolicyBundle | Buffer | null)[]): Promise<void> {
  for (const value of values)
    await link.take({
      ...{ topic: topics.policies, key: "default", headers: {}, timeMs: 0 },
      value: value === null || Buffer.isBuffer(value) ? value : policyMessage(value, keys.privateKey).value,
    });
}

const versions = (): number[] => used.map(({ version }) => version);

test("each newer version is put in force, once, and the last one is there at the next start without Kafka", async () => {
  const link = start();
  await give(link, bundle(1), bundle(1), bundle(2), bundle(5));
  assert.deepEqual(versions(), [1, 2, 5]);
  const kept = keptPolicy(stateDir, "default", [keys.publicKey]);
  assert.deepEqual([kept.version, kept.bundle?.files], [5, bundle(5).files]);
  assert.match(kept.signer, /^ed25519:[0-9a-f]{16}$/);
  assert.deepEqual(refused, []);
});

test("an older version is refused, before and after a restart; the topic's own history is no rollback", async () => {
  await give(start(), bundle(1), bundle(2), bundle(3), bundle(2));
  assert.deepEqual(versions(), [1, 2, 3]);
  assert.match(refused.join(), /version 2 is older than version 3/);
  refused = [];
  const again = start();
  await give(again, bundle(1), bundle(2), bundle(3));
  assert.deepEqual([versions(), refused], [[1, 2, 3], []]);
  await give(again, bundle(1));
  assert.match(refused.join(), /version 1 is older than version 3/);
  assert.deepEqual(versions(), [1, 2, 3]);
});

test("a topic that was emptied and holds an older one is told, too", async () => {
  await give(start(), bundle(4));
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const again = start();
    await give(again, bundle(3), null);
    assert.deepEqual(refused, []);
    mock.timers.tick(10_000);
    assert.match(refused.join(), /version 3 is older than version 4/);
    assert.deepEqual(versions(), [4]);
  } finally {
    mock.timers.reset();
  }
});

test("what is forged, altered, signed as something else, of another policy or misshapen is refused", async () => {
  const link = start();
  await give(link, bundle(7));
  const good = policyMessage(bundle(8), keys.privateKey).value as Buffer;
  const revocation = { subject: "a", issuer: null, revoked: true, reason: "", by: "", version: 9 };
  await give(
    link,
    policyMessage(bundle(8), stranger.privateKey).value,
    Buffer.from(String(good).replace("# 8", "# 9")),
    revocationMessage(revocation, keys.privateKey).value,
    signMessage("approval-decision", bundle(8), keys.privateKey),
    bundle(8, { id: "another" }),
    bundle(8, { files: [] }),
    bundle(8, { by: "eve\u001b[31m" }),
    bundle(8, { files: [{ file: "../etc/x.yaml", text: "" }] }),
    bundle(8, { files: [{ file: "a.yaml", text: 7 as unknown as string }] }),
    bundle(0),
    bundle(8.5),
    bundle(Number.MAX_SAFE_INTEGER + 2),
    Buffer.from("{"),
    Buffer.alloc(policyBytesMax + 1, " "),
    // Of the version that is in force, and another one.
    bundle(7, { by: "mallory" }),
  );
  assert.deepEqual(versions(), [7]);
  assert.equal(refused.length, 15);
  await give(link, bundle(8));
  assert.deepEqual(versions(), [7, 8]);
});

test("versions that come while one is being read are judged by it, and tried one after the other", async () => {
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const link = linkPolicy({
    ...{ stateDir, id: "default", trusted: [keys.publicKey], log() {} },
    async use(one) {
      if (one.version === 2) await ready;
      if (one.version === 5) throw new Error("it cannot be used");
      used.push(one);
    },
    refused: (reason) => refused.push(reason),
  });
  links.push(link);
  const taken = [bundle(2), bundle(2), bundle(1), bundle(3), bundle(5)].map((one) => give(link, one));
  assert.deepEqual(versions(), []);
  assert.match(refused.join(), /version 1 is older than version 2/);
  resolve();
  await Promise.all(taken);
  assert.deepEqual(versions(), [2, 3]);
  // What could not be used is no version that counts.
  await give(link, bundle(4));
  assert.deepEqual([versions(), refused.length], [[2, 3, 4], 2]);
  assert.equal(keptPolicy(stateDir, "default", [keys.publicKey]).version, 4);
});

test("a bundle that cannot be used is refused, the last good one stays kept, and the same version mended is no rollback", async () => {
  const link = start({ unusable: /# 2/ });
  await give(link, bundle(1), bundle(2));
  assert.match(refused.join(), /version 2: it cannot be used/);
  assert.equal(keptPolicy(stateDir, "default", [keys.publicKey]).version, 1);
  await give(link, bundle(3));
  assert.deepEqual(versions(), [1, 3]);
});

test("other policies and topics are let be; a tombstone takes nothing away", async () => {
  const link = start();
  await give(link, bundle(2), null);
  const other = { headers: {}, value: Buffer.from("x"), timeMs: 0 };
  await link.take({ ...other, topic: topics.revocations, key: "default" });
  await link.take({ ...other, topic: topics.policies, key: "other" });
  assert.deepEqual([versions(), refused], [[2], []]);
  await give(start(), bundle(1), bundle(2));
  assert.deepEqual(versions(), [2]);
});

test("a kept policy whose key is trusted no longer is not in force, and its version still counts", async () => {
  await give(start(), bundle(6));
  const kept = keptPolicy(stateDir, "default", [stranger.publicKey]);
  assert.deepEqual([kept.version, kept.bundle], [6, null]);
  used = [];
  const link = start({ trusted: [stranger.publicKey] });
  await give(link, policyMessage(bundle(5), stranger.privateKey).value);
  assert.deepEqual(versions(), []);
  await give(link, policyMessage(bundle(7), stranger.privateKey).value);
  assert.deepEqual(versions(), [7]);
});

test("what is kept and cannot be read is no reason to begin anew", () => {
  writeFileSync(join(stateDir, "policy-from-kafka.default.json"), "{}");
  assert.throws(() => keptPolicy(stateDir, "default", [keys.publicKey]), { code: "WEIR_CONFIG_INVALID" });
});

test("who fills the topic does not fill the record", async () => {
  const link = start();
  await give(link, ...Array.from({ length: 200 }, (_, at) => Buffer.from(`junk ${at}`)));
  assert.equal(refused.length, 60);
});

test("the signed message itself is kept, for the agent alone to read", async () => {
  await give(start(), bundle(1));
  const path = join(stateDir, "policy-from-kafka.default.json");
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(String(readFileSync(path)), String(policyMessage(bundle(1), keys.privateKey).value));
});
