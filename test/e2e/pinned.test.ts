/** A client that trusts its server's authority alone: recognised, and denied or let through unread as the policy says. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { collect, type Ran } from "../support/agent.ts";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const names = ["splice.internal", "deny.internal"];

describe("clients that pin", () => {
  let origin: Origin;

  before(async () => {
    origin = await startOrigin((request, response) => response.end(`${request.url} reached`), { names });
  });
  after(() => origin?.close());

  const start = (asked: string | null): Promise<Relay> =>
    startRelay({
      policy: `apiVersion: weir/v1
targets:
  pinning: { protocol: http, hosts: [splice.internal], ports: [${origin.port}], tls: { ca: ${origin.caPath}, pinned: splice } }
  denied: { protocol: http, hosts: [deny.internal], ports: [${origin.port}], tls: { ca: ${origin.caPath} } }
rules:
  - { name: no-secrets, match: { protocol: http, path: /secret }, verdict: deny, reason: "No." }
`,
      server: { host: "127.0.0.1", port: origin.port },
      hostname: asked,
    });
  const curl = (relay: Relay, host: string, ca: string): Promise<Ran> =>
    collect(
      spawn("curl", [
        ...["-sS", "--http1.1", "--max-time", "120", "--cacert", ca],
        ...["--connect-to", `${host}:${origin.port}:127.0.0.1:${relay.port}`],
        `https://${host}:${origin.port}/secret`,
      ]),
    );
  const refused = async (relay: Relay, host: string): Promise<void> => {
    assert.equal((await curl(relay, host, origin.caPath)).code, 60);
  };

  test("after two refusals its connections pass unread, and the record says so", async () => {
    const relay = await start("splice.internal");
    try {
      await refused(relay, "splice.internal");
      await refused(relay, "splice.internal");
      assert.ok(relay.logs.some((line) => /refuses Weir's certificate for splice\.internal time and again/.test(line)));
      assert.equal((await curl(relay, "splice.internal", origin.caPath)).stdout, "/secret reached");
      const notices = relay.entries().filter(({ type }) => type === "Notice");
      assert.match(JSON.stringify(notices.map(({ fields }) => fields)), /spliced unread: the client pins/);
    } finally {
      await relay.close();
    }
  });

  test("a client that trusts Weir is read, and one refusal is no pin", async () => {
    const relay = await start("splice.internal");
    try {
      for (let round = 0; round < 3; round += 1) {
        await refused(relay, "splice.internal");
        assert.match((await curl(relay, "splice.internal", relay.authority.caPath)).stdout, /no-secrets/);
      }
    } finally {
      await relay.close();
    }
  });

  test("where the policy does not say splice, it stays denied", async () => {
    const relay = await start("deny.internal");
    try {
      for (let round = 0; round < 4; round += 1) await refused(relay, "deny.internal");
      assert.ok(relay.logs.some((line) => /deny\.internal time and again/.test(line)));
    } finally {
      await relay.close();
    }
  });

  test("a name that the host never asked for is not spliced: nobody would look whose server it is", async () => {
    const relay = await start(null);
    try {
      for (let round = 0; round < 4; round += 1) await refused(relay, "splice.internal");
    } finally {
      await relay.close();
    }
  });
});
