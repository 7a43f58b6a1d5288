/**
 * Follows the record and sends each entry on, in order and at least once: the place is remembered after the receiver has
 * taken it. It shares nothing with the agent but files. A start reads the record from its beginning without sending, since
 * a line depends on how its session began.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SpoolFollower, startOf } from "../publish/follower.ts";
import { decodeEntry } from "../record/chain.ts";
import { type FormatName, lineMaker } from "../record/formats.ts";
import { simplify } from "../record/read.ts";
import { readPlace, writePlace } from "./place.ts";
import type { ForwardLine, ForwardSink } from "./sink.ts";

export interface ForwarderOptions {
  readonly stateDir: string;
  readonly sink: ForwardSink;
  readonly format: FormatName;
  /** Names the place in the state directory; null: it is not remembered. */
  readonly name: string | null;
  /** Without a remembered place: entries before it are not sent. */
  readonly sinceMs: number;
  readonly log: (level: "info" | "warn", message: string) => void;
}

export interface Forwarder {
  readonly sent: number;
  readonly problem: string | null;
  /** Resolves when it has ended; rejects with what it cannot go on from. */
  readonly done: Promise<void>;
  close(): Promise<void>;
}

const readBytesMax = 1024 * 1024;
const linesAtOnceMax = 500;
const pollEveryMs = 200;
const retryFirstMs = 500;
const retryMaxMs = 30_000;

export function startForwarder(options: ForwarderOptions): Forwarder {
  const stop = new AbortController();
  const state = { sent: 0, problem: null as string | null };
  const done = follow(options, state, stop.signal).finally(() => options.sink.close());
  // Who waits for it asks for it.
  done.catch(() => {});
  return {
    get sent() {
      return state.sent;
    },
    get problem() {
      return state.problem;
    },
    done,
    async close() {
      stop.abort();
      await done.catch(() => {});
    },
  };
}

async function follow(
  options: ForwarderOptions,
  state: { sent: number; problem: string | null },
  signal: AbortSignal,
): Promise<void> {
  const { stateDir, format, name, sinceMs } = options;
  const lines = lineMaker(format);
  const spool = join(stateDir, "spool");
  const follower = new SpoolFollower(spool, startOf(spool));
  const remembered = name === null ? null : readPlace(stateDir, name);
  try {
    while (!signal.aborted) {
      const { payloads } = await follower.read(readBytesMax);
      const wanted: ForwardLine[] = [];
      for (const payload of payloads) {
        const entry = simplify(decodeEntry(payload));
        const isNew = remembered === null ? entry.timeMs >= sinceMs : entry.agentSeq >= remembered;
        const line = lines.lineOf(entry, isNew);
        if (isNew) wanted.push({ entry, line });
      }
      for (let at = 0; at < wanted.length; at += linesAtOnceMax)
        await deliver(wanted.slice(at, at + linesAtOnceMax), options, state, signal);
      if (payloads.length === 0) await delay(pollEveryMs, undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    follower.close();
  }
}

/** Until the receiver takes it, waiting longer and longer; verdicts do not wait for it. */
async function deliver(
  lines: readonly ForwardLine[],
  { sink, stateDir, name, log }: ForwarderOptions,
  state: { sent: number; problem: string | null },
  signal: AbortSignal,
): Promise<void> {
  for (let waitMs = retryFirstMs; ; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
    signal.throwIfAborted();
    try {
      await sink.send(lines);
      if (state.problem !== null) log("info", "forward: the receiver takes entries again");
      state.problem = null;
      state.sent += lines.length;
      if (name !== null) writePlace(stateDir, name, (lines.at(-1)?.entry.agentSeq ?? -1) + 1);
      return;
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (state.problem !== problem) log("warn", `forward: ${problem}`);
      state.problem = problem;
    }
    await delay(waitMs, undefined, { signal });
  }
}
