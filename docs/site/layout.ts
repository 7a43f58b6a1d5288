/** A page around its text: menu, search, contents. Works without a script; the script only adds the search. */
import { posix } from "node:path";
import type { Page } from "./collect.ts";
import type { Menu } from "./menu.ts";
import { escapeHtml } from "./text.ts";

/** Nothing from elsewhere, and no script in the page. A page read from a disk has no origin: its own files are `file:`. */
const policy =
  "default-src 'none'; style-src 'self' file:; script-src 'self' file:; base-uri 'none'; form-action 'none'";

export function layOut(page: Page, menu: Menu, titles: ReadonlyMap<string, string>): string {
  const up = posix.relative(posix.dirname(page.out), ".") || ".";
  const to = (out: string) => escapeHtml(posix.relative(posix.dirname(page.out), out) || posix.basename(out));
  const items = menu
    .map(({ name, pages }) => {
      const links = pages.map(({ source, out }) => {
        const here = source === page.source ? ' aria-current="page"' : "";
        return `<li><a href="${to(out)}"${here}>${escapeHtml(titles.get(source) ?? source)}</a></li>`;
      });
      return `<h2>${escapeHtml(name)}</h2>\n<ul>\n${links.join("\n")}\n</ul>`;
    })
    .join("\n");
  const inside = page.headings.filter(({ depth }) => depth === 2);
  const contents =
    inside.length < 3
      ? ""
      : `<nav class="contents" aria-label="On this page"><ul>${inside.map(({ id, text }) => `<li><a href="#${id}">${escapeHtml(text)}</a></li>`).join("")}</ul></nav>\n`;
  const [title, rest] = page.html.split(/(?<=<\/h1>\n)/, 2);
  const body = rest === undefined ? page.html : `${title}${contents}${page.html.slice(title?.length)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(page.title === "Weir" ? "Weir" : `${page.title} · Weir`)}</title>
<link rel="stylesheet" href="${up}/style.css">
<script defer src="${up}/search-index.js"></script>
<script defer src="${up}/site.js" data-up="${up}"></script>
</head>
<body>
<a class="skip" href="#text">To the text</a>
<header>
<a class="name" href="${to("index.html")}">Weir</a>
<div class="search" role="search" hidden>
<input type="search" id="search" placeholder="Search ( / )" aria-label="Search" role="combobox" aria-expanded="false" aria-controls="found" aria-autocomplete="list" autocomplete="off" spellcheck="false">
<ul id="found" role="listbox" aria-label="What was found" hidden></ul>
</div>
</header>
<div class="page">
<details class="menu" open>
<summary>Pages</summary>
<nav aria-label="Pages">
${items}
</nav>
</details>
<main id="text" tabindex="-1">
${body}</main>
</div>
</body>
</html>
`;
}
