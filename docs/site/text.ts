/** Text of pages: escaped for HTML, and named for links as code hosts name headings. */

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

export interface Slugs {
  /** The id of a heading; the second of the same name ends in -1. */
  next(words: string): string;
}

export function slugs(): Slugs {
  const seen = new Map<string, number>();
  return {
    next(words) {
      const base = words
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replace(/\s/g, "-");
      const count = seen.get(base) ?? 0;
      seen.set(base, count + 1);
      return count === 0 ? base : `${base}-${count}`;
    },
  };
}
