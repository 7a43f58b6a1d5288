/** The queue: decided once, whatever races. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Approval, ApprovalStore, type ApprovalSummary, type Decided } from "../../controller/approvals/store.ts";

const summary: ApprovalSummary = {
  user: "",
  database: "",
  target: "",
  process: "",
  cgroup: "",
  text: "",
  rule: "",
  reason: "",
  session: "",
  protocol: "postgres",
  host: "",
  job: null,
  identity: null,
  approvers: [],
  risks: [],
  highlights: [],
  language: "sql",
  digest: null,
};

function store() {
  let made = 0;
  const changes: Approval[] = [];
  const queue = new ApprovalStore({
    now: () => 1_000,
    newId: () => {
      made += 1;
      return `id${made}`;
    },
    changed: (approval) => changes.push(approval),
  });
  const outcomes: Decided[] = [];
  const hold = (timeoutMs = 60_000, onTimeout: "deny" | "allow" = "deny") =>
    queue.hold(summary, { timeoutMs, onTimeout }, (outcome) => outcomes.push(outcome));
  return { queue, hold, outcomes, changes };
}

test("the first decision counts, later ones are told that it is over", () => {
  const { queue, hold, outcomes, changes } = store();
  const held = hold();
  assert.equal(queue.get("id1")?.expiresAtMs, 61_000);
  assert.equal(queue.decide("id1", "approved", "uid 0", "")?.status, "approved");
  assert.equal(queue.decide("id1", "denied", "uid 1", "no"), null);
  held?.withdraw("late");
  assert.deepEqual(outcomes, [{ decision: "approved", by: "uid 0", reason: "approved by uid 0" }]);
  assert.deepEqual(
    changes.map(({ status }) => status),
    ["pending", "approved"],
  );
  assert.equal(queue.decide("nothing", "denied", "", ""), null);
});

test("withdrawn: nobody is told a decision, and nobody can decide it any more", () => {
  const { queue, hold, outcomes } = store();
  hold()?.withdraw("the client left");
  assert.equal(queue.decide("id1", "approved", "uid 0", ""), null);
  assert.deepEqual(outcomes, []);
  assert.equal(queue.get("id1")?.status, "withdrawn");
  assert.equal(queue.get("id1")?.decidedReason, "the client left");
});

test("time runs out to a denial, or to what the policy says", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { queue, hold, outcomes } = store();
  hold(100, "deny");
  hold(100, "allow");
  t.mock.timers.tick(99);
  assert.deepEqual(outcomes, []);
  t.mock.timers.tick(1);
  assert.deepEqual(
    outcomes.map(({ decision, by }) => [decision, by]),
    [
      ["timeout", "nobody"],
      ["approved", "onTimeout"],
    ],
  );
  assert.equal(queue.decide("id1", "approved", "uid 0", ""), null);
  assert.deepEqual(
    ["id1", "id2"].map((id) => queue.get(id)?.status),
    ["timeout", "timeout"],
  );
});

test("a wait longer than a timer can be is not over at once", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { hold, outcomes } = store();
  hold(30 * 24 * 3_600_000);
  t.mock.timers.tick(24 * 3_600_000);
  assert.deepEqual(outcomes, []);
});

test("decided inside of its own announcement: still once", () => {
  const outcomes: Decided[] = [];
  const queue: ApprovalStore = new ApprovalStore({
    now: () => 0,
    newId: () => "id",
    changed: (approval) => {
      if (approval.status === "pending") queue.decide("id", "approved", "a", "");
      else queue.decide("id", "denied", "b", "");
    },
  });
  queue.hold(summary, { timeoutMs: 1_000, onTimeout: "deny" }, (outcome) => outcomes.push(outcome));
  assert.equal(outcomes.length, 1);
});

test("the queue is bounded: a full one refuses, decided ones are forgotten oldest first", () => {
  const { queue, hold } = store();
  let held = hold();
  let count = 0;
  for (; held !== null; count += 1) held = hold();
  assert.equal(count, 1_000);
  for (const approval of queue.list()) queue.decide(approval.id, "denied", "uid 0", "");
  assert.equal(queue.list().length, 500);
  assert.equal(queue.get("id1"), null);
  assert.equal(queue.get("id1000")?.status, "denied");
  assert.equal(queue.list()[0]?.id, "id1000");
});
