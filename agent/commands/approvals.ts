/** `weir approvals`: the queue of held operations, from the command line. */
import { askAgent } from "../control/client.ts";
import type { ApprovalView } from "../control/protocol.ts";
import { WeirError } from "../errors.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir approvals [ls|approve ID|deny ID] [--reason TEXT] [--for DURATION] [--json] [--state DIR]

Shows the held operations, and decides one. Deciding needs root, and nobody approves his own.

  --reason TEXT    reaches the client
  --for DURATION   approve the same bytes, from the same program by the same rule, without asking again: 30s, 10m, at
                   most 1h
`;

/** Who approves has to see the whole statement: the agent has cut it to its own limit already. */
const textCharactersMax = 8_000;
const lineCharactersMax = 1_000;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      reason: { type: "string", default: "" },
      for: { type: "string" },
      json: { type: "boolean", default: false },
      state: { type: "string" },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const path = controlSocketPath(values.state ?? io.stateDir);
  const [verb = "ls", id, ...rest] = positionals;
  if (rest.length > 0) throw new WeirError("WEIR_USAGE", `Too many words.\n\n${help}`);
  if (verb === "ls" && id === undefined) {
    const reply = await askAgent(path, { op: "approvals" });
    const approvals = "approvals" in reply ? reply.approvals : [];
    io.stdout.write(values.json ? `${JSON.stringify(approvals, null, 2)}\n` : table(approvals));
    return 0;
  }
  if ((verb === "approve" || verb === "deny") && id !== undefined) {
    const reply = await askAgent(path, {
      op: "decide",
      id,
      decision: verb,
      reason: values.reason,
      ...(values.for === undefined ? {} : { forMs: duration(values.for) }),
    });
    if (!("approval" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no approval.");
    io.stdout.write(
      values.json ? `${JSON.stringify(reply.approval)}\n` : `${reply.approval.id} ${reply.approval.status}\n`,
    );
    return 0;
  }
  throw new WeirError("WEIR_USAGE", help);
}

function duration(text: string): number {
  const [, count, unit = ""] = /^([1-9][0-9]{0,4})(s|m|h)$/.exec(text) ?? [];
  const ms = Number(count) * ({ s: 1_000, m: 60_000, h: 3_600_000 }[unit] ?? Number.NaN);
  if (!(ms <= 3_600_000)) throw new WeirError("WEIR_USAGE", `--for ${text}: a time like 30s, 10m or 1h is expected.`);
  return ms;
}

function table(approvals: readonly ApprovalView[]): string {
  if (approvals.length === 0) return "no held operations\n";
  let text = "";
  for (const approval of approvals) {
    // Who asks over HTTP has neither.
    const login = approval.user === "" && approval.database === "" ? "" : `${approval.user}@${approval.database} `;
    const who = `${login}on ${approval.target} by ${approval.process}`;
    text += `${approval.id}  ${approval.status.padEnd(9)}  ${printable(who, lineCharactersMax)}\n`;
    text += `          ${printable(approval.text, textCharactersMax)}\n`;
    text += `          ${printable(`rule ${approval.rule}: ${approval.reason}`, lineCharactersMax)}\n`;
    if (approval.status === "pending")
      for (const risk of approval.risks) text += `          ! ${printable(risk, lineCharactersMax)}\n`;
    if (approval.grantedUntilMs !== null)
      text += `          the same is approved until ${new Date(approval.grantedUntilMs).toISOString()}\n`;
  }
  return text;
}
