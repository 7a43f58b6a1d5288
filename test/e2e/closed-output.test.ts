/** Whoever reads what Weir prints may go (`weir up | head -3`): an agent serves on, and ends in order. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { weirCommand } from "../support/agent.ts";
import { makeNamespacePair } from "../support/namespace.ts";

test("weir up whose output nobody reads any more serves on, and takes its rules away at the end", async () => {
  const net = await makeNamespacePair("closed");
  const dir = mkdtempSync(join(tmpdir(), "weir-closed-"));
  try {
    writeFileSync(join(dir, "policy.yaml"), "apiVersion: weir/v1\ntargets: {}\n");
    const state = join(dir, "state");
    const inside = [`--net=/run/netns/${net.a.name}`, "--", weirCommand];
    const words = ["up", "--state", state, "--policy", join(dir, "policy.yaml"), "--listen-ui", "127.0.0.1:0"];
    const child = spawn("nsenter", [...inside, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    const ended = new Promise<number | null>((done) => child.once("exit", done));
    await new Promise<void>((ready, failed) => {
      child.stdout.on("data", (text: Buffer) => text.includes("weir ready") && ready());
      child.once("exit", () => failed(new Error("weir up ended")));
    });
    child.stdout.destroy();
    child.stderr.destroy();
    const weir = (...more: string[]) => execFileSync("nsenter", [...inside, ...more], { encoding: "utf8" });
    // Each is told on its standard error, which is closed.
    for (const policy of ["targets: 7\n", "apiVersion: weir/v1\ntargets: {}\nrules: []\n"])
      writeFileSync(join(dir, "policy.yaml"), policy);
    assert.match(weir("run", "--state", state, "--", "echo", "served"), /served/);
    assert.match(weir("approvals", "--state", state), /no held operations/);
    assert.equal(child.exitCode, null);
    child.kill("SIGTERM");
    assert.equal(await ended, 0);
    const rules = execFileSync("nsenter", [inside[0] as string, "--", "iptables-save"], { encoding: "utf8" });
    assert.doesNotMatch(rules, /WEIR/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
    await net.remove();
  }
});
