/** Debian's chromium on the page of a controller that has something to show. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";

const axeScript = readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");

/** `namespace`: of a network, by its name; default this one. */
export async function openBrowser(namespace?: string): Promise<Browser> {
  const dir = mkdtempSync(join(tmpdir(), "weir-chromium-"));
  const program = join(dir, "chromium");
  const enter = namespace === undefined ? "" : `nsenter --net=/run/netns/${namespace} -- `;
  writeFileSync(program, `#!/bin/sh\nexec ${enter}/usr/bin/chromium "$@"\n`, { mode: 0o755 });
  try {
    return await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });
  } finally {
    rmSync(dir, { recursive: true });
  }
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
