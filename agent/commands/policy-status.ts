/** `weir policy status`: what is in force on this host. */
import { askAgent } from "../control/client.ts";
import { WeirError } from "../errors.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

const nameCharactersMax = 512;

export async function policyStatus(args: readonly string[], io: CommandIo, help: string): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: { state: { type: "string" }, json: { type: "boolean", default: false } },
  });
  if (told === null) return 0;
  const { values } = told;
  const reply = await askAgent(controlSocketPath(values.state ?? io.stateDir), { op: "status" });
  if (!("status" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no status.");
  const { policy: digest, mode, follows, origin } = reply.status;
  if (values.json) io.stdout.write(`${JSON.stringify({ digest, mode, follows, origin })}\n`);
  else {
    io.stdout.write(`mode ${mode}, digest ${digest}\n`);
    if (origin !== null)
      io.stdout.write(
        `version ${origin.version} of ${origin.id} over Kafka, signed by ${origin.signer}, published by ${printable(origin.by, nameCharactersMax)}\n`,
      );
    else
      io.stdout.write(
        follows === null ? "the host's own files\n" : `follows ${follows} over Kafka; no version of it has come yet\n`,
      );
  }
  return 0;
}
