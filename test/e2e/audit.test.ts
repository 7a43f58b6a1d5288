/** A real agent with its audit log: witnessed, measured, killed, checked and tampered with, by the commands a person has. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openOwnKey, witnessKeyFiles } from "../../controller/audit/keys.ts";
import { cosignatureKeyType, formatVerifier } from "../../controller/audit/note.ts";
import { payloadsOf, writePayloads } from "../agent/record/sample.ts";
import { startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { until } from "../support/until.ts";

describe("the audit log of a real agent", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let agent: TestAgent;
  let witness: ChildProcess | null = null;
  const witnessDir = mkdtempSync(join(tmpdir(), "weir-witness-"));
  const own = openOwnKey(witnessDir, witnessKeyFiles, () => "w.example/1", cosignatureKeyType);
  const witnessKey = formatVerifier(own.verifier);

  before(async () => {
    net = await makeNamespacePair("audit");
    agent = await startTestAgent({
      namespace: net.a,
      policy: "apiVersion: weir/v1\ntargets: {}\nrules: []\n",
      args: ["--listen-metrics", "127.0.0.1:9350", "--witness", `http://127.0.0.1:9348#${witnessKey}`],
    });
  });
  after(async () => {
    if (witness !== null && witness.exitCode === null) {
      witness.kill("SIGTERM");
      await new Promise((resolve) => witness?.once("exit", resolve));
    }
    await agent?.remove();
    await net?.remove();
    rmSync(witnessDir, { recursive: true, force: true });
  });

  /** In the agent's namespace, past the agent. */
  const curl = async (path: string): Promise<string> => {
    const child = spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", "curl", "-s", `http://127.0.0.1:${path}`]);
    let text = "";
    for await (const piece of child.stdout) text += String(piece);
    return text;
  };
  const refused = () => agent.run(["curl", "-s", "--max-time", "5", `http://${net.b.address4}:81/`]);

  test("numbers and health while it runs", async () => {
    await refused();
    await until(async () => /weir_entries_total\{kind="refused"\} [1-9]/.test(await curl("9350/metrics")));
    const metrics = await curl("9350/metrics");
    assert.match(metrics, /^weir_record_failed 0$/m);
    assert.match(metrics, /^weir_record_full 0$/m);
    assert.match(metrics, /^weir_refused_total\{code="WEIR_DENIED"\} [1-9]\d*$/m);
    assert.equal(JSON.parse(await curl("9350/healthz")).status, "ok");
    const { code, stdout } = await agent.weir(["verify"]);
    assert.deepEqual([code, /^OK: \d+ entries/.test(stdout)], [0, true], stdout);
  });

  test("a witness that comes later cosigns what is there by then", async () => {
    const logKey = join(agent.stateDir, "audit/log-key.vkey");
    witness = spawn("nsenter", [
      ...[`--net=/run/netns/${net.a.name}`, "--", weirCommand, "witness"],
      ...["--log", logKey, "--state", witnessDir],
    ]);
    let said = "";
    witness.stdout?.on("data", (piece) => {
      said += String(piece);
    });
    await until(async () => said.includes(`weir witness ready http://127.0.0.1:9348#${witnessKey}`));
    await refused();
    // A checkpoint that was made this very moment has not come back from the witness yet.
    let checked = await agent.weir(["verify", "--key", witnessKey]);
    await until(async () => {
      checked = await agent.weir(["verify", "--key", witnessKey]);
      return checked.code === 0;
    });
    assert.match(checked.stdout, /Cosigned by w\.example\/1, last at 20/);
  });

  test("killed and started again, record and audit log go on", async () => {
    await agent.kill("SIGKILL");
    await agent.restart();
    await refused();
    assert.equal(await agent.stop(), 0);
    const { code, stdout } = await agent.weir(["verify", "--key", witnessKey]);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /1 interruption of the agent visible/);
    const [leaves = "0"] = /\d+(?= leaves)/.exec(stdout) ?? [];
    assert.ok(Number(leaves) >= 2, stdout);
  });

  test("a person with root on the host who takes entries and heads back is convicted", async () => {
    const spool = join(agent.stateDir, "spool");
    const segment = join(spool, readdirSync(spool).find((name) => name.endsWith(".seg")) as string);
    const [bytes, heads] = [readFileSync(segment), readFileSync(join(agent.stateDir, "heads.jsonl"), "utf8")];
    const payloads = payloadsOf(segment);
    writePayloads(segment, payloads.slice(0, 2));
    writeFileSync(join(agent.stateDir, "heads.jsonl"), "");
    const cut = await agent.weir(["verify"]);
    assert.deepEqual([cut.code, /^BROKEN: truncated/.test(cut.stdout)], [13, true], cut.stdout);
    writeFileSync(segment, bytes);
    writeFileSync(join(agent.stateDir, "heads.jsonl"), heads);
    assert.equal((await agent.weir(["verify"])).code, 0);
    const exported = await agent.weir(["export", "--format", "ocsf"]);
    const file = join(witnessDir, "export");
    writeFileSync(file, exported.stdout.replace("WEIR_DENIED", "WEIR_ALLOWED"));
    const altered = await agent.weir(["verify", "--export", file]);
    assert.deepEqual([altered.code, /^BROKEN: altered/.test(altered.stdout)], [10, true], altered.stdout);
  });
});
