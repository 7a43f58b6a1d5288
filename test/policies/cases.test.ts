/** The policies that ship, against their cases, with PostgreSQL's own parser. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { buildAllDetectors } from "../../agent/act/custom-detectors.ts";
import { makeDetectors } from "../../agent/act/detectors.ts";
import { type Describe, readCases, runCase } from "../../agent/policy/cases.ts";
import { loadPolicy } from "../../agent/policy/load.ts";
import { traits } from "../../agent/policy/words.ts";

let describeSql: Describe = () => ({});

before(async () => {
  const postgres = await import("../../agent/wire/postgres/describe/index.ts");
  await postgres.prepareDescriber();
  describeSql = (_, text) => {
    const { verbs, relations, columns, functions, writes, traits } = postgres.describeStatement(text);
    return { verbs, relations, columns, functions, writes, traits };
  };
});

for (const dir of ["defaults", "examples", "templates"].map((name) =>
  join(import.meta.dirname, "../../policies", name),
)) {
  for (const name of readdirSync(dir).filter((file) => /\.yaml$/.test(file) && !/\.cases\.yaml$/.test(file))) {
    describe(name, () => {
      const file = join(dir, name);
      const loaded = loadPolicy([{ file, text: readFileSync(file, "utf8") }]);
      assert.ok("policy" in loaded, "errors" in loaded ? loaded.errors.join("\n") : "");
      const casesFile = file.replace(/\.yaml$/, ".cases.yaml");
      const read = readCases(casesFile, readFileSync(casesFile, "utf8"));
      assert.ok("cases" in read, "errors" in read ? read.errors.join("\n") : "");
      const detectors = makeDetectors(new Map());
      before(async () => detectors.use((await buildAllDetectors(loaded.policy.detectors)).custom));
      for (const one of read.cases) {
        test(one.name, () => assert.deepEqual(runCase(loaded.policy, one, describeSql, detectors.finds), []));
      }
    });
  }
}

test("every rule of a shipped policy is the answer to a case, or adds to one", () => {
  for (const dir of ["defaults", "examples", "templates"].map((name) =>
    join(import.meta.dirname, "../../policies", name),
  )) {
    for (const name of readdirSync(dir).filter((file) => /\.cases\.yaml$/.test(file))) {
      const cases = readFileSync(join(dir, name), "utf8");
      const loaded = loadPolicy([{ file: name, text: readFileSync(join(dir, name.replace(".cases", "")), "utf8") }]);
      assert.ok("policy" in loaded);
      for (const rule of loaded.policy.rules.filter(({ verdict }) => verdict !== null)) {
        assert.ok(cases.includes(`rule: ${rule.name}`), `${name} has no case for ${rule.name}`);
      }
    }
  }
});

test("a policy may name every trait that a statement can have", () => {
  const file = join(import.meta.dirname, "../../agent/wire/postgres/describe/statement-info.ts");
  const type = /export type Trait =([^;]+);/.exec(readFileSync(file, "utf8"))?.[1] ?? "";
  const found = [...type.matchAll(/"([a-z-]+)"/g)].map((match) => match[1] as string);
  assert.ok(found.length > 30);
  assert.deepEqual(
    found.filter((trait) => !traits.includes(trait)),
    [],
  );
});

test("a file of one's own stands before the default policy", () => {
  const read = (file: string) => ({
    file,
    text: readFileSync(join(import.meta.dirname, "../../policies", file), "utf8"),
  });
  const mine = `
apiVersion: weir/v1
rules:
  - name: pgbench-may-set-up
    match: { user: bench, verb: { only: [drop, truncate] }, relation: { only: "pgbench_*" } }
    verdict: allow
    reason: The benchmark owns its tables.
`;
  const loaded = loadPolicy([{ file: "mine.yaml", text: mine }, read("defaults/postgres.yaml")]);
  assert.ok("policy" in loaded);
  const ask = (sql: string, rule: string, action: "allow" | "deny") =>
    assert.deepEqual(
      runCase(loaded.policy, { name: sql, user: "bench", sql, expect: { action, rule } }, describeSql),
      [],
    );
  ask(
    "drop table if exists pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
    "pgbench-may-set-up",
    "allow",
  );
  ask(
    "truncate table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
    "pgbench-may-set-up",
    "allow",
  );
  ask("drop table pgbench_accounts, orders", "no-destructive-sql", "deny");
  ask("drop table pgbench_accounts; delete from orders", "no-destructive-sql", "deny");
});
