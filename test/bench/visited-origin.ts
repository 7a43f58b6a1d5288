/**
 * A server for http.ts that has a certificate for every name, made when it is first asked for: what a first visit costs
 * on either way. Its argument: address and port, and where the authority's certificate is written.
 */
import { writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { createSecureContext } from "node:tls";
import { testCa } from "../agent/tls/pki.ts";

const { address, port, caFile } = JSON.parse(process.argv[2] ?? "{}") as {
  readonly address: string;
  readonly port: number;
  readonly caFile: string;
};
const ca = testCa("bench");
writeFileSync(caFile, ca.pem);
const body = Buffer.alloc(1024, "x");
const server = createServer(
  { SNICallback: (name, done) => done(null, createSecureContext(ca.issue({ dns: [name] }))) },
  (_request, response) => response.end(body),
);
server.listen(port, address, () => process.send?.("ready"));
process.on("disconnect", () => process.exit());
