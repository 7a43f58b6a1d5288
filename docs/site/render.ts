/** One page of Markdown as HTML: headings that can be linked to, tables that scroll, and no HTML of the page's own. */
import { Marked, type Token, type Tokens } from "marked";
import { escapeHtml, type Slugs, slugs } from "./text.ts";

export interface Heading {
  readonly depth: number;
  readonly text: string;
  readonly id: string;
}

export interface Rendered {
  readonly html: string;
  readonly headings: readonly Heading[];
  /** What the page says below each heading, in plain words, for the search. */
  readonly sections: readonly { readonly id: string; readonly title: string; readonly text: string }[];
  /** What the links lead to, as written. */
  readonly links: readonly string[];
}

/** `resolve` gives what stands in `href`, and is asked for every link once. */
export function renderMarkdown(text: string, resolve: (href: string) => string): Rendered {
  const headings: Heading[] = [];
  const links: string[] = [];
  const ids: Slugs = slugs();
  const marked = new Marked({ gfm: true });
  const sections: { id: string; title: string; text: string }[] = [];
  marked.use({
    renderer: {
      heading(token: Tokens.Heading) {
        const words = plain(token.tokens);
        const id = ids.next(words);
        headings.push({ depth: token.depth, text: words, id });
        const inner = this.parser.parseInline(token.tokens);
        if (token.depth === 1) return `<h1 id="${id}">${inner}</h1>\n`;
        return `<h${token.depth} id="${id}">${inner} <a class="anchor" href="#${id}" aria-label="Link to: ${escapeHtml(words)}">#</a></h${token.depth}>\n`;
      },
      link(token: Tokens.Link) {
        links.push(token.href);
        return `<a href="${escapeHtml(resolve(token.href))}">${this.parser.parseInline(token.tokens)}</a>`;
      },
      image(token: Tokens.Image) {
        throw new Error(`the picture ${token.href}: pages have no pictures`);
      },
      html(token: Tokens.HTML | Tokens.Tag) {
        if (/^\s*<!--[\s\S]*-->\s*$/.test(token.text)) return "";
        return escapeHtml(token.text);
      },
      code(token: Tokens.Code) {
        // What is wider than a phone scrolls, also by keyboard.
        const language =
          token.lang === undefined || token.lang === "" ? "" : ` class="language-${escapeHtml(token.lang)}"`;
        return `<pre tabindex="0"><code${language}>${escapeHtml(token.text)}</code></pre>\n`;
      },
      table(token: Tokens.Table) {
        const cells = (row: Tokens.TableCell[], tag: string) =>
          `<tr>${row.map((cell) => `<${tag}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join("")}</tr>`;
        const body = token.rows.map((row) => cells(row, "td")).join("\n");
        return `<div class="wide" tabindex="0"><table><thead>${cells(token.header, "th")}</thead>\n<tbody>${body}</tbody></table></div>\n`;
      },
    },
  });
  const tokens = marked.lexer(text);
  const html = marked.parser(tokens);
  let at = 0;
  for (const token of tokens) {
    if (token.type === "heading") {
      const { id, text: title } = headings[at++] as Heading;
      sections.push({ id, title, text: "" });
    } else {
      const last = sections.at(-1);
      if (last !== undefined) last.text += ` ${plain([token])}`;
    }
  }
  return { html, headings, sections, links };
}

/** The words of tokens, without marks. */
function plain(tokens: readonly Token[] | undefined): string {
  const parts: string[] = [];
  for (const token of tokens ?? []) {
    if (token.type === "html" || token.type === "space") continue;
    const one = token as Partial<Tokens.Generic>;
    if (token.type === "table") {
      const table = token as Tokens.Table;
      for (const row of [table.header, ...table.rows]) parts.push(row.map((cell) => plain(cell.tokens)).join(" "));
    } else if (token.type === "list")
      parts.push((token as Tokens.List).items.map((item) => plain(item.tokens)).join(" "));
    else if (Array.isArray(one.tokens) && one.tokens.length > 0) parts.push(plain(one.tokens));
    else if (typeof one["text"] === "string") parts.push(one["text"]);
  }
  return parts.join(tokens?.some((token) => /^(paragraph|code|table|list)$/.test(token.type)) ? " " : "");
}
