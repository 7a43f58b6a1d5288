/**
 * MCP servers under names of their own, behind TLS, in the servers' network namespace:
 *
 *     mcp.internal             customers with personal data, and a tool that turns (`rugPull`); revisions 2026-07-28 and before
 *     everything.internal      npm `@modelcontextprotocol/server-everything`, Streamable HTTP, at /mcp
 *     everything-sse.internal  the same over the old transport, at /sse
 *
 * Names and trust work as in aimock.ts. Client programs are in test/e2e/mcp; their packages are installed with the other
 * SDKs below build/sdk.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { testCa } from "../agent/tls/pki.ts";
import type { SeenMessage } from "./mcp-customers.ts";
import type { McpServerOptions } from "./mcp-server.ts";
import { endServer, hostsIn, placeScripts } from "./named-server.ts";
import type { Namespace } from "./namespace.ts";

const root = resolve(import.meta.dirname, "../..");
export const sdkDir = process.env["WEIR_TEST_SDK"] ?? join(root, "build/sdk");
export const scriptsDir = join(root, "test/e2e/mcp");

export const mcpNames = ["mcp.internal", "everything.internal", "everything-sse.internal"] as const;
export const mcpUrls = {
  customers: "https://mcp.internal/mcp",
  everything: "https://everything.internal/mcp",
  everythingSse: "https://everything-sse.internal/sse",
} as const;

/** One line of a client program. */
export interface McpLine {
  readonly call: string;
  readonly name?: string;
  readonly ok: boolean;
  readonly result?: unknown;
  readonly error?: { readonly type: string; readonly code: unknown; readonly message: string; readonly data: unknown };
}

export interface McpServers {
  readonly caFile: string;
  readonly trust: Readonly<Record<string, string>>;
  readonly hostsFile: string;
  /** The same words, run where the servers' names lead to them. */
  withNames(words: readonly string[]): string[];
  /** What the server of customers was asked so far. */
  seen(): Promise<SeenMessage[]>;
  clear(): Promise<void>;
  /** From now on `send_mail` describes itself otherwise, and says that the list has changed; `undo`: as at first. */
  rugPull(): Promise<void>;
  undo(): Promise<void>;
  stop(): Promise<void>;
}

/** Null: what is needed is installed; else why a test has to be skipped. */
export function mcpMissing(): string | null {
  const needed = ["sdk", "client", "server", "server-everything", "conformance"];
  const missing = needed.filter((name) => !existsSync(join(sdkDir, "node_modules/@modelcontextprotocol", name)));
  return missing.length === 0 ? null : "run test/e2e/sdk/install first";
}

/** `node script url calls…`, see test/e2e/mcp/mcp-report.mjs. */
export function mcpWords(script: "mcp-sdk1.mjs" | "mcp-sdk2.mjs", url: string, calls: readonly string[]): string[] {
  return [process.execPath, join(sdkDir, script), url, ...calls];
}

/**
 * `@modelcontextprotocol/conformance` against a server. To compare, run it direct and through Weir, each with its trust:
 * server-everything was not made for this suite and fails most of it (13 passed, 19 failed), so the same lines are the
 * measure.
 */
export function conformanceWords(url: string): string[] {
  return [
    process.execPath,
    join(sdkDir, "node_modules/@modelcontextprotocol/conformance/dist/index.js"),
    "server",
    "--url",
    url,
  ];
}

/** `scenario: n passed, m failed`, in order; its exit code says only that something failed. */
export function readConformance(stdout: string): string[] {
  return [...stdout.matchAll(/^[✓✗] ([a-z0-9-]+: [0-9]+ passed, [0-9]+ failed)/gm)].map((match) => match[1] as string);
}

export function readMcpLines(stdout: string): McpLine[] {
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as McpLine);
}

export async function startMcpServers(namespace: Namespace): Promise<McpServers> {
  placeScripts(scriptsDir, sdkDir);
  const dir = mkdtempSync(join(tmpdir(), "weir-mcp-"));
  const ca = testCa("Weir test MCP servers");
  const caFile = join(dir, "ca.pem");
  writeFileSync(caFile, ca.pem);
  const { hostsFile, withNames } = hostsIn(
    dir,
    mcpNames.map((name) => `${namespace.address4} ${name}`),
  );
  const options: McpServerOptions = {
    sdkDir,
    address: namespace.address4,
    port: 443,
    certificates: mcpNames.map((name) => ({ name, ...ca.issue({ name, dns: [name] }) })),
  };
  const child = spawn(
    "nsenter",
    [
      `--net=/run/netns/${namespace.name}`,
      "--",
      process.execPath,
      join(import.meta.dirname, "mcp-server.ts"),
      JSON.stringify(options),
    ],
    { stdio: ["ignore", "ignore", "pipe", "ipc"] },
  );
  let said = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  const waiting = new Map<number, (seen: SeenMessage[]) => void>();
  let next = 0;
  await new Promise<void>((done, reject) => {
    child.on("message", (message: { ready?: true; id?: number; seen?: SeenMessage[] }) => {
      if (message.ready) done();
      waiting.get(message.id as number)?.(message.seen ?? []);
      waiting.delete(message.id as number);
    });
    child.once("exit", (code) => {
      rmSync(dir, { recursive: true, force: true });
      reject(new Error(`the MCP servers ended with ${code}:\n${said}`));
    });
  });
  const ask = (what: "seen" | "clear" | "rug-pull" | "undo"): Promise<SeenMessage[]> => {
    const id = next++;
    return new Promise((done) => {
      waiting.set(id, done);
      child.send({ id, do: what });
    });
  };
  return {
    caFile,
    trust: { NODE_EXTRA_CA_CERTS: caFile, SSL_CERT_FILE: caFile },
    hostsFile,
    withNames,
    seen: () => ask("seen"),
    clear: async () => void (await ask("clear")),
    rugPull: async () => void (await ask("rug-pull")),
    undo: async () => void (await ask("undo")),
    stop: () => endServer(child, dir),
  };
}
