/**
 * Tells controllers every few seconds how the agent is. Only the newest word counts: what did not go out is not sent
 * later, and nothing waits for it.
 */
import type { KeyObject } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type AgentHealth, healthMessage } from "../kafka/health-messages.ts";
import type { Transport } from "../kafka/transport.ts";

export interface HealthBeatOptions {
  /** Its own: what is wrong with this topic keeps nothing else from going out. Closed with the beat. */
  readonly transport: Transport;
  readonly key: KeyObject;
  health(): AgentHealth;
  log(level: "info" | "warn", message: string): void;
  readonly everyMs?: number;
}

export interface HealthBeat {
  /** Something changed that people look at: not only at the next turn. */
  beat(): void;
  /** With the word that nothing follows. */
  close(): Promise<void>;
}

const everyMsDefault = 10_000;
const lastWordWithinMs = 1_000;

export function startHealthBeat({
  transport,
  key,
  health,
  log,
  everyMs = everyMsDefault,
}: HealthBeatOptions): HealthBeat {
  let sending: Promise<void> | null = null;
  let again = false;
  let told = false;

  async function send(stopped: boolean): Promise<void> {
    try {
      await transport.send([healthMessage({ ...health(), atMs: Date.now(), everyMs, stopped }, key)]);
      told = false;
    } catch (error) {
      if (!told && !stopped) log("warn", `health: ${error instanceof Error ? error.message : String(error)}`);
      told = true;
    }
  }

  function beat(): void {
    if (sending !== null) {
      again = true;
      return;
    }
    sending = send(false).finally(() => {
      sending = null;
      if (!again) return;
      again = false;
      // One that failed waits for its turn.
      if (!told) beat();
    });
  }

  const timer = setInterval(beat, everyMs);
  timer.unref();
  beat();
  return {
    beat,
    async close() {
      clearInterval(timer);
      const last = (async () => {
        await sending;
        if (!told) await send(true);
      })();
      await Promise.race([last, delay(lastWordWithinMs, undefined, { ref: false })]);
      await transport.close();
    },
  };
}
