/**
 * What starting leaves behind: the sources and schemas that were parsed, and a new space that grew for them. V8 keeps it
 * for a load that an agent at rest does not have, 60 MB and more; one full collection gives it back to the host.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Collect = (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;

/** Blocks for some tens of milliseconds, once: a first flow of that moment waits for so long. */
export function dropStartGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  setFlagsFromString("--no-expose-gc");
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
