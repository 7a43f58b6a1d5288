/** Seeded: a decision that was kept is the one that would be made anew, whatever was asked in between. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Asking, askingOf } from "../../../agent/policy/cases.ts";
import { decide, loadPolicy, type Policy } from "../../../agent/policy/index.ts";
import { randomOf } from "../../support/random.ts";

const seed = Number(process.env.WEIR_SEED ?? 20_261_121);
const text = `
apiVersion: weir/v1
defaults: { undecodable: hold }
detectors: { ids: { words: [C-1] } }
targets:
  ai: { protocol: openai, hosts: a.example }
  crm: { protocol: mcp, hosts: b.example }
  api: { protocol: http, hosts: c.example }
  db: { protocol: postgres, hosts: any }
rules:
  - { name: r0, mode: report, match: { model: "gpt*" }, verdict: deny }
  - { name: r1, match: { tool: [find, shell] }, verdict: deny, redact: [{ detector: email }] }
  - { name: r2, match: { protocol: llm }, redact: [{ detector: [ids, jwt] }], limit: { tokens: 9, then: hold } }
  - { name: r3, match: { trait: [host-mismatch, unparsable] }, verdict: allow }
  - { name: r4, match: { when: 'op.tokens > 50 || op.bytes > 500' }, verdict: hold, approvers: { groups: [a] } }
  - { name: r5, match: { detector: ids }, verdict: deny, mask: [{ json: "$..id" }] }
  - { name: r6, match: { path: "/v1/*" }, mask: [{ detector: ssn }], record: result }
  - { name: r7, mode: report, match: { protocol: [llm, mcp] }, mask: [{ detector: iban }] }
  - { name: r8, match: { verb: drop }, verdict: hold }
`;

const next = randomOf(seed);
const pick = <T>(...of: readonly T[]): T => of[next(of.length)] as T;

function asking(): Asking {
  const traits = pick<string[]>([], [], [], ["host-mismatch"], ["unreadable-body"], ["unparsable"], ["tool-changed"]);
  const kind = pick<Asking>({}, {}, { kind: "prepare" }, { kind: "connect" });
  const more = { operation: { traits }, finds: pick<string[]>([], [], ["ids"]) };
  const http = { path: pick("/v1/a", "/b"), bytes: pick<number | "unknown">(0, 600, "unknown") };
  switch (next(4)) {
    case 0:
      return {
        ...more,
        ...kind,
        target: "db",
        operation: { traits, verbs: [pick("select", "drop")], bytes: pick(1, 600) },
      };
    case 1:
      return {
        ...more,
        target: pick("ai", "api"),
        http,
        llm: { model: pick("gpt-1", "o1", ""), tokens: pick(1, 60), tools: [pick("find", "x")] },
      };
    case 2:
      return { ...more, target: pick("crm", "api"), http, mcp: { name: pick("find", "list"), arguments: { a: "b" } } };
    default:
      return { ...more, target: pick("ai", "crm", "api"), http };
  }
}

function load(): Policy {
  const loaded = loadPolicy([{ file: "p", text }]);
  if ("errors" in loaded) throw new Error(loaded.errors.join("\n"));
  return loaded.policy;
}

test(`kept decisions are those that would be made anew (seed ${seed})`, () => {
  const kept = load();
  const fresh = load();
  const seen = new Set<string>();
  for (let round = 0; round < 2_000; round += 1) {
    const asked = askingOf(kept, asking(), () => ({}));
    assert.ok(!("error" in asked));
    const decision = decide(kept, asked);
    fresh.decisions.clear();
    assert.deepEqual(decision.verdict, decide(fresh, asked).verdict, `seed ${seed}, round ${round}`);
    seen.add(`${decision.action} ${decision.verdict.rule}`);
  }
  // Canary: all ends have to be reached.
  assert.ok(seen.size > 10 && kept.decisions.size > 50, `${[...seen].join(", ")}; ${kept.decisions.size}`);
});
