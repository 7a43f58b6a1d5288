/** What the search looks into: a script and no JSON, since a page that is read from a disk may not fetch a file. */
import type { Page } from "./collect.ts";

/** Of a section: enough to find it by, and the index stays small. */
const textCharactersMax = 1500;

export function searchIndex(pages: readonly Page[]): string {
  const entries = pages
    // Sources are found by their page, which says what they are.
    .filter(({ source }) => source.endsWith(".md"))
    .flatMap((page) =>
      page.sections.map(({ id, title, text }) => [
        `${page.out}#${id}`,
        page.title,
        title,
        text.replace(/\s+/g, " ").trim().slice(0, textCharactersMax),
      ]),
    );
  return `globalThis.weirSearch=${JSON.stringify(entries)};\n`;
}
