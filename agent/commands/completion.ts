/** `weir completion`: what shells complete and the manual page, made from the commands' own help. */
import { WeirError } from "../errors.ts";
import { manualPage } from "./completion/manual.ts";
import { bashCompletion, fishCompletion, zshCompletion } from "./completion/shells.ts";
import { type Described, describe, type Listed } from "./completion/words.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir completion bash|zsh|fish|man

Prints what the shell completes, or the manual page. The Debian package has them in place; by hand:

  bash   source <(weir completion bash)
  zsh    weir completion zsh >"\${fpath[1]}/_weir"
  fish   weir completion fish >~/.config/fish/completions/weir.fish
  man    weir completion man | man -l -
`;

const writers: Readonly<Record<string, (commands: readonly Described[]) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
  man: manualPage,
};

export async function run(
  args: readonly string[],
  io: CommandIo,
  commands: Readonly<Record<string, Listed>>,
): Promise<number> {
  const [kind] = args;
  if (kind === "--help" || kind === "-h") {
    io.stdout.write(help);
    return 0;
  }
  const write = kind !== undefined && Object.hasOwn(writers, kind) ? writers[kind] : undefined;
  if (write === undefined || args.length !== 1) throw new WeirError("WEIR_USAGE", help);
  const described = await Promise.all(Object.entries(commands).map(([name, one]) => describe(name, one)));
  io.stdout.write(write(described));
  return 0;
}
