/**
 * MCP's first TypeScript SDK (1.x), unmodified, as a client: revision 2025-11-25 over Streamable HTTP, or the old
 * transport with `--transport sse`. `node mcp-sdk1.mjs URL [--transport sse] [--timeout MS] calls…`, see mcp-report.mjs.
 * It answers questions for input and for a model's text, so that the server's own requests are seen to pass.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { address, described, flag, report, write } from "./mcp-report.mjs";

const url = address();
const transport =
  flag("transport", "http") === "sse" ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url);
const timeout = flag("timeout");
const notifications = [];
const client = new Client(
  { name: "weir-test", version: "1.0.0" },
  { capabilities: { sampling: {}, elicitation: {}, roots: {} } },
);
client.isFirstSdk = true;
client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => ({
  model: "test",
  role: "assistant",
  content: { type: "text", text: `sampled: ${JSON.stringify(params.messages)}` },
}));
client.setRequestHandler(ElicitRequestSchema, async ({ params }) => ({
  action: "accept",
  content: Object.fromEntries(Object.keys(params.requestedSchema?.properties ?? {}).map((key) => [key, `my ${key}`])),
}));
client.setRequestHandler(ListRootsRequestSchema, async () => ({ roots: [{ uri: "file:///srv", name: "srv" }] }));
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void notifications.push(params));
try {
  await client.connect(transport);
  await report(client, { notifications, options: timeout === undefined ? {} : { timeout: Number(timeout) } });
  if (transport instanceof StreamableHTTPClientTransport) await transport.terminateSession();
} catch (error) {
  write({ call: "connect", ok: false, error: described(error) });
}
await client.close();
process.exit(0);
