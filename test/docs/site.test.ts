/** The docs as a site: it builds from what is here, a link that leads nowhere fails it, and people can read what comes out. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import type { Browser } from "playwright-core";
import { collectPages } from "../../docs/site/collect.ts";
import { axe, openBrowser } from "../controller/web/browser.ts";

const root = resolve(import.meta.dirname, "../..");
const dir = mkdtempSync(join(tmpdir(), "weir-site-"));
const site = join(dir, "site");
after(() => rmSync(dir, { recursive: true, force: true }));

test("docs/ builds, every link leads somewhere, and nothing comes from elsewhere", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, "docs/site/build.ts"), site]);
  assert.match(stdout, /^docs: \d+ pages, \d+ links checked/);
  const pages = readdirSync(site, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".html"));
  assert.ok(pages.includes("index.html") && pages.includes("protocols/postgres.html"));
  for (const file of pages) {
    const html = readFileSync(join(site, file), "utf8");
    for (const [, address = ""] of html.matchAll(/<(?:link|script|img)[^>]*(?:href|src)="([^"]*)"/g))
      assert.ok(existsSync(join(site, dirname(file), address)), `${file} wants ${address}`);
    for (const [, address = ""] of html.matchAll(/<a [^>]*href="((?!https:|mailto:)[^"#]*)(?:#[^"]*)?"/g))
      assert.ok(address === "" || existsSync(join(site, dirname(file), address)), `${file} leads to ${address}`);
  }
});

test("a link to no page, to no heading and out of the repository is named", () => {
  const made = join(dir, "made");
  mkdirSync(join(made, "docs"), { recursive: true });
  writeFileSync(
    join(made, "docs/README.md"),
    "# A\n\n## Two words\n\n## Two words\n\n[1](b.md) [2](none.md) [3](#two-words-1) [4](#three) [5](b.md#here) [6](../../x) [7](http://a.example/) [8](b.md#there)\n",
  );
  writeFileSync(join(made, "docs/b.md"), "# B\n\n### Here\n\n<script>1</script>\n");
  const { pages, broken } = collectPages(made, ["docs/README.md"]);
  assert.deepEqual(broken, [
    "docs/README.md: none.md",
    "docs/README.md: ../../x",
    "docs/README.md: http://a.example/",
    "docs/README.md: #three has no such heading",
    "docs/README.md: b.md#there has no such heading",
  ]);
  assert.deepEqual(
    pages.map(({ out }) => out),
    ["index.html", "b.html"],
  );
  assert.doesNotMatch(pages[1]?.html ?? "", /<script>/);
});

test("a build that fails says what is wrong and leaves the former site", () => {
  const copy = join(dir, "copy");
  mkdirSync(copy);
  execFileSync("cp", ["-R", join(root, "docs"), copy]);
  // The pages link to what is around them, so that this copy has many links that lead nowhere.
  mkdirSync(join(copy, "node_modules"));
  execFileSync("ln", ["-s", join(root, "node_modules/marked"), join(copy, "node_modules/marked")]);
  const out = join(copy, "out");
  mkdirSync(out);
  writeFileSync(join(out, "index.html"), "former");
  const ran = promisify(execFile)(process.execPath, [join(copy, "docs/site/build.ts"), out]);
  return assert.rejects(ran, ({ code, stderr }: { code: number; stderr: string }) => {
    assert.equal(code, 1);
    assert.match(stderr, /links lead nowhere\n {2}docs\//);
    assert.equal(readFileSync(join(out, "index.html"), "utf8"), "former");
    return true;
  });
});

describe("read in a browser, from the disk", {
  skip: existsSync("/usr/bin/chromium") ? false : "chromium is not installed",
}, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser?.close());
  const address = (file: string) => pathToFileURL(join(site, file)).href;

  for (const colorScheme of ["light", "dark"] as const)
    test(`${colorScheme}, as wide as a phone: nothing sticks out, and axe finds nothing`, async () => {
      const page = await browser.newPage({ colorScheme, viewport: { width: 360, height: 740 } });
      const errors: string[] = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      for (const file of [
        "index.html",
        "policy.html",
        "decisions/index.html",
        "comparison.html",
        "protocols/llm.html",
        "policies/examples/llm.yaml.html",
      ]) {
        await page.goto(address(file));
        const wide = await page.evaluate("document.documentElement.scrollWidth");
        assert.ok((wide as number) <= 360, `${file} is ${wide} wide`);
        assert.deepEqual(errors, [], file);
        assert.deepEqual(await axe(page), [], file);
        // axe fetches the stylesheet itself, which a page from a disk may not.
        errors.length = 0;
      }
      await page.close();
    });

  test("by keyboard: / searches, arrows choose, Enter opens the section", async () => {
    const page = await browser.newPage();
    await page.goto(address("kafka.html"));
    await page.keyboard.press("/");
    await page.keyboard.type("unbounded where");
    await page.waitForSelector("#found li");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.getAttribute("#search", "aria-activedescendant"), "found-0");
    await page.keyboard.press("Escape");
    assert.equal(await page.isHidden("#found"), true);
    await page.keyboard.press("/");
    await page.keyboard.type("threat seen and closed again");
    await page.keyboard.press("Enter");
    await page.waitForURL(/threat-model\.html#seen-and-closed-again$/);
    await page.close();
  });
});
