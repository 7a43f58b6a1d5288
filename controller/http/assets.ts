/** The page's own files, read once: a page that changes under an open tab helps nobody. */
import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import type { FastifyInstance } from "fastify";

const web = join(import.meta.dirname, "../web");
const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export function assetRoutes(app: FastifyInstance): void {
  for (const name of readdirSync(web)) {
    const type = types[extname(name)];
    if (type === undefined) continue;
    const bytes = readFileSync(join(web, name));
    const path = name === "index.html" ? "/" : `/${name}`;
    app.get(path, { config: { open: true } }, (_request, reply) => reply.header("Content-Type", type).send(bytes));
  }
}
