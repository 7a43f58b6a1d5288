import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from "node:fs";

/** In place of the old file only when it is whole on the disk: whoever reads it finds the one or the other. */
export function replaceFile(path: string, content: string | Uint8Array | Iterable<string>, mode = 0o600): void {
  const parts = typeof content === "string" || content instanceof Uint8Array ? [content] : content;
  const file = openSync(`${path}.new`, "w", mode);
  try {
    for (const part of parts) writeFileSync(file, part);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.new`, path);
}
