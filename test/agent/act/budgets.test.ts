/** Token budgets: taken before, settled after, by whom and for how long, kept over restarts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openBudgets, type Reservation, type Spender } from "../../../agent/act/budgets.ts";
import type { TokenBudget } from "../../../agent/core/verdict.ts";
import { tempDir } from "../tls/pki.ts";

const budget = (over: Partial<TokenBudget> = {}): TokenBudget => ({
  rule: "daily",
  tokens: 1000,
  per: "day",
  by: ["identity", "model"],
  // biome-ignore lint/suspicious/noThenProperty: the policy's own word
  then: "deny",
  reason: "Enough for today.",
  ...over,
});
const spender = (tokens: number, model = "gpt", uid = 1): Spender =>
  ({
    flow: { process: { uid }, identity: null },
    target: { name: "openai" },
    operation: { llm: { tokens, outputTokensMax: 100, model } },
  }) as unknown as Spender;

test("what is estimated is taken at once, and what it cost replaces it", () => {
  const budgets = openBudgets(null, () => 0);
  const first = budgets.reserve([budget()], spender(500)) as Reservation;
  assert.equal(first.tokens, 600);
  const refused = budgets.reserve([budget()], spender(500));
  assert.ok("budget" in refused);
  assert.match(refused.reason, /400 of 1000 tokens are left in this day, the call may take 600/);
  assert.equal(refused.retryAfterSeconds, 86_400);
  budgets.settle(first, 150);
  assert.ok("keys" in budgets.reserve([budget()], spender(500)));
});

test("each combination counts on its own, and a period ends", () => {
  let now = 0;
  const budgets = openBudgets(null, () => now);
  const full = budget({ tokens: 600 });
  assert.ok("keys" in budgets.reserve([full], spender(500)));
  assert.ok("keys" in budgets.reserve([full], spender(500, "claude")));
  assert.ok("keys" in budgets.reserve([full], spender(500, "gpt", 2)));
  assert.ok("budget" in budgets.reserve([full], spender(500)));
  now = 86_400_000;
  assert.ok("keys" in budgets.reserve([full], spender(500)));
});

test("of two budgets either both are charged or none", () => {
  const budgets = openBudgets(null, () => 0);
  const wide = budget({ rule: "wide", tokens: 1200 });
  assert.ok("budget" in budgets.reserve([wide, budget({ rule: "narrow", tokens: 10 })], spender(500)));
  assert.ok("keys" in budgets.reserve([wide], spender(500)));
  assert.ok("keys" in budgets.reserve([wide], spender(500)));
});

test("counters are there again after a restart", (t) => {
  const path = join(tempDir(t), "budgets.json");
  const before = openBudgets(path, () => 0);
  before.reserve([budget()], spender(800));
  before.close();
  assert.ok("budget" in openBudgets(path, () => 0).reserve([budget()], spender(800)));
});
