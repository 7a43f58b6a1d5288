/**
 * Builds docs/ as a site of plain files: `node docs/site/build.ts [DIRECTORY]`, default build/site. Ends with 1 and the list
 * when a link leads nowhere.
 */
import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { collectPages } from "./collect.ts";
import { layOut } from "./layout.ts";
import { menuOf } from "./menu.ts";
import { searchIndex } from "./search-index.ts";

const root = resolve(import.meta.dirname, "../..");
const site = resolve(process.argv[2] ?? join(root, "build/site"));
const menu = menuOf(root);
const { pages, broken } = collectPages(
  root,
  menu.flatMap((section) => section.pages.map(({ source }) => source)),
);
if (broken.length > 0) {
  console.error(`docs: ${broken.length} links lead nowhere\n  ${broken.join("\n  ")}`);
  process.exit(1);
}
// Beside its place first: a build that fails leaves the former site.
const fresh = `${site}.new`;
rmSync(fresh, { recursive: true, force: true });
const titles = new Map(pages.map(({ source, title }) => [source, title]));
for (const page of pages) {
  const file = join(fresh, page.out);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, layOut(page, menu, titles));
}
writeFileSync(join(fresh, "search-index.js"), searchIndex(pages));
cpSync(join(import.meta.dirname, "assets"), fresh, { recursive: true });
rmSync(site, { recursive: true, force: true });
renameSync(fresh, site);
const links = pages.reduce((count, page) => count + page.links.length, 0);
console.log(`docs: ${pages.length} pages, ${links} links checked, in ${site}`);
