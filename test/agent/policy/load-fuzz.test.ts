/** Seeded: whatever stands in a policy file, the loader answers with a policy or with problems, and never throws. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadPolicy } from "../../../agent/policy/load.ts";
import { randomOf } from "../../support/random.ts";

const seed = Number(process.env.WEIR_SEED ?? 20_261_121);
const root = join(import.meta.dirname, "../../..");
const sound = ["policies/defaults", "policies/examples"].flatMap((dir) =>
  readdirSync(join(root, dir))
    .filter((name) => name.endsWith(".yaml") && !name.includes(".cases."))
    .map((name) => readFileSync(join(root, dir, name), "utf8")),
);
const pieces = [
  ":",
  "\n",
  "- ",
  "{",
  "}",
  "[",
  "]",
  "&a ",
  "*a",
  "!!int ",
  "'",
  '"',
  "|",
  ">",
  "#",
  "\t",
  "\0",
  "\u{1f4a9}",
  "<<: ",
  "null",
  "~",
  "1e999",
  "__proto__",
  "constructor",
  "not",
  "only",
  "%",
  "@",
  "? ",
  "---\n",
  "0x",
  "true",
];

const next = randomOf(seed);

function mutate(text: string): string {
  let out = text;
  for (let i = next(4) + 1; i > 0; i -= 1) {
    const at = next(out.length + 1);
    const length = next(12);
    switch (next(4)) {
      case 0:
        out = out.slice(0, at) + out.slice(at + length);
        break;
      case 1:
        out = out.slice(0, at) + pieces[next(pieces.length)] + out.slice(at);
        break;
      case 2:
        out = out.slice(0, at) + out.slice(next(out.length), next(out.length)) + out.slice(at);
        break;
      default:
        out = out.slice(0, at) + String.fromCharCode(next(256)) + out.slice(at + 1);
    }
    out = out.slice(0, 8_000);
  }
  return out;
}

test(`mutated policies never throw (seed ${seed})`, () => {
  let loaded = 0;
  let refused = 0;
  for (let round = 0; round < 400; round += 1) {
    const text = mutate(sound[next(sound.length)]!);
    let result: ReturnType<typeof loadPolicy>;
    try {
      result = loadPolicy([{ file: "f", text }]);
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}: ${JSON.stringify(text)}`, { cause: error });
    }
    if ("policy" in result) loaded += 1;
    else {
      refused += 1;
      assert.ok(result.errors.length > 0, `seed ${seed}, round ${round}: refused without a reason`);
      for (const problem of result.errors) {
        assert.match(String(problem), /^f:\d+:\d+: \S.*[.?]$/s, `seed ${seed}, round ${round}`);
        assert.ok(problem.line >= 1 && problem.column >= 1);
      }
    }
  }
  // Canary: both ends have to be reached, else the mutations are too weak or too strong to show anything.
  assert.ok(loaded > 20 && refused > 100, `${loaded} loaded, ${refused} refused`);
});

test("canary: the check would see a loader that throws", () => {
  assert.throws(
    () =>
      loadPolicy([
        {
          file: "f",
          get text(): string {
            throw new Error("canary");
          },
        },
      ]),
    /canary/,
  );
});
