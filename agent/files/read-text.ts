import { readFileSync } from "node:fs";

/** Null: there is no such file. Throws the system's error for every other reason. */
export function readTextOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
