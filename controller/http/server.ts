/**
 * The web page and its JSON. Bound to loopback, and only for who has the token of the address printed at start: it
 * stands in the URL's fragment, which browsers do not send, and comes back in the Authorization header. A page of
 * another origin can neither read it nor make the browser send it, so there is nothing for CSRF to ride on.
 */
import { timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { WeirError } from "../../agent/errors.ts";
import type { Approval, ApprovalStore } from "../approvals/store.ts";
import { openRecordReader, type RecordQuestion, type RecordReader } from "./record-reader.ts";

const jsonType = "application/json; charset=utf-8";
const bodyBytesMax = 64 * 1024;
const streamsMax = 32;
const streamBytesMax = 1024 * 1024;
const web = join(import.meta.dirname, "../web");

export interface PageOptions {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly approvals: ApprovalStore;
  readonly stateDir: string;
}

export interface Page {
  readonly url: string;
  /** Tells open pages that an approval changed. */
  changed(approval: Approval): void;
  close(): Promise<void>;
}

export async function startPage(options: PageOptions): Promise<Page> {
  const streams = new Set<ServerResponse>();
  const record = openRecordReader(options.stateDir);
  const server = createServer((request, response) => {
    answer(request, response, options, { streams, record }).catch(() => {
      if (!response.headersSent) send(response, 500, { error: "WEIR_INTERNAL" });
      else response.destroy();
    });
  });
  server.headersTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new WeirError(
              "WEIR_PORT_IN_USE",
              `${options.host}:${options.port} is in use. Take another with --listen-ui ADDR:PORT.`,
              { cause: error },
            )
          : error,
      );
    });
    server.listen(options.port, options.host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}/#${options.token}`,
    changed(approval) {
      for (const stream of streams) {
        // A page that does not read is closed; it asks again.
        if (stream.writableLength > streamBytesMax) stream.destroy();
        else stream.write(`data: ${JSON.stringify(shown(approval))}\n\n`);
      }
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await Promise.all([closed, record.close()]);
    },
  };
}

interface Shared {
  readonly streams: Set<ServerResponse>;
  readonly record: RecordReader;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: PageOptions,
  { streams, record }: Shared,
): Promise<void> {
  // Not by URL: a client's odd path must not throw, and nothing here needs more than the part before the query.
  const pathname = (request.url ?? "/").split("?")[0] as string;
  response.setHeader(
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  );
  response.setHeader("X-Content-Type-Options", "nosniff");
  response.setHeader("Referrer-Policy", "no-referrer");
  response.setHeader("Cache-Control", "no-store");
  const asset = {
    "/": ["index.html", "text/html"],
    "/page.js": ["page.js", "text/javascript"],
    "/page.css": ["page.css", "text/css"],
  }[pathname];
  if (asset !== undefined && request.method === "GET") {
    response.setHeader("Content-Type", `${asset[1]}; charset=utf-8`);
    response.end(readFileSync(join(web, asset[0] as string)));
    return;
  }
  if (!isTold(request, options.token))
    return send(response, 401, { error: "Open the address that `weir up` printed." });
  const decision = /^\/api\/approvals\/([a-z2-7]{8})\/(approve|deny)$/.exec(pathname);
  if (request.method === "POST" && decision !== null)
    return decide(request, response, options, decision[1] as string, decision[2] as string);
  if (request.method !== "GET") return send(response, 405, { error: "method not allowed" });
  if (pathname === "/api/approvals") return send(response, 200, options.approvals.list().map(shown));
  if (pathname === "/api/verify") return fromRecord(response, record, "verify");
  if (pathname === "/api/sessions") return fromRecord(response, record, "sessions");
  const session = /^\/api\/sessions\/([0-9a-f-]{36})$/.exec(pathname);
  if (session !== null) return fromRecord(response, record, { session: session[1] as string });
  if (pathname === "/api/events") return stream(response, streams);
  send(response, 404, { error: "not found" });
}

/** What is wrong with the record is for the page to see. */
async function fromRecord(response: ServerResponse, record: RecordReader, question: RecordQuestion): Promise<void> {
  try {
    const json = await record.ask(question);
    if (json === null) return send(response, 404, { error: "not found" });
    response.writeHead(200, { "Content-Type": jsonType });
    response.end(json);
  } catch (error) {
    send(response, 500, { error: error instanceof Error ? error.message : String(error) });
  }
}

async function decide(
  request: IncomingMessage,
  response: ServerResponse,
  options: PageOptions,
  id: string,
  verb: string,
): Promise<void> {
  let body = "";
  request.setEncoding("utf8");
  for await (const piece of request) {
    body += String(piece);
    if (body.length > bodyBytesMax) return send(response, 413, { error: "too long" });
  }
  const reason = reasonOf(body);
  if (reason === null) return send(response, 400, { error: "a JSON object is expected, with reason as a text" });
  const decided = options.approvals.decide(id, verb === "approve" ? "approved" : "denied", "web page", reason);
  if (decided === null) {
    const known = options.approvals.get(id);
    return send(response, known === null ? 404 : 409, {
      error: known === null ? "no such approval" : `already ${known.status}`,
    });
  }
  send(response, 200, shown(decided));
}

function reasonOf(body: string): string | null {
  if (body === "") return "";
  try {
    const value: unknown = JSON.parse(body);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
    const { reason = "" } = value as { reason?: unknown };
    return typeof reason === "string" ? reason : null;
  } catch {
    return null;
  }
}

function stream(response: ServerResponse, streams: Set<ServerResponse>): void {
  if (streams.size >= streamsMax) {
    send(response, 503, { error: "too many open pages" });
    return;
  }
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(": open\n\n");
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

function shown(approval: Approval): Omit<Approval, "cgroup"> {
  const { cgroup: _, ...rest } = approval;
  return rest;
}

function isTold(request: IncomingMessage, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? "");
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": jsonType });
  response.end(JSON.stringify(body));
}
