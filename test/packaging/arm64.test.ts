/** What is packed for arm64 on another machine: every program in it is of that architecture, and it runs, by an emulator. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

const root = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);
const missing = ["aarch64-linux-gnu-gcc", "qemu-aarch64-static"].filter(
  (name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0,
);
const native = process.arch === "arm64" && "this machine is of that architecture: the other tests are the test";
const skip = native || (missing.length === 0 ? false : `${missing.join(" and ")} missing: run scripts/setup --dev`);
/** e_machine of ELF. */
const aarch64 = 183;

describe("the arm64 tree", { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-arm64-"));
  const tree = join(dir, "weir");
  const emulated = (...words: string[]) =>
    run("qemu-aarch64-static", ["-L", "/usr/aarch64-linux-gnu", join(tree, "node_modules/node/bin/node"), ...words]);

  before(() => run(join(root, "scripts/package"), ["--fast", "--arch", "arm64", "--tree", tree], { cwd: root }));
  after(() => rmSync(dir, { recursive: true, force: true }));

  test("every program and library in it is for arm64", () => {
    const found: string[] = [];
    for (const file of readdirSync(tree, { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      const path = join(file.parentPath, file.name);
      const machine = elfMachine(path);
      if (machine === null || file.name === "weir.bpf.o") continue;
      assert.equal(machine, aarch64, path);
      found.push(file.name);
    }
    assert.deepEqual(found.sort(), ["crc32.linux-arm64-gnu.node", "node", "weir-enter", "weir-tls.node", "weir.node"]);
  });

  test("its addons load in its Node, and have what this machine's have", async () => {
    const script = join(dir, "exports.cjs");
    writeFileSync(
      script,
      `for (const path of process.argv.slice(2)) { const m = { exports: {} }; process.dlopen(m, path); console.log(Object.keys(m.exports).sort().join()); }`,
    );
    const names = ["weir.node", "weir-tls.node"];
    const theirs = await emulated(script, ...names.map((name) => join(tree, "build", name)));
    const ours = await run(process.execPath, [script, ...names.map((name) => join(root, "build", name))]);
    assert.equal(theirs.stdout, ours.stdout);
    assert.match(theirs.stdout, /bpfMapCreate[\s\S]*tlsContext/);
  });

  test("the command runs", async () => {
    const policy = join(root, "policies/templates/pci.yaml");
    const { stdout } = await emulated("--liftoff-only", join(tree, "agent/cli.ts"), "policy", "check", policy);
    assert.match(stdout, /^ok: mode enforce/);
  });
});

function elfMachine(path: string): number | null {
  const head = Buffer.alloc(20);
  const file = openSync(path, "r");
  const read = readSync(file, head, 0, 20, 0);
  closeSync(file);
  return read === 20 && head.toString("latin1", 0, 4) === "\x7fELF" ? head.readUInt16LE(18) : null;
}
