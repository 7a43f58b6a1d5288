/** Joins results and masks: what a run's rows need, and what the record may keep. */
import type { Operation } from "../../core/operation.ts";
import type { MaskSpec } from "../../core/verdict.ts";
import type { Entry } from "./expected.ts";
import type { Run } from "./run.ts";
import type { SessionState } from "./state.ts";

/** True when the rows have to be looked into, so that their fields must be known. */
export function needsFields(run: Run): boolean {
  return run.verdict !== null && (run.verdict.transforms.masks.length > 0 || run.verdict.record === "result");
}

export function maskOperation(operation: Operation, _masks: readonly MaskSpec[]): Operation {
  return operation;
}

export class Results {
  readonly #state: SessionState;
  waiting = false;
  streaming = false;
  heldBytes = 0;
  catalog(_columns: readonly unknown[], _failed: boolean): void {}
  denial: Buffer = Buffer.alloc(0);
  constructor(state: SessionState) {
    this.#state = state;
  }
  plan(_run: Run, _type: number, _entry: Entry): "pass" | "look" | "wait" | "deny" {
    void this.#state;
    return "pass";
  }
  describe(_run: Run, _bytes: Buffer, _start: number, _end: number): void {}
  row(_type: number, _run: Run, _bytes: Buffer, _start: number, _end: number): Buffer | null | "denied" {
    return null;
  }
  end(_run: Run): void {}
  copyBegin(_run: Run, _copy: { format: number; formats: number[] }): void {}
  copyEnd(): Buffer | null {
    return null;
  }
  functionResult(_run: Run | null): boolean {
    return true;
  }
  maskAsync(_type: number, _bytes: Buffer, _start: number, _end: number, _run: Run | null): Buffer | null {
    return null;
  }
  /** Null when it may pass as it is. */
  maskError(_bytes: Buffer, _start: number, _end: number, _run: Run | null): Buffer | null {
    return null;
  }
}
