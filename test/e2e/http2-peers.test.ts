/** What a library of HTTP/2 never sends, and a peer may: none of it ends more than its own stream. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { type AddressInfo, connect as connectPlain, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, createServer, type Server } from "node:tls";
import { testCa } from "../agent/tls/pki.ts";
import { type Relay, startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const data = 0;
const headers = 1;
const reset = 3;
const settings = 4;
const ping = 6;
const goAway = 7;
const windowUpdate = 8;
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const endStream = 1;
const endHeaders = 4;

type Fields = readonly (readonly [string, string])[];

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Every field as a literal that is not indexed (RFC 7541 §6.2.2); names and values are short here. */
function fieldBlock(fields: Fields): Buffer {
  const text = (word: string): Buffer => Buffer.concat([Buffer.from([word.length]), Buffer.from(word, "latin1")]);
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

const message = (stream: number, fields: Fields, flags = 0): Buffer =>
  frame(headers, endHeaders | flags, stream, fieldBlock(fields));
const words = (stream: number, text: string, flags = endStream): Buffer =>
  frame(data, flags, stream, Buffer.from(text));
const code = (number: number): Buffer => Buffer.from([0, 0, 0, number]);

/** `preface`: bytes that come before the first frame. */
function onFrame(socket: Socket, preface: number, got: (type: number, stream: number, flags: number) => void): void {
  let bytes = Buffer.alloc(0);
  let before = preface;
  socket.on("data", (more: Buffer) => {
    bytes = Buffer.concat([bytes, more]);
    if (bytes.length < before) return;
    bytes = bytes.subarray(before);
    before = 0;
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const [type, flags, stream] = [bytes[3] as number, bytes[4] as number, bytes.readUInt32BE(5)];
      bytes = bytes.subarray(9 + bytes.readUIntBE(0, 3));
      got(type, stream, flags);
    }
  });
}

describe("peers of HTTP/2", () => {
  let server: Server;
  let relay: Relay;
  let port = 0;
  const dir = mkdtempSync(join(tmpdir(), "weir-h2-peers-"));
  const sockets = new Set<Socket>();
  let answer: (socket: Socket, stream: number) => void = () => {};
  let ponged: () => void = () => {};
  let widened: () => void = () => {};
  /** Types of frames of streams that the server got, and `end` where one had that flag. */
  const heard: string[] = [];

  before(async () => {
    const ca = testCa("Origin CA");
    writeFileSync(join(dir, "ca.pem"), ca.pem);
    server = createServer(
      { ...ca.issue({ dns: ["api.internal", "llm.internal"] }), ALPNProtocols: ["h2"] },
      (socket) => {
        sockets.add(socket);
        socket.on("close", () => sockets.delete(socket));
        socket.on("error", () => {});
        socket.write(frame(settings, 0, 0));
        onFrame(socket, preface.length, (type, stream, flags) => {
          if (stream !== 0)
            heard.push(`${type}${(type === data || type === headers) && flags & endStream ? " end" : ""}`);
          if (type === headers) answer(socket, stream);
          if (type === ping) ponged();
          if (type === windowUpdate && stream === 0) widened();
        });
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    port = (server.address() as AddressInfo).port;
    relay = await startRelay({
      hostname: null,
      server: { host: "127.0.0.1", port },
      policy: `apiVersion: weir/v1
targets:
  api: { protocol: http, hosts: [api.internal], ports: [${port}], tls: { verify: full, ca: ${join(dir, "ca.pem")} } }
  llm: { protocol: openai, hosts: [llm.internal], ports: [${port}], tls: { verify: full, ca: ${join(dir, "ca.pem")} } }
rules:
  - { name: masks, match: { target: llm }, mask: [{ detector: email }] }
`,
    });
  });

  after(async () => {
    await relay?.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    rmSync(dir, { recursive: true, force: true });
  });

  const secured = (servername = "api.internal"): Socket =>
    connectTls({
      socket: connectPlain(relay.port, "127.0.0.1"),
      servername,
      ca: readFileSync(relay.authority.caPath),
      ALPNProtocols: ["h2"],
    });

  const open = (name = "api.internal"): ClientHttp2Session => {
    const createConnection = (): Socket => secured(name);
    const session = connect(`https://${name}:${port}`, { createConnection, maxHeaderListPairs: 1_000 });
    session.on("error", () => {});
    return session;
  };

  const get = (session: ClientHttp2Session, upload = "", path = "/x") =>
    new Promise<{ status: number; fields: string[]; body: string; reset: number | undefined }>((resolve) => {
      const stream = session.request(
        { ":method": upload === "" ? "GET" : "POST", ":path": path },
        { endStream: false },
      );
      stream.end(upload);
      let status = 0;
      let fields: string[] = [];
      let body = "";
      stream.on("response", (got, _flags, raw) => {
        status = Number(got[":status"]);
        fields = raw ?? [];
      });
      stream.on("data", (bytes: Buffer) => {
        body += bytes.toString();
      });
      stream.on("error", () => {});
      stream.on("close", () => resolve({ status, fields, body, reset: stream.rstCode }));
    });

  const answers: Readonly<Record<string, (socket: Socket, stream: number) => void>> = {
    "a field twice that is single": (socket, stream) => {
      const twice: Fields = [
        [":status", "200"],
        ["etag", "a"],
        ["etag", "b"],
      ];
      socket.write(Buffer.concat([message(stream, twice), words(stream, "well")]));
    },
    "a field of another protocol's": (socket, stream) => {
      const fields: Fields = [
        [":status", "200"],
        ["http2-settings", "x"],
        ["te", "Trailers"],
      ];
      socket.write(Buffer.concat([message(stream, fields), words(stream, "well")]));
    },
    "the same in trailers": (socket, stream) => {
      const trailers: Fields = [
        ["http2-settings", "x"],
        ["etag", "a"],
        ["etag", "b"],
      ];
      const parts = [message(stream, [[":status", "200"]]), words(stream, "well", 0)];
      socket.write(Buffer.concat([...parts, message(stream, trailers, endStream)]));
    },
    "the same in a hint": (socket, stream) => {
      const hint: Fields = [
        [":status", "103"],
        ["etag", "a"],
        ["etag", "b"],
      ];
      socket.write(
        Buffer.concat([message(stream, hint), message(stream, [[":status", "200"]]), words(stream, "well")]),
      );
    },
    "two hundred fields": (socket, stream) => {
      const fields = Array.from({ length: 200 }, (_, at) => [`x-${at}`, "v"] as const);
      socket.write(Buffer.concat([message(stream, [[":status", "200"], ...fields]), words(stream, "well")]));
    },
  };

  for (const [name, write] of Object.entries(answers))
    test(`an answer with ${name} passes`, async () => {
      answer = write;
      const session = open();
      const { status, body, fields } = await get(session);
      session.destroy();
      assert.deepEqual([status, body], [200, "well"]);
      if (name.includes("twice")) assert.equal(fields.filter((field) => field === "etag").length, 2);
      if (name.includes("hundred")) assert.ok(fields.includes("x-199"));
      assert.deepEqual(relay.logs, []);
    });

  test("a status that HTTP does not have is told as the server's fault, and the connection goes on", async () => {
    const session = open();
    answer = (socket, stream) => socket.write(message(stream, [[":status", "999"]], endStream));
    const strange = await get(session);
    assert.equal(strange.status, 502);
    assert.match(strange.body, /answered with 999, which is no status of HTTP/);
    answer = (socket, stream) => socket.write(message(stream, [[":status", "204"]], endStream));
    assert.equal((await get(session)).status, 204);
    session.destroy();
  });

  const refusals: Readonly<Record<string, (socket: Socket, stream: number) => void>> = {
    "by a reset": (socket, stream) => socket.write(frame(reset, 0, stream, code(7))),
    "by a good-bye": (socket) => socket.write(frame(goAway, 0, 0, Buffer.concat([code(0), code(0)]))),
  };
  for (const [how, refuse] of Object.entries(refusals))
    test(`what the server refused unread ${how} is sent again, a few times`, async () => {
      const session = open();
      const accept = (socket: Socket, stream: number): void => {
        socket.write(message(stream, [[":status", "204"]], endStream));
      };
      let asked = 0;
      answer = (socket, stream) => {
        asked += 1;
        (asked % 3 === 0 ? accept : refuse)(socket, stream);
      };
      assert.equal((await get(session)).status, 204);
      assert.equal((await get(session, "amount=1")).status, 204);
      assert.equal(asked, 6);
      // Told in the server's words, clients try again by themselves.
      answer = refuse;
      assert.equal((await get(session)).reset, constants.NGHTTP2_REFUSED_STREAM);
      assert.equal((await get(session, "x".repeat(100_000))).reset, constants.NGHTTP2_REFUSED_STREAM);
      session.destroy();
    });

  test("an answer that is kept back until it is whole, and breaks off: the client is told why", async () => {
    const client = open("llm.internal");
    answer = (socket, stream) => {
      const fields: Fields = [
        [":status", "200"],
        ["content-type", "application/json"],
        ["content-length", "100"],
      ];
      socket.write(Buffer.concat([message(stream, fields), words(stream, '{"id":"x",', 0)]));
      socket.write(frame(reset, 0, stream, code(constants.NGHTTP2_INTERNAL_ERROR)));
    };
    const chat = JSON.stringify({ model: "m", messages: [{ role: "user", content: "hello" }] });
    const got = await get(client, chat, "/v1/chat/completions");
    assert.equal(got.status, 502);
    assert.match(got.body, /The server broke off its answer/);
    assert.deepEqual(
      relay.logs.filter((line) => line.includes("WEIR_INTERNAL")),
      [],
    );
    client.close();
  });

  for (const [how, upload] of [
    ["in the middle of its request", "half of it"],
    ["while nothing of it is read, as the server takes nothing", "x".repeat(500_000)],
  ] as const)
    test(`a client that resets a stream without an error ${how}: the server is told, and not that this was all`, async () => {
      const client = open();
      answer = () => {};
      heard.length = 0;
      const stream = client.request({ ":method": "POST", ":path": "/x" }, { endStream: false });
      stream.on("error", () => {});
      stream.write(upload);
      await until(() => heard.includes(`${data}`));
      // The window that the server gave is used up.
      if (upload.length > 1_000) await sleep(200);
      // Node's own client would end what it resets.
      Object.assign(stream, { end: () => stream });
      stream.close(constants.NGHTTP2_NO_ERROR);
      await until(() => heard.includes(`${reset}`));
      assert.ok(!heard.some((frame) => frame.endsWith("end")));
      client.destroy();
      await until(() => relay.sessions.size === 0);
    });

  test("of connections that the server gave up none is left behind", async () => {
    const session = open();
    const before = sockets.size;
    for (let round = 0; round < 3; round += 1) {
      const given = new Promise<() => void>((resolve) => {
        answer = (socket, stream) => {
          ponged = () => resolve(() => void socket.write(message(stream, [[":status", "204"]], endStream)));
          // No more requests here; this one is answered when the next connection is there.
          const parts = [frame(goAway, 0, 0, Buffer.concat([code(stream), code(0)]))];
          socket.write(Buffer.concat([...parts, frame(ping, 0, 0, Buffer.alloc(8))]));
        };
      });
      const first = get(session);
      const finish = await given;
      answer = (socket, stream) => socket.write(message(stream, [[":status", "204"]], endStream));
      assert.equal((await get(session)).status, 204);
      finish();
      assert.equal((await first).status, 204);
    }
    session.destroy();
    await until(() => sockets.size <= before);
  });

  test("a connection's window is not what all streams wait for, on either side", async () => {
    const given = new Promise<void>((resolve) => {
      widened = resolve;
    });
    const socket = secured();
    const taken = new Promise<void>((resolve) =>
      onFrame(socket, 0, (type, stream) => type === windowUpdate && stream === 0 && resolve()),
    );
    socket.write(Buffer.concat([Buffer.from(preface), frame(settings, 0, 0)]));
    await Promise.all([given, taken]);
    socket.destroy();
  });

  test("HTTP/2 that was not agreed on by TLS is refused in its own frames, with what to do", async () => {
    const plain = connectTls({
      socket: connectPlain(relay.port, "127.0.0.1"),
      servername: "api.internal",
      ca: readFileSync(relay.authority.caPath),
    });
    const session = connect(`https://api.internal:${port}`, { createConnection: () => plain });
    session.on("error", () => {});
    const [reason, why] = await new Promise<[number, string]>((resolve) =>
      session.on("goaway", (number, _last, text) => resolve([number, String(text)])),
    );
    assert.equal(reason, constants.NGHTTP2_HTTP_1_1_REQUIRED);
    assert.match(
      why,
      /^Weir: HTTP\/2 begins a connection: in TLS it is agreed on by ALPN first; .*\(WEIR_UNSUPPORTED\)$/,
    );
    session.destroy();
  });

  test("a client's trailers that no library sends", async () => {
    const socket = secured();
    const answered = new Promise<void>((resolve) => onFrame(socket, 0, (type) => type === headers && resolve()));
    answer = (peer, stream) => {
      ponged = () => peer.write(message(stream, [[":status", "204"]], endStream));
      peer.write(frame(ping, 0, 0, Buffer.alloc(8)));
    };
    const request: Fields = [
      [":method", "POST"],
      [":scheme", "https"],
      [":path", "/x"],
      [":authority", `api.internal:${port}`],
    ];
    const trailers: Fields = [
      ["te", "Trailers"],
      ["http2-settings", "x"],
    ];
    socket.write(preface);
    const parts = [frame(settings, 0, 0), message(1, request), words(1, "abc", 0), message(1, trailers, endStream)];
    socket.write(Buffer.concat(parts));
    await answered;
    socket.destroy();
  });
});
