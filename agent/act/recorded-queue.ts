/**
 * What waits for its record (gate.ts): bytes for the server leave in their order, and none before every entry that was
 * appended before them is safe.
 */
import type { Desk } from "./desk.ts";
import type { Gate } from "./gate.ts";

interface Batch {
  /** What was appended before the end of this epoch is covered by the batch's wait. */
  readonly epoch: number;
  readonly buffers: Buffer[];
  settled: boolean;
}

export class RecordedQueue {
  readonly #gate: Gate;
  readonly #desk: Pick<Desk, "failure" | "recordedEpoch" | "fail">;
  readonly #settled: () => void;
  #batches: Batch[] = [];

  /** `settled`: there may be something to take. */
  constructor(gate: Gate, desk: Pick<Desk, "failure" | "recordedEpoch" | "fail">, settled: () => void) {
    this.#gate = gate;
    this.#desk = desk;
    this.#settled = settled;
  }

  get empty(): boolean {
    return this.#batches.length === 0;
  }

  push(bytes: Buffer): void {
    const { failure, recordedEpoch } = this.#desk;
    // What comes behind an entry that was not taken, in the same turn, is what it would have been the record of.
    if (failure !== null) return;
    const last = this.#batches.at(-1);
    const safe = recordedEpoch < this.#gate.settled;
    // What was appended before this batch's write is covered by it; a later entry needs a later write.
    if (last !== undefined && (safe || last.epoch >= recordedEpoch)) {
      last.buffers.push(bytes);
      return;
    }
    const batch: Batch = { epoch: this.#gate.epoch, buffers: [bytes], settled: safe };
    this.#batches.push(batch);
    if (safe) return;
    this.#gate.whenSettled((error) => {
      if (error !== null) {
        this.#desk.fail(error);
        return;
      }
      batch.settled = true;
      this.#settled();
    });
  }

  /** What leaves next; null: nothing may. */
  take(): readonly Buffer[] | null {
    return this.#batches[0]?.settled === true ? (this.#batches.shift()?.buffers ?? null) : null;
  }

  /** They go nowhere: the record or the server failed. */
  clear(): void {
    this.#batches = [];
  }
}
