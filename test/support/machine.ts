/**
 * A whole machine without a hypervisor: systemd as PID 1 in namespaces of its own, on an overlay of a Debian root that
 * test/e2e/machine/install has made. Its network is a veth to a namespace that stands for the world.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cgroupRoot } from "../../agent/kernel/cgroup.ts";
import { collect, type Ran } from "./agent.ts";

export const debianRoot = resolve(import.meta.dirname, "../../build/debian-root");
export const world4 = "10.232.0.2";
export const world6 = "fd00:232::2";
export const machine4 = "10.232.0.1";
const bootSecondsMax = 240;

/** Why such a machine cannot run here; false when it can. */
export function machineSkip(): string | false {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync(join(debianRoot, ".complete"))) return "build/debian-root is not there: test/e2e/machine/install";
  if (cgroupRoot() === null) return "no cgroup2 is mounted";
  return false;
}

export interface Machine {
  /** Network namespace of the world; the machine's own is new at each boot. */
  readonly world: string;
  /** Of the machine, by number: other processes may look into it. */
  pid(): number;
  run(words: readonly string[], input?: string): Promise<Ran>;
  /** Fails with the outputs when the exit code is not 0. */
  must(...words: readonly string[]): Promise<string>;
  write(path: string, text: string, mode?: number): void;
  copyIn(from: string, to: string): void;
  /** Starts systemd. The network device comes with it, down; a unit of the machine brings it up as a real one would. */
  boot(): Promise<void>;
  /** Pulls the plug: every process ends at once, its network with it. */
  cut(): Promise<void>;
  remove(): Promise<void>;
}

/** Runs after the firewall of an installed Weir, as every network manager does. */
const networkUnit = `[Unit]
DefaultDependencies=no
After=network-pre.target systemd-remount-fs.service
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link set eth0 up
ExecStart=/sbin/ip addr add ${machine4}/24 dev eth0
ExecStart=/sbin/ip -6 addr add fd00:232::1/64 dev eth0 nodad
[Install]
WantedBy=multi-user.target
`;

export async function makeMachine(tag: string): Promise<Machine> {
  const name = `weir-${tag}-${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), "weir-machine-"));
  const world = `${name}-w`;
  const cgroup = join(cgroupRoot() as string, name);
  for (const part of ["upper", "work", "root"]) mkdirSync(join(dir, part));
  sh(`ip netns add ${world}; ip -n ${world} link set lo up`);
  let outer: ChildProcess | null = null;
  let init = 0;

  const write = (path: string, text: string, mode = 0o644): void => {
    // Before a boot into the overlay's own layer, later into what the machine sees.
    const at = init === 0 ? join(dir, "upper", path) : `/proc/${init}/root${path}`;
    mkdirSync(dirname(at), { recursive: true });
    writeFileSync(at, text, { mode });
  };
  write("/etc/systemd/system/test-network.service", networkUnit);
  write("/etc/hostname", "weir-machine\n");
  write("/etc/hosts", "127.0.0.1 localhost weir-machine\n::1 localhost\n");
  // Nobody answers there.
  write("/etc/resolv.conf", `nameserver ${world4}\n`);

  async function boot(): Promise<void> {
    sh(`ip netns add ${name}; ip -n ${name} link set lo up
      ip -n ${world} link add eth0 type veth peer name eth0 netns ${name}
      ip -n ${world} addr add ${world4}/24 dev eth0; ip -n ${world} -6 addr add ${world6}/64 dev eth0 nodad
      ip -n ${world} link set eth0 up; mkdir -p ${cgroup}
      mkdir -p ${dir}/upper/etc/systemd/system/multi-user.target.wants
      ln -sf /etc/systemd/system/test-network.service ${dir}/upper/etc/systemd/system/multi-user.target.wants/`);
    outer = spawn(
      "sh",
      [
        "-c",
        'echo $$ >"$1/cgroup.procs" && exec nsenter --net="/run/netns/$2" unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private "$3" "$4" "$5"',
        "sh",
        cgroup,
        name,
        join(import.meta.dirname, "machine-boot"),
        debianRoot,
        dir,
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    for (let at = 0; at < bootSecondsMax * 20; at += 1) {
      init = childOf(outer.pid as number) ?? 0;
      if (init !== 0 && (await run(["systemctl", "is-active", "multi-user.target"])).code === 0) return;
      await sleep(50);
    }
    throw new Error(`the machine did not boot: ${(await run(["systemctl", "list-jobs"])).stdout}`);
  }

  function run(words: readonly string[], input?: string): Promise<Ran> {
    const inside = ["-t", String(init), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w"];
    const env = [
      "env",
      "-i",
      "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME=/root",
      "LC_ALL=C.UTF-8",
      "DEBIAN_FRONTEND=noninteractive",
    ];
    return collect(spawn("nsenter", [...inside, ...env, ...words]), input);
  }

  async function cut(): Promise<void> {
    const ended =
      outer === null || outer.exitCode !== null || outer.signalCode !== null
        ? null
        : new Promise((done) => outer?.once("exit", done));
    if (init !== 0) killHard(init);
    await ended;
    outer = null;
    init = 0;
    sh(`ip netns del ${name} 2>/dev/null || true; ip -n ${world} link del eth0 2>/dev/null || true`);
  }

  return {
    world,
    pid: () => init,
    run,
    async must(...words) {
      const ran = await run(words);
      if (ran.code !== 0) throw new Error(`${words.join(" ")}: exit ${ran.code}\n${ran.stdout}${ran.stderr}`);
      return ran.stdout;
    },
    write,
    copyIn: (from, to) => {
      const at = init === 0 ? join(dir, "upper", to) : `/proc/${init}/root${to}`;
      execFileSync("cp", ["-R", from, at]);
    },
    boot,
    cut,
    async remove() {
      await cut();
      sh(`ip netns del ${world} 2>/dev/null || true
        for n in 1 2 3 4 5; do find ${cgroup} -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done; true`);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function childOf(pid: number): number | null {
  try {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    if (child === undefined || child === "") return null;
    return readFileSync(`/proc/${child}/comm`, "utf8").startsWith("systemd") ? Number(child) : null;
  } catch {
    return null;
  }
}

function killHard(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone already
  }
}

function sh(script: string): void {
  execFileSync("sh", ["-ec", script], { stdio: ["ignore", "ignore", "pipe"] });
}
