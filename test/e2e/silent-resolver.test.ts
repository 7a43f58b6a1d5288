/** A resolver that never answers: what asks it waits for minutes, and nothing of the agent's waits for that. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startTestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";

/** Takes questions, says when the first one came, and keeps quiet. */
const resolver = `
import { createSocket } from "node:dgram";
const socket = createSocket("udp4");
socket.once("message", () => console.log("asked"));
socket.bind(53, process.argv[1], () => console.log("ready"));
`;

describe("a resolver that never answers", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let pair: NamespacePair;
  let child: ChildProcess;
  const dir = mkdtempSync(join(tmpdir(), "weir-silent-"));
  let said = "";

  before(async () => {
    pair = await makeNamespacePair("silent");
    writeFileSync(join(dir, "resolv.conf"), `nameserver ${pair.b.address4}\noptions timeout:30 attempts:5\n`);
    const words = [process.execPath, "--input-type=module", "-e", resolver, pair.b.address4];
    child = spawn("nsenter", [`--net=/run/netns/${pair.b.name}`, "--", ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout?.on("data", (bytes: Buffer) => {
      said += bytes.toString();
    });
    while (!said.includes("ready")) await once(child.stdout as NodeJS.ReadableStream, "data");
  });

  after(async () => {
    child?.kill();
    await pair?.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  test("the agent starts, and ends in order while its questions are open", async () => {
    const agent = await startTestAgent({
      namespace: pair.a,
      wrap: ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', join(dir, "resolv.conf")],
      policy: `apiVersion: weir/v1
targets:
  shop: { protocol: postgres, hosts: [shop.internal], ports: [5432] }
`,
    });
    try {
      while (!said.includes("asked")) await once(child.stdout as NodeJS.ReadableStream, "data");
      assert.equal(await agent.stop(), 0, agent.output());
      assert.doesNotMatch(agent.output(), /WEIR_/);
      await agent.restart();
      const { stdout } = await agent.weir(["export"]);
      assert.doesNotMatch(stdout, /did not end in order/);
    } finally {
      await agent.remove();
    }
  });
});
