/** Entries as lines of the formats that leave the agent, and the seal at the end of those that can be checked. */
import type { KeyObject } from "node:crypto";
import { cefLines } from "./cef.ts";
import { csvHeader, csvRows } from "./csv.ts";
import { inertJson } from "./inert.ts";
import { ocsfChain } from "./ocsf.ts";
import type { ReadEntry } from "./read.ts";
import { lineHash, type SealedFormat, sealType, signSeal } from "./seal.ts";

export const formatNames = ["jsonl", "ocsf", "cef", "csv"] as const;
export type FormatName = (typeof formatNames)[number];

export interface LineMaker {
  /** The line before all others; null where the format has none. */
  readonly header: string | null;
  /**
   * Feed it every entry in order, from the first: a line depends on all before it. `counted`: it is written, too, not
   * only told of.
   */
  lineOf(entry: ReadEntry, counted: boolean): string;
  /** The last line; null where the format has none. */
  seal(key: KeyObject, timeMs: number): string | null;
}

export function lineMaker(format: FormatName): LineMaker {
  if (format === "cef" || format === "csv") {
    const line = format === "cef" ? cefLines() : csvRows();
    return { header: format === "csv" ? csvHeader : null, lineOf: (entry) => line(entry), seal: () => null };
  }
  return format === "ocsf" ? ocsfLines() : jsonLines();
}

function jsonLines(): LineMaker {
  const count = counter("jsonl");
  let previousLine: string | null = null;
  return {
    header: null,
    lineOf(entry, counted) {
      // What is left out is no line: the chain is over what is written.
      if (!counted) return "";
      const time = new Date(entry.timeMs).toISOString();
      const line: string = inertJson(JSON.stringify({ ...entry, time, previousLine }));
      previousLine = lineHash(line);
      count.add(entry);
      return line;
    },
    seal: (key, timeMs) =>
      JSON.stringify({ type: sealType, ...signSeal(count.seal(previousLine ?? "", timeMs), key), previousLine }),
  };
}

function ocsfLines(): LineMaker {
  const count = counter("ocsf");
  const chain = ocsfChain();
  return {
    header: null,
    lineOf(entry, counted) {
      if (counted) count.add(entry);
      return inertJson(JSON.stringify(chain.eventOf(entry)));
    },
    seal: (key, timeMs) => JSON.stringify(chain.sealEvent(signSeal(count.seal(chain.last, timeMs), key))),
  };
}

function counter(format: SealedFormat) {
  let [agent, lines, firstSeq, lastSeq] = ["", 0, -1, -1];
  return {
    add(entry: ReadEntry): void {
      agent = entry.agent;
      if (lines === 0) firstSeq = entry.agentSeq;
      lastSeq = entry.agentSeq;
      lines += 1;
    },
    seal: (last: string, timeMs: number) => ({ format, agent, lines, firstSeq, lastSeq, last, timeMs }),
  };
}
