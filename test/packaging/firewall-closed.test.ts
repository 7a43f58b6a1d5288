/** The script that a boot waits for, by itself in a network namespace: it ends when the host is closed, and not before. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { closedRules } from "../../agent/kernel/firewall-rules.ts";

const script = resolve(import.meta.dirname, "../../packaging/firewall-closed");
const skip = process.getuid?.() === 0 ? false : "needs root";

for (const [what, textOf] of [
  ["the rules that weir install has written", (family: 4 | 6) => closedRules(family, "main")],
  ["a file that lost its contents with the power", () => ""],
  ["a file that lost its end", (family: 4 | 6) => closedRules(family, "main").slice(0, 60)],
] as const)
  test(`${what}: closed, and once more by whoever starts it again`, { skip }, (t) => {
    const dir = mkdtempSync(join(tmpdir(), "weir-closed-"));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    for (const family of [4, 6] as const) writeFileSync(join(dir, `closed.v${family}`), textOf(family));
    const words = ["-n", "sh", "-c", '"$0" "$1" && iptables-save && ip6tables-save && "$0" "$1"', script, dir];
    const { status, stdout, stderr } = spawnSync("unshare", words, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    assert.equal(stdout.match(/^-A OUTPUT -j WEIR-main-F$/gm)?.length, 2, stderr);
    assert.match(stdout, /^-A WEIR-main-F (-p tcp )?-j (REJECT|DROP)/m);
  });
