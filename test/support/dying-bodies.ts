/** A thread for long bodies that dies of each one it is given. */
import type { LargeBodies } from "../../agent/act/large-bodies.ts";

export function dyingBodies(message = "It died."): LargeBodies {
  return {
    isRunning: false,
    work({ step }, _context, done) {
      setImmediate(() => done({ is: "failed", of: step.do, code: "WEIR_LIMIT_REACHED", message }));
      return () => {};
    },
    close: () => Promise.resolve(),
  };
}
