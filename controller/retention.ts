/** Holds the store to its rules, at the start and then again and again. */
import type { RetentionRules } from "./store/retention.ts";
import type { Store } from "./store/store.ts";

const everyMs = 10 * 60 * 1_000;

export interface Retention {
  /** After what it does by then. */
  close(): Promise<void>;
}

export function startRetention(
  store: Pick<Store, "remove">,
  rules: RetentionRules,
  log: (level: "info" | "warn", message: string) => void,
): Retention {
  let running = Promise.resolve();
  const apply = async (): Promise<void> => {
    try {
      const { entries, sessions } = await store.remove(rules);
      if (entries > 0)
        log("info", `retention: ${entries} entries were removed, ${sessions} sessions with all of theirs.`);
    } catch (error) {
      // The next turn tries it again.
      log("warn", `retention: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  const turn = (): void => {
    running = running.then(apply);
  };
  turn();
  const timer = setInterval(turn, everyMs);
  timer.unref();
  return {
    async close() {
      clearInterval(timer);
      await running;
    },
  };
}
