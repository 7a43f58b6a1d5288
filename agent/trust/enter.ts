/** The call of build/weir-enter, the program that makes the namespace and becomes the command. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import type { Plan } from "./plan.ts";

export const enterProgram = join(import.meta.dirname, "../../build/weir-enter");

/** `user`: a user namespace around it, for who may not mount. */
export type EnterMode = "root" | "user";

/** False where it was not built. */
export function canEnter(): boolean {
  try {
    accessSync(enterProgram, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Arguments of `weir-enter`, its own name included. */
export function enterWords(
  mode: EnterMode,
  caPath: string,
  plan: Plan,
  program: string,
  args: readonly string[],
): string[] {
  return [
    "weir-enter",
    mode,
    "authority",
    caPath,
    ...plan.slaves.flatMap((point) => ["slave", point]),
    ...plan.binds.flatMap(({ source, target, kind }) => [kind === "pem" ? "extend" : "bind", source, target]),
    ...plan.temporary.flatMap((path) => ["remove", path]),
    "--",
    program,
    program,
    ...args,
  ];
}
