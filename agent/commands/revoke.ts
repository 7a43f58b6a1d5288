/** `weir revoke`: ends what somebody has open, and lets nothing of his begin. */
import { askAgent } from "../control/client.ts";
import type { IdentitiesView } from "../control/protocol.ts";
import { WeirError } from "../errors.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir revoke SUBJECT|SESSION [--issuer URL] [--reason TEXT] [--state DIR]
weir revoke --undo SUBJECT|SESSION [--issuer URL] [--reason TEXT]
weir revoke --list [--json]

Ends every live flow of the subject at once, with an error in its protocol, and refuses the next ones, whatever token
they bring. With the id of a live session (weir sessions): ends it, and refuses what else comes from where it came, its
run or its cgroup. Outlives the agent, until --undo. Needs root. --list shows who is bound and who is revoked.

  --issuer URL   only this issuer's subject; default: of every issuer
  --reason TEXT  told to the client, and recorded
`;

const nameCharactersMax = 600;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      issuer: { type: "string" },
      reason: { type: "string", default: "" },
      undo: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      state: { type: "string" },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const path = controlSocketPath(values.state ?? io.stateDir);
  const [what, ...rest] = positionals;
  if (values.list && what === undefined) {
    const reply = await askAgent(path, { op: "identities" });
    if (!("identities" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no identities.");
    io.stdout.write(values.json ? `${JSON.stringify(reply.identities, null, 2)}\n` : table(reply.identities));
    return 0;
  }
  if (what === undefined || rest.length > 0 || values.list) throw new WeirError("WEIR_USAGE", help);
  const op = values.undo ? "restore" : "revoke";
  const reply = await askAgent(path, { op, what, issuer: values.issuer ?? null, reason: values.reason });
  if (!("revoked" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent did not say what it did.");
  const { ended } = reply.revoked;
  if (values.json) io.stdout.write(`${JSON.stringify({ what, ...reply.revoked })}\n`);
  else if (values.undo) io.stdout.write(`${printable(what, nameCharactersMax)} is let in again\n`);
  else
    io.stdout.write(`${printable(what, nameCharactersMax)} is revoked; ${ended} flow${ended === 1 ? "" : "s"} ended\n`);
  return 0;
}

function table({ bound, revoked }: IdentitiesView): string {
  const text = (words: string): string => printable(words, nameCharactersMax);
  const lines = bound.map(
    ({ where, subject, issuer, groups, untilMs, refused }) =>
      `${text(where)}  ${text(subject)} of ${text(issuer)} [${text(groups.join(", "))}] until ${new Date(untilMs).toISOString()}${refused === null ? "" : `  REFUSED: ${text(refused)}`}`,
  );
  for (const { what, issuer, reason, by, atMs } of revoked)
    lines.push(
      `revoked  ${text(what)} of ${text(issuer ?? "every issuer")} by ${text(by)} ${new Date(atMs).toISOString()} ${text(reason)}`,
    );
  return lines.length === 0 ? "nobody is bound, nobody is revoked\n" : `${lines.join("\n")}\n`;
}
