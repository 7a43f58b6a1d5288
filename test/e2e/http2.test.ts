/** HTTP/2 through the agent: streams side by side, trailers, resets, a server that goes away and comes back. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import {
  type ClientHttp2Session,
  connect,
  constants,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { testCa } from "../agent/tls/pki.ts";
import { type Relay, startRelay } from "../support/relay.ts";

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: string;
  readonly reset: number;
}

for (const scheme of ["https", "http"] as const)
  describe(`HTTP/2 of ${scheme}`, () => {
    let server: Http2SecureServer | Http2Server;
    let relay: Relay;
    let client: ClientHttp2Session;
    const dir = mkdtempSync(join(tmpdir(), "weir-h2-"));
    const sessions = new Set<ServerHttp2Session>();
    let reached: string[] = [];
    let port = 0;

    before(async () => {
      const ca = testCa("Origin CA");
      writeFileSync(join(dir, "ca.pem"), ca.pem);
      server = scheme === "https" ? createSecureServer(ca.issue({ dns: ["api.internal"] })) : createServer();
      server.on("session", (session: ServerHttp2Session) => {
        sessions.add(session);
        session.on("close", () => sessions.delete(session));
      });
      server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
        stream.on("error", () => {});
        reached.push(`${headers[":method"]} ${headers[":path"]}`);
        let bytes = 0;
        stream.on("data", (part: Buffer) => {
          bytes += part.length;
        });
        stream.on("end", () => {
          if (headers[":path"] === "/reset") {
            stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
            return;
          }
          if (headers[":path"] === "/trailers-only") {
            stream.respond({ ":status": 200, "grpc-status": "7" }, { endStream: true });
            return;
          }
          stream.respond({ ":status": 200, "content-type": "text/plain" }, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
          stream.end(headers[":path"] === "/big" ? "y".repeat(5_000_000) : `${bytes} bytes, card 4111111111111111`);
        });
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      port = (server.address() as AddressInfo).port;
      relay = await startRelay({
        hostname: scheme === "https" ? null : "api.internal",
        server: { host: "127.0.0.1", port },
        policy: `apiVersion: weir/v1
targets:
  api: { protocol: http, hosts: [api.internal], ports: [${port}], tls: { verify: full, ca: ${join(dir, "ca.pem")} } }
rules:
  - { name: no-deletes, match: { verb: delete }, verdict: deny, reason: "Nothing is deleted from here." }
  - { name: ask-first, match: { path: /payments }, verdict: hold, reason: "Somebody looks." }
  - { name: cards, match: { path: /card }, mask: [{ detector: credit-card }] }
`,
      });
      client = open();
    });

    after(async () => {
      client?.destroy();
      await relay?.close();
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    });

    const open = (): ClientHttp2Session => {
      const session = connect(`${scheme}://api.internal:${port}`, {
        createConnection: () => {
          const socket = connectPlain(relay.port, "127.0.0.1");
          if (scheme === "http") return socket;
          const ca = readFileSync(relay.authority.caPath);
          return connectTls({ socket, servername: "api.internal", ca, ALPNProtocols: ["h2"] });
        },
      });
      session.on("error", () => {});
      return session;
    };

    const ask = (method: string, path: string, body = "", session = client): Promise<Answer> =>
      new Promise((resolve) => {
        const stream = session.request({ ":method": method, ":path": path }, { endStream: body === "" });
        let headers: IncomingHttpHeaders = {};
        let trailers: IncomingHttpHeaders = {};
        let text = "";
        stream.on("response", (got) => {
          headers = got;
        });
        stream.on("trailers", (got) => {
          trailers = got;
        });
        stream.on("data", (part: Buffer) => {
          text += part.toString();
        });
        stream.on("error", () => {});
        stream.on("close", () => resolve({ headers, trailers, body: text, reset: stream.rstCode }));
        if (body !== "") stream.end(body);
      });

    test("bodies and trailers pass both ways", async () => {
      const answer = await ask("POST", "/x", "z".repeat(2_000_000));
      assert.equal(answer.headers[":status"], 200);
      assert.equal(answer.trailers["grpc-status"], "0");
      assert.match(answer.body, /^2000000 bytes/);
      assert.equal((await ask("GET", "/big")).body.length, 5_000_000);
      assert.equal((await ask("GET", "/trailers-only")).headers["grpc-status"], "7");
    });

    test("fifty streams at once, one of them denied, one masked", async () => {
      reached = [];
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, at) =>
          at === 7 ? ask("DELETE", "/x") : at === 8 ? ask("GET", "/card") : ask("POST", `/n${at}`, "a".repeat(at + 1)),
        ),
      );
      for (const [at, answer] of answers.entries()) {
        if (at === 7) assert.equal(answer.headers["weir-rule"], "no-deletes");
        else if (at === 8) assert.equal(answer.body, "0 bytes, card ****************");
        else assert.match(answer.body, new RegExp(`^${at + 1} bytes, card 4111111111111111$`));
      }
      assert.ok(!reached.includes("DELETE /x"));
    });

    test("who is refused while it uploads gets the answer, and is told to stop", async () => {
      const stream = client.request({ ":method": "DELETE", ":path": "/x" }, { endStream: false });
      let status = 0;
      let body = "";
      stream.on("response", (headers) => {
        status = Number(headers[":status"]);
      });
      stream.on("data", (part: Buffer) => {
        body += part.toString();
      });
      const more = (): void => {
        while (!stream.closed && stream.write("x".repeat(64 * 1024)));
      };
      stream.on("drain", more);
      more();
      await new Promise((resolve) => stream.on("close", resolve));
      assert.deepEqual([status, stream.rstCode], [403, constants.NGHTTP2_NO_ERROR]);
      assert.match(body, /Nothing is deleted from here/);
      assert.equal((await ask("GET", "/after")).headers[":status"], 200);
    });

    test("a stream the server resets is reset, the others go on", async () => {
      const answer = await ask("GET", "/reset");
      assert.ok(answer.reset !== 0 || Number(answer.headers[":status"]) === 502);
      assert.equal((await ask("GET", "/after")).headers[":status"], 200);
    });

    test("a held request does not hold the others, and runs on a new connection when the server's is gone", async () => {
      const waiting = ask("POST", "/payments", "amount=1");
      const pending = () => relay.approvals.list().find(({ status }) => status === "pending");
      while (pending() === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal((await ask("GET", "/meanwhile")).headers[":status"], 200);
      assert.ok(!reached.includes("POST /payments"));
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => setTimeout(resolve, 50));
      relay.approvals.decide(pending()?.id as string, "approved", "tester", "fine");
      assert.match((await waiting).body, /^8 bytes/);
    });

    test("a client that leaves withdraws what it asked for, and nothing of it runs", async () => {
      const own = open();
      const waiting = ask("POST", "/payments", "amount=2", own);
      const pending = () => relay.approvals.list().find(({ status }) => status === "pending");
      while (pending() === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
      own.destroy();
      await waiting;
      await new Promise((resolve) => setTimeout(resolve, 50));
      reached = [];
      relay.approvals.decide(pending()?.id as string, "approved", "tester", "too late");
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual(reached, []);
    });

    if (scheme === "http")
      test("a client without TLS that begins in pieces is told apart by what it says", async () => {
        const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        const http2 = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), settings]);
        const http1 = Buffer.from("PRIVATE / HTTP/1.1\r\nHost: other.internal\r\n\r\n");
        /** The first bytes of the answer. */
        const answerTo = (bytes: Buffer, cut: number): Promise<Buffer> =>
          new Promise((resolve, reject) => {
            const socket = connectPlain({ port: relay.port, host: "127.0.0.1", noDelay: true });
            socket.once("error", reject);
            socket.once("data", (first) => {
              socket.destroy();
              resolve(first);
            });
            socket.write(bytes.subarray(0, cut), () => setTimeout(() => socket.write(bytes.subarray(cut)), 5));
          });
        for (let cut = 1; cut < 26; cut += 1) {
          const [two, one] = await Promise.all([answerTo(http2, cut), answerTo(http1, cut)]);
          assert.equal(two[3], 4, `cut at ${cut}: a frame of SETTINGS`);
          assert.match(one.toString(), /^HTTP\/1\.1 4/, `cut at ${cut}`);
        }
        const broken = Buffer.concat([http2.subarray(0, 20), Buffer.from("XX\r\n\r\n")]);
        assert.match((await answerTo(broken, 5)).toString("latin1"), /^HTTP\/1\.1 400|HTTP\/2 begins a connection/);
      });

    test("a record that takes nothing new: no stream reaches the server, whatever stood before it", async () => {
      const own = open();
      assert.equal((await ask("GET", "/recorded", "", own)).headers[":status"], 200);
      reached = [];
      relay.recorder.limit("It is full.");
      const answers = await Promise.all([ask("GET", "/unrecorded", "", own), ask("POST", "/unrecorded", "x", own)]);
      for (const { headers, reset } of answers) assert.ok(Number(headers[":status"]) !== 200 || reset !== 0);
      assert.ok(relay.logs.some((line) => line.includes("WEIR_SPOOL_FULL: It is full.")));
      relay.recorder.limit(null);
      const after = open();
      assert.equal((await ask("GET", "/again", "", after)).headers[":status"], 200);
      assert.deepEqual(reached, ["GET /again"]);
      after.destroy();
    });
  });
