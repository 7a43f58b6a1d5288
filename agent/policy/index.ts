/** What the rest of the agent uses of the policy. */
export { approve, decide, refuse } from "./decide.ts";
export { explain } from "./explain.ts";
export { loadPolicy } from "./load.ts";
export { brokenPolicy, type Policy } from "./policy.ts";
export { findTarget } from "./targets.ts";
