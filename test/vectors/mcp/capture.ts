/**
 * Captures the exchanges beside this file from real clients and a real server: `node test/vectors/mcp/capture.ts`, with
 * the SDKs installed by test/e2e/sdk/install.
 */
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request as ask, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { mcpWords, scriptsDir, sdkDir } from "../../support/mcp.ts";
import { placeScripts } from "../../support/named-server.ts";

const run = promisify(execFile);
const port = 18_199;

interface Captured {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly string[];
  readonly body: string;
  readonly reply: { status: number; headers: string[]; base64: string };
}

placeScripts(scriptsDir, sdkDir);
const transports = [
  { transport: "streamableHttp", path: "/mcp", flags: [] },
  { transport: "sse", path: "/sse", flags: ["--transport", "sse"] },
] as const;
for (const { transport, path, flags } of transports) {
  const home = mkdtempSync(join(tmpdir(), "weir-capture-"));
  const everything = join(sdkDir, "node_modules/@modelcontextprotocol/server-everything/dist/index.js");
  const server = spawn(process.execPath, [everything, transport], {
    env: { PORT: String(port), PATH: "/usr/bin:/bin" },
    cwd: home,
    stdio: "ignore",
  });
  await new Promise((done) => setTimeout(done, 2000));
  const captured: Captured[] = [];
  const tap = createServer((request, response) => void relay(request, response));
  async function relay(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const one: Captured = {
      method: request.method ?? "",
      target: request.url ?? "",
      headers: kept(request.rawHeaders),
      body: body.toString("utf8"),
      reply: { status: 0, headers: [], base64: "" },
    };
    captured.push(one);
    const seen: Buffer[] = [];
    const upstream = ask(
      { host: "127.0.0.1", port, method: request.method, path: request.url, headers: request.headers },
      (answer) => {
        one.reply.status = answer.statusCode ?? 0;
        one.reply.headers = kept(answer.rawHeaders);
        response.writeHead(one.reply.status, answer.headers);
        response.flushHeaders();
        answer.on("data", (bytes: Buffer) => {
          seen.push(bytes);
          one.reply.base64 = Buffer.concat(seen).toString("base64");
          response.write(bytes);
        });
        answer.on("end", () => response.end());
        answer.on("error", () => response.destroy());
      },
    );
    upstream.on("error", () => response.destroy());
    response.on("close", () => upstream.destroy());
    upstream.end(body);
  }
  await new Promise<void>((done) => tap.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(tap.address() as AddressInfo).port}${path}`;
  const calls = [
    ...["tools", "resources", "prompts", "ping", "call", "echo", '{"message":"hi"}', "call", "get-sum", '{"a":1,"b":2}'],
    ...["progress", "trigger-long-running-operation", '{"duration":0.2,"steps":2}', "call", "nothing", "{}"],
    ...["call", "get-structured-content", '{"location":"Chicago"}', "prompt", "args-prompt", '{"city":"Bern"}'],
    ...["read", "demo://resource/dynamic/text/1", "call", "trigger-elicitation-request", "{}"],
  ];
  const words = mcpWords("mcp-sdk1.mjs", url, [...flags, ...calls]);
  await run(words[0] as string, words.slice(1));
  writeFileSync(join(import.meta.dirname, `${transport}.json`), `${JSON.stringify(captured, null, 1)}\n`);
  tap.closeAllConnections();
  tap.close();
  server.kill("SIGTERM");
  rmSync(home, { recursive: true, force: true });
}

function kept(raw: readonly string[]): string[] {
  const names = new Set(["accept", "content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"]);
  return raw.flatMap((name, i) => (i % 2 === 0 && names.has(name.toLowerCase()) ? [name, raw[i + 1] as string] : []));
}
