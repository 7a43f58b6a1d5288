/** Which files of a host are found, what a command sees in their place, and which mounts stay among themselves. */
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { findBundles, type SearchOptions } from "../../../agent/trust/bundles.ts";
import { namesFor } from "../../../agent/trust/names.ts";
import { mountPointsOf, planBinds } from "../../../agent/trust/plan.ts";
import { testCa } from "../tls/pki.ts";

function makeRoot(t: TestContext, files: readonly string[]): string {
  const root = mkdtempSync(join(tmpdir(), "weir-plan-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const file of files) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), `# ${file}\n`);
  }
  return root;
}

function found(root: string, options: Partial<SearchOptions> = {}): string[] {
  const search = { root, env: { PATH: "/usr/bin" }, cwd: null, program: null, ...options };
  return findBundles(search).map(({ path, kind }) => `${kind} ${path.slice(root.length)}`);
}

test("the system's, Python's and Java's files, each once", (t) => {
  const root = makeRoot(t, [
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/java/cacerts",
    "/usr/lib/python3/dist-packages/certifi/cacert.pem",
    "/usr/lib/python3.11/site-packages/botocore/cacert.pem",
    "/usr/lib/node/site-packages/certifi/cacert.pem",
    "/home/u/.pyenv/versions/3.12.1/lib/python3.12/site-packages/pip/_vendor/certifi/cacert.pem",
    "/opt/tool/v1/lib/python3.9/site-packages/certifi/cacert.pem",
  ]);
  mkdirSync(join(root, "etc/pki/tls/certs"), { recursive: true });
  symlinkSync("../../ca-trust/extracted/pem/tls-ca-bundle.pem", join(root, "etc/pki/tls/certs/ca-bundle.crt"));
  assert.deepEqual(found(root, { env: { PATH: "/usr/bin:relative", HOME: "/home/u" } }), [
    "pem /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "java /etc/ssl/certs/java/cacerts",
    "pem /usr/lib/python3/dist-packages/certifi/cacert.pem",
    "pem /usr/lib/python3.11/site-packages/botocore/cacert.pem",
    "pem /opt/tool/v1/lib/python3.9/site-packages/certifi/cacert.pem",
    "pem /home/u/.pyenv/versions/3.12.1/lib/python3.12/site-packages/pip/_vendor/certifi/cacert.pem",
  ]);
});

test("virtual environments: of the program, of VIRTUAL_ENV, in and above the working directory", (t) => {
  const certifi = "lib/python3.13/site-packages/certifi/cacert.pem";
  const root = makeRoot(t, [
    ...["/a/venv", "/w/project/.venv", "/w/project/mine", "/w/venv"].flatMap((dir) => [
      `${dir}/pyvenv.cfg`,
      `${dir}/${certifi}`,
    ]),
    `/w/project/not-one/${certifi}`,
    `/v/${certifi}`,
  ]);
  const all = found(root, {
    env: { PATH: "/usr/bin", VIRTUAL_ENV: "/v" },
    cwd: "/w/project",
    program: "/a/venv/bin/tool",
  });
  assert.deepEqual(
    all.map((line) => line.slice(4, -certifi.length - 1)),
    ["/v", "/a/venv", "/w/project/.venv", "/w/venv", "/w/project/mine"],
  );
});

test("a file that the caller's variables name counts; one that is not there does not", (t) => {
  const root = makeRoot(t, ["/mine.pem"]);
  assert.deepEqual(
    found(root, { env: { REQUESTS_CA_BUNDLE: "/mine.pem", SSL_CERT_FILE: "/gone.pem", PIP_CERT: "x" } }),
    ["pem /mine.pem"],
  );
});

test("each file keeps what it has and gets our certificate; one that has it is left alone", (t) => {
  const root = makeRoot(t, ["/a.pem", "/b.pem", "/broken", "/shadow", "/key.pem"]);
  const ca = testCa("Weir").pem;
  const own = testCa("own").pem;
  writeFileSync(join(root, "a.pem"), own);
  chmodSync(join(root, "a.pem"), 0o640);
  writeFileSync(join(root, "key.pem"), `${own}-----BEGIN PRIVATE KEY-----\n`);
  writeFileSync(join(root, "b.pem"), `x\n${ca}y\n`);
  const bundles = [
    { path: join(root, "a.pem"), kind: "pem" },
    { path: join(root, "b.pem"), kind: "pem" },
    { path: join(root, "broken"), kind: "java" },
    { path: join(root, "gone"), kind: "pem" },
    // What a planted link with the name of a bundle may lead to.
    { path: join(root, "shadow"), kind: "pem" },
    { path: join(root, "key.pem"), kind: "pem" },
  ] as const;
  const plan = planBinds(bundles, ca, 0);
  assert.ok(plan !== null);
  t.after(() => rmSync(dirname(plan.binds[0]?.source as string), { recursive: true }));
  assert.deepEqual(
    plan.binds.map(({ target }) => target),
    [join(root, "a.pem")],
  );
  assert.equal(readFileSync(plan.binds[0]?.source as string, "utf8"), `${own}\n${ca}`);
  assert.equal(statSync(plan.binds[0]?.source as string).mode & 0o777, 0o640);
  const left = ["broken", "gone", "shadow", "key.pem"];
  assert.deepEqual(
    plan.skipped,
    left.map((name) => join(root, name)),
  );
  assert.ok(plan.temporary.every((path) => existsSync(path)));
  assert.equal(planBinds([bundles[1]], ca, 0), null);
});

test("only the mounts that hold a bundle are cut off from the host's", () => {
  const line = (point: string): string => `1 2 3:4 / ${point} rw - ext4 x rw`;
  const mounts = ["/", "/usr", "/usr/lib", "/opt/a\\040b", "/run"].map(line).join("\n");
  assert.deepEqual(mountPointsOf(["/etc/x", "/usr/library/x", "/usr/lib/x", "/opt/a b/x", "/etc/y"], mounts), [
    "/",
    "/usr",
    "/usr/lib",
    "/opt/a b",
  ]);
});

test("names in stores: of one state directory, whatever its authority was, and of no other", () => {
  const [first, second] = [testCa("first").pem, testCa("second").pem];
  const old = namesFor("/var/lib/weir", first);
  const now = namesFor("/var/lib/weir/", second);
  const other = namesFor("/srv/weir", second);
  assert.notEqual(old.current, now.current);
  assert.ok(now.isOwn(old.current) && now.isOwn(now.current) && !now.isOwn(other.current));
  assert.ok(namesFor("/var/lib/weir", null).isOwn(now.current));
  assert.ok(!now.isOwn(`${old.current}0`) && !now.isOwn("weir-") && !now.isOwn("debian"));
});
