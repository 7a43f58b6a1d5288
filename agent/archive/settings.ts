/** Retention as it is written on the command line: `90d`, `50GiB`. */
import { WeirError } from "../errors.ts";

export interface RetentionSettings {
  readonly ageMs: number | null;
  readonly bytes: number | null;
  /** `DIR` or `s3://BUCKET/PREFIX`; null: what is taken out is gone. */
  readonly archive: string | null;
}

const hourMs = 60 * 60 * 1_000;
const ages: Readonly<Record<string, number>> = { h: hourMs, d: 24 * hourMs, y: 365 * 24 * hourMs };
const sizes: Readonly<Record<string, number>> = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** Null when nothing is ever taken out. Throws WEIR_USAGE. */
export function readRetention(words: {
  readonly age?: string | undefined;
  readonly size?: string | undefined;
  readonly archive?: string | undefined;
}): RetentionSettings | null {
  const ageMs = words.age === undefined ? null : count("--retain-age", words.age, ages);
  const bytes = words.size === undefined ? null : count("--retain-size", words.size, sizes);
  if (ageMs === null && bytes === null) {
    if (words.archive !== undefined)
      throw new WeirError(
        "WEIR_USAGE",
        "--archive says where, and --retain-age or --retain-size when: one is missing.",
      );
    return null;
  }
  return { ageMs, bytes, archive: words.archive ?? null };
}

export function readSize(flag: string, text: string): number {
  return count(flag, text, sizes);
}

function count(flag: string, text: string, units: Readonly<Record<string, number>>): number {
  const [, digits = "", unit = ""] = /^(\d{1,6})([A-Za-z]+)$/.exec(text) ?? [];
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
  if (factor === undefined || Number(digits) === 0)
    throw new WeirError("WEIR_USAGE", `${flag} ${text}: a number with ${Object.keys(units).join(", ")} is expected.`);
  return Number(digits) * factor;
}
