/** Debian's chromium on the page of a controller that has something to show. */
import { readFileSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";

const axeScript = readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");

export function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
}

/** What axe-core finds against WCAG 2.2 A and AA, as `rule: selector` lines. */
export async function axe(page: Page): Promise<string[]> {
  // The page's policy forbids scripts that are not its own; the inspector's are not bound by it.
  await page.evaluate(axeScript);
  return page.evaluate(`
    axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
      .then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ target }) => id + ": " + target.join(" "))))
  `);
}
