/** A flow over HTTP that is ended because its identity holds no longer: the client is told in its protocol, and it is over. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect as connectHttp2, createSecureServer } from "node:http2";
import { type AddressInfo, connect as connectPlain, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { testCa } from "../agent/tls/pki.ts";
import { type Relay, startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const reason = "The identity carol is revoked: left.";

describe("revoked over HTTP", () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-revoked-"));
  let relay: Relay;
  let stop: () => void;
  let authority = "";

  before(async () => {
    const ca = testCa("Origin CA");
    const caPath = join(dir, "ca.pem");
    writeFileSync(caPath, ca.pem);
    // It takes its time: no request is ever answered but the upgrade.
    const server = createSecureServer({ ...ca.issue({ dns: ["api.internal"] }), allowHTTP1: true }, (message) => {
      message.resume();
    });
    server.on("upgrade", (_request: IncomingMessage, socket: Socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
      socket.write(Buffer.from([0x81, 5, ...Buffer.from("hello")]));
    });
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    const { port } = server.address() as AddressInfo;
    authority = `api.internal:${port}`;
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => sockets.add(socket));
    stop = () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    };
    relay = await startRelay({
      policy: `apiVersion: weir/v1\ntargets:\n  api: { protocol: http, hosts: [api.internal], ports: [${port}], tls: { ca: ${caPath} } }\n`,
      server: { host: "127.0.0.1", port },
      hostname: "api.internal",
    });
  });

  after(async () => {
    await relay?.close();
    stop?.();
    rmSync(dir, { recursive: true, force: true });
  });

  const secure = (protocol: string): TLSSocket =>
    connectTls({
      socket: connectPlain(relay.port, "127.0.0.1"),
      servername: "api.internal",
      ca: readFileSync(relay.authority.caPath),
      ALPNProtocols: [protocol],
    });
  const revoke = (): void => {
    assert.equal(relay.sessions.size, 1);
    for (const session of relay.sessions) session.terminate("WEIR_IDENTITY_REVOKED", reason);
  };
  const operationSeen = async (path: string): Promise<void> => {
    await until(() => JSON.stringify(relay.entries().map(({ fields }) => fields)).includes(path));
  };

  test("HTTP/1.1: 403 with the reason, then the connection closes", async () => {
    const socket = secure("http/1.1");
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    const asked = request(`http://${authority}/slow-1`, { createConnection: () => socket });
    asked.end();
    const answered = once(asked, "response");
    await operationSeen("/slow-1");
    revoke();
    const [answer] = (await answered) as [IncomingMessage];
    let body = "";
    for await (const piece of answer) body += String(piece);
    assert.equal(answer.statusCode, 403);
    assert.equal(answer.headers.connection, "close");
    assert.match(body, /carol is revoked: left/);
    if (!socket.destroyed) await once(socket, "close");
  });

  test("HTTP/2: every open stream gets its 403, then the connection goes", async () => {
    const client = connectHttp2(`https://${authority}`, { createConnection: () => secure("h2") });
    client.on("error", () => {});
    const streams = ["/slow-2", "/slow-3"].map((path) => client.request({ ":path": path }));
    const answers = streams.map(async (stream) => {
      stream.on("error", () => {});
      const [headers] = (await once(stream, "response")) as [{ ":status": number }];
      let body = "";
      for await (const piece of stream) body += String(piece);
      return [headers[":status"], body] as const;
    });
    await operationSeen("/slow-2");
    await operationSeen("/slow-3");
    revoke();
    for (const [status, body] of await Promise.all(answers)) {
      assert.equal(status, 403);
      assert.match(body, /carol is revoked: left/);
    }
    if (!client.destroyed) await once(client, "close");
  });

  test("WebSocket: what the server said, then a close frame with 1008 and the reason, then the end", async () => {
    const socket = secure("http/1.1");
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
    const key = { "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==" };
    const asked = request(`http://${authority}/ws`, {
      createConnection: () => socket,
      headers: { ...headers, ...key },
    });
    asked.end();
    const [, upgraded, early] = (await once(asked, "upgrade")) as [IncomingMessage, Socket, Buffer];
    const pieces: Buffer[] = [early];
    upgraded.on("data", (piece: Buffer) => pieces.push(piece));
    await until(() => Buffer.concat(pieces).length >= 7);
    revoke();
    if (!upgraded.destroyed) await once(upgraded, "close");
    const bytes = Buffer.concat(pieces);
    assert.equal(bytes.subarray(0, 7).toString("latin1"), "\x81\x05hello");
    assert.equal(bytes[7], 0x88);
    assert.equal(bytes.readUInt16BE(9), 1008);
    assert.match(bytes.subarray(11).toString(), /carol is revoked: left/);
  });

  test("each of them is in the record with code and reason", async () => {
    await Promise.all([...relay.sessions].map((session) => session.done));
    const ends = relay.entries().filter(({ type }) => type === "SessionEnd");
    assert.equal(ends.length, 3);
    for (const { fields } of ends)
      assert.match(JSON.stringify(fields), /WEIR_IDENTITY_REVOKED: The identity carol is revoked/);
  });
});
