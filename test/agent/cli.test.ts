import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { weirCommand } from "../support/agent.ts";
import { tempDir } from "./tls/pki.ts";

const weir = (...args: string[]) => spawnSync(weirCommand, args, { encoding: "utf8" });

test("the version is that of the package, with the Node that runs it", () => {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  for (const word of ["--version", "-V", "version"]) {
    const { status, stdout } = weir(word);
    assert.equal(status, 0);
    assert.match(stdout, /^weir (\S+) \(node 24\.\d+\.\d+, \w+\)\n$/);
    assert.equal(stdout.split(" ")[1], version);
  }
});

test("a command that is not there is told with the next step, and is wrong use", () => {
  const { status, stderr } = weir("upp");
  assert.equal(status, 2);
  assert.match(stderr, /^weir: There is no `weir upp`\. See `weir --help`\. \[WEIR_USAGE\]\n$/);
  assert.equal(weir().status, 2);
  assert.equal(weir("help").status, 0);
  assert.match(weir("help", "up").stdout, /^weir up \[options\]\n/);
  assert.match(weir("help", "upp").stderr, /There is no `weir upp`/);
});

test("a record that is not for him is told so to who reads it, and is no empty one", {
  skip: process.getuid?.() === 0 ? false : "needs root",
}, (t) => {
  const dir = tempDir(t);
  chmodSync(dir, 0o711);
  mkdirSync(join(dir, "spool"), { mode: 0o700 });
  writeFileSync(join(dir, "receipts.jsonl"), "", { mode: 0o600 });
  writeFileSync(join(dir, "agent-key.pub.pem"), "");
  const asNobody = (...words: string[]) =>
    spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", weirCommand, ...words], {
      encoding: "utf8",
    });
  for (const command of ["sessions", "summary", "export", "verify"]) {
    const { status, stdout, stderr } = asNobody(command, "--state", dir);
    assert.deepEqual([status, stdout], [3, ""], command);
    assert.match(stderr, /^weir: [^\n]*sudo[^\n]* \[WEIR_NOT_ROOT\]\n$/, command);
  }
});

test("what is not there is told as not there, with the codes of a shell and of wrong use", () => {
  assert.deepEqual([weir("run", "--", "/etc/passwd").status, weir("run", "--", "/no/such").status], [126, 127]);
  for (const command of ["sessions", "summary", "export"]) {
    const { status, stderr } = weir(command, "--state", "/no/such");
    assert.equal(status, 2);
    assert.equal(stderr, "weir: There is no state directory /no/such. Name the agent's with --state. [WEIR_USAGE]\n");
  }
});
