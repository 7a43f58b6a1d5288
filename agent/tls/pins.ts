/** Certificates seen at first use (`tls.verify: first-use`), kept over restarts. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../errors.ts";

/** Servers that are remembered; beyond it a new one is refused, never an old one forgotten. */
const pinsMax = 100_000;

export interface Pins {
  /** True when the server was once seen with TLS. */
  has(server: string): boolean;
  /** Throws when a first sight cannot be written down. Null when this is the first sight (and is remembered now), or the fingerprint that was seen first. */
  check(server: string, fingerprint: string): { readonly changedFrom: string } | null;
}

export async function openPins(stateDir: string): Promise<Pins> {
  const path = join(stateDir, "pins.json");
  const pins = new Map<string, string>();
  for (const [server, fingerprint] of Object.entries(readPins(path))) pins.set(server, fingerprint);
  return {
    has: (server) => pins.has(server),
    check(server, fingerprint) {
      const known = pins.get(server);
      if (known !== undefined) return known === fingerprint ? null : { changedFrom: known };
      if (pins.size >= pinsMax) return { changedFrom: `nothing: the limit of ${pinsMax} pins is reached` };
      const next = JSON.stringify(Object.fromEntries([...pins, [server, fingerprint]]), null, 1);
      writeFileSync(`${path}.new`, next, { mode: 0o600 });
      renameSync(`${path}.new`, path);
      pins.set(server, fingerprint);
      return null;
    },
  };
}

/** A damaged file is an error: to begin with none would take any certificate for the first. */
function readPins(path: string): Record<string, string> {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return {};
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError(
      "WEIR_CONFIG_INVALID",
      `${path} cannot be read: ${reason}. Restore it, or move it away to see every server anew.`,
      { cause },
    );
  }
}
