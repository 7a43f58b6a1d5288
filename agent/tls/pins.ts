/**
 * Certificates seen at first use (`tls.verify: first-use`), kept over restarts: a line for each in STATE/pins.jsonl.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { readFileOr } from "../errors.ts";
import { openJournal } from "../files/journal.ts";
import { readTextOf } from "../files/read-text.ts";

/** Servers that are remembered; beyond it a new one is refused, never an old one forgotten. */
const pinsMax = 100_000;

export interface Pins {
  /** True when the server was once seen with TLS. */
  has(server: string): boolean;
  /** Throws when a first sight cannot be written down. Null when this is the first sight (and is remembered now), or the fingerprint that was seen first. */
  check(server: string, fingerprint: string): { readonly changedFrom: string } | null;
}

const nextStep = "Restore it, or move it away to see every server anew.";

export async function openPins(stateDir: string): Promise<Pins> {
  const former = join(stateDir, "pins.json");
  const before = readFormer(former);
  const journal = openJournal(join(stateDir, "pins.jsonl"), asLine, nextStep);
  const pins = new Map(before ?? []);
  for (const { server, sha256 } of journal.lines) pins.set(server, sha256);
  if (before !== null) {
    journal.replace(linesOf(pins));
    rmSync(former);
  }
  return {
    has: (server) => pins.has(server),
    check(server, fingerprint) {
      const known = pins.get(server);
      if (known !== undefined) return known === fingerprint ? null : { changedFrom: known };
      if (pins.size >= pinsMax) return { changedFrom: `nothing: the limit of ${pinsMax} pins is reached` };
      journal.append({ server, sha256: fingerprint });
      pins.set(server, fingerprint);
      return null;
    },
  };
}

interface Line {
  readonly server: string;
  readonly sha256: string;
}

function asLine(value: unknown): Line {
  const { server, sha256 } = value as Partial<Record<keyof Line, unknown>>;
  if (typeof server !== "string" || typeof sha256 !== "string")
    throw new Error("a line names no server and certificate");
  return { server, sha256 };
}

function* linesOf(pins: ReadonlyMap<string, string>): Generator<Line> {
  for (const [server, sha256] of pins) yield { server, sha256 };
}

/** Once all pins were one object, written anew for each. Null: there is none, or it was taken over. */
function readFormer(path: string): [server: string, fingerprint: string][] | null {
  return readFileOr("WEIR_CONFIG_INVALID", path, nextStep, () => {
    const text = readTextOf(path);
    return text === null ? null : Object.entries(JSON.parse(text) as Record<string, string>);
  });
}
