/**
 * A relay in a process of its own, where V8's heap is the relay's alone. It is told `argv[2]`, RelayOptions as JSON, says
 * `{ port }`, and answers `settle` with the bytes of the old generation after what is dead and young is collected.
 */
import { getHeapSpaceStatistics } from "node:v8";
import { startRelay } from "./relay.ts";

const relay = await startRelay(JSON.parse(process.argv[2] as string));
process.on("message", (said) => {
  if (said === "end") {
    void relay.close().then(() => process.disconnect());
    return;
  }
  // What survives twice is old.
  for (let time = 0; time < 2; time += 1) gc?.({ type: "minor" });
  const old = getHeapSpaceStatistics().find((space) => space.space_name === "old_space");
  process.send?.({ oldBytes: old?.space_used_size ?? 0 });
});
process.send?.({ port: relay.port });
