/** An origin of HTTP/2 on 443, made of node:http2 alone: `h2-origin-server.ts CERT-FILE KEY-FILE`. */
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";

const [cert, key] = process.argv.slice(2).map((path) => readFileSync(path));
const server = createSecureServer({ ...(cert === undefined || key === undefined ? {} : { cert, key }) });
server.on("request", (request, response) => {
  request.resume();
  request.on("end", () => response.end("a little text\n"));
});
server.on("sessionError", () => {});
server.listen(443, "0.0.0.0");
