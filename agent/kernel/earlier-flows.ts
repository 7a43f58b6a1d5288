/**
 * Ends the connections of a whole host that were open before the rules stood: nobody has judged them. Those that came in
 * (ssh) go on. By iproute2's `ss -K`, which asks the kernel to close a socket (SOCK_DESTROY).
 */
import { execFile } from "node:child_process";
import { canonicalAddress, isLoopback } from "./address.ts";

const answerMsMax = 5_000;
const outputBytesMax = 16 * 1024 * 1024;
/** Named in the record; the rest is counted. */
const toldMax = 20;

interface Connection {
  readonly transport: string;
  readonly local: string;
  readonly localPort: string;
  readonly remote: string;
  readonly remotePort: string;
}

/** What was ended, in words; empty when nothing was open. */
export async function endEarlierFlows(): Promise<string> {
  const listening = new Set((await sockets(["-Htln"])).map(({ localPort }) => localPort));
  const open = [
    ...(await sockets(["-Htn", "state", "connected"])),
    ...(await sockets(["-Hun", "state", "established"])),
  ].filter(
    ({ transport, localPort, remote }) =>
      !isLoopback(canonicalAddress(remote)) && !(transport === "tcp" && listening.has(localPort)),
  );
  for (const { transport, local, localPort, remote, remotePort } of open) {
    const kind = transport === "tcp" ? "-t" : "-u";
    await ss(["-K", "-H", kind, "src", `[${local}]:${localPort}`, "dst", `[${remote}]:${remotePort}`]);
  }
  const told = open
    .slice(0, toldMax)
    .map(({ transport, remote, remotePort }) => `${transport} ${remote}:${remotePort}`);
  if (open.length > toldMax) told.push(`${open.length - toldMax} more`);
  return told.join(", ");
}

async function sockets(words: readonly string[]): Promise<Connection[]> {
  const transport = words[0]?.includes("u") === true ? "udp" : "tcp";
  const found: Connection[] = [];
  for (const line of (await ss(words)).split("\n")) {
    // The state is a column of its own only where several are asked for.
    const ends = line
      .trim()
      .split(/\s+/)
      .filter((word) => /:(\d+|\*)$/.test(word));
    const local = endpoint(ends[0]);
    const remote = endpoint(ends[1]);
    if (local === null || remote === null) continue;
    found.push({ transport, local: local[0], localPort: local[1], remote: remote[0], remotePort: remote[1] });
  }
  return found;
}

/** `[::1]:22`, `10.0.0.1:22`, `fe80::1%eth0:22`. */
function endpoint(text: string | undefined): readonly [string, string] | null {
  const at = text?.lastIndexOf(":") ?? -1;
  if (text === undefined || at < 0) return null;
  return [text.slice(0, at).replace(/^\[|\]$/g, ""), text.slice(at + 1)];
}

function ss(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile("ss", [...words], { timeout: answerMsMax, maxBuffer: outputBytesMax }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
}
