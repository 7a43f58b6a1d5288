/**
 * Flows of containers: a bridge, a namespace and a veth as Docker makes them, on a governed host. No Docker engine runs here.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import type { Origin } from "../../../agent/kernel/interception.ts";
import { bridgesIn, gatewayLinks } from "../../../agent/kernel/local-bridges.ts";
import { until } from "../../support/until.ts";
import {
  type Container,
  makeHost,
  type NetnsAgent,
  type NetnsHost,
  peer4,
  peer6,
  peerServers,
  target,
} from "./netns-host.ts";

const options = {
  scope: { kind: "host" },
  targets: [target([{ kind: "any" }], [5432]), target([{ kind: "suffix", suffix: ".example.com" }], [8080])],
  egress: "deny",
  onFailure: "closed",
  resolvers: [peer4],
};
const postgres = [peer4, peer6].map((to) => ({ to, port: 5432 }));
const others = [peer4, peer6].map((to) => ({ to, port: 8080 }));
/** A question for db.example.com, type A. */
const question = "000101000001000000000000026462076578616d706c6503636f6d0000010001";

describe("containers", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let host: NetnsHost;
  let agent: NetnsAgent;
  let box: Container;

  before(async () => {
    host = makeHost("c");
    await once(host.inPeer(peerServers).stdout, "data");
    box = host.container("docker0", "172.17.0", "fd17::");
    assert.deepEqual(await box.client([...postgres, ...others]), ["real", "real", "real", "real"], "the canary");
    agent = await host.agent(options);
  });
  after(() => host.remove());

  function acceptFirst(how: "-I" | "-D"): void {
    for (const program of ["iptables", "ip6tables"])
      for (const chain of ["FORWARD", "OUTPUT"]) host.sh(`${program} -w ${how} ${chain} -j ACCEPT`);
  }

  test("a flow to a target is taken, and its process known; the rest is refused and told", async () => {
    const results = await box.client([...postgres, ...others]);
    for (const [at, address] of [peer4, peer6].entries()) {
      const origin = JSON.parse(results[at]!) as Origin;
      assert.deepEqual(origin.destination, { address, port: 5432 });
      assert.equal(origin.process?.exe, process.execPath);
      assert.match(origin.process?.commandLine.join(" ") ?? "", /net\.connect/);
    }
    assert.deepEqual(results.slice(2), ["ECONNREFUSED", "ECONNREFUSED"]);
    const refused = agent.events.flatMap((event) => ("refused" in event ? [event.refused] : [])) as {
      destination: { port: number };
      process: { exe: string } | null;
    }[];
    assert.deepEqual(
      refused.map(({ destination, process }) => [destination.port, process?.exe]),
      [
        [8080, process.execPath],
        [8080, process.execPath],
      ],
    );
  });

  test("a name asked of the host's resolver is known, and its target governed", async () => {
    const [answer, taken] = await box.client([{ to: peer4, port: 53, udp: true, ask: question }, others[0]!]);
    assert.match(answer!, /0a4d0002$/);
    assert.equal((JSON.parse(taken!) as Origin).hostname, "db.example.com");
  });

  test("what stays on the host's own networks is not egress: a job reaches its containers, and they each other", async () => {
    const other = host.container("br-0a1b", "172.18.9", "fd18::");
    const stop = await box.serve(9000);
    const inside = [{ to: "172.17.0.2", port: 9000 }];
    assert.deepEqual(await host.client(null, inside), ["hello"]);
    assert.deepEqual(await host.client(null, [{ to: "fd17::2", port: 9000 }]), ["hello"]);
    // Docker keeps its networks apart by a rule of its own; without that rule the answer comes.
    assert.deepEqual(await other.client(inside), ["hello"]);
    stop();
    other.remove();
  });

  test("nobody reaches the listener for bridges but by the redirection", async () => {
    const [port] = /:(\d+)\s/.exec(host.sh("ss -Htln src 0.0.0.0")) ?? [];
    const at = Number(port?.slice(1));
    assert.ok(at > 0);
    assert.deepEqual(await box.client([{ to: "172.17.0.1", port: at }]), ["ECONNREFUSED"]);
    assert.deepEqual(await host.client(null, [{ to: "127.0.0.1", port: at }]), ["ECONNREFUSED"]);
    assert.deepEqual(await host.fromPeer([{ to: "10.77.0.1", port: at }]), ["ECONNREFUSED"]);
  });

  test("a stranger's flow through this host is not taken, for it would get the policy's credentials", async () => {
    host.sh("ip addr add 10.78.0.1/24 dev e0");
    const said = host.fromPeer([{ to: "172.17.0.2", port: 5432 }], "ip route replace 172.17.0.0/24 via 10.77.0.1");
    assert.deepEqual(await said, ["ECONNREFUSED"]);
    const refused = agent.events.flatMap((event) => ("refused" in event ? [event.refused] : [])) as {
      reason: string;
    }[];
    assert.match(refused.at(-1)?.reason ?? "", /from this host's own networks only/);
  });

  test("a container that sends as the resolver teaches no name", async () => {
    const name = { do: "hostname", address: "10.77.0.99" };
    // The question and its answer, 10.77.0.99, as the resolver would give it to the host's own question.
    const answer = `${question.replace(/^(....)0100(....)0000/, "$18180$20001")}c00c00010001000000050004${"0a4d0063"}`;
    host.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.docker0.rp_filter=0");
    const stop = await host.asker(peer4, 40_053);
    box.sendAs(peer4, 53, "10.77.0.1", 40_053, answer);
    assert.equal(await agent.ask(name), null);
    host.peerSends(peer4, 53, "10.77.0.1", 40_053, answer);
    assert.equal(await agent.ask(name), "db.example.com", "the canary: the resolver itself does");
    stop();
  });

  test("an ACCEPT of others before our rules opens nothing at any moment", async () => {
    const attempts = Array.from({ length: 5 }, () => others.map((one) => ({ ...one, waitMs: 200 }))).flat();
    const seen = agent.events.length;
    const work = async (): Promise<void> => {
      const trying = Promise.all([box.client(attempts), host.client(null, attempts)]);
      for (let at = 0; at < 5; at += 1) acceptFirst("-I");
      await trying;
    };
    assert.equal(await host.leaked(work), 0);
    // Something was tried.
    await until(() => agent.events.slice(seen).some((event) => "refused" in event));
    for (let at = 0; at < 5; at += 1) acceptFirst("-D");
  });

  test("the agent is gone: refused at once, and taken again by the next", async () => {
    await agent.kill();
    const gone = ["ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"];
    assert.deepEqual(await box.client([...postgres, ...others]), gone);
    acceptFirst("-I");
    const few = others.map((one) => ({ ...one, waitMs: 200 }));
    const all = () => Promise.all([box.client(few), host.client(null, few)]);
    assert.equal(await host.leaked(all), 0);
    for (const program of ["iptables", "ip6tables"]) host.sh(`${program} -t mangle -F POSTROUTING`);
    // The canary: so much that table alone has held back.
    await until(async () => (await host.leaked(all)) >= 4);
    acceptFirst("-D");
    agent = await host.agent(options);
    assert.equal((JSON.parse((await box.client([postgres[0]!]))[0]!) as Origin).destination.address, peer4);
    await agent.close();
    assert.equal(host.saved(), "");
    assert.deepEqual(await box.client([...postgres, ...others]), ["real", "real", "real", "real"]);
  });
});

test("a bridge with a device, a tunnel, another bridge or a gateway behind it is none of this host's own", () => {
  const listed = `1 0 lo -
2 0 eth0 -
3 0 docker0 bridge
4 3 veth1 veth
5 0 br0 bridge
6 5 eth1 -
7 0 br1 bridge
8 7 vx0 vxlan
9 0 br2 bridge
10 7 br3 bridge
11 0 br4 bridge
`;
  assert.deepEqual([...bridgesIn(listed, new Set(["br4"]))], [3, 9]);
  assert.deepEqual([...bridgesIn("", new Set())], []);
});

test("links with a gateway behind them, of both families", () => {
  const four = `Iface\tDestination\tGateway \tFlags
eth0\t00000000\t0100007F\t0003
docker0\t000011AC\t00000000\t0001
`;
  const zero = "0".repeat(32);
  const six = `${zero} 00 ${zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003     eth1
${zero} 40 ${zero} 00 ${zero} 00000100 1 0 00000001     docker0
`;
  assert.deepEqual([...gatewayLinks(four, six)], ["eth0", "eth1"]);
});
