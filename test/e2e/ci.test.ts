/**
 * The GitHub action on a runner: its steps are run as a runner runs them, by a user with sudo, on a clean machine. What a
 * job makes of the network there (Docker's bridges, sudo) is governed, and what else (namespaces) refused. Docker itself does not run
 * here: its bridge, namespace, veth and rules are made by hand, as it makes them.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Machine, machineSkip, makeMachine, world4, world6 } from "../support/machine.ts";
import { shopPolicy, shopRequest, startShop } from "../support/shop.ts";
import { runAction, runStep, type StepFacts } from "../support/steps.ts";
import { probedPort, startWorld, type World } from "../support/window-probe.ts";

const root = resolve(import.meta.dirname, "../..");
const files = "/home/runner";
const policy = shopPolicy(world4, "This job only reads.");
const request = (method: string): string => shopRequest(world4, method);
const reach = (port: number): string =>
  `timeout 3 bash -c 'exec 3<>/dev/tcp/${world4}/${port}' && echo REACHED || echo refused`;

describe("a job with the GitHub action", { skip: machineSkip() }, () => {
  let machine: Machine;
  let world: World;
  let shop: ChildProcess;
  const facts: StepFacts = { inputs: {}, actionPath: "", files, user: "runner" };
  const action = (path: string, inputs: Record<string, string>) =>
    runAction(join(root, "packaging/github-action", path, "action.yml"), machine, {
      ...facts,
      inputs,
      actionPath: join("/srv/weir/packaging/github-action", path),
    });
  const step = (script: string) => runStep(machine, facts, script);

  before(async () => {
    execFileSync(join(root, "scripts/package"), ["--fast"], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
    const arch = execFileSync("dpkg", ["--print-architecture"], { encoding: "utf8" }).trim();
    machine = await makeMachine("ci");
    world = await startWorld(machine.world, [world4, world6]);
    await machine.boot();
    shop = await startShop(machine.world, world4);
    await machine.must(
      "sh",
      "-c",
      `useradd -m runner && echo 'runner ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/runner && mkdir -p /srv/weir && touch ${files}/env ${files}/output ${files}/summary && chown runner: ${files}/*`,
    );
    machine.copyIn(join(root, "packaging"), "/srv/weir/packaging");
    machine.copyIn(join(root, `build/package/weir_0.1.0_${arch}.deb`), "/srv/weir/weir.deb");
    machine.write("/srv/weir/policy.yaml", policy);
  });

  after(async () => {
    shop?.kill("SIGKILL");
    await world?.stop();
    await machine?.remove();
  });

  test("before: the job reaches what it likes", async () => {
    assert.match((await step(reach(probedPort))).stdout, /REACHED/);
    assert.match((await step(request("POST"))).stdout, /sold/);
  });

  test("the start step installs the package, and ends with the agent in force", async () => {
    const ran = await action(".", { package: "/srv/weir/weir.deb", policy: "/srv/weir/policy.yaml" });
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(await machine.must("cat", `${files}/output`), /ready=weir ready scope=host/);
    assert.match(await machine.must("cat", `${files}/env`), /NODE_EXTRA_CA_CERTS=/);
  });

  test("the job's own scripts, unchanged: a target is governed, the rest refused, with sudo too", async () => {
    assert.match((await step(request("GET"))).stdout, /200 OK[\s\S]*stock/);
    const denied = (await step(request("POST"))).stdout;
    assert.match(denied, /403/);
    assert.match(denied, /This job only reads/);
    for (const sudo of ["", "sudo "]) {
      assert.match((await step(`${sudo}${reach(probedPort)}`)).stdout, /refused/, sudo);
      assert.match((await step(`${sudo}bash -c ${quoted(request("POST"))}`)).stdout, /403/, sudo);
    }
    assert.match((await step(`sudo unshare -n ${reach(probedPort)}`)).stdout, /refused/);
  });

  for (const bridge of ["docker0", "br-3f1c"])
    test(`a container on ${bridge === "docker0" ? "Docker's own bridge" : "a bridge of the job's own"} is governed like the host`, async () => {
      const inside = (script: string) => step(`sudo ip netns exec c-${bridge} bash -c ${quoted(script)}`);
      await machine.must("sh", "-ec", dockerNetwork(bridge));
      const before = await world.arrived();
      assert.match((await inside(request("GET"))).stdout, /200 OK[\s\S]*stock/);
      assert.match((await inside(request("POST"))).stdout, /403[\s\S]*This job only reads/);
      assert.match((await inside(reach(probedPort))).stdout, /refused/);
      assert.equal(await world.arrived(), before);
      assert.match(await machine.must("weir", "export"), new RegExp(`${world4}:${probedPort}/tcp`));
    });

  test("a container with the host's network is governed like the host", async () => {
    // --network host: other namespaces, the same network, and Docker's capabilities.
    const words = `sudo unshare --mount --pid --uts --ipc --fork capsh --drop=cap_net_admin,cap_sys_admin,cap_bpf,cap_sys_ptrace -- -c`;
    assert.match((await step(`${words} ${quoted(reach(probedPort))}`)).stdout, /refused/);
    assert.match((await step(`${words} ${quoted(request("POST"))}`)).stdout, /403/);
  });

  test("the finish step writes the summary, ends the agent, and fails the job when it is asked to", async () => {
    const ran = await action("finish", { "fail-on-deny": "true" });
    assert.equal(ran.code, 1);
    const summary = await machine.must("cat", `${files}/summary`);
    assert.match(summary, /## Weir/);
    assert.match(summary, /\| shop \| \d+ \| \d+ \|/);
    assert.match(summary, /no-writes: This job only reads\./);
    assert.match(summary, new RegExp(`${world4}:${probedPort}/tcp`));
    assert.match(summary, /The record: .*(ok|whole|good|verified)/i);
    const log = await machine.must("cat", "/run/weir-ci.log");
    assert.doesNotMatch(await machine.must("sh", "-c", "iptables-save; ip6tables-save"), /WEIR/, ran.stderr + log);
    assert.match((await step(reach(probedPort))).stdout, /REACHED/, `the host is as it was: ${log}`);
    assert.equal((await machine.run(["sh", "-c", "ls /usr/local/share/ca-certificates | grep weir"])).stdout, "");
    assert.equal((await action("finish", {})).code, 0, "a second time is no error");
  });

  test("a job without root is told so, and nothing is left", async () => {
    await machine.must("rm", "/etc/sudoers.d/runner");
    const ran = await action(".", { policy: "/srv/weir/policy.yaml" });
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /no root and no sudo/);
  });
});

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** What dockerd makes of `docker network create` and a container: bridge, veth, masquerading, and its FORWARD rules. */
function dockerNetwork(bridge: string): string {
  const net = bridge === "docker0" ? "172.17.0" : "172.18.9";
  return `ip link add ${bridge} type bridge; ip addr add ${net}.1/16 dev ${bridge}; ip link set ${bridge} up
ip netns add c-${bridge}; ip link add v-${bridge} type veth peer name eth0 netns c-${bridge}
ip link set v-${bridge} master ${bridge} up
ip -n c-${bridge} addr add ${net}.2/16 dev eth0; ip -n c-${bridge} link set eth0 up; ip -n c-${bridge} link set lo up
ip -n c-${bridge} route add default via ${net}.1
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables -t nat -A POSTROUTING -s ${net}.0/16 ! -o ${bridge} -j MASQUERADE
iptables -N DOCKER-USER 2>/dev/null || true
iptables -D FORWARD -j DOCKER-USER 2>/dev/null || true
iptables -A FORWARD -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -i ${bridge} ! -o ${bridge} -j ACCEPT
iptables -I FORWARD 1 -j DOCKER-USER`;
}
