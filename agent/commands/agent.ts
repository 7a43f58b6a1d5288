/** `weir agent`: the agent alone. Approvals are decided by `weir approvals`; there is no page. */
import { configHelp } from "../config.ts";
import type { CommandIo } from "./io.ts";
import { serve } from "./up.ts";

export const help = `weir agent [options]

Runs the agent without the web page; \`weir approvals\` decides held operations.

${configHelp.replace(/^ {2}--(listen-ui|sign-in) .*\n/gm, "")}`;

export function run(args: readonly string[], io: CommandIo): Promise<number> {
  return serve(args, io, { page: false, help });
}
