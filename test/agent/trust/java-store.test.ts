/** Java's trust stores: what we write keytool reads, what keytool writes we read, and damage is no store. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readStore, withCertificate } from "../../../agent/trust/java-store.ts";
import { testCa } from "../tls/pki.ts";

const skip = existsSync("/usr/bin/keytool") ? false : "there is no keytool: apt-get install default-jre-headless";
const der = (pem: string): Buffer => new X509Certificate(pem).raw;
/** Magic, version 2, no entry. */
const empty = Buffer.from("feedfeed0000000200000000", "hex");

/** A JKS with these entries, made from nothing. */
function store(...aliases: string[]): Buffer {
  let bytes = Buffer.concat([empty, Buffer.alloc(20)]);
  for (const alias of aliases) {
    const next = withCertificate(bytes, { alias, certificateDer: der(testCa(alias).pem) }, 1_700_000_000_000);
    assert.ok(next !== null);
    bytes = next as Buffer<ArrayBuffer>;
  }
  return bytes;
}

test("a certificate is added to a JKS, and the rest stays byte for byte", () => {
  const one = store("first");
  const two = withCertificate(one, { alias: "größer", certificateDer: der(testCa("x").pem) }, 0);
  assert.ok(two !== null);
  assert.deepEqual(
    readStore(two)?.map(({ alias }) => alias),
    ["first", "größer"],
  );
  assert.ok(two.subarray(12).indexOf(one.subarray(12, -20)) === 0);
});

test("what is damaged is no store, at every length and every byte", () => {
  const bytes = store("first", "second");
  for (let end = 0; end < bytes.length; end += 1) assert.equal(readStore(bytes.subarray(0, end)), null, `${end}`);
  for (let at = 0; at < bytes.length; at += 1) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] as number) ^ 0xff;
    readStore(damaged);
  }
  assert.equal(readStore(Buffer.from("-----BEGIN CERTIFICATE-----")), null);
  assert.equal(withCertificate(Buffer.alloc(0), { alias: "x", certificateDer: Buffer.alloc(1) }, 0), null);
});

test("keytool reads it, checks its seal, and changes it", { skip }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-java-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "cacerts");
  const keytool = (...words: string[]): string =>
    execFileSync("keytool", [...words, "-keystore", path, "-storepass", "changeit"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  writeFileSync(path, store("first", "second"));
  assert.match(keytool("-list"), /2 entries.*first, .*trustedCertEntry/s);
  keytool("-delete", "-alias", "first");
  assert.deepEqual(
    readStore(readFileSync(path))?.map(({ alias }) => alias),
    ["second"],
  );
});

test("PKCS#12 without a password, as newer JDKs ship it, becomes a JKS; an encrypted one is left", { skip }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-java-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "jks"), store("first", "second"));
  const convert = (to: string, ...options: string[]): Buffer => {
    const from = ["-srckeystore", join(dir, "jks"), "-srcstorepass", "changeit"];
    const into = [
      "-destkeystore",
      join(dir, to),
      "-deststoretype",
      "pkcs12",
      "-deststorepass",
      "changeit",
      "-noprompt",
    ];
    execFileSync("keytool", [...options, "-importkeystore", ...from, ...into], { stdio: "ignore" });
    return readFileSync(join(dir, to));
  };
  const none = ["certProtectionAlgorithm", "macAlgorithm"].map((name) => `-J-Dkeystore.pkcs12.${name}=NONE`);
  const plain = convert("plain", ...none);
  assert.deepEqual(
    readStore(plain)
      ?.map(({ alias }) => alias)
      .toSorted(),
    ["first", "second"],
  );
  for (let end = 0; end < plain.length; end += 1) assert.equal(readStore(plain.subarray(0, end)), null, `${end}`);
  const more = withCertificate(plain, { alias: "third", certificateDer: der(testCa("third").pem) }, 0);
  assert.equal(readStore(more as Buffer)?.length, 3);
  assert.equal(readStore(convert("encrypted")), null);
});
