import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openPolicy } from "../../../agent/act/policy-in-force.ts";
import { readPolicyFiles } from "../../../agent/config.ts";
import { until } from "../../support/until.ts";

const dir = mkdtempSync(join(tmpdir(), "weir-in-force-"));
const file = join(dir, "policy.yaml");
after(() => rmSync(dir, { recursive: true }));

const text = (name: string): string =>
  `apiVersion: weir/v1\ntargets: { ${name}: { protocol: postgres, hosts: [10.0.0.1], ports: [5432] } }\n`;

async function open(reads: () => void) {
  const told: string[] = [];
  const policy = await openPolicy({
    paths: [file],
    read: (paths) => {
      const files = readPolicyFiles(paths);
      reads();
      return files;
    },
    prepared() {},
    loaded: ({ targets }) => told.push(targets.map(({ name }) => name).join()),
    rejected: (problems) => told.push(problems),
  });
  return { policy, told };
}

test("a change while the agent starts is told once it can be, and not before", async (t) => {
  writeFileSync(file, text("first"));
  let reads = 0;
  const { policy, told } = await open(() => {
    reads += 1;
    if (reads === 2) writeFileSync(file, text("second"));
  });
  t.after(() => policy.close());
  // Longer than a change is waited for to settle.
  await sleep(300);
  assert.deepEqual([policy.current.targets.map(({ name }) => name), told], [["first"], []]);
  policy.follow();
  await until(() => told.length > 0);
  assert.deepEqual([policy.current.targets.map(({ name }) => name), told], [["second"], ["second"]]);
});

test("what did not change is not read again", async (t) => {
  writeFileSync(file, text("same"));
  await sleep(50);
  let reads = 0;
  const { policy, told } = await open(() => {
    reads += 1;
  });
  t.after(() => policy.close());
  policy.follow();
  await sleep(300);
  assert.deepEqual([reads, told], [2, []]);
});

test("a directory that is not there is told as what it is", async () => {
  rmSync(file);
  await assert.rejects(
    openPolicy({
      paths: [join(dir, "none", "policy.yaml")],
      read: readPolicyFiles,
      prepared() {},
      loaded() {},
      rejected() {},
    }),
    { code: "WEIR_POLICY_INVALID" },
  );
});
