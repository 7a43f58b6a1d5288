/** Two network namespaces joined by a veth pair: `a` is the host that is governed, `b` is where the servers are. */
import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Namespace {
  readonly name: string;
  readonly address4: string;
  readonly address6: string;
}

export interface NamespacePair {
  readonly a: Namespace;
  readonly b: Namespace;
  remove(): Promise<void>;
}

/** `tag` names the test; the process id keeps runs side by side apart. */
export async function makeNamespacePair(tag: string): Promise<NamespacePair> {
  const id = process.pid % 65_000;
  const subnet = `10.231.${id % 250}`;
  const prefix = `fd00:231:${id.toString(16)}`;
  const name = `weir-${tag}-${process.pid}`;
  const a: Namespace = { name: `${name}-a`, address4: `${subnet}.1`, address6: `${prefix}::1` };
  const b: Namespace = { name: `${name}-b`, address4: `${subnet}.2`, address6: `${prefix}::2` };
  const remove = async (): Promise<void> => {
    for (const space of [a, b]) await run("ip", ["netns", "del", space.name]).catch(() => {});
  };
  try {
    for (const space of [a, b]) ip("netns", "add", space.name);
    ip("-n", a.name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", b.name);
    for (const space of [a, b]) {
      ip("-n", space.name, "link", "set", "lo", "up");
      ip("-n", space.name, "addr", "add", `${space.address4}/24`, "dev", "veth0");
      ip("-n", space.name, "addr", "add", `${space.address6}/64`, "dev", "veth0", "nodad");
      ip("-n", space.name, "link", "set", "veth0", "up");
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return { a, b, remove };
}

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: ["ignore", "ignore", "pipe"] });
}
