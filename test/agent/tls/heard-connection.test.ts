/** Connections whose first bytes the engine reads: cut anywhere, ended anywhere, TLS or not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { after, before, describe, test } from "node:test";
import { connect as secure } from "node:tls";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { type Origin, startOrigin } from "../../support/origin.ts";
import { type Relay, startRelay } from "../../support/relay.ts";

const skip = hasNativeTls() ? false : "build/weir-tls.node is not built";

describe("what a client says first", { skip }, () => {
  let origin: Origin;
  let plain: Origin;
  let relay: Relay;
  let plainRelay: Relay;

  before(async () => {
    origin = await startOrigin((request, response) => response.end(`${request.method} ${request.url}`));
    plain = await startOrigin((request, response) => response.end(`${request.method} ${request.url}`), { plain: true });
    const start = (port: number): Promise<Relay> =>
      startRelay({
        server: { host: "127.0.0.1", port },
        hostname: null,
        policy: `{ apiVersion: weir/v1, targets: { shop: { protocol: http, hosts: [127.0.0.1], ports: [${port}], tls: { verify: none } } } }`,
      });
    relay = await start(origin.port);
    plainRelay = await start(plain.port);
  });
  after(async () => {
    await Promise.all([relay?.close(), plainRelay?.close()]);
    await Promise.all([origin?.close(), plain?.close()]);
  });

  const dial = async (port: number): Promise<Socket> => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise(setImmediate);
  };

  /** Over `socket`, whose first write leaves in pieces: each when the one before is read. */
  function inPieces(socket: Socket, cuts: readonly number[]): Duplex {
    let first = true;
    const cut = new Duplex({
      read() {},
      write(bytes: Buffer, _encoding, done) {
        const ends = first ? [...cuts.filter((at) => at < bytes.length), bytes.length] : [bytes.length];
        first = false;
        let from = 0;
        const next = (): void => {
          const end = ends.shift();
          if (end === undefined) done();
          else {
            socket.write(bytes.subarray(from, end));
            from = end;
            setTimeout(next, 2);
          }
        };
        next();
      },
      final(done) {
        socket.end(done);
      },
    });
    socket.on("data", (bytes) => cut.push(bytes)).on("end", () => cut.push(null));
    return cut;
  }

  async function ask(cuts: readonly number[]): Promise<string> {
    const socket = inPieces(await dial(relay.port), cuts);
    const client = secure({ socket, servername: "api.internal", rejectUnauthorized: false });
    client.write(`GET /cut HTTP/1.1\r\nHost: api.internal:${origin.port}\r\nConnection: close\r\n\r\n`);
    let answer = "";
    for await (const bytes of client) answer += bytes;
    return answer;
  }

  test("a hello cut at every eleventh byte, and into single bytes", async () => {
    for (let at = 1; at < 260; at += 11) assert.match(await ask([at]), /^HTTP\/1.1 200 .*GET \/cut$/s, `cut at ${at}`);
    assert.match(await ask(Array.from({ length: 100 }, (_, at) => at + 1)), /^HTTP\/1.1 200 .*GET \/cut$/s);
  });

  test("no TLS: a request cut at every byte reaches the server whole", async () => {
    const request = `POST /plain HTTP/1.1\r\nHost: 127.0.0.1:${plain.port}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody`;
    for (let at = 1; at < request.length; at += 7) {
      const socket = await dial(plainRelay.port);
      socket.write(request.slice(0, at));
      await new Promise((later) => setTimeout(later, 2));
      socket.write(request.slice(at));
      let answer = "";
      for await (const bytes of socket) answer += bytes;
      assert.match(answer, /^HTTP\/1.1 200 .*POST \/plain$/s, `cut at ${at}`);
      assert.equal(plain.reached.at(-1)?.body.toString(), "body");
    }
  });

  test("who ends, is reset or leaves before, within and behind the hello leaves nothing open", async () => {
    const hello = await new Promise<Buffer>((told) => {
      const listener = createServer((socket) => {
        listener.close();
        socket.once("data", (bytes) => {
          told(bytes);
          socket.destroy();
        });
      });
      listener.listen(0, "127.0.0.1", () => {
        const { port } = listener.address() as { port: number };
        secure({ port, host: "127.0.0.1", servername: "api.internal", ALPNProtocols: ["http/1.1"] }).on(
          "error",
          () => {},
        );
      });
    });
    const before = descriptors();
    for (const said of [0, 1, 40, hello.length])
      for (const leave of ["end", "resetAndDestroy", "destroy"] as const) {
        const socket = await dial(relay.port);
        socket.write(hello.subarray(0, said));
        if (said > 0) await new Promise((later) => setTimeout(later, 5));
        socket[leave]();
        socket.resume();
        if (leave === "end") await once(socket, "close");
      }
    await until(() => descriptors() <= before && relay.sessions.size === 0);
    assert.match(await ask([]), /^HTTP\/1.1 200 /);
  });

  test("junk is refused, and the next one is served", async () => {
    for (const junk of [
      "\x16\x03\x01\x00\x05hello",
      "\x16\x03\x01\xff\xff",
      "\x00",
      "\r\n\r\n\r\n",
      "\x16\x03\x03\x00\x00",
    ]) {
      const socket = await dial(relay.port);
      socket.end(Buffer.from(junk, "latin1"));
      socket.resume();
      await once(socket, "close");
    }
    assert.match(await ask([]), /^HTTP\/1.1 200 /);
  });
});
