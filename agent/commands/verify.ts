/** `weir verify`: checks the record offline. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import { publicKeyFile } from "../record/heads.ts";
import { verifyLog } from "../record/verify.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir verify [--log DIR] [--key FILE] [--json]

Checks every link, every sequence number and every signed head of the record in DIR (default /var/lib/weir).
Exit code 0 when nothing was changed, removed, reordered or cut; else 1 and the first bad entry.
Take a copy of the public key (agent-key.pub.pem) elsewhere and give it with --key: who can write the state directory
can replace the key that stands beside the log.
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      log: { type: "string" },
      state: { type: "string" },
      key: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    io.stdout.write(help);
    return 0;
  }
  const dir = values.log ?? values.state ?? io.stateDir;
  const key = values.key ?? join(dir, publicKeyFile);
  if (!existsSync(key))
    throw new WeirError(
      "WEIR_USAGE",
      `${key}: there is no public key. Name the log's directory with --log, the key with --key.`,
    );
  const result = verifyLog(dir, key);
  if (values.json) io.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else if (result.firstBad !== null) {
    const { fault, sentence, segment, offset } = result.firstBad;
    const place = segment === null ? "" : ` (${segment}, byte ${offset})`;
    io.stdout.write(`BROKEN: ${fault}. ${sentence}${place}\n${result.entries} entries before it are good.\n`);
  } else {
    const crashes =
      result.interruptions === 0
        ? ""
        : `, ${result.interruptions} interruption${result.interruptions === 1 ? "" : "s"} of the agent visible`;
    const unsigned = result.unsigned > 0 ? ` The last ${result.unsigned} are chained and not yet signed.` : "";
    io.stdout.write(
      `OK: ${result.entries} entries in ${result.sessions} sessions, ${result.heads} signed heads${crashes}.${unsigned}\n`,
    );
  }
  return result.ok ? 0 : 1;
}
