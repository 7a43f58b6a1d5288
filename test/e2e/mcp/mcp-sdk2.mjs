/**
 * MCP's second TypeScript SDK (2.x), unmodified, as a client: the stateless revision 2026-07-28, or with
 * `--mode legacy` what came before. `node mcp-sdk2.mjs URL [--mode auto|legacy] [--timeout MS] calls…`, see
 * mcp-report.mjs.
 */
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { address, described, flag, report, write } from "./mcp-report.mjs";

const url = address();
const mode = flag("mode", "auto");
const timeout = flag("timeout");
const client = new Client(
  { name: "weir-test", version: "1.0.0" },
  { versionNegotiation: { mode }, capabilities: { elicitation: { form: {} } } },
);
client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { name: "Ann" } }));
try {
  await client.connect(new StreamableHTTPClientTransport(url));
  write({ call: "version", ok: true, result: client.getNegotiatedProtocolVersion?.() ?? null });
  await report(client, { options: timeout === undefined ? {} : { timeout: Number(timeout) } });
} catch (error) {
  write({ call: "connect", ok: false, error: described(error) });
}
await client.close();
process.exit(0);
