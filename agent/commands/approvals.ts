/** `weir approvals`: the queue of held operations, from the command line. */
import { parseArgs } from "node:util";
import { askAgent } from "../control/client.ts";
import type { ApprovalView } from "../control/protocol.ts";
import { WeirError } from "../errors.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir approvals [ls|approve ID|deny ID] [--reason TEXT] [--json] [--state DIR]

Shows the held operations, and decides one. Deciding needs root, and nobody approves his own.
`;

/** Who approves has to see the whole statement: the agent has cut it to its own limit already. */
const textCharactersMax = 8_000;
const lineCharactersMax = 1_000;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      reason: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      state: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    io.stdout.write(help);
    return 0;
  }
  const path = controlSocketPath(values.state ?? io.stateDir);
  const [verb = "ls", id, ...rest] = positionals;
  if (rest.length > 0) throw new WeirError("WEIR_USAGE", `Too many words. ${help}`);
  if (verb === "ls" && id === undefined) {
    const reply = await askAgent(path, { op: "approvals" });
    const approvals = "approvals" in reply ? reply.approvals : [];
    io.stdout.write(values.json ? `${JSON.stringify(approvals, null, 2)}\n` : table(approvals));
    return 0;
  }
  if ((verb === "approve" || verb === "deny") && id !== undefined) {
    const reply = await askAgent(path, { op: "decide", id, decision: verb, reason: values.reason });
    if (!("approval" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no approval.");
    io.stdout.write(
      values.json ? `${JSON.stringify(reply.approval)}\n` : `${reply.approval.id} ${reply.approval.status}\n`,
    );
    return 0;
  }
  throw new WeirError("WEIR_USAGE", help);
}

function table(approvals: readonly ApprovalView[]): string {
  if (approvals.length === 0) return "no held operations\n";
  let text = "";
  for (const approval of approvals) {
    const who = `${approval.user}@${approval.database} on ${approval.target} by ${approval.process}`;
    text += `${approval.id}  ${approval.status.padEnd(9)}  ${printable(who, lineCharactersMax)}\n`;
    text += `          ${printable(approval.text, textCharactersMax)}\n`;
    text += `          ${printable(`rule ${approval.rule}: ${approval.reason}`, lineCharactersMax)}\n`;
  }
  return text;
}
