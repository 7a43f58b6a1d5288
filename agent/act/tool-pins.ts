/**
 * What the tools of MCP servers were when they were first seen, kept over restarts. A definition that changes is told,
 * and both texts are kept, so that the change can be shown to the one who decides about it.
 */
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { openJournal } from "../files/journal.ts";

/** Tools that are remembered; beyond it a new one counts as changed, never an old one is forgotten. */
export const pinsMax = 20_000;
/** Of a definition kept for the diff; its digest is that of the whole. */
export const pinTextBytesMax = 32 * 1024;
/** The file is written anew when it has this many lines for each tool, and some more: a tool that flaps fills no disk. */
const linesPerPinMax = 4;
const linesMore = 100;

export interface ToolChange {
  readonly before: string;
  readonly now: string;
}

export interface ToolPins {
  /** Null: seen now for the first time, or as it was then. Throws when it cannot be written down. */
  pin(name: string, digest: string, text: string): { readonly before: string } | null;
  /** Null: never seen. */
  pinned(name: string): { readonly changed: ToolChange | null } | null;
  /** Tools that are not now what they were first. */
  changes(): readonly (ToolChange & { readonly name: string })[];
  /** What a changed tool is now becomes what it is compared with; false: there is no such change. */
  accept(name: string): boolean;
  /** Of these: the names that begin so. For a server that is known to be another now. */
  forget(prefix: string): number;
}

interface Pin {
  digest: string;
  text: string;
  /** As it was seen last, when that is not the first. */
  now: { digest: string; text: string } | null;
}

/** One line of the file: `first` sight, a `now` that differs, a `same` again, an `accept`, a `forget`. */
type Line =
  | { readonly e: "first" | "now"; readonly n: string; readonly d: string; readonly t: string }
  | { readonly e: "same" | "accept" | "forget"; readonly n: string };

export function openToolPins(stateDir: string): ToolPins {
  const path = join(stateDir, "tool-pins.jsonl");
  const pins = new Map<string, Pin>();
  const journal = openJournal(path, asLine, "Restore it, or move it away to see every tool anew.");
  for (const line of journal.lines) apply(pins, line);
  let written = journal.lines.length;

  /** Written first: a pin that is only in memory would be a first sight again after a restart. */
  function note(line: Line): void {
    try {
      journal.append(line);
    } catch (cause) {
      throw new WeirError("WEIR_SPOOL_WRITE", `${path} cannot be written`, { cause });
    }
    apply(pins, line);
    written += 1;
    if (written <= pins.size * linesPerPinMax + linesMore) return;
    journal.replace(linesOf(pins));
    written = pins.size * 2;
  }

  return {
    pin(name, digest, whole) {
      const text = cut(whole);
      const known = pins.get(name);
      if (known === undefined) {
        if (pins.size >= pinsMax) return { before: `nothing: the limit of ${pinsMax} tools is reached` };
        note({ e: "first", n: name, d: digest, t: text });
        return null;
      }
      if (known.digest === digest) {
        if (known.now !== null) note({ e: "same", n: name });
        return null;
      }
      if (known.now?.digest !== digest) note({ e: "now", n: name, d: digest, t: text });
      return { before: known.text };
    },
    pinned(name) {
      const known = pins.get(name);
      if (known === undefined) return null;
      return { changed: known.now === null ? null : { before: known.text, now: known.now.text } };
    },
    changes() {
      return [...pins].flatMap(([name, { text, now }]) =>
        now === null ? [] : [{ name, before: text, now: now.text }],
      );
    },
    accept(name) {
      if (pins.get(name)?.now == null) return false;
      note({ e: "accept", n: name });
      return true;
    },
    forget(prefix) {
      const names = [...pins.keys()].filter((name) => name.startsWith(prefix));
      for (const name of names) note({ e: "forget", n: name });
      return names.length;
    },
  };
}

function apply(pins: Map<string, Pin>, line: Line): void {
  const known = pins.get(line.n);
  switch (line.e) {
    case "first":
      pins.set(line.n, { digest: line.d, text: line.t, now: null });
      return;
    case "now":
      if (known !== undefined) known.now = { digest: line.d, text: line.t };
      return;
    case "same":
      if (known !== undefined) known.now = null;
      return;
    case "accept":
      if (known?.now != null) pins.set(line.n, { ...known.now, now: null });
      return;
    case "forget":
      pins.delete(line.n);
      return;
  }
}

function asLine(value: unknown): Line {
  const line = value as Partial<Record<"e" | "n" | "d" | "t", unknown>>;
  const needsText = line.e === "first" || line.e === "now";
  const known = needsText || line.e === "same" || line.e === "accept" || line.e === "forget";
  if (
    !known ||
    typeof line.n !== "string" ||
    (needsText && !(typeof line.d === "string" && typeof line.t === "string"))
  )
    throw new Error("a line says nothing that is known");
  return line as Line;
}

/** What stands in the file when it is written anew. */
function* linesOf(pins: ReadonlyMap<string, Pin>): Generator<Line> {
  for (const [n, { digest, text, now }] of pins) {
    yield { e: "first", n, d: digest, t: text };
    if (now !== null) yield { e: "now", n, d: now.digest, t: now.text };
  }
}

function cut(text: string): string {
  if (Buffer.byteLength(text) <= pinTextBytesMax) return text;
  return `${Buffer.from(text, "utf8")
    .toString("utf8", 0, pinTextBytesMax)
    .replace(/\ufffd$/, "")}…`;
}
