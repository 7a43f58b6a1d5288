/** HTTP/1.1 through the agent: real curl, a real origin with TLS, everything in between as in the agent. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { connect as connectPlain } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { collect, filesWith, type Ran } from "../support/agent.ts";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const secret = "sk-upstream-8f1d2c3b4a5968770011";
const card = "4111111111111111";

const policy = (origin: Origin): string => `apiVersion: weir/v1
targets:
  api:
    protocol: http
    hosts: [api.internal]
    ports: [${origin.port}]
    tls: { verify: full, ca: ${origin.caPath} }
    credential: { bearer: { env: WEIR_TEST_TOKEN } }
rules:
  - { name: no-deletes, match: { verb: delete }, verdict: deny, reason: "Nothing is deleted from here." }
  - { name: ask-first, match: { path: /payments }, verdict: hold, reason: "Somebody looks at payments." }
  - { name: small-uploads, match: { verb: [put, post], bytes: { over: 100000 } }, verdict: deny, reason: "Too large to leave." }
  - { name: cards, match: { target: api }, mask: [{ detector: credit-card }] }
`;

describe("HTTP/1.1", () => {
  let origin: Origin;
  let relay: Relay;

  before(async () => {
    process.env["WEIR_TEST_TOKEN"] = secret;
    origin = await startOrigin((request, response, body) => {
      if (request.url === "/stream") {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("data: one\n\n");
        setTimeout(() => response.end("data: two\n\n"), 50);
      } else if (request.url === "/card") {
        response.setHeader("content-type", "application/json");
        response.end(`{"card":"${card}","number":${card},"n":1}`);
      } else if (request.url?.startsWith("/coded/")) {
        // Whatever was asked for, as some servers do.
        const coding = request.url.slice(7);
        const text = `card ${card} ${"and more ".repeat(200_000)}end`;
        const coded = { gzip: gzipSync, br: brotliCompressSync, zstd: zstdCompressSync, deflate: deflateSync }[coding];
        response.writeHead(200, { "content-type": "text/plain", "content-encoding": coding });
        response.end(coded === undefined ? "?" : coded(text));
      } else if (request.url === "/bomb") {
        response.writeHead(200, { "content-type": "text/plain", "content-encoding": "gzip" });
        response.end(gzipSync(Buffer.alloc(300 * 1024 * 1024)));
      } else if (request.url === "/bye") {
        response.writeHead(200, { "content-type": "text/plain", "content-encoding": "gzip", connection: "close" });
        response.end(gzipSync(Buffer.alloc(20 * 1024 * 1024)));
      } else if (request.url === "/cut") {
        request.socket.end("HTTP/1.1 200 OK\r\nContent-Le");
      } else if (request.url === "/leave") {
        request.socket.destroy();
      } else if (request.url === "/leak") {
        response.setHeader("x-echo", String(request.headers.authorization));
        response.end(`you sent ${request.headers.authorization}`);
      } else response.end(`${request.method} ${request.url} ${body.length} bytes\n`);
    });
    relay = await startRelay({
      policy: policy(origin),
      server: { host: "127.0.0.1", port: origin.port },
      hostname: null,
    });
  });

  after(async () => {
    await relay?.close();
    await origin?.close();
  });

  const curl = (path: string, ...words: string[]): Promise<Ran> =>
    collect(
      spawn("curl", [
        ...["-sS", "--http1.1", "--max-time", "120", "--cacert", relay.authority.caPath],
        ...["--connect-to", `api.internal:${origin.port}:127.0.0.1:${relay.port}`],
        ...words,
        `https://api.internal:${origin.port}${path}`,
      ]),
    );

  test("a request and its body pass, with the credential the client never sees", async () => {
    const said = await curl("/hello?x=1", "-d", "abc", "-H", "authorization: Bearer own-key");
    assert.equal(said.stdout, "POST /hello?x=1 3 bytes\n", said.stderr);
    assert.equal(origin.reached.at(-1)?.headers.authorization, `Bearer ${secret}`);
  });

  test("a denial tells rule and reason, and keeps the connection", async () => {
    const before = origin.reached.length;
    const common = [
      ...["-sS", "--http1.1", "--cacert", relay.authority.caPath, "-w", "%{http_code} %{num_connects}\n"],
      ...["--connect-to", `api.internal:${origin.port}:127.0.0.1:${relay.port}`],
    ];
    const url = `https://api.internal:${origin.port}`;
    const said = await collect(
      spawn("curl", [...common, "-X", "DELETE", `${url}/x`, "--next", ...common, `${url}/again`]),
    );
    assert.match(said.stdout, /rule "no-deletes": Nothing is deleted from here\.\n403 1\n/);
    assert.match(said.stdout, /GET \/again 0 bytes\n200 0\n/);
    assert.equal(origin.reached.length, before + 1);
  });

  test("a large upload is refused before a byte of it leaves, also when its length is not told", async () => {
    const before = origin.reached.length;
    const data = "x".repeat(200_000);
    const known = await collect(
      spawn("curl", [
        "-sS",
        "--http1.1",
        "--cacert",
        relay.authority.caPath,
        "--connect-to",
        `api.internal:${origin.port}:127.0.0.1:${relay.port}`,
        "-T",
        "-",
        "-H",
        "expect:",
        `https://api.internal:${origin.port}/up`,
      ]),
      data,
    );
    assert.match(known.stdout, /Too large to leave/);
    assert.equal(origin.reached.length, before);
  });

  test("a card in a response is masked, and JSON stays JSON", async () => {
    const said = await curl("/card");
    assert.ok(!said.stdout.includes(card));
    const body = JSON.parse(said.stdout) as { card: string; number: number; n: number };
    assert.equal(body.card.length, 16);
    assert.equal(typeof body.number, "number");
    assert.equal(body.n, 1);
  });

  for (const coding of ["gzip", "br", "zstd", "deflate"])
    test(`a body that comes as ${coding} is decoded and masked`, async () => {
      const said = await curl(`/coded/${coding}`, "-H", `accept-encoding: ${coding}`);
      assert.equal(said.stdout.length, 22 + 9 * 200_000 + 3, said.stderr);
      assert.match(said.stdout, /^card \*{16} and more .*end$/);
    });

  test("a coding nobody knows, and one that lies", async () => {
    assert.match((await curl("/coded/compress")).stdout, /WEIR_MASK_IMPOSSIBLE/);
  });

  test("a body that decodes to a thousand times its size does not fill the memory", async () => {
    const said = await curl("/bomb", "-o", "/dev/null", "-w", "%{http_code} %{size_download}");
    assert.equal(said.stdout, `200 ${300 * 1024 * 1024}`, said.stderr);
  });

  test("a server that leaves after its answer does not cut what is still decoded", async () => {
    const said = await curl("/bye", "-o", "/dev/null", "-w", "%{http_code} %{size_download}");
    assert.equal(said.stdout, `200 ${20 * 1024 * 1024}`, said.stderr);
  });

  test("the injected credential is taken out of what comes back", async () => {
    const said = await curl("/leak", "-D", "-");
    assert.ok(!said.stdout.includes(secret), said.stdout);
    assert.match(said.stdout, /you sent Bearer \*+/);
  });

  test("an answer that breaks off in its head is told as such; a connection that ends between two requests is not", async () => {
    const cut = await curl("/cut", "-w", "%{http_code}");
    assert.match(
      cut.stdout,
      /The server closed the connection without an answer\. \(WEIR_UPSTREAM_UNREACHABLE\)\n502$/,
    );
    assert.match((await curl("/leave", "-w", "%{http_code}")).stdout, /502$/);
    // The client's own rule decides whether it asks again: curl does, on a new connection.
    const common = [
      "--connect-to",
      `api.internal:${origin.port}:127.0.0.1:${relay.port}`,
      "--cacert",
      relay.authority.caPath,
    ];
    const url = `https://api.internal:${origin.port}`;
    const again = await collect(
      spawn("curl", [
        "-sS",
        "--http1.1",
        ...common,
        `${url}/one`,
        `${url}/leave`,
        "-w",
        "%{http_code} %{num_connects} ",
      ]),
    );
    assert.match(again.stdout, /GET \/one 0 bytes\n200 1 [^\n]*without an answer[^\n]*\n502 1 $/);
  });

  test("a held request waits, and runs when it is approved", async () => {
    const waiting = curl("/payments", "-d", "amount=1");
    while (relay.approvals.list().filter(({ status }) => status === "pending").length === 0)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const [approval] = relay.approvals.list();
    assert.match(approval?.text ?? "", /POST https:\/\/api\.internal:\d+\/payments/);
    assert.notEqual(origin.reached.at(-1)?.url, "/payments");
    // The server does not wait as long as people do.
    origin.dropConnections();
    await new Promise((resolve) => setTimeout(resolve, 100));
    relay.approvals.decide(approval?.id as string, "approved", "tester", "fine");
    assert.equal((await waiting).stdout, "POST /payments 8 bytes\n");
  });

  test("Host and SNI have to agree", async () => {
    const said = await curl("/", "-H", "Host: other.internal");
    assert.match(said.stdout, /host-mismatch/);
  });

  test("what two servers could read differently is answered 400 and closed", async () => {
    const { readFileSync } = await import("node:fs");
    const send = (text: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connectTls({
          socket: connectPlain(relay.port, "127.0.0.1"),
          servername: "api.internal",
          ca: readFileSync(relay.authority.caPath),
        });
        let got = "";
        socket.on("data", (bytes: Buffer) => {
          got += bytes.toString();
        });
        socket.on("end", () => resolve(got));
        socket.on("error", reject);
        socket.write(text);
      });
    const host = `Host: api.internal:${origin.port}\r\n`;
    const before = origin.reached.length;
    for (const text of [
      `POST / HTTP/1.1\r\n${host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `POST / HTTP/1.1\r\n${host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`,
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
      `GET / HTTP/1.1\n${host}\n\n`,
      `GET / HTTP/1.1\r\n${host}X: a\r\n b\r\n\r\n`,
      `GET / HTTP/1.1\r\n${host}Host: other\r\n\r\n`,
      `GET /\0 HTTP/1.1\r\n${host}\r\n`,
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n`,
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n`,
    ]) {
      const answer = await send(text);
      assert.match(answer, /^HTTP\/1\.1 400 /, JSON.stringify(text));
    }
    assert.equal(origin.reached.length, before);
  });

  test("the record holds the operations, and neither the card nor the credential", () => {
    const entries = relay.entries();
    const kinds = new Set(entries.map((entry) => entry.type));
    assert.ok(kinds.has("Operation") && kinds.has("Result"), [...kinds].join());
    for (const text of [secret, card]) assert.deepEqual(filesWith(relay.stateDir, text), []);
  });
});
