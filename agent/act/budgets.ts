/**
 * Token budgets: what was spent in this period, by rule and by whom. A call's estimate is taken at once, so that many
 * calls side by side cannot spend the same tokens; what the reply says it cost replaces the estimate.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Flow } from "../core/flow.ts";
import type { Operation } from "../core/operation.ts";
import type { Target } from "../core/target.ts";
import type { TokenBudget } from "../core/verdict.ts";

const periodMs = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const;
/** Counters kept at once; the oldest period goes first. */
const countersMax = 50_000;
/** What is spent is on the disk after this. */
const saveMs = 1_000;

export interface Spender {
  readonly flow: Flow;
  readonly target: Target;
  readonly operation: Operation;
}

export interface Exceeded {
  readonly budget: TokenBudget;
  /** Seconds until the period ends. */
  readonly retryAfterSeconds: number;
  readonly reason: string;
}

/** What a call has taken of each of its budgets. */
export interface Reservation {
  readonly keys: readonly string[];
  readonly tokens: number;
}

interface Counter {
  spent: number;
  readonly endsMs: number;
}

export interface Budgets {
  /** Takes the estimate from every budget, or from none when one of them has not enough left. */
  reserve(budgets: readonly TokenBudget[], spender: Spender): Reservation | Exceeded;
  /** `tokens`: what the call really cost; null: nobody said, the estimate stays. 0: it was not made. */
  settle(reservation: Reservation, tokens: number | null): void;
  close(): void;
}

/** `path`: where counters are kept over restarts; null: nowhere. */
export function openBudgets(path: string | null, now: () => number = Date.now): Budgets {
  const counters = new Map<string, Counter>(path === null ? [] : read(path));
  let timer: NodeJS.Timeout | null = null;

  function save(): void {
    timer = null;
    if (path === null) return;
    try {
      writeFileSync(`${path}.new`, JSON.stringify([...counters]), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch {
      // A full disk refuses operations elsewhere; the counters in memory stay right.
    }
  }

  function changed(): void {
    if (path === null || timer !== null) return;
    timer = setTimeout(save, saveMs);
    timer.unref();
  }

  function counterOf(key: string, budget: TokenBudget, nowMs: number): Counter {
    const known = counters.get(key);
    if (known !== undefined && known.endsMs > nowMs) return known;
    const period = periodMs[budget.per];
    const fresh = { spent: 0, endsMs: (Math.floor(nowMs / period) + 1) * period };
    counters.delete(key);
    counters.set(key, fresh);
    if (counters.size > countersMax) {
      for (const [old, { endsMs }] of counters) if (endsMs <= nowMs) counters.delete(old);
      if (counters.size > countersMax) counters.delete(counters.keys().next().value as string);
    }
    return fresh;
  }

  return {
    reserve(budgets, spender) {
      const nowMs = now();
      const { llm } = spender.operation;
      const tokens = (llm?.tokens ?? 0) + (llm?.outputTokensMax ?? 0);
      const keys = budgets.map((budget) => keyOf(budget, spender));
      for (const [at, budget] of budgets.entries()) {
        const { spent, endsMs } = counterOf(keys[at] as string, budget, nowMs);
        if (spent + tokens <= budget.tokens) continue;
        const left = Math.max(0, budget.tokens - spent);
        return {
          budget,
          retryAfterSeconds: Math.ceil((endsMs - nowMs) / 1000),
          reason: `${budget.reason} (${left} of ${budget.tokens} tokens are left in this ${budget.per}, the call may take ${tokens}.)`,
        };
      }
      for (const [at, budget] of budgets.entries()) counterOf(keys[at] as string, budget, nowMs).spent += tokens;
      changed();
      return { keys, tokens };
    },
    settle({ keys, tokens }, real) {
      if (real === null || real === tokens) return;
      for (const key of keys) {
        const counter = counters.get(key);
        if (counter !== undefined) counter.spent = Math.max(0, counter.spent + real - tokens);
      }
      changed();
    },
    close() {
      if (timer !== null) clearTimeout(timer);
      save();
    },
  };
}

function keyOf({ rule, by, per }: TokenBudget, spender: Spender): string {
  return JSON.stringify([rule, per, ...by.map((what) => whoOf(what, spender))]);
}

function whoOf(what: TokenBudget["by"][number], { flow, target, operation }: Spender): string {
  const { process, identity } = flow;
  switch (what) {
    case "identity":
      return identity === null ? `uid ${process?.uid ?? "?"}` : `${identity.issuer} ${identity.subject}`;
    case "model":
      return operation.llm?.model ?? "";
    case "target":
      return target.name;
    case "job":
      return process?.job === undefined
        ? ""
        : `${process.job.system} ${process.job.repository ?? ""} ${process.job.id}`;
  }
}

function read(path: string): [string, Counter][] {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as [string, Counter][];
  } catch {
    // The first start, or a file that was cut: budgets begin anew.
    return [];
  }
}
