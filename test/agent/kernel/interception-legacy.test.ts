/**
 * The legacy iptables: it counts and tells nothing, while the nf_tables of the same kernel count what is not ours. Whatever
 * `iptables-restore` is on the PATH is used, as the host's alternative has it.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { chainNames } from "../../../agent/kernel/firewall-rules.ts";
import type { Origin } from "../../../agent/kernel/interception.ts";
import { until } from "../../support/until.ts";
import { legacyProgram, makeHost, type NetnsHost, peer4, peer6, peerServers, target } from "./netns-host.ts";

const skip =
  process.getuid?.() !== 0 ? "needs root" : existsSync(legacyProgram) ? false : `there is no ${legacyProgram}`;
const targets = [target([{ kind: "any" }], [5432])];
const options = { scope: { kind: "run" }, targets, egress: "deny", onFailure: "closed", resolvers: [peer4] };
const attempts = [5432, 8080].flatMap((port) => [peer4, peer6].map((to) => ({ to, port })));
const refused = "ECONNREFUSED";

describe("interception with the legacy iptables", { skip }, () => {
  let host: NetnsHost;
  before(async () => {
    host = makeHost("l", { legacy: true });
    await once(host.inPeer(peerServers).stdout, "data");
  });
  after(() => host.remove());

  const counted = (program: string): number =>
    Number(
      host.sh(
        `for p in iptables ip6tables; do /usr/sbin/$p-${program}-save 2>/dev/null; done | grep -c -- '-A WEIR' || true`,
      ),
    );

  for (const bpf of [true, false])
    test(`targets are taken ${bpf ? "by BPF" : "by the firewall alone"}, the rest refused, and close leaves nothing`, async () => {
      const agent = await host.agent({ ...options, bpf });
      assert.ok(counted("legacy") > 20);
      assert.equal(counted("nft"), 0);
      const results = await host.client(agent, attempts);
      for (const result of results.slice(0, 2))
        assert.equal((JSON.parse(result) as Origin).via, bpf ? "bpf" : "redirect");
      assert.deepEqual(results.slice(2), [refused, refused]);
      await agent.close();
      assert.equal(host.saved(), "");
    });

  test("rules that somebody takes out are put back; killed, it stays closed, and the next start cleans up", async () => {
    const agent = await host.agent(options);
    const rules = counted("legacy");
    host.sh("for p in iptables ip6tables; do for t in filter nat mangle; do $p -w -t $t -F; done; done");
    await until(() => counted("legacy") === rules, host.saved);
    assert.deepEqual((await host.client(agent, attempts)).slice(2), [refused, refused]);
    const orphan = await host.held(agent, attempts);
    await agent.kill();
    assert.deepEqual(await orphan(), [refused, refused, refused, refused]);
    await (await host.agent(options)).close();
    assert.equal(host.saved(), "");
  });

  test("what an agent was killed with under the other alternative is taken out", async () => {
    const chain = chainNames(`kbl${process.pid}`).last;
    host.sh(
      `for p in iptables-nft ip6tables-nft; do $p -N ${chain}; $p -A ${chain} -j DROP; $p -I OUTPUT -j ${chain}; done`,
    );
    assert.equal(counted("nft"), 2);
    const agent = await host.agent(options);
    assert.equal(counted("nft"), 0);
    assert.equal((JSON.parse((await host.client(agent, attempts))[0] as string) as Origin).via, "bpf");
    await agent.close();
    assert.equal(host.saved(), "");
  });
});
