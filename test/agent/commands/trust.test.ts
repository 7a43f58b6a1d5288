/** `weir trust` in a root of its own, with Debian's own tool: what install adds, remove takes away, and nothing else. */
import assert from "node:assert/strict";
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
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { run } from "../../../agent/commands/trust.ts";
import type { WeirError } from "../../../agent/errors.ts";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { testCa } from "../tls/pki.ts";

const tool = "/usr/sbin/update-ca-certificates";

test("install, status, remove: the store is as before", { skip: !existsSync(tool) }, async (t) => {
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
  const io = (text: { value: string }) => {
    const stdout = new Writable({
      write(piece, _, done) {
        text.value += String(piece);
        done();
      },
    });
    return { stdout, stderr: stdout, env: {}, stateDir: join(dir, "state") };
  };
  const weir = async (...args: string[]) => {
    const text = { value: "" };
    const code = await run([...args, "--root", root], io(text));
    return { code, text: text.value };
  };
  const tree = () =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted()
      .map((path) => `${path} ${existsSync(path) ? readFileSync(path, "utf8").length : "dangling"}`);
  await assert.rejects(
    weir("status"),
    (error: WeirError) => error.code === "WEIR_USAGE" && /weir up/.test(error.message),
  );
  const authority = await openAuthority(join(dir, "state"));
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
  assert.equal(statSync(join(dir, "state/ca/ca.pem")).isFile(), true);
  for (const args of [[], ["erase"], ["install", "x"]])
    await assert.rejects(weir(...args), (error: WeirError) => error.code === "WEIR_USAGE");
});
