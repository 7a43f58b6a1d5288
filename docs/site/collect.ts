/**
 * The pages of the site: what stands in the menu, and every file or folder of the repository that one of them links to, so
 * that the site needs nothing around it. A link that leads nowhere is an error with the place of it.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, posix, relative, resolve } from "node:path";
import { type Rendered, renderMarkdown } from "./render.ts";
import { escapeHtml } from "./text.ts";

export interface Page extends Rendered {
  /** In the repository, from its root. */
  readonly source: string;
  /** In the site. */
  readonly out: string;
  readonly title: string;
}

/** A file that is shown as it stands: more is no page to read. */
const shownBytesMax = 256 * 1024;
const pagesMax = 1000;

export function collectPages(root: string, first: readonly string[]): { pages: Page[]; broken: string[] } {
  const pages = new Map<string, Page>();
  const broken: string[] = [];
  const anchors: { from: string; href: string; source: string; id: string }[] = [];
  const queue = [...first];
  for (let source = queue.shift(); source !== undefined; source = queue.shift()) {
    if (pages.has(source)) continue;
    if (pages.size >= pagesMax) throw new Error(`more than ${pagesMax} pages: a link leads to too much`);
    const at = source;
    const out = outputOf(root, at);
    const link = (href: string): string => {
      if (/^(https:|mailto:)/.test(href)) {
        if (!URL.canParse(href)) broken.push(`${at}: ${href}`);
        return href;
      }
      const [path = "", id = ""] = href.split("#", 2);
      const to = path === "" ? at : relative(root, resolve(root, isFolder(root, at) ? at : dirname(at), path));
      if (/^[a-z]+:/.test(href) || to.startsWith("..") || !existsSync(join(root, to))) {
        broken.push(`${at}: ${href}`);
        return href;
      }
      if (id !== "") anchors.push({ from: at, href, source: to, id });
      queue.push(to);
      return `${posix.relative(posix.dirname(out), outputOf(root, to)) || posix.basename(out)}${id === "" ? "" : `#${id}`}`;
    };
    pages.set(at, makePage(root, at, out, link));
  }
  for (const { from, href, source, id } of anchors)
    if (!pages.get(source)?.headings.some((heading) => heading.id === id))
      broken.push(`${from}: ${href} has no such heading`);
  const twice = [...Map.groupBy(pages.values(), ({ out }) => out)].filter(([, of]) => of.length > 1);
  for (const [out, of] of twice) broken.push(`${of.map(({ source }) => source).join(" and ")} are both ${out}`);
  return { pages: [...pages.values()], broken };
}

function makePage(root: string, source: string, out: string, link: (href: string) => string): Page {
  const text = isFolder(root, source) ? listing(root, source) : readFileSync(join(root, source), "utf8");
  if (isFolder(root, source) || source.endsWith(".md")) {
    const rendered = renderMarkdown(text, link);
    const title = rendered.headings.find(({ depth }) => depth === 1)?.text ?? source;
    return { ...rendered, source, out, title };
  }
  if (text.length > shownBytesMax || text.includes("\0"))
    throw new Error(`${source} is linked to, and is no page to show`);
  const heading = { depth: 1, text: source, id: "file" };
  return {
    html: `<h1 id="file">${escapeHtml(source)}</h1>\n<pre tabindex="0"><code>${escapeHtml(text)}</code></pre>\n`,
    headings: [heading],
    sections: [{ id: "file", title: source, text }],
    links: [],
    source,
    out,
    title: source,
  };
}

/** A folder has no page of its own but its README: its files as a list then. */
function listing(root: string, folder: string): string {
  const entries = readdirSync(join(root, folder), { withFileTypes: true }).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  );
  if (entries.some(({ name }) => name === "README.md")) return readFileSync(join(root, folder, "README.md"), "utf8");
  const lines = entries.map((entry) =>
    entry.isFile() ? `- [${titleOf(join(root, folder, entry.name))}](${entry.name})` : `- ${entry.name}/`,
  );
  return `# ${folder}\n\n${lines.join("\n")}\n`;
}

function titleOf(file: string): string {
  const heading = file.endsWith(".md") ? /^# (.+)$/m.exec(readFileSync(file, "utf8"))?.[1] : undefined;
  return (heading ?? posix.basename(file)).replace(/[[\]]/g, "\\$&");
}

/** docs/policy.md → policy.html; what is not below docs keeps its path. */
function outputOf(root: string, source: string): string {
  const inDocs = source.replace(/^docs(\/|$)/, "");
  if (isFolder(root, source)) return posix.join(inDocs, "index.html");
  if (source === "docs/README.md") return "index.html";
  return source.endsWith(".md") ? inDocs.replace(/\.md$/, ".html") : `${inDocs}.html`;
}

function isFolder(root: string, source: string): boolean {
  return statSync(join(root, source), { throwIfNoEntry: false })?.isDirectory() === true;
}
