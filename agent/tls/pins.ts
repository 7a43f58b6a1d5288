/**
 * Certificates seen at first use (`tls.verify: first-use`), kept over restarts: a line for each in STATE/pins.jsonl, and
 * only ever another behind it, so that a host with thousands of servers remembers the next one as fast as the first.
 */
import {
  closeSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { readFileOr } from "../errors.ts";

/** Servers that are remembered; beyond it a new one is refused, never an old one forgotten. */
const pinsMax = 100_000;

export interface Pins {
  /** True when the server was once seen with TLS. */
  has(server: string): boolean;
  /** Throws when a first sight cannot be written down. Null when this is the first sight (and is remembered now), or the fingerprint that was seen first. */
  check(server: string, fingerprint: string): { readonly changedFrom: string } | null;
}

export async function openPins(stateDir: string): Promise<Pins> {
  const path = join(stateDir, "pins.jsonl");
  const former = join(stateDir, "pins.json");
  const before = readFormer(former);
  const { whole, torn } = readLines(path);
  const pins = new Map([...(before ?? []), ...whole]);
  if (before !== null || torn) rewrite(path, pins);
  if (before !== null) rmSync(former);
  const append = appendTo(path);
  return {
    has: (server) => pins.has(server),
    check(server, fingerprint) {
      const known = pins.get(server);
      if (known !== undefined) return known === fingerprint ? null : { changedFrom: known };
      if (pins.size >= pinsMax) return { changedFrom: `nothing: the limit of ${pinsMax} pins is reached` };
      append(lineOf([server, fingerprint]));
      pins.set(server, fingerprint);
      return null;
    },
  };
}

type Pin = readonly [server: string, fingerprint: string];

/** What was appended outlives this process at once, and the host a moment later: nobody waits for the disk. */
function appendTo(path: string): (line: string) => void {
  let file: number | null = null;
  let syncing = false;
  let more = false;
  let failure: Error | null = null;

  function sync(to: number): void {
    more = syncing;
    if (syncing) return;
    syncing = true;
    fdatasync(to, (error) => {
      syncing = false;
      failure ??= error;
      if (more) sync(to);
    });
  }

  return (line) => {
    if (failure !== null) throw failure;
    // An editor puts another file in its place; the old one may be on its way to the disk still, so it stays open.
    if (file === null || fstatSync(file).nlink === 0) file = openSync(path, "a", 0o600);
    const { size } = fstatSync(file);
    if (writeSync(file, line) < Buffer.byteLength(line)) {
      // The next line would stand behind half of this one.
      ftruncateSync(file, size);
      throw new Error(`no space is left for ${path}`);
    }
    sync(file);
  };
}

function lineOf([server, fingerprint]: Pin): string {
  return `${JSON.stringify({ server, sha256: fingerprint })}\n`;
}

/** A line that a crash cut off is dropped: who was seen is seen again. Any other damage is an error. */
function readLines(path: string): { whole: Pin[]; torn: boolean } {
  const lines = (readText(path) ?? "").split("\n");
  const last = lines.pop() ?? "";
  const whole = readPins(path, () => lines.map((line) => readLine(line)));
  if (last === "") return { whole, torn: false };
  try {
    // Somebody's editor left out the end of the line.
    whole.push(readLine(last));
  } catch {
    // Its beginning only.
  }
  return { whole, torn: true };
}

function readLine(text: string): Pin {
  const { server, sha256 } = JSON.parse(text) as Partial<Record<"server" | "sha256", unknown>>;
  if (typeof server !== "string" || typeof sha256 !== "string")
    throw new Error("a line names no server and certificate");
  return [server, sha256];
}

/** Once all pins were one object, written anew for each. Null: there is none, or it was taken over. */
function readFormer(path: string): Pin[] | null {
  const text = readText(path);
  return text === null ? null : readPins(path, () => Object.entries(JSON.parse(text) as Record<string, string>));
}

function readText(path: string): string | null {
  return readPins(path, () => {
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  });
}

/** To begin with none would take any certificate for the first. */
function readPins<T>(path: string, read: () => T): T {
  return readFileOr("WEIR_CONFIG_INVALID", path, "Restore it, or move it away to see every server anew.", read);
}

/** In place of the old file only when it is whole on the disk. */
function rewrite(path: string, pins: Iterable<Pin>): void {
  const file = openSync(`${path}.new`, "w", 0o600);
  try {
    writeFileSync(file, [...pins].map(lineOf).join(""));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.new`, path);
}
