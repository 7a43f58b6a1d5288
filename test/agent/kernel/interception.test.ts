import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { Origin } from "../../../agent/kernel/interception.ts";
import { makeHost, type NetnsHost, peer4, peer6, peerServers, target } from "./netns-host.ts";

const isRoot = process.getuid?.() === 0;
const anyPostgres = [target([{ kind: "any" }], [5432])];
const run = { scope: { kind: "run" }, targets: anyPostgres, egress: "deny", onFailure: "closed", resolvers: [peer4] };
const both = [
  { to: peer4, port: 5432 },
  { to: peer6, port: 5432 },
];
const others = [
  { to: peer4, port: 8080 },
  { to: peer6, port: 8080 },
];
/** A question for db.example.com, type A. */
const question = "000101000001000000000000026462076578616d706c6503636f6d0000010001";

describe("interception", { skip: isRoot ? false : "needs root" }, () => {
  let host: NetnsHost;
  before(async () => {
    host = makeHost("i");
    await once(host.inPeer(peerServers).stdout, "data");
  });
  after(() => host.remove());

  for (const bpf of [true, false]) {
    test(`a target is taken ${bpf ? "by BPF" : "by the firewall alone"}, all else refused, and close leaves nothing`, async () => {
      const agent = await host.agent({ ...run, bpf });
      const results = await host.client(agent, [...both, ...others, { to: peer4, port: 443, udp: true }], {
        uid: 12345,
      });
      for (const [at, address] of [peer4, peer6].entries()) {
        const origin = JSON.parse(results[at]!) as Origin;
        assert.deepEqual(origin.destination, { address, port: 5432 });
        assert.equal(origin.via, bpf ? "bpf" : "redirect");
        assert.equal(origin.process?.uid, 12345);
        assert.equal(origin.process?.exe, process.execPath);
        assert.match(origin.process?.cgroup ?? "", /\/run-.*-test$/);
      }
      assert.deepEqual(results.slice(2), ["ECONNREFUSED", "ECONNREFUSED", "EHOSTUNREACH"]);
      const refused = agent.events.flatMap((event) => ("refused" in event ? [event.refused] : [])) as {
        process: { uid: number };
      }[];
      assert.equal(refused.length, 3);
      assert.equal(refused[0]?.process?.uid, 12345);
      assert.equal(await agent.ask({ do: "dial", destination: { address: peer4, port: 5432 } }), "real");
      await agent.close();
      assert.equal(host.saved(), "");
      assert.equal(existsSync(`${host.cgroups}/weir-kbi${process.pid}`), false);
      assert.equal(existsSync(`/sys/fs/bpf/weir-kbi${process.pid}`), false);
    });
  }

  test("a name of the policy is governed once the host's resolver has said where it is", async () => {
    const suffix = [target([{ kind: "suffix", suffix: ".example.com" }], [8080])];
    for (const bpf of [true, false]) {
      const agent = await host.agent({ ...run, targets: suffix, bpf });
      const results = await host.client(agent, [
        others[0]!,
        { to: peer4, port: 53, udp: true, ask: question },
        others[0]!,
      ]);
      assert.equal(results[0], "ECONNREFUSED");
      assert.match(results[1]!, /0a4d0002$/);
      const origin = JSON.parse(results[2]!) as Origin;
      assert.equal(origin.hostname, "db.example.com");
      assert.equal(origin.via, bpf ? "bpf" : "redirect");
      await agent.close();
    }
  });

  test("egress allow lets the rest out, but neither QUIC nor UDP to a target's port", async () => {
    const agent = await host.agent({ ...run, egress: "allow" });
    const udp = [443, 5432].map((port) => ({ to: peer4, port, udp: true }));
    assert.deepEqual(await host.client(agent, [...others, ...udp]), ["real", "real", "EHOSTUNREACH", "EHOSTUNREACH"]);
    await agent.ask({ do: "targets", targets: [], egress: "deny" });
    assert.deepEqual(await host.client(agent, [others[0]!]), ["ECONNREFUSED"]);
    await agent.close();
  });

  test("kill -9 of the agent is closed for targets and all else, and the next start cleans up", async () => {
    const first = await host.agent(run);
    const orphan = await host.held(first, [...both, ...others]);
    await first.kill();
    assert.deepEqual(await orphan(), ["ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"]);
    const second = await host.agent(run);
    assert.equal((JSON.parse((await host.client(second, [both[0]!]))[0]!) as Origin).via, "bpf");
    await second.close();
    assert.equal(host.saved(), "");
    assert.equal(existsSync(`/sys/fs/bpf/weir-kbi${process.pid}`), false);
  });

  test("--on-failure open: refused while the agent lives, let out when it is gone", async () => {
    const agent = await host.agent({ ...run, onFailure: "open" });
    assert.deepEqual(await host.client(agent, others), ["ECONNREFUSED", "ECONNREFUSED"]);
    const orphan = await host.held(agent, [...both, ...others]);
    await agent.kill();
    assert.deepEqual(await orphan(), ["real", "real", "real", "real"]);
    await (await host.agent(run)).close();
    assert.equal(host.saved(), "");
  });

  test("a whole host: inbound connections and the agent's own go on, what leaves is governed", async () => {
    const agent = await host.agent({ ...run, scope: { kind: "host" }, bpf: false });
    const quic = { to: peer4, port: 443, udp: true };
    const results = await host.client(null, [both[0]!, others[0]!, quic]);
    assert.equal((JSON.parse(results[0]!) as Origin).destination.address, peer4);
    assert.deepEqual(results.slice(1), ["ECONNREFUSED", "EHOSTUNREACH"]);
    assert.equal(await agent.ask({ do: "dial", destination: { address: peer6, port: 8080 } }), "real");
    assert.equal(await host.inbound(), "hello");
    await agent.close();
    assert.equal(host.saved(), "");
  });
});
