/**
 * The Debian package on a clean machine with systemd: installed, killed, stopped, upgraded, cut off, booted, uninstalled.
 * A probe at 1 kHz finds no moment at which something unnamed gets out; before and after it does, so it would be seen.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Machine, machineSkip, makeMachine, world4, world6 } from "../support/machine.ts";
import { until } from "../support/until.ts";
import { type Probe, startProbe, startWorld, type World } from "../support/window-probe.ts";

const root = resolve(import.meta.dirname, "../..");
const both = [world4, world6];
/** Of one in a millisecond: a probe that hardly ran has seen nothing. On a loaded machine it runs less. */
const probedShareMin = 0.1;

const morePolicy = `apiVersion: weir/v1
targets:
  more: { protocol: http, hosts: [192.0.2.1], ports: [8099] }
`;

/** Everything that an installation may touch, with modes, owners, links and digests. */
const treeScript = `cd /; find etc usr var opt root home -xdev \\( -path var/lib/dpkg -o -path var/log -o -path var/cache -o -path var/lib/systemd -o -path var/tmp \\) -prune \
  -o -type f -printf '%m %U:%G %p ' -exec sha256sum {} \\; -o -printf '%y %m %U:%G %p %l\\n' | sed 's/  .*//' | sort`;
const rulesScript = "iptables-save; ip6tables-save";

describe("the package on a machine", { skip: machineSkip() }, () => {
  let machine: Machine;
  let world: World;
  let out: string;
  const deb = (version: string): string => {
    const arch = execFileSync("dpkg", ["--print-architecture"], { encoding: "utf8" }).trim();
    return join(root, `build/package/weir_${version}_${arch}.deb`);
  };
  const state = { tree: "", rules: "" };

  before(async () => {
    out = mkdtempSync(join(tmpdir(), "weir-package-"));
    for (const version of ["0.1.0", "0.1.1"])
      execFileSync(join(root, "scripts/package"), ["--fast", "--version", version], {
        cwd: root,
        stdio: ["ignore", "ignore", "inherit"],
      });
    machine = await makeMachine("install");
    world = await startWorld(machine.world, both);
    await machine.boot();
  });

  after(async () => {
    await world?.stop();
    await machine?.remove();
    rmSync(out, { recursive: true, force: true });
  });

  /** Runs with the probe; fails when one packet of it arrived. */
  async function closedDuring(work: () => Promise<unknown>, atLeastMs = 300): Promise<void> {
    const before = await world.arrived();
    const probe: Probe = await startProbe(machine.pid(), both);
    try {
      await work();
      await sleep(atLeastMs);
    } catch (error) {
      // A probe that goes on would keep the machine busy for every test after it.
      await probe.stop();
      throw error;
    }
    const { tried, ms } = await probe.stop();
    await nothingGotOut(before, tried);
    assert.ok(tried > ms * probedShareMin, `only ${tried} probes in ${ms} ms`);
  }

  /** Of this boot; else with what its units said and when. */
  async function nothingGotOut(before: number, tried: number): Promise<void> {
    const got = (await world.arrived()) - before;
    if (got === 0) return;
    const units = ["weir-firewall", "test-network", "weir"].flatMap((unit) => ["-u", unit]);
    const { stdout } = await machine.run(["journalctl", "--no-pager", "-b", "-o", "short-monotonic", ...units]);
    assert.fail(`of ${tried} probes ${got} got out\n${stdout}`);
  }

  /** The power goes and comes, until the agent is ready; fails when one packet got out on the way. */
  async function closedThroughBoot(): Promise<void> {
    await machine.cut();
    const before = await world.arrived();
    const boot = machine.boot();
    // As soon as there is a process to look into; the device is still down then.
    await until(async () => machine.pid() !== 0);
    const probe = await startProbe(machine.pid(), both);
    try {
      await boot;
      await until(async () => (await machine.run(["systemctl", "is-active", "weir"])).stdout.trim() === "active");
      await governed();
    } catch (cause) {
      // A probe that goes on would keep the machine busy for every test after it.
      await probe.stop();
      const units = await machine.run(["systemctl", "status", "--no-pager", "weir", "weir-firewall"]);
      throw new Error(`the agent did not start after the boot:\n${units.stdout}`, { cause });
    }
    await nothingGotOut(before, (await probe.stop()).tried);
  }

  async function openNow(): Promise<boolean> {
    const before = await world.arrived();
    const probe = await startProbe(machine.pid(), both);
    await sleep(300);
    await probe.stop();
    return (await world.arrived()) > before;
  }

  /** To a port that the default policy's target names: the agent accepts it. */
  async function governed(): Promise<void> {
    const script = `exec 3<>/dev/tcp/${world4}/5432 && echo taken`;
    assert.match((await machine.run(["bash", "-c", script])).stdout, /taken/);
  }

  test("the package adds the command and changes nothing else of the host", async () => {
    machine.copyIn(deb("0.1.0"), "/var/tmp/weir.deb");
    machine.copyIn(deb("0.1.1"), "/var/tmp/weir-next.deb");
    await machine.must("dpkg", "-i", "/var/tmp/weir.deb");
    assert.equal(await openNow(), true, "the probe sees an open host");
    assert.match(await machine.must("weir", "install", "--dry-run"), /would start the agent/);
    state.tree = await machine.must("sh", "-c", treeScript);
    state.rules = rulesIn(await machine.must("sh", "-c", rulesScript));
    assert.doesNotMatch(state.rules, /WEIR/);
    assert.doesNotMatch(state.tree, /etc\/weir/);
  });

  test("weir install: units that systemd finds in order, ready when it returns, host closed, targets governed", async () => {
    const said = await machine.must("weir", "install");
    assert.match(said, /weir is installed/);
    const wrong = await machine.run(["systemd-analyze", "verify", "--man=no", "weir.service", "weir-firewall.service"]);
    assert.equal(wrong.stderr.trim(), "");
    assert.equal(wrong.code, 0);
    assert.equal((await machine.must("systemctl", "is-active", "weir", "weir-firewall")).trim(), "active\nactive");
    assert.match(await machine.must("systemctl", "show", "weir", "-p", "StatusText"), /interception is in force/);
    await closedDuring(governed);
    assert.match(await machine.must("weir", "sessions", "ls"), /postgres/);
  });

  test("a hardened unit: systemd's own measure stays low", async () => {
    for (const [unit, most] of [
      ["weir.service", 4.5],
      ["weir-firewall.service", 3],
    ] as const) {
      const said = await machine.must("systemd-analyze", "security", "--no-pager", unit);
      const level = Number(/exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
      assert.ok(level <= most, `${unit}: ${level}`);
    }
  });

  test("restart, stop and start, and kill -9: no window", async () => {
    await closedDuring(async () => {
      await machine.must("systemctl", "restart", "weir");
      await governed();
    });
    await closedDuring(async () => {
      await machine.must("systemctl", "stop", "weir");
      await sleep(300);
      await machine.must("systemctl", "start", "weir");
      await governed();
    });
    await closedDuring(async () => {
      const pid = (await machine.must("systemctl", "show", "weir", "-p", "MainPID", "--value")).trim();
      await machine.must("kill", "-9", pid);
      await until(async () => {
        const now = (await machine.must("systemctl", "show", "weir", "-p", "MainPID", "--value")).trim();
        const active = (await machine.run(["systemctl", "is-active", "weir"])).stdout.trim();
        return active === "active" && now !== pid;
      });
      await governed();
    });
    assert.match(await machine.must("weir", "export"), /did not end in order/);
  });

  test("a stopped process (SIGSTOP) lets nothing out, and the watchdog replaces it", async () => {
    machine.write("/run/systemd/system/weir.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n");
    await machine.must("systemctl", "daemon-reload");
    await machine.must("systemctl", "restart", "weir");
    await closedDuring(async () => {
      const pid = (await machine.must("systemctl", "show", "weir", "-p", "MainPID", "--value")).trim();
      await machine.must("kill", "-STOP", pid);
      await until(
        async () => (await machine.must("systemctl", "show", "weir", "-p", "NRestarts", "--value")).trim() !== "0",
      );
      await until(async () => (await machine.run(["systemctl", "is-active", "weir"])).stdout.trim() === "active");
      await governed();
    });
    assert.match(await machine.must("journalctl", "-u", "weir", "--no-pager"), /[Ww]atchdog/);
  });

  test("an event loop that is blocked for good lets nothing out, and the watchdog replaces the process", async () => {
    // A pipe that nobody writes to, where the agent reads a file: its one thread waits in open(2) from the next policy on.
    const restarts = async (): Promise<number> =>
      Number((await machine.must("systemctl", "show", "weir", "-p", "NRestarts", "--value")).trim());
    const before = await restarts();
    await machine.must(
      "sh",
      "-ec",
      "touch /etc/resolv.conf; mv /etc/resolv.conf /etc/resolv.kept; mkfifo /etc/resolv.conf",
    );
    await closedDuring(async () => {
      machine.write("/etc/weir/policy/zz-more.yaml", morePolicy);
      await until(async () => (await restarts()) > before);
      // Who has opened it meanwhile, the next agent too, reads an empty file.
      await machine.must(
        "sh",
        "-ec",
        "mv /etc/resolv.conf /run/pipe; mv /etc/resolv.kept /etc/resolv.conf; for n in 1 2 3; do timeout 1 sh -c ': >/run/pipe' || true; done; rm /run/pipe",
      );
      await until(async () => (await machine.run(["systemctl", "is-active", "weir"])).stdout.trim() === "active");
      await governed();
    });
    assert.match(
      await machine.must("journalctl", "-u", "weir", "--no-pager"),
      /[Ww]atchdog timeout[\s\S]*[Ww]atchdog timeout/,
    );
    await machine.must("rm", "/etc/weir/policy/zz-more.yaml");
  });

  test("an upgrade in place: a new agent, the same settings, no window", async () => {
    machine.write("/etc/weir/weir.yaml", `${await machine.must("cat", "/etc/weir/weir.yaml")}# kept\n`);
    await closedDuring(async () => {
      await machine.must("dpkg", "-i", "/var/tmp/weir-next.deb");
      await governed();
    });
    assert.match(await machine.must("cat", "/etc/weir/weir.yaml"), /# kept/);
    assert.match(await machine.must("dpkg", "-s", "weir"), /Version: 0\.1\.1/);
    const policy = await machine.must("weir", "export");
    assert.equal((await machine.run(["weir", "verify"])).code, 0, policy.slice(-500));
  });

  test("the power goes and comes: closed from the first packet of the boot", async () => {
    await closedThroughBoot();
    const order = await machine.must(
      "systemctl",
      "show",
      "test-network",
      "weir-firewall",
      "-p",
      "ActiveEnterTimestampMonotonic",
      "--value",
    );
    const [network, firewall] = order.trim().split(/\s+/).map(Number);
    assert.ok((firewall as number) <= (network as number), "the firewall stood before the network");
  });

  test("what confines the closing cannot be made: closed all the same, from the first packet of the boot", async () => {
    const dropIn = "/etc/systemd/system/weir-firewall.service.d";
    machine.write(`${dropIn}/unmakeable.conf`, "[Service]\nInaccessiblePaths=/none/such\n");
    try {
      await closedThroughBoot();
      assert.match(await machine.must("journalctl", "-b", "-u", "weir-firewall", "--no-pager"), /step NAMESPACE/);
    } finally {
      await machine.must("rm", "-r", dropIn);
    }
  });

  test("a firewall command that hangs, then fails: the boot waits, and no packet gets out", async () => {
    // Before the host's own in the path of every unit: the first call hangs, the next ones fail.
    const broken = `#!/bin/sh
n=$(cat /run/calls 2>/dev/null || echo 0); echo $((n + 1)) >/run/calls
[ "$n" -gt 0 ] || exec sleep 1000
[ "$n" -gt 8 ] || exit 4
exec /usr/sbin/iptables-restore "$@"
`;
    machine.write("/usr/local/sbin/iptables-restore", broken, 0o755);
    try {
      await closedThroughBoot();
      assert.ok(Number(await machine.must("cat", "/run/calls")) > 9, "it failed as often as it should");
      const said = await machine.must("journalctl", "-u", "weir-firewall", "--no-pager");
      assert.match(said, /not closed yet, try 2/);
    } finally {
      await machine.must("rm", "/usr/local/sbin/iptables-restore");
    }
  });

  test("a policy that cannot be used: the agent does not start, and the host stays closed", async () => {
    machine.write("/etc/weir/policy/zz-broken.yaml", "apiVersion: weir/v1\nrules: [ { nonsense: 1 } ]\n");
    await closedDuring(async () => {
      await machine.run(["systemctl", "restart", "weir"]);
      await sleep(500);
    });
    assert.notEqual((await machine.run(["weir", "install"])).code, 0, "an install says so before it changes anything");
    await machine.must("rm", "/etc/weir/policy/zz-broken.yaml");
    await until(async () => (await machine.run(["systemctl", "is-active", "weir"])).stdout.trim() === "active");
    await governed();
  });

  test("weir uninstall keeps what was changed by hand and the record; --purge leaves the host as it was", async () => {
    const said = await machine.must("weir", "uninstall");
    assert.match(said, /\/etc\/weir\/weir\.yaml was changed and stays/);
    assert.equal(rulesIn(await machine.must("sh", "-c", rulesScript)), state.rules);
    assert.equal(await openNow(), true);
    assert.equal((await machine.run(["weir", "verify"])).code, 0, "the record is still whole");
    assert.equal((await machine.run(["weir", "uninstall"])).code, 1, "there is nothing more to take away");

    await machine.must("weir", "install");
    await machine.must("weir", "uninstall", "--purge");
    const tree = (await machine.must("sh", "-c", treeScript)).split("\n").filter(isOfTheHost);
    const former = state.tree.split("\n").filter(isOfTheHost);
    assert.deepEqual(
      { more: tree.filter((line) => !former.includes(line)), less: former.filter((line) => !tree.includes(line)) },
      { more: [], less: [] },
    );
    assert.equal(rulesIn(await machine.must("sh", "-c", rulesScript)), state.rules);
    assert.equal((await machine.run(["sh", "-c", "ls /sys/fs/bpf | grep weir"])).stdout, "");
    // Where there is none, systemctl's exit code is 1.
    const units = await machine.run(["systemctl", "list-unit-files", "weir*", "--no-legend"]);
    assert.equal(units.stdout.trim(), "", units.stderr);
  });

  test("vagrant/runner installs it as the Vagrantfile says; removing the package opens the host again", async () => {
    machine.copyIn(join(root, "vagrant"), "/var/tmp/vagrant");
    await machine.must("sh", "/var/tmp/vagrant/runner", "/var/tmp/weir-next.deb");
    assert.match(await machine.must("weir", "policy", "check", "/etc/weir/policy"), /4 targets/);
    await closedDuring(async () => {}, 1500);
    await machine.must("dpkg", "--purge", "weir");
    assert.equal(await openNow(), true);
    assert.equal(rulesIn(await machine.must("sh", "-c", rulesScript)), state.rules);
    assert.equal(
      (await machine.run(["sh", "-c", "ls -d /usr/lib/weir /etc/weir /var/lib/weir 2>/dev/null"])).stdout,
      "",
    );
  });
});

/** The package was upgraded in between: its own files differ. */
function isOfTheHost(line: string): boolean {
  return !/ usr\/(lib\/weir|share\/(doc|man|lintian|bash-completion|zsh|fish))/.test(line);
}

/** Rules and chains that somebody made: a table that is empty says the same as none. */
function rulesIn(saved: string): string {
  return saved
    .split("\n")
    .filter((line) => line.startsWith("-") || / - \[/.test(line))
    .map((line) => line.replace(/\[\d+:\d+\]/, ""))
    .join("\n");
}
