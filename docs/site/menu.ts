/** What stands in the menu, in its order. A page of docs/ that is not here fails the build. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

export type Menu = readonly {
  readonly name: string;
  readonly pages: readonly { readonly source: string; readonly out: string }[];
}[];

const sections: readonly (readonly [name: string, pages: readonly string[]])[] = [
  ["Start", ["README", "quick-start", "operating", "comparison"]],
  ["Policies", ["policy", "cookbook", "identity", "approvals"]],
  ["Protocols", ["protocols/postgres", "protocols/http", "protocols/llm", "protocols/mcp", "protocols/grpc"]],
  ["Record", ["audit", "soc", "kafka"]],
  ["Inside", ["architecture", "threat-model", "benchmarks"]],
];

export function menuOf(root: string): Menu {
  const named = sections.flatMap(([, pages]) => pages);
  for (const file of readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })) {
    const page = /^(?!decisions\/|site\/)(.+)\.md$/.exec(file)?.[1];
    if (page !== undefined && !named.includes(page)) throw new Error(`docs/${file} is not in docs/site/menu.ts`);
  }
  return sections.map(([name, pages]) => ({
    name,
    pages: pages.map((page) => ({
      source: `docs/${page}.md`,
      out: page === "README" ? "index.html" : `${page}.html`,
    })),
  }));
}
