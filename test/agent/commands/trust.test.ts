/** `weir trust` in a root of its own, with Debian's own tool: what install adds, remove takes away, and nothing else. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { enterMode, run as runCommand } from "../../../agent/commands/run.ts";
import { run } from "../../../agent/commands/trust.ts";
import type { WeirError } from "../../../agent/errors.ts";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { testCa } from "../tls/pki.ts";

const tool = "/usr/sbin/update-ca-certificates";

interface Host {
  readonly root: string;
  readonly stateDir: string;
  weir(...args: string[]): Promise<{ code: number; text: string }>;
  /** Every file with its size. */
  tree(): string[];
}

/** The root of a host with two certificates of its own. */
function makeHost(t: TestContext): Host {
  const dir = mkdtempSync(join(tmpdir(), "weir-trust-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const root = join(dir, "root");
  for (const path of [
    "etc/ssl/certs",
    "usr/share/ca-certificates",
    "usr/local/share/ca-certificates",
    "etc/ca-certificates/update.d",
  ])
    mkdirSync(join(root, path), { recursive: true });
  writeFileSync(join(root, "etc/ca-certificates.conf"), "");
  // Two, as the tool takes a bundle of one certificate for a certificate.
  for (const name of ["own", "other"])
    writeFileSync(join(root, `usr/local/share/ca-certificates/${name}.crt`), testCa(name).pem);
  const stateDir = join(dir, "state");
  return {
    root,
    stateDir,
    async weir(...args) {
      let text = "";
      const stdout = new Writable({
        write(piece, _, done) {
          text += String(piece);
          done();
        },
      });
      const io = { stdout, stderr: stdout, env: {}, stateDir };
      return { code: await run([...args, "--root", root], io), text };
    },
    tree: () =>
      readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name))
        .toSorted()
        .map((path) => `${path} ${existsSync(path) ? readFileSync(path, "utf8").length : "dangling"}`),
  };
}

const skip = existsSync(tool) ? false : "there is no update-ca-certificates";
const has = (program: string, from: string): string | false =>
  skip || (existsSync(`/usr/bin/${program}`) ? false : `there is no ${program}: apt-get install ${from}`);
const trustedIn = (root: string): string => readFileSync(join(root, "etc/ssl/certs/ca-certificates.crt"), "utf8");

test("install, status, remove: the store is as before", { skip }, async (t) => {
  const { root, stateDir, weir, tree } = makeHost(t);
  await assert.rejects(
    weir("status"),
    (error: WeirError) => error.code === "WEIR_USAGE" && /weir up/.test(error.message),
  );
  const authority = await openAuthority(stateDir);
  // The store as the tool leaves it when there is nothing of ours.
  assert.equal((await weir("install")).code, 0);
  assert.equal((await weir("remove")).code, 0);
  const before = tree();
  assert.equal((await weir("status")).code, 1);
  assert.match((await weir("install")).text, /installed as .*weir-[0-9a-f]{16}\.crt/);
  assert.equal((await weir("status")).code, 0);
  const bundle = readFileSync(join(root, "etc/ssl/certs/ca-certificates.crt"), "utf8");
  assert.ok(bundle.includes(authority.caPem.trim()));
  assert.match((await weir("install")).text, /nothing to do/);
  assert.match((await weir("remove")).text, /removed from/);
  assert.match((await weir("remove")).text, /nothing to do/);
  assert.deepEqual(tree(), before);
  assert.ok(existsSync(join(root, "usr/local/share/ca-certificates/own.crt")));
  assert.equal(statSync(join(stateDir, "ca/ca.pem")).isFile(), true);
  for (const args of [[], ["erase"], ["install", "x"]])
    await assert.rejects(weir(...args), (error: WeirError) => error.code === "WEIR_USAGE");
});

test("what an older authority of the same state directory left goes with it; another directory's stays", {
  skip,
}, async (t) => {
  const { root, stateDir, weir, tree } = makeHost(t);
  const first = await openAuthority(stateDir);
  await weir("install");
  await weir("remove");
  const before = tree();
  const other = await openAuthority(join(stateDir, "other"));
  assert.equal((await weir("install", "--state", join(stateDir, "other"))).code, 0);
  await weir("install");
  rmSync(join(stateDir, "ca"), { recursive: true });
  const second = await openAuthority(stateDir);
  assert.equal((await weir("status")).code, 1);
  // A new one takes the old one's place,
  assert.equal((await weir("install")).code, 0);
  assert.ok(trustedIn(root).includes(second.caPem.trim()) && !trustedIn(root).includes(first.caPem.trim()));
  // and what only an old one left is found too, with or without an authority now.
  rmSync(join(stateDir, "ca"), { recursive: true });
  const removed = await weir("remove");
  assert.match(removed.text, /removed from .*\n.*weir-[0-9a-f]{16}\.crt is of another state directory and stays/s);
  assert.ok(trustedIn(root).includes(other.caPem.trim()) && !trustedIn(root).includes(second.caPem.trim()));
  assert.equal((await weir("remove", "--all")).code, 0);
  assert.deepEqual(tree(), before);
});

test("a file with the name that earlier versions gave is taken away too", { skip }, async (t) => {
  const { root, stateDir, weir } = makeHost(t);
  const { caPem } = await openAuthority(stateDir);
  const digest = new X509Certificate(caPem).fingerprint256.replaceAll(":", "").slice(0, 16).toLowerCase();
  const path = join(root, `usr/local/share/ca-certificates/weir-${digest}.crt`);
  writeFileSync(path, caPem);
  assert.equal((await weir("remove")).code, 0);
  assert.ok(!existsSync(path));
});

test("Java's store of the host", { skip: has("keytool", "default-jre-headless") }, async (t) => {
  const { root, stateDir, weir } = makeHost(t);
  const path = join(root, "etc/ssl/certs/java/cacerts");
  mkdirSync(dirname(path));
  const made = ["-genkeypair", "-alias", "own", "-dname", "CN=own", "-keyalg", "EC", "-storetype", "JKS"];
  const secret = ["-storepass", "changeit", "-keypass", "changeit"];
  execFileSync("keytool", [...made, "-keystore", path, ...secret], { stdio: "ignore" });
  const aliases = (): string[] =>
    [
      ...execFileSync("keytool", ["-list", "-keystore", path, "-storepass", "changeit"], {
        stdio: ["ignore", "pipe", "ignore"],
      })
        .toString()
        .matchAll(/^(\S+), .*Entry/gm),
    ].map((match) => match[1] as string);
  await openAuthority(stateDir);
  assert.match((await weir("install")).text, /added to .*java\/cacerts/);
  assert.equal(aliases().length, 2);
  rmSync(join(stateDir, "ca"), { recursive: true });
  await openAuthority(stateDir);
  assert.match((await weir("install")).text, /added to .*java\/cacerts/);
  assert.equal(aliases().length, 2);
  assert.match((await weir("install")).text, /nothing to do/);
  assert.match((await weir("remove")).text, /removed from .*java\/cacerts/);
  assert.deepEqual(aliases(), ["own"]);
});

test("an NSS database", { skip: has("certutil", "libnss3-tools") }, async (t) => {
  const { root, stateDir, weir } = makeHost(t);
  const database = join(root, "root/.pki/nssdb");
  mkdirSync(database, { recursive: true });
  const certutil = (...words: string[]): string =>
    execFileSync("certutil", [...words, "-d", `sql:${database}`], { encoding: "utf8" });
  certutil("-N", "--empty-password");
  await openAuthority(stateDir);
  assert.match((await weir("install")).text, /added to .*nssdb/);
  assert.match(certutil("-L"), /weir-[0-9a-f]{16} +C,,/);
  assert.match((await weir("install")).text, /nothing to do/);
  assert.match((await weir("remove")).text, /removed from .*nssdb/);
  assert.doesNotMatch(certutil("-L"), /weir/);
});

test("variables for new logins: the user's own stay his, and remove takes the files away", { skip }, async (t) => {
  const { root, stateDir, weir, tree } = makeHost(t);
  for (const dir of ["etc/profile.d", "etc/environment.d", "etc/systemd"])
    mkdirSync(join(root, dir), { recursive: true });
  await openAuthority(stateDir);
  await weir("install");
  await weir("remove");
  const before = tree();
  const { text } = await weir("install");
  const [script = "", ...others] = [...text.matchAll(/variables in (.*)/g)].map((match) => match[1] as string);
  assert.equal(others.length, 2);
  const shell = `. ${script}; echo $NODE_EXTRA_CA_CERTS $REQUESTS_CA_BUNDLE`;
  const env = { PATH: "/usr/bin:/bin", REQUESTS_CA_BUNDLE: "/my own.pem" };
  const said = execFileSync("sh", ["-euc", shell], { env, encoding: "utf8" });
  assert.equal(said, "/etc/ssl/certs/ca-certificates.crt /my own.pem\n");
  await weir("remove");
  assert.deepEqual(tree(), before);
});

test("weir run --trust: who gets which", async () => {
  const io = { stdout: process.stdout, stderr: process.stderr, env: {}, stateDir: "/nowhere" };
  await assert.rejects(
    runCommand(["--trust", "all", "--", "true"], io),
    (error: WeirError) => error.code === "WEIR_USAGE",
  );
  const caPath = "/ca.pem";
  const able = process.geteuid?.() === 0 ? "root" : "user";
  assert.equal(enterMode("env", { caPath, sudo: false }), null);
  assert.equal(enterMode("auto", { caPath, sudo: false }), able);
  assert.equal(enterMode("bind", { caPath, sudo: true }), able);
  assert.equal(enterMode("auto", { caPath, sudo: true }), able === "root" ? "root" : null);
});
