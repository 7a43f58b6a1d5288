/** The thread of long bodies: what it gives back, how it ends, and what becomes of a body that it dies of. */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { type LargeBodies, type LargeBodiesOptions, openLargeBodies } from "../../../agent/act/large-bodies.ts";
import { customDetector } from "../../../agent/mask/custom.ts";
import type { Detector } from "../../../agent/mask/detector.ts";
import { FingerprintTable } from "../../../agent/mask/fingerprints.ts";
import { WordList } from "../../../agent/mask/word-list.ts";
import type { HttpContext } from "../../../agent/wire/http/context.ts";
import { asBuffer, headData, type LargeDone, type LargeTask } from "../../../agent/wire/http/large-body.ts";
import { contextOf, open, redactOf, requestHead, verdictOf } from "../wire/llm/exchange.ts";

const chatPath = "/v1/chat/completions";
const verdict = verdictOf({ redactions: [redactOf(["email"])] });
const said = (content: unknown): Buffer =>
  Buffer.from(JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content }] }));

const opened: LargeBodies[] = [];
const logs: string[] = [];

function start(options: Partial<LargeBodiesOptions> = {}): LargeBodies {
  const large = openLargeBodies({ log: (_level, message) => void logs.push(message), ...options });
  opened.push(large);
  return large;
}

afterEach(async () => {
  for (const large of opened.splice(0)) await large.close();
  logs.length = 0;
});

function taskOf(body: Buffer, step: LargeTask["step"] = { do: "rewrite", verdict }): LargeTask {
  const head = headData(requestHead(chatPath));
  return { family: "llm", targetProtocol: "openai", head, state: null, body: Buffer.from(body), step };
}

function contextWith(custom: ReadonlyMap<string, Detector> = new Map()): HttpContext {
  return { ...contextOf("openai"), custom } as HttpContext;
}

function work(large: LargeBodies, task: LargeTask, context = contextWith()): Promise<LargeDone> {
  return new Promise((resolve) => large.work(task, context, resolve));
}

/** What a body of prose becomes here and now. */
function rewrittenHere(body: Buffer, custom: ReadonlyMap<string, Detector> = new Map(), by = verdict): Buffer {
  const exchange = open(chatPath, "openai", [], custom);
  exchange.describe(body);
  return exchange.rewrite?.(body, by) ?? body;
}

test("a body comes back as it would have been changed here, and bodies one after the other", async () => {
  const large = start();
  assert.equal(large.isRunning, false);
  const bodies = Array.from({ length: 4 }, (_, i) =>
    said(`${"prose ".repeat(i * 10_000)} ada.lovelace${i}@example.com`),
  );
  const done = await Promise.all(bodies.map((body) => work(large, taskOf(body))));
  for (const [i, result] of done.entries()) {
    assert.ok(result.is === "rewritten");
    assert.ok(asBuffer(result.body).equals(rewrittenHere(bodies[i] as Buffer)));
    assert.match(asBuffer(result.body).toString(), /<EMAIL_1>/);
  }
  assert.equal(large.isRunning, true);
});

test("detectors of the policy work there as here, and those of a policy that is loaded meanwhile", async () => {
  const large = start();
  const place = { file: "p.yaml", line: 1, column: 1 };
  const words = new WordList();
  for (let i = 0; i < 5000; i += 1) words.add(`customer-${i}`);
  const fingerprints = new FingerprintTable();
  const code = Array.from({ length: 40 }, (_, i) => `function step${i}(a, b) { return a * ${i} + b; }`).join("\n");
  fingerprints.addText(code);
  const own = [
    customDetector({ kind: "words", name: "ids", place, file: "ids.txt", words: ["ZEBRA"] }, { words }),
    customDetector({ kind: "regex", name: "ticket", place, expression: "TCK-[0-9]{4}", charactersMax: 8 }, {}),
    customDetector({ kind: "keys", name: "secret", place, keys: ["pass*"] }, {}),
    customDetector({ kind: "source", name: "ours", place, directories: ["src"], fingerprints: null }, { fingerprints }),
  ];
  const custom = new Map(own.map((detector) => [detector.name, detector]));
  const names = [...custom.keys()];
  const rules = verdictOf({ redactions: [{ rule: "r", detectors: [], custom: names, with: "redact" }] });
  const step = { do: "rewrite", verdict: rules } as const;
  for (const text of ["customer-4711 ZEBRA TCK-1234 fine", '{"password":"x1"}', code, "nothing of it"]) {
    const body = said(text);
    const done = await work(large, taskOf(body, step), contextWith(custom));
    assert.ok(done.is === "rewritten");
    assert.equal(asBuffer(done.body).toString(), rewrittenHere(body, custom, rules).toString());
    assert.equal(done.changed, text !== "nothing of it");
  }
  const next = customDetector({ kind: "words", name: "ids", place, file: null, words: ["YAK"] }, {});
  const later = new Map([...custom, ["ids", next]]);
  const done = await work(large, taskOf(said("ZEBRA and YAK"), step), contextWith(later));
  assert.ok(done.is === "rewritten");
  assert.match(asBuffer(done.body).toString(), /ZEBRA and \*{3}/);
});

test("a detector that the thread does not have fails the body", async () => {
  const rules = verdictOf({ redactions: [{ rule: "r", detectors: [], custom: ["gone"], with: "redact" }] });
  const done = await work(start(), taskOf(said("x"), { do: "rewrite", verdict: rules }));
  assert.ok(done.is === "failed");
  assert.equal(done.code, "WEIR_INTERNAL");
});

test("a body that the thread dies of fails with a code, and the next one is done by another thread", async () => {
  const large = start({ oldHeapMb: 16 });
  const heavy = Buffer.from(
    JSON.stringify(Object.fromEntries(Array.from({ length: 120_000 }, (_, i) => [`k${i}`, [i]]))),
  );
  const body = said("ada.lovelace@example.com");
  const [died, next] = await Promise.all([work(large, taskOf(heavy, { do: "describe" })), work(large, taskOf(body))]);
  assert.deepEqual({ ...died, message: "" }, { is: "failed", of: "describe", code: "WEIR_LIMIT_REACHED", message: "" });
  assert.match(died.is === "failed" ? died.message : "", /takes too much memory/);
  assert.ok(next.is === "rewritten" && asBuffer(next.body).equals(rewrittenHere(body)));
  assert.match(logs.join("\n"), /WEIR_LIMIT_REACHED: a body of \d+ bytes could not be read/);
});

test("a body that takes too long fails with a code", async () => {
  const large = start({ workMs: 1 });
  const done = await work(large, taskOf(said("prose ".repeat(500_000)), { do: "describe" }));
  assert.ok(done.is === "failed");
  assert.equal(done.code, "WEIR_LIMIT_REACHED");
  assert.match(done.message, /takes longer than 0.001 s/);
});

test("who does not wait any more hears nothing, and holds nobody up", async () => {
  const large = start();
  const heard: string[] = [];
  const body = said("prose ".repeat(200_000));
  const stops = ["first", "second"].map((name) => large.work(taskOf(body), contextWith(), () => heard.push(name)));
  for (const stop of stops) stop();
  const done = await work(large, taskOf(said("ada@example.com")));
  assert.equal(done.is, "rewritten");
  assert.deepEqual(heard, []);
});

test("without work the thread ends", async () => {
  const large = start({ idleMs: 20 });
  await work(large, taskOf(said("x")));
  while (large.isRunning) await new Promise((resolve) => setTimeout(resolve, 5));
  const again = await work(large, taskOf(said("ada@example.com")));
  assert.equal(again.is, "rewritten");
});
