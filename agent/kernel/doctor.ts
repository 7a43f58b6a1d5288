/** What this kernel and host can do: each probe says what it found and, where something is missing, the next step. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { release } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { cgroupRoot } from "./cgroup.ts";
import { addon } from "./native/addon.ts";
import { loadBpf, openQueue, socketMarked } from "./native.ts";

const run = promisify(execFile);
const probeMsMax = 5000;
/** Not among the numbers that agents use. */
const probeQueue = 5699;

export interface Probe {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  /** Empty when nothing is to be done. */
  readonly nextStep: string;
}

type Check = { name: string; nextStep: string; check: () => string | Promise<string> };

/** A check answers with what it found, or throws why it cannot be. */
const checks: readonly Check[] = [
  { name: "root", nextStep: "Run it with sudo.", check: root },
  { name: "Node.js", nextStep: "Run scripts/setup; it brings Node 24 through npm.", check: nodeVersion },
  { name: "native addon", nextStep: "Run scripts/build-native (needs gcc).", check: nativeAddon },
  {
    name: "kernel",
    nextStep: "Linux 5.15 or newer is needed for cgroup BPF; the firewall alone works from 4.18.",
    check: kernel,
  },
  { name: "cgroup2", nextStep: "mount -t cgroup2 none /sys/fs/cgroup/unified", check: cgroup2 },
  {
    name: "cgroup made and removed",
    nextStep: "Run it outside of a container, or with a writable cgroup2.",
    check: cgroupMade,
  },
  {
    name: "BPF loaded and attached",
    nextStep: "The firewall redirects without it; needs CONFIG_CGROUP_BPF and no lockdown.",
    check: bpfAttached,
  },
  { name: "bpffs", nextStep: "mount -t bpf bpf /sys/fs/bpf (the agent does it too)", check: bpfFs },
  {
    name: "BTF",
    nextStep: "Without CONFIG_DEBUG_INFO_BTF the parent and start of a process come from /proc.",
    check: btf,
  },
  { name: "NFQUEUE", nextStep: "modprobe nfnetlink_queue (CONFIG_NETFILTER_NETLINK_QUEUE)", check: queue },
  { name: "marked sockets", nextStep: "CAP_NET_ADMIN is needed.", check: marked },
  { name: "iptables", nextStep: "apt-get install iptables", check: () => version("iptables") },
  { name: "ip6tables", nextStep: "apt-get install iptables", check: () => version("ip6tables") },
  {
    name: "iptables rules",
    nextStep:
      "modprobe xt_NFQUEUE xt_REDIRECT xt_REJECT xt_cgroup xt_mark xt_conntrack xt_connmark xt_addrtype xt_multiport",
    check: () => rules("iptables"),
  },
  { name: "ip6tables rules", nextStep: "As for iptables, with ip6table_nat.", check: () => rules("ip6tables") },
  {
    name: "connections ended",
    nextStep:
      "Connections older than the rules go on: needs CONFIG_INET_DIAG_DESTROY, modprobe tcp_diag udp_diag, apt-get install iproute2.",
    check: ended,
  },
  { name: "SQL parser", nextStep: "Run npm ci.", check: parser },
];

export async function probe(): Promise<Probe[]> {
  const results: Probe[] = [];
  for (const { name, nextStep, check } of checks) {
    try {
      results.push({ name, ok: true, detail: await check(), nextStep: "" });
    } catch (error) {
      const detail = (error instanceof Error ? error.message : String(error)).split("\n").slice(0, 2).join(" ");
      results.push({ name, ok: false, detail, nextStep });
    }
  }
  return results;
}

function root(): string {
  if (process.getuid?.() !== 0) throw new Error(`this is uid ${process.getuid?.()}`);
  return "yes";
}

function nodeVersion(): string {
  if (Number(process.versions.node.split(".")[0]) < 24) throw new Error(`${process.version} is too old`);
  return process.version;
}

function nativeAddon(): string {
  addon();
  return "loads";
}

function kernel(): string {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  if (major < 5 || (major === 5 && minor < 15)) throw new Error(`${release()} is older than 5.15`);
  return release();
}

function cgroup2(): string {
  const path = cgroupRoot();
  if (path === null) throw new Error("not mounted");
  return path;
}

function withCgroup<Result>(use: (directory: string) => Result): Result {
  const directory = join(cgroup2(), `weir-doctor-${process.pid}`);
  mkdirSync(directory);
  try {
    return use(directory);
  } finally {
    rmdirSync(directory);
  }
}

function cgroupMade(): string {
  return withCgroup(() => "yes");
}

function bpfAttached(): string {
  const bpf = loadBpf();
  try {
    return withCgroup((directory) => {
      bpf.attach(directory);
      // Detached here: a cgroup that is removed with programs on it lingers.
      bpf.close();
      return bpf.noWall === null ? "connect4, connect6, sockops, egress" : `connect4, connect6, sockops; ${bpf.noWall}`;
    });
  } finally {
    bpf.close();
  }
}

function bpfFs(): string {
  const mount = /^\S+ (\S+) bpf /m.exec(readFileSync("/proc/self/mounts", "utf8"));
  if (mount !== null) return mount[1]!;
  if (!readFileSync("/proc/filesystems", "utf8").includes("\tbpf\n")) throw new Error("the kernel has none");
  return "not mounted; the agent mounts it when it starts";
}

function btf(): string {
  if (!existsSync("/sys/kernel/btf/vmlinux")) throw new Error("no /sys/kernel/btf/vmlinux");
  return "/sys/kernel/btf/vmlinux";
}

function queue(): string {
  openQueue({ queue: probeQueue, copyBytesMax: 128, queueLengthMax: 16 }, () => {}).close();
  return "a queue can be opened";
}

function marked(): string {
  addon().closeFd(socketMarked(4, 1));
  return "SO_MARK can be set";
}

/** One of our own, on loopback. */
async function ended(): Promise<string> {
  const server = createServer((socket) => void socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = connect(port, "127.0.0.1");
  try {
    await once(client, "connect");
    const cut = once(client, "error", { signal: AbortSignal.timeout(probeMsMax) });
    await Promise.all([run("ss", ["-K", "-H", "--tcp", "dst", "127.0.0.1", "dport", "=", `:${port}`]), cut]);
    return "SOCK_DESTROY";
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw new Error("the kernel closes no socket for ss -K");
    throw error;
  } finally {
    client.destroy();
    server.close();
  }
}

async function version(program: string): Promise<string> {
  const text = (await run(program, ["--version"], { timeout: probeMsMax })).stdout.trim();
  // It tells nothing of changes; `update-alternatives --set iptables /usr/sbin/iptables-nft` is the quicker one.
  return text.includes("nf_tables")
    ? text
    : `${text}; rules that somebody removes are put back within 5 s, not at once`;
}

/** Only tested, never set: `--test` builds the rule set and throws it away. */
async function rules(program: string): Promise<string> {
  const prohibited = program === "iptables" ? "icmp-admin-prohibited" : "icmp6-adm-prohibited";
  const text = [
    "*mangle",
    ":WEIR-doctor - [0:0]",
    "-A WEIR-doctor -m cgroup --path / -m conntrack --ctstate ESTABLISHED -j RETURN",
    "-A WEIR-doctor -m addrtype ! --src-type LOCAL -m connmark --mark 0x1 -j CONNMARK --save-mark",
    "-A WEIR-doctor -p tcp -m multiport --dports 1,2 -j NFQUEUE --queue-num 1 --queue-bypass",
    "COMMIT",
    "*nat",
    ":WEIR-doctor - [0:0]",
    "-A WEIR-doctor -p tcp -m mark --mark 0x1 -j REDIRECT --to-ports 1",
    "COMMIT",
    "*filter",
    ":WEIR-doctor - [0:0]",
    "-A WEIR-doctor -p tcp -j REJECT --reject-with tcp-reset",
    `-A WEIR-doctor -j REJECT --reject-with ${prohibited}`,
    "COMMIT",
    "",
  ].join("\n");
  const test = run(`${program}-restore`, ["--noflush", "--test"], { timeout: probeMsMax });
  test.child.stdin?.end(text);
  await test;
  return "NFQUEUE, REDIRECT, REJECT, cgroup, conntrack, connmark, addrtype, mark, multiport";
}

async function parser(): Promise<string> {
  const { parse } = await import("libpg-query");
  await parse("select 1");
  return "libpg-query";
}
