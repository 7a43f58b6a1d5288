/** Servers that are asked for by an IPv6 address and no name: no SNI, brackets in Host, the address in certificates. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { testCa } from "../agent/tls/pki.ts";
import { type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";

const ports = { tls: 443, plain: 80 };

/** Says when it listens. */
const origin = `
import { createSecureServer } from "node:http2";
import { createServer } from "node:http";
const answer = (request, response) => response.end(request.httpVersion + " " + request.url + "\\n");
const [pair, ports] = process.argv.slice(1).map((text) => JSON.parse(text));
const secure = createSecureServer({ ...pair, allowHTTP1: true }, answer);
for (const [server, port] of [[secure, ports.tls], [createServer(answer), ports.plain]])
  await new Promise((listens) => server.listen(port, "::", listens));
console.log("listens");
`;

describe("HTTP by an IPv6 address", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-ipv6-"));
  let net: NamespacePair;
  let server: ChildProcess;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("http6");
    const { address6 } = net.b;
    const ca = testCa("Origin CA");
    const caPath = join(dir, "ca.pem");
    writeFileSync(caPath, ca.pem);
    const words = [JSON.stringify(ca.issue({ ip: [address6] })), JSON.stringify(ports)];
    server = spawn(
      "nsenter",
      [`--net=/run/netns/${net.b.name}`, "--", process.execPath, "--input-type=module", "-e", origin, ...words],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    await once(server.stdout ?? server, "data");
    agent = await startTestAgent({
      namespace: net.a,
      policy: `apiVersion: weir/v1
targets:
  api: { protocol: http, hosts: ["${address6}"], ports: [${ports.tls}, ${ports.plain}], tls: { verify: full, ca: ${caPath} } }
rules:
  - { name: no-deletes, match: { method: DELETE }, verdict: deny, reason: "Nothing is deleted." }
`,
    });
  });

  after(async () => {
    await agent?.remove();
    server?.kill();
    await net?.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  const curl = (...words: string[]): Promise<Ran> =>
    agent.run(["curl", "-gsS", "--max-time", "120", "-w", "%{http_code}", ...words]);

  for (const [version, word] of [
    ["1.1", "--http1.1"],
    ["2.0", "--http2"],
  ] as const) {
    test(`HTTP/${version} in TLS: passes and is decided`, async () => {
      const said = await curl(word, `https://[${net.b.address6}]/hello`);
      assert.equal(said.stdout, `${version} /hello\n200`, said.stderr);
      const denied = await curl(word, "-X", "DELETE", `https://[${net.b.address6}]/hello`);
      assert.match(denied.stdout, /rule "no-deletes": Nothing is deleted\.[\s\S]*403$/, denied.stderr);
    });
  }

  test("without TLS", async () => {
    const said = await curl(`http://[${net.b.address6}]/plain`);
    assert.equal(said.stdout, "1.1 /plain\n200", said.stderr);
  });

  test("the address in another way of writing it is the same server, another address is none", async () => {
    const [network = "", host = ""] = net.b.address6.split("::");
    const asking = (name: string): Promise<Ran> =>
      curl("--http1.1", "-H", `Host: [${name}]`, `https://[${net.b.address6}]/named`);
    const same = await asking(`${network.toUpperCase()}:0:0::000${host}`);
    assert.equal(same.stdout, "1.1 /named\n200", same.stderr);
    const other = await asking(`${network}::99`);
    assert.match(other.stdout, /host-mismatch[\s\S]*403$/, other.stderr);
  });
});
