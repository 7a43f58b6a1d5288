/**
 * The wall behind the firewall: rules that somebody takes out open nothing, whether the agent can put them back or not. Each
 * time the peer counts what arrives, and sees it without the wall.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { until } from "../../support/until.ts";
import { makeHost, type NetnsAgent, type NetnsHost, peer4, peer6, peerServers } from "./netns-host.ts";

const options = { scope: { kind: "host" }, targets: [], egress: "deny", onFailure: "closed", resolvers: [peer4] };
const flush = `for p in iptables ip6tables; do for t in filter nat mangle; do $p -w -t $t -F; done; done`;
const attempts = [peer4, peer6].flatMap((to) => [
  { to, port: 8080, waitMs: 200 },
  { to, port: 8081, udp: true, waitMs: 200 },
]);

describe("rules that are gone", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let host: NetnsHost;
  let agent: NetnsAgent;
  const tryAll = () => host.client(null, attempts);

  before(async () => {
    host = makeHost("w");
    await once(host.inPeer(peerServers).stdout, "data");
    // Both families: what waits for its neighbour's address for a second would come out behind a wall that is there by then.
    await until(async () => (await host.leaked(tryAll)) >= 8);
  });
  after(() => host.remove());

  test("flushed while the agent cannot act: nothing new gets out, who comes in is answered", async () => {
    agent = await host.agent(options);
    process.kill(agent.pid, "SIGSTOP");
    try {
      host.sh(flush);
      assert.equal(host.saved().includes("REJECT"), false);
      assert.equal(await host.leaked(tryAll), 0);
      assert.equal(await host.inbound(), "hello");
    } finally {
      process.kill(agent.pid, "SIGCONT");
    }
  });

  test("put back by the agent, whose own connections go out again", async () => {
    await until(() => host.saved().includes("REJECT"));
    assert.equal(await agent.ask({ do: "dial", destination: { address: peer4, port: 8080 } }), "real");
    const { bpf } = await agent.ask<{ bpf: { walled: number } }>({ do: "stats" });
    assert.ok(bpf.walled >= 4, String(bpf.walled));
  });

  test("flushed again and again: nothing gets out at any moment", async () => {
    const many = Array.from({ length: 6 }, () => attempts).flat();
    const work = async (): Promise<void> => {
      const trying = host.client(null, many);
      for (let at = 0; at < 8; at += 1) {
        host.sh(flush);
        await new Promise((done) => setTimeout(done, 100));
      }
      await trying;
    };
    assert.equal(await host.leaked(work), 0);
  });

  test("flushed when the agent is dead: closed, until the next one is there and ends in order", async () => {
    await agent.kill();
    host.sh(flush);
    assert.equal(await host.leaked(tryAll), 0);
    agent = await host.agent(options);
    assert.equal(await agent.ask({ do: "dial", destination: { address: peer4, port: 8080 } }), "real");
    await agent.close();
    await until(async () => (await host.leaked(tryAll)) >= 8);
  });

  test("with --on-failure open there is no wall: flushed and dead is open", async () => {
    agent = await host.agent({ ...options, onFailure: "open" });
    assert.equal(await host.leaked(tryAll), 0);
    await agent.kill();
    host.sh(flush);
    await until(async () => (await host.leaked(tryAll)) >= 4);
    await (await host.agent(options)).close();
  });
});
