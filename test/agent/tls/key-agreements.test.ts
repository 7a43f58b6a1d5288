import assert from "node:assert/strict";
import { test } from "node:test";
import { rememberAgreements } from "../../../agent/tls/key-agreements.ts";

const at = (name: string, port = 443) => ({ address: "192.0.2.7", port, name });

test("a name that is new at an address is as the last one there", () => {
  const agreements = rememberAgreements();
  assert.equal(agreements.isClassic(at("a.example.com")), false);
  agreements.agreed(at("a.example.com"), false);
  assert.equal(agreements.isClassic(at("a.example.com")), true);
  assert.equal(agreements.isClassic(at("b.example.com")), true);
  assert.equal(agreements.isClassic(at("b.example.com", 8443)), false);
});

test("a name that was seen is as it was, whoever else is at its address", () => {
  const agreements = rememberAgreements();
  agreements.agreed(at("old.example.com"), false);
  agreements.agreed(at("new.example.com"), true);
  agreements.agreed(at("old.example.com"), false);
  assert.equal(agreements.isClassic(at("old.example.com")), true);
  assert.equal(agreements.isClassic(at("new.example.com")), false);
});

test("a server is offered the key again after ten minutes, however often it was asked, and at once when it took one", () => {
  let nowMs = 0;
  const agreements = rememberAgreements(() => nowMs);
  for (; nowMs < 600_000; nowMs += 60_000) {
    agreements.agreed(at("a.example.com"), false);
    assert.equal(agreements.isClassic(at("a.example.com")), true);
  }
  assert.equal(agreements.isClassic(at("a.example.com")), false);
  agreements.agreed(at("a.example.com"), false);
  agreements.agreed(at("a.example.com"), true);
  assert.equal(agreements.isClassic(at("a.example.com")), false);
});

test("thousands of servers do not grow it", () => {
  const agreements = rememberAgreements();
  agreements.agreed(at("first.example.com"), false);
  for (let other = 0; other < 4_000; other += 1) agreements.agreed(at(`${other}.example.com`, other), true);
  assert.equal(agreements.isClassic(at("first.example.com")), false);
});
