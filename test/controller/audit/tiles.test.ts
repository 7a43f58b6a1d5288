/** The right edge of the tree, as it stands in memory for as long as an agent runs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Edge, tileWidth } from "../../../controller/audit/tiles.ts";

/** A leaf comes in between of all else that an agent makes small buffers of. */
const slabBytes = Buffer.poolSize;
/** Leaves and hashes of a level, with room for what else is going on. */
const keptBytesMax = 2 * 1024 * 1024;

test("the leaves of an edge keep no more memory than they are long", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const used = (): number => {
    collect();
    return process.memoryUsage().arrayBuffers;
  };
  const before = used();
  let edge = new Edge();
  for (let leaf = 1; leaf < tileWidth; leaf += 1) {
    edge = edge.append([Buffer.from(`leaf ${leaf}`)]).edge;
    for (let between = 0; between < slabBytes; between += 1_000) Buffer.allocUnsafe(1_000);
  }
  assert.ok(used() - before < keptBytesMax, `${used() - before} bytes of ${edge.size} leaves`);
});
