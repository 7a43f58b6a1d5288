import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, test } from "node:test";
import { run as install } from "../../../agent/commands/install.ts";
import { run as uninstall } from "../../../agent/commands/uninstall.ts";

type Command = typeof install;

describe("weir install --root", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "weir-root-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  async function say(command: Command, ...args: string[]): Promise<{ code: number; said: string }> {
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const said = text(stdout);
    stderr.resume();
    try {
      const code = await command(["--root", root, ...args], { stdout, stderr, env: {}, stateDir: "/nowhere" });
      stdout.end();
      return { code, said: await said };
    } catch (error) {
      stdout.end();
      throw error;
    }
  }
  const all = (): string[] => (readdirSync(root, { recursive: true }) as string[]).sort();

  test("--dry-run names every file and places none", async () => {
    const { code, said } = await say(install, "--no-trust", "--dry-run");
    assert.equal(code, 0);
    for (const path of ["/etc/weir/weir.yaml", "/etc/weir/firewall/closed.v6", "/etc/systemd/system/weir.service"])
      assert.match(said, new RegExp(`would place ${path}`));
    assert.deepEqual(all(), []);
  });

  test("places units that name this tree, links, closed rules; uninstall takes all of it away", async () => {
    await say(install, "--no-trust");
    const unit = readFileSync(join(root, "etc/systemd/system/weir.service"), "utf8");
    assert.doesNotMatch(unit, /@PREFIX@/);
    const program = /^ExecStart=(\S+)/m.exec(unit)?.[1] as string;
    assert.ok(existsSync(program), program);
    assert.equal(
      readlinkSync(join(root, "etc/systemd/system/multi-user.target.wants/weir.service")),
      "/etc/systemd/system/weir.service",
    );
    const rules = readFileSync(join(root, "etc/weir/firewall/closed.v4"), "utf8");
    assert.match(rules, /-I OUTPUT 1 -j WEIR-main-F/);
    assert.match(rules, /-A WEIR-main-F -j REJECT/);
    assert.doesNotMatch(rules, /-m mark/, "nobody has a mark yet");
    assert.equal((await say(uninstall)).code, 0);
    assert.deepEqual(all(), []);
  });

  test("again: units are renewed, what the operator made of settings and policy stays", async () => {
    await say(install, "--no-trust");
    const settings = join(root, "etc/weir/weir.yaml");
    writeFileSync(settings, `${readFileSync(settings, "utf8")}listenUi: 127.0.0.1:1\n`);
    rmSync(join(root, "etc/weir/policy/llm.yaml"));
    const unit = join(root, "etc/systemd/system/weir.service");
    writeFileSync(unit, "[Unit]\n");
    const { said } = await say(install);
    assert.match(said, /renew \/etc\/systemd\/system\/weir\.service/);
    assert.match(readFileSync(unit, "utf8"), /ExecStart/);
    assert.match(readFileSync(settings, "utf8"), /listenUi/);
    assert.equal(existsSync(join(root, "etc/weir/policy/llm.yaml")), false);
    assert.equal(existsSync(join(root, "usr/local/share/ca-certificates")), false, "without trust, as the first time");
    assert.match((await say(uninstall)).said, /weir\.yaml was changed and stays/);
    assert.equal(existsSync(settings), true);
    assert.equal((await say(uninstall, "--purge")).code, 1, "it is not installed any more");
  });

  test("settings that are there are not overruled in silence, and a bad policy stops before any change", async () => {
    const broken = join(root, "broken.yaml");
    writeFileSync(broken, "apiVersion: weir/v1\nrules: [ { nonsense: 1 } ]\n");
    await assert.rejects(say(install, "--no-trust", "--policy", broken), { code: "WEIR_POLICY_INVALID" });
    assert.deepEqual(all(), ["broken.yaml"]);
    await say(install, "--no-trust");
    await assert.rejects(say(install, "--scope", "run"), { code: "WEIR_USAGE" });
  });
});
