import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { closedRules } from "../../../agent/kernel/firewall-rules.ts";
import { watchFirewall } from "../../../agent/kernel/firewall-watch.ts";
import { until } from "../../support/until.ts";

/** A firewall that counts its changes, as nf_tables does. */
function host() {
  const state = {
    rules: "-A OUTPUT -j WEIR\n-A WEIR -j REJECT",
    changes: 1,
    listed: 0,
    restored: [] as string[],
    notices: [] as string[],
    tell: () => {},
  };
  const right = state.rules;
  return {
    state,
    change(rules: string) {
      state.rules = rules;
      state.changes += 1;
      state.tell();
    },
    options: {
      generation: () => state.changes,
      watch(onChange: () => void) {
        state.tell = onChange;
        return () => {
          state.tell = () => {};
        };
      },
      async standing() {
        state.listed += 1;
        return { text: state.rules, whole: /^-A OUTPUT -j WEIR\n-A WEIR -j (REJECT|DROP)$/.test(state.rules) };
      },
      async restore() {
        state.rules = right;
        state.changes += 1;
      },
      onRestored: (detail: string) => void state.restored.push(detail),
      onNotice: (text: string) => void state.notices.push(text),
    },
  };
}

test("a rule that is gone is put back and named; a change of others' rules is looked at and left", async () => {
  const one = host();
  const watch = await watchFirewall(one.options);
  one.change("-A OUTPUT -j WEIR");
  await until(() => one.state.restored.length === 1);
  assert.match(one.state.rules, /REJECT/);
  assert.equal(one.state.restored[0], "missing: -A WEIR -j REJECT");
  const listed = one.state.listed;
  one.change(one.state.rules);
  await until(() => one.state.listed > listed);
  assert.equal(one.state.restored.length, 1);
  await watch.close();
});

test("what follows soon after is told all the same, a moment later or at the end", async () => {
  const one = host();
  const watch = await watchFirewall(one.options);
  one.change("-A OUTPUT -j WEIR");
  await until(() => one.state.restored.length === 1);
  one.change("-A OUTPUT -j ACCEPT\n-A OUTPUT -j WEIR\n-A WEIR -j REJECT");
  await until(() => one.state.restored.length === 2);
  assert.equal(one.state.restored[1], "foreign: -A OUTPUT -j ACCEPT");
  one.change("-A WEIR -j REJECT");
  await until(() => one.state.rules.startsWith("-A OUTPUT"));
  await watch.close();
  assert.equal(one.state.restored[2], "missing: -A OUTPUT -j WEIR");
});

test("nothing changed: the rules are not listed again", async () => {
  const one = host();
  const watch = await watchFirewall(one.options);
  const listed = one.state.listed;
  await sleep(200);
  assert.equal(one.state.listed, listed);
  await watch.close();
});

test("a change of our own is taken for right", async () => {
  const one = host();
  const watch = await watchFirewall(one.options);
  await watch.change(async () => one.change("-A OUTPUT -j WEIR\n-A WEIR -j DROP"));
  await sleep(100);
  assert.match(one.state.rules, /DROP/);
  assert.deepEqual(one.state.restored, []);
  await watch.close();
});

test("who changes the rules in the very moment they are put back is not taken for us", async () => {
  const one = host();
  let spoilt = 0;
  const restore = async (): Promise<void> => {
    await one.options.restore();
    if (++spoilt < 3) one.change(`-A OUTPUT -j ACCEPT\n${one.state.rules}`);
  };
  const watch = await watchFirewall({ ...one.options, restore });
  one.change("-A OUTPUT -j WEIR");
  await until(() => one.state.restored.length > 0);
  assert.equal(spoilt, 3);
  assert.doesNotMatch(one.state.rules, /ACCEPT/);
  await watch.close();
});

test("what cannot be put back is told, and tried again at the next change", async () => {
  const one = host();
  let broken = true;
  const restore = async (): Promise<void> => {
    if (broken) throw new Error("locked");
    await one.options.restore();
  };
  const watch = await watchFirewall({ ...one.options, restore });
  one.change("");
  await until(() => one.state.notices.length > 0);
  assert.match(one.state.notices[0] as string, /locked/);
  broken = false;
  await until(() => one.state.restored.length > 0);
  await watch.close();
});

test("the closed rules let out answers, loopback, errors, DHCP and neighbour discovery, and end in a refusal", () => {
  for (const family of [4, 6] as const) {
    const rules = closedRules(family, "main").split("\n");
    const last = rules.filter((rule) => rule.startsWith("-A WEIR-main-F"));
    assert.match(last.at(-1) as string, /^-A WEIR-main-F -j REJECT/);
    assert.ok(last.every((rule) => !rule.includes("--mark") && !rule.includes("--dport 53")));
    assert.ok(rules.includes("-I OUTPUT 1 -j WEIR-main-F") && rules.includes("-I FORWARD 1 -j WEIR-main-W"));
  }
});
