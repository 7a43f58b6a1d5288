/** The process behind named-origin.ts: its one argument is a certificate and its key. */
import { createServer } from "node:https";

const seen: string[] = [];
const server = createServer(JSON.parse(process.argv[2] ?? "{}"), (request, response) => {
  let bytes = 0;
  request.on("data", (part: Buffer) => {
    bytes += part.length;
  });
  request.on("end", () => {
    seen.push(`${request.method} ${request.headers.host}${request.url} ${bytes}`);
    response.end(`${request.method} ${request.url} ${bytes}`);
  });
});
process.on("message", () => process.send?.(seen));
process.on("disconnect", () => process.exit());
server.listen(443, "0.0.0.0", () => process.send?.("ready"));
