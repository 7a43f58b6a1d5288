/**
 * Record before send: entries appended in one turn of the event loop leave in one write, and only then what waits
 * for them goes upstream. With durability `host` the write is also fdatasync'ed first.
 *
 * An epoch is the time between two writes. What was appended in epoch n is safe once `settled > n`.
 */
import { WeirError } from "../errors.ts";

/** What came back is written no later than this. */
const laterMs = 5;

export interface GateRecorder {
  flush(): void;
  synced(): Promise<void>;
}

export interface Gate {
  readonly epoch: number;
  readonly settled: number;
  /** Called by whoever appends; returns the epoch that the entry belongs to. */
  touch(): number;
  /** The same for an entry that nothing waits for (a result): it goes with the next write, or in `laterMs`. */
  touchLater(): void;
  /** Runs when everything appended in this epoch is safe; with the error when it could not be made so. */
  whenSettled(run: (error: Error | null) => void): void;
}

/** `atTurnEnd` runs what it gets after the poll phase: every socket that was readable in this turn has had its say. */
export function createGate(
  recorder: GateRecorder,
  durability: () => "process" | "host",
  atTurnEnd: (run: () => void) => void = setImmediate,
): Gate {
  let epoch = 1;
  let settled = 1;
  let scheduled = false;
  let later = false;
  /** The timer is left to fire when a write came first: to stop and start one for each operation costs more. */
  let timing = false;
  let waiting: ((error: Error | null) => void)[] = [];

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    // One write serves all.
    atTurnEnd(write);
  }

  function write(): void {
    scheduled = false;
    later = false;
    const ready = waiting;
    waiting = [];
    epoch += 1;
    const reached = epoch;
    const settle = (error: Error | null): void => {
      if (error === null && reached > settled) settled = reached;
      for (const run of ready) run(error);
    };
    try {
      recorder.flush();
    } catch (error) {
      settle(asError(error));
      return;
    }
    if (durability() === "process") settle(null);
    else
      recorder.synced().then(
        () => settle(null),
        (error: unknown) => settle(asError(error)),
      );
  }

  return {
    get epoch() {
      return epoch;
    },
    get settled() {
      return settled;
    },
    touch() {
      schedule();
      return epoch;
    },
    touchLater() {
      if (scheduled) return;
      later = true;
      if (timing) return;
      timing = true;
      setTimeout(() => {
        timing = false;
        if (later) write();
      }, laterMs);
    },
    whenSettled(run) {
      waiting.push(run);
      schedule();
    },
  };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new WeirError("WEIR_SPOOL_WRITE", String(error));
}
