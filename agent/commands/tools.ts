/** `weir tools`: tools of MCP servers that are not what they were when they were first seen. */
import { askAgent } from "../control/client.ts";
import { WeirError } from "../errors.ts";
import { diffLines } from "../wire/mcp/tool-diff.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir tools [ls|accept NAME] [--json] [--state DIR]

  ls            tools of MCP servers whose definition changed since it was first seen, with the difference
  accept NAME   the tool as it is now is what later definitions are compared with; the record says who took it

Needs root. Until it is accepted, a changed tool has the trait tool-changed, and rules decide.
`;

const lineCharactersMax = 2_000;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      state: { type: "string" },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const path = controlSocketPath(values.state ?? io.stateDir);
  const [verb = "ls", name, ...rest] = positionals;
  if (verb === "ls" && name === undefined) {
    const reply = await askAgent(path, { op: "tools" });
    const tools = "tools" in reply ? reply.tools : [];
    if (values.json) io.stdout.write(`${JSON.stringify(tools, null, 2)}\n`);
    else if (tools.length === 0) io.stdout.write("no tool has changed\n");
    for (const tool of values.json ? [] : tools) {
      io.stdout.write(`${printable(tool.name, lineCharactersMax)}\n`);
      for (const line of diffLines(tool.before, tool.now).split("\n"))
        io.stdout.write(`    ${printable(line, lineCharactersMax)}\n`);
    }
    return 0;
  }
  if (verb !== "accept" || name === undefined || rest.length > 0) throw new WeirError("WEIR_USAGE", help);
  const reply = await askAgent(path, { op: "accept-tool", name });
  const accepted = "accepted" in reply && reply.accepted;
  if (values.json) io.stdout.write(`${JSON.stringify({ name, accepted })}\n`);
  else io.stdout.write(accepted ? `${printable(name, lineCharactersMax)} is taken as it is now\n` : "");
  if (!accepted)
    io.stderr.write(`weir tools: no tool ${printable(name, lineCharactersMax)} has changed; see weir tools ls\n`);
  return accepted ? 0 : 1;
}
