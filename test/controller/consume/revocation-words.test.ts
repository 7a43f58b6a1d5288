/** What the controller puts on the topic of revocations by itself: what is over goes, what holds stays. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { logoutKeptMs } from "../../../agent/core/identity.ts";
import type { OutMessage } from "../../../agent/kafka/transport.ts";
import { RevocationWords } from "../../../controller/consume/revocation-words.ts";

const nowMs = 1_800_000_000_000;
const hourMs = 3_600_000;

/** A topic with one controller on it. */
function open(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const state = { nowMs, away: false };
  const sent: string[] = [];
  const last = new Map<string, string>();
  const words = new RevocationWords({
    now: () => state.nowMs,
    log: () => {},
    send: async (message) => {
      if (state.away) throw new Error("away");
      sent.push(`${message.key} ${message.value}`);
      write(message);
    },
  });
  t.after(() => words.close());
  function write({ topic, key, value, headers = {} }: OutMessage): void {
    last.set(key, String(value));
    const message = { topic, key, value, headers, timeMs: 0 };
    const rank = Number(String(value).split(" ")[1]);
    if (value === null) words.tombstone(key);
    else if (String(value).startsWith("logout")) words.logout(message, rank);
    else words.revocation(message, rank);
  }
  const say = (key: string, text: string | null): void =>
    write({ topic: "t", key, value: text === null ? null : Buffer.from(text) });
  const pass = (ms: number): void => {
    state.nowMs += ms;
    t.mock.timers.tick(ms);
  };
  return { say, sent, last, pass, state };
}

test("a logout is taken away when it is over, once; a revocation never is", (t) => {
  const { say, sent, last, pass } = open(t);
  say("ada", `logout ${nowMs}`);
  say("old", `logout ${nowMs - logoutKeptMs}`);
  say("bob", `revoked ${nowMs - 10 * logoutKeptMs}`);
  pass(2_000);
  assert.deepEqual(sent, ["old null"]);
  pass(logoutKeptMs - hourMs);
  assert.equal(sent.length, 1);
  for (let hours = 0; hours < 3; hours += 1) pass(hourMs);
  pass(2_000);
  assert.deepEqual(sent, ["old null", "ada null"]);
  assert.equal(last.get("bob"), `revoked ${nowMs - 10 * logoutKeptMs}`);
});

test("a topic that is read from its start says what was done already: nothing is done again", (t) => {
  const { say, sent, pass } = open(t);
  say("old", `logout ${nowMs - logoutKeptMs}`);
  say("old", null);
  say("ada", `logout ${nowMs - 5}`);
  say("ada", null);
  say("ada", `logout ${nowMs - 5}`);
  pass(hourMs + 2_000);
  assert.deepEqual(sent, []);
});

test("another logout of the same one, at the moment in which the old one is taken away, stands again", (t) => {
  const { say, sent, last, pass } = open(t);
  // Of two controllers one takes away what the other has just written.
  say("ada", `logout ${nowMs - logoutKeptMs}`);
  say("ada", `logout ${nowMs}`);
  say("ada", null);
  pass(2_000);
  assert.deepEqual(sent, [`ada logout ${nowMs}`]);
  assert.equal(last.get("ada"), `logout ${nowMs}`);
});

test("what somebody takes away, or writes an older word over, is written again", (t) => {
  const { say, last, pass } = open(t);
  for (const [key, word] of [
    ["ada", `logout ${nowMs}`],
    ["bob", "revoked 7"],
  ] as const) {
    say(key, word);
    say(key, null);
    pass(2_000);
    assert.equal(last.get(key), word);
    say(key, `${word.split(" ")[0]} 3`);
    pass(2_000);
    assert.equal(last.get(key), word);
  }
  say("nobody", null);
  pass(2_000);
  assert.equal(last.get("nobody"), "null");
});

test("what did not go out is tried again", (t) => {
  const { say, sent, pass, state } = open(t);
  state.away = true;
  say("bob", "revoked 7");
  say("bob", null);
  pass(2_000);
  state.away = false;
  pass(hourMs);
  pass(2_000);
  assert.deepEqual(sent, ["bob revoked 7"]);
});
