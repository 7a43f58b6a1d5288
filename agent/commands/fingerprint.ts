/** `weir policy fingerprint`: what a policy's `source` detector needs to know of a repository, and no more. */
import { once } from "node:events";
import { resolve } from "node:path";
import { FileProblem, readSource } from "../act/detector-files.ts";
import { WeirError } from "../errors.ts";
import { writeFingerprints } from "../mask/fingerprint-file.ts";
import { FingerprintTable } from "../mask/fingerprints.ts";
import type { CommandIo } from "./io.ts";

/** Lines are written in pieces of this many characters. */
const pieceCharactersMax = 64 * 1024;

export async function fingerprint(directories: readonly string[], io: CommandIo): Promise<number> {
  if (directories.length === 0) throw new WeirError("WEIR_USAGE", "Which directory is to be fingerprinted?");
  const table = new FingerprintTable();
  const read = { files: 0, bytes: 0 };
  for (const directory of directories) {
    const { files, bytes } = await readSource(resolve(directory), table, () => {}).catch(complain);
    read.files += files;
    read.bytes += bytes;
  }
  if (table.size === 0)
    throw new WeirError("WEIR_USAGE", `${directories.join(", ")}: there is no source code to fingerprint.`);
  let piece = "";
  for (const line of writeFingerprints(table)) {
    piece += line;
    if (piece.length < pieceCharactersMax) continue;
    if (!io.stdout.write(piece)) await once(io.stdout, "drain");
    piece = "";
  }
  io.stdout.write(piece);
  io.stderr.write(`${table.size} fingerprints of ${read.files} files, ${read.bytes} bytes\n`);
  return 0;
}

function complain(error: unknown): never {
  if (error instanceof FileProblem)
    throw new WeirError("WEIR_USAGE", `${error.file}: ${error.message}`, { cause: error });
  throw error;
}
