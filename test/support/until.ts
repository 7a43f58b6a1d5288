/** The one way in which tests wait: for what has to come, and not for a time. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/** So long the slowest of loaded machines may take; who waits for longer waits for what never comes. */
const waitMsMax = 120_000;
const lookEveryMs = 10;

/** `said` is what the failure tells beside the condition. */
export async function until(holds: () => boolean | Promise<boolean>, said: () => string = () => ""): Promise<void> {
  const startedMs = performance.now();
  while (!(await holds())) {
    assert.ok(performance.now() - startedMs < waitMsMax, `never: ${holds}\n${said()}`);
    await sleep(lookEveryMs);
  }
}
