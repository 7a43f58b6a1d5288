/** The host's resolvers, and the agent's own look-ups of the names in the policy. */
import { lookup } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { parseAddress } from "../core/address.ts";
import { canonicalAddress } from "./address.ts";

const resolversMax = 16;
/** systemd-resolved listens on loopback and asks the servers of the second file. */
const files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

export function configuredResolvers(read: (path: string) => string = readText): readonly string[] {
  const found = new Set<string>();
  for (const path of files) {
    for (const match of read(path).matchAll(/^\s*nameserver\s+(\S+)/gm)) {
      const address = match[1]!.replace(/%.*$/, "");
      if (parseAddress(address) !== null) found.add(canonicalAddress(address));
    }
  }
  return [...found].slice(0, resolversMax);
}

/** Addresses as the host's programs would get them (/etc/hosts included); a name that does not resolve has none. */
export async function resolveNames(
  names: readonly string[],
): Promise<readonly { readonly name: string; readonly address: string }[]> {
  const all = await Promise.all(
    names.map(async (name) => {
      try {
        const addresses = await lookup(name, { all: true });
        return addresses.map(({ address }) => ({ name, address: canonicalAddress(address) }));
      } catch {
        return [];
      }
    }),
  );
  return all.flat();
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
