/**
 * The program that test/support/aimock.ts starts in the servers' network namespace: npm `@copilotkit/aimock`, a mock of
 * the model providers that nobody of this project wrote, on loopback, and a TLS front that gives it the providers'
 * names. Told what to do in argv[2], answers over IPC.
 */

import {
  createServer as createHttp1,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttp2, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { createRequire } from "node:module";
import { connect, createServer as createTcp, type Socket } from "node:net";
import { createSecureContext, createServer as createTls, type SecureContext, type TLSSocket } from "node:tls";
import { type EventFrame, EventStreamReader, headerText, withPayload } from "../../agent/wire/llm/eventstream.ts";
import { customerReply, fixtures, helloReply, type MockFixture } from "./aimock-fixtures.ts";
import { answerSonic } from "./sonic.ts";

export interface AimockServerOptions {
  readonly sdkDir: string;
  readonly address: string;
  readonly tlsPort: number;
  readonly plainPort: number;
  readonly certificates: readonly { readonly name: string; readonly cert: string; readonly key: string }[];
}

/** What the upstream saw of one request. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** As it arrived. */
  readonly body: string;
}

interface LLMock {
  addFixture(fixture: MockFixture): LLMock;
  start(): Promise<string>;
  readonly port: number;
}

const options = JSON.parse(process.argv[2] as string) as AimockServerOptions;
const load = createRequire(`${options.sdkDir}/package.json`);
const { LLMock: Mock } = load("@copilotkit/aimock") as { LLMock: new (options: object) => LLMock };
const mock = new Mock({ host: "127.0.0.1", port: 0, chunkSize: 3, strict: true });
for (const fixture of fixtures) mock.addFixture(fixture);
await mock.start();

// Not the mock's own journal: that one hides the keys, which a test of credentials has to see.
const seen: SeenRequest[] = [];
const contexts = new Map<string, SecureContext>();
for (const { name, cert, key } of options.certificates) contexts.set(name, createSecureContext({ cert, key }));
const first = options.certificates[0];
const http2 = createHttp2(relay);
const http1 = createHttp1(relay).on("upgrade", upgrade);
const tls = createTls({
  ...(first === undefined ? {} : { cert: first.cert, key: first.key }),
  ALPNProtocols: ["h2", "http/1.1"],
  SNICallback: (name, done) => done(null, contexts.get(name)),
});
tls.on("secureConnection", (socket: TLSSocket) => {
  // The AWS SDK for JavaScript insists on HTTP/2.
  (socket.alpnProtocol === "h2" ? http2 : http1).emit("connection", socket);
});
tls.on("tlsClientError", () => {});
const plain = createTcp((socket) => http1.emit("connection", socket));
await new Promise<void>((done) => tls.listen(options.tlsPort, options.address, done));
await new Promise<void>((done) => plain.listen(options.plainPort, options.address, done));

process.on("message", (message: { readonly id: number; readonly do: "requests" | "clear" }) => {
  if (message.do === "clear") seen.length = 0;
  process.send?.({ id: message.id, requests: seen });
});
// The test ended, however it ended.
process.on("disconnect", () => process.exit(0));
process.send?.({ ready: true });

function join(client: Socket, head: string): void {
  const server = connect(mock.port, "127.0.0.1");
  server.write(head, "latin1");
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    from.on("error", () => to.destroy());
    from.setNoDelay(true);
    from.pipe(to);
  }
}

function upgrade(request: IncomingMessage, client: Socket): void {
  const { rawHeaders } = request;
  // Google's SDK writes `//ws/…`, which Google takes and the mock does not.
  let head = `${request.method} ${request.url?.replace(/^\/+/, "/")} HTTP/1.1\r\n`;
  for (let at = 0; at < rawHeaders.length; at += 2) head += `${rawHeaders[at]}: ${rawHeaders[at + 1]}\r\n`;
  join(client, `${head}\r\n`);
}

function relay(request: IncomingMessage | Http2ServerRequest, answered: ServerResponse | Http2ServerResponse): void {
  // The compatibility API of HTTP/2 is the same in what is used here; as a union its overloads cannot be called.
  const response = answered as ServerResponse;
  const headers: Record<string, string | string[] | undefined> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (name === ":authority") headers["host"] = value;
    else if (!name.startsWith(":")) headers[name] = value;
  }
  const path = request.url as string;
  const body: Buffer[] = [];
  request.on("data", (bytes: Buffer) => body.push(bytes));
  request.on("end", () => {
    seen.push({ method: request.method as string, path, headers, body: Buffer.concat(body).toString() });
  });
  if (path.endsWith("/invoke-with-bidirectional-stream")) {
    answerSonic(request as IncomingMessage, response, (prompt) => {
      seen.push({ method: "EVENT", path, headers, body: prompt });
      return prompt === "customer" ? customerReply : helloReply;
    });
    return;
  }
  const upstream = httpRequest(
    { host: "127.0.0.1", port: mock.port, method: request.method, path, headers, agent: false },
    (answer) => {
      const { connection, "transfer-encoding": coding, "keep-alive": alive, ...rest } = answer.headers;
      response.writeHead(answer.statusCode ?? 502, rest);
      if (answer.headers["content-type"] !== "application/vnd.amazon.eventstream") {
        answer.pipe(response);
        return;
      }
      const reader = new EventStreamReader();
      answer.on("data", (bytes: Buffer) => {
        for (const frame of reader.push(bytes)) {
          const repaired = asBedrock(frame, path.endsWith("/invoke-with-response-stream"));
          if (repaired !== null) response.write(repaired);
        }
      });
      answer.on("end", () => response.end());
    },
  );
  upstream.on("error", () => response.destroy());
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
}

/**
 * Where the mock's frames are not Bedrock's, and SDKs fail without Weir: `chunk` has the model's event itself instead of
 * its base64 in `bytes`, and `contentBlockStart` of a text is sent, with nothing in it.
 */
function asBedrock(frame: EventFrame, invoke: boolean): Buffer | null {
  if (invoke) return withPayload(frame, Buffer.from(JSON.stringify({ bytes: frame.payload.toString("base64") })));
  return headerText(frame, ":event-type") === "contentBlockStart" && frame.payload.includes('"start":{}')
    ? null
    : frame.raw;
}
