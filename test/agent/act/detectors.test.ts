/** Long texts are scanned slice by slice before a decision, with the same answers, and others get their turn between. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { makeDetectors, sliceCharactersMax } from "../../../agent/act/detectors.ts";
import { regexDetector } from "../../../agent/mask/custom-regex.ts";
import { sourceDetector } from "../../../agent/mask/custom-source.ts";
import type { Detector } from "../../../agent/mask/detector.ts";
import { detectorNames } from "../../../agent/policy/words.ts";
import { samples } from "../mask/values.ts";

const own = regexDetector("own", "PRJ-[0-9]{6}", 20);
const detectors = makeDetectors(
  new Map<string, Detector>([
    ["own", own],
    ["code", sourceDetector("code", null)],
  ]),
);

/** Asks as a decision does: one name after the other, until one is found. */
async function ask(names: readonly string[], text: string): Promise<string | null> {
  const operation = {};
  let found: string | null = null;
  await detectors.scan(operation, (finds) => {
    found = names.find((name) => finds(name, text)) ?? null;
  });
  const known = detectors.knownOf(operation);
  assert.equal(names.find((name) => known(name, text)) ?? null, found);
  return found;
}

describe("a long text", () => {
  const filler = "Nothing to be seen here, move on. ".repeat(10_000);
  const names = [...detectorNames, "own", "code"];

  test("with a value across the border of two slices, for each kind of it", async () => {
    const all = [...samples, { name: "own", detector: "own", value: "PRJ-204417", before: "" }];
    for (const { name, detector, value, before = "" } of all) {
      for (const back of [0, 1, Math.floor(value.length / 2), value.length - 1, value.length]) {
        const at = sliceCharactersMax * 2 - back - before.length - 1;
        const text = `${filler.slice(0, at)} ${before}${value} ${filler.slice(0, 200_000)}`;
        assert.equal(await ask(names, text), detector, `${name}, ${back} before the border`);
      }
    }
    assert.equal(await ask(names, filler), null);
    assert.equal(await ask(names, `${"x = f(1);\n".repeat(30)}${filler}`), "code");
  });

  test("is not scanned in one go", async () => {
    let turns = 0;
    let stop = false;
    const count = (): void => {
      turns += 1;
      if (!stop) setImmediate(count);
    };
    setImmediate(count);
    const text = filler.repeat(3);
    assert.equal(await ask(["email", "own"], text), null);
    stop = true;
    assert.ok(turns >= (2 * text.length) / sliceCharactersMax - 2, `${turns} turns`);
  });
});

test("an error of an attempt is the caller's", async () => {
  await assert.rejects(
    detectors.scan({}, () => {
      throw new Error("no");
    }),
    /^Error: no$/,
  );
});
