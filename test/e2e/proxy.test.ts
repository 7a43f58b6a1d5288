/** Proxies: a target behind one is governed as any other; a client's own CONNECT is denied, and told what to do. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { collect, type Ran } from "../support/agent.ts";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

describe("proxies", () => {
  let origin: Origin;
  let proxy: Server;
  let proxyPort = 0;
  const asked: string[] = [];

  before(async () => {
    origin = await startOrigin((request, response) => response.end(`${request.url} reached`));
    // As small as a proxy can be.
    proxy = createServer((client) => {
      client.on("error", () => {});
      client.once("data", (bytes: Buffer) => {
        const [line = ""] = bytes.toString().split("\r\n");
        asked.push(line);
        const server = connect(origin.port, "127.0.0.1", () => {
          client.write("HTTP/1.1 200 Connection established\r\n\r\n");
          client.pipe(server).pipe(client);
        });
        server.on("error", () => client.destroy());
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    proxyPort = (proxy.address() as AddressInfo).port;
  });

  after(async () => {
    await origin?.close();
    await new Promise((resolve) => proxy.close(resolve));
  });

  const curl = (...words: string[]): Promise<Ran> =>
    collect(spawn("curl", ["-sS", "--http1.1", "--max-time", "120", ...words]));

  test("a target's proxy is asked for a tunnel, and the request inside is governed", async () => {
    const relay = await startRelay({
      policy: `apiVersion: weir/v1
targets:
  api: { protocol: http, hosts: [api.internal], ports: [443], tls: { ca: ${origin.caPath} }, proxy: "localhost:${proxyPort}" }
rules:
  - { name: no-secrets, match: { path: /secret }, verdict: deny, reason: "No." }
`,
      // Where nothing listens: without the proxy it could not be reached.
      server: { host: "127.0.0.1", port: 443 },
      hostname: "api.internal",
    });
    try {
      const words = ["--cacert", relay.authority.caPath, "--connect-to", `api.internal:443:127.0.0.1:${relay.port}`];
      assert.equal((await curl(...words, "https://api.internal/hello")).stdout, "/hello reached");
      assert.match((await curl(...words, "https://api.internal/secret")).stdout, /no-secrets/);
      assert.deepEqual([...new Set(asked)], ["CONNECT api.internal:443 HTTP/1.1"]);
      assert.ok(!origin.reached.some(({ url }) => url === "/secret"));
    } finally {
      await relay.close();
    }
  });

  for (const [name, rules] of [
    ["without a rule for it", ""],
    [
      "also where a rule would let it through",
      "rules: [{ name: all, match: { trait: [connect-method, host-mismatch] }, verdict: allow }]",
    ],
  ] as const)
    test(`a client that asks a proxy itself is denied, ${name}`, async () => {
      const relay: Relay = await startRelay({
        policy: `apiVersion: weir/v1
targets:
  proxy: { protocol: http, hosts: [proxy.internal], ports: [${proxyPort}], tls: { verify: none } }
${rules}
`,
        server: { host: "127.0.0.1", port: proxyPort },
        hostname: "proxy.internal",
      });
      try {
        const before = asked.length;
        const said = await curl("-v", "--proxy", `http://127.0.0.1:${relay.port}`, "https://api.internal/hello");
        assert.equal(said.code, 56, said.stderr);
        assert.match(said.stderr, /CONNECT tunnel failed, response (?:403|501)|Received HTTP code (?:403|501)/);
        assert.equal(asked.length, before);
        assert.ok(relay.entries().some(({ type }) => type === "Operation"));
      } finally {
        await relay.close();
      }
    });
});
