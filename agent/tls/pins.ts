/** Certificates seen at first use (`tls.verify: first-use`), kept over restarts. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Servers that are remembered; beyond it a new one is refused, never an old one forgotten. */
const pinsMax = 100_000;

export interface Pins {
  /** Null when this is the first sight (and is remembered now), or the fingerprint that was seen first. */
  check(server: string, fingerprint: string): { readonly changedFrom: string } | null;
}

export async function openPins(stateDir: string): Promise<Pins> {
  const path = join(stateDir, "pins.json");
  const pins = new Map<string, string>();
  let text = "{}";
  try {
    text = readFileSync(path, "utf8");
  } catch {
    // first start
  }
  for (const [server, fingerprint] of Object.entries(JSON.parse(text) as Record<string, string>))
    pins.set(server, fingerprint);
  return {
    check(server, fingerprint) {
      const known = pins.get(server);
      if (known !== undefined) return known === fingerprint ? null : { changedFrom: known };
      if (pins.size >= pinsMax) return { changedFrom: `nothing: the limit of ${pinsMax} pins is reached` };
      pins.set(server, fingerprint);
      writeFileSync(`${path}.new`, JSON.stringify(Object.fromEntries(pins), null, 1), { mode: 0o600 });
      renameSync(`${path}.new`, path);
      return null;
    },
  };
}
