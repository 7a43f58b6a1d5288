import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openMaskKey } from "../../../agent/act/secrets.ts";
import { tempDir } from "../tls/pki.ts";

test("the key of hashed values is kept; one that was cut short is none", (t) => {
  const dir = tempDir(t);
  const key = openMaskKey(dir);
  assert.equal(key.length, 32);
  assert.deepEqual(openMaskKey(dir), key);
  for (const short of [Buffer.alloc(0), key.subarray(0, 16)]) {
    writeFileSync(join(dir, "mask-key"), short);
    const next = openMaskKey(dir);
    assert.equal(next.length, 32);
    assert.notDeepEqual(next, key);
    assert.deepEqual(readFileSync(join(dir, "mask-key")), next);
  }
});
