/** Both handshakes of an HTTPS connection at once: what the client is told, and that nothing is sent to whom is not verified. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { type AddressInfo, createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { after, before, describe, test } from "node:test";
import { type ConnectionOptions, connect, createSecureContext, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { openHttp } from "../../../agent/act/http-opening.ts";
import type { SessionPorts } from "../../../agent/act/ports.ts";
import type { Flow } from "../../../agent/core/flow.ts";
import type { Target } from "../../../agent/core/target.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { type Relay, startRelay } from "../../support/relay.ts";
import { until } from "../../support/until.ts";
import { testCa } from "../tls/pki.ts";

const own = testCa("the shop's");
const other = testCa("somebody's");
const name = "shop.example.com";

for (const engine of ["native", "node"] as const)
  describe(`engine ${engine}`, {
    skip: engine === "native" && !hasNativeTls() ? "build/weir-tls.node is not built" : false,
  }, () => {
    const dir = mkdtempSync(join(tmpdir(), "weir-opening-"));
    const caFile = join(dir, "ca.pem");
    const clients = new Set<TLSSocket>();
    let origin: Awaited<ReturnType<typeof startOrigin>>;
    before(async () => {
      writeFileSync(caFile, own.pem);
      origin = await startOrigin();
    });
    after(async () => {
      await origin.close();
      rmSync(dir, { recursive: true, force: true });
    });

    async function withRelay(verify: string, visit: (relay: Relay) => Promise<void>): Promise<void> {
      origin.reset();
      const ca = ["full", "ca"].includes(verify) ? `, ca: ${caFile}` : "";
      const relay = await startRelay({
        server: { host: "127.0.0.1", port: origin.port },
        hostname: null,
        tls: engine,
        policy: `apiVersion: weir/v1
targets: { shop: { protocol: http, hosts: [127.0.0.1], ports: [${origin.port}], tls: { verify: ${verify}${ca} } } }
`,
      });
      try {
        await visit(relay);
      } finally {
        origin.release();
        for (const client of clients) client.destroy();
        clients.clear();
        await relay.close();
      }
    }

    /** Asks once; what it was told of the server, and the answer. */
    async function ask(relay: Relay, options: ConnectionOptions = {}) {
      const client = open(relay, options);
      await once(client, "secureConnect");
      const names = client.getPeerCertificate().subjectaltname;
      return { names, alpn: client.alpnProtocol, ...(await answerTo(client)) };
    }

    function open(relay: Relay, options: ConnectionOptions = {}): TLSSocket {
      const client = connect({
        host: "127.0.0.1",
        port: relay.port,
        servername: name,
        ca: relay.authority.caPem,
        ALPNProtocols: ["http/1.1"],
        checkServerIdentity: () => undefined,
        ...options,
      });
      client.on("error", () => {});
      clients.add(client);
      return client;
    }

    async function answerTo(client: TLSSocket): Promise<{ status: number; text: string }> {
      client.write(`GET / HTTP/1.1\r\nHost: ${name}:${origin.port}\r\nConnection: close\r\n\r\n`);
      let text = "";
      for await (const part of client) text += part;
      return { status: Number(text.split(" ")[1]), text };
    }

    test("a client is secured before its server is, and its request waits", () =>
      withRelay("full", async (relay) => {
        origin.hold();
        const client = open(relay);
        await once(client, "secureConnect");
        assert.equal(client.getPeerCertificate().subjectaltname, `DNS:${name}`);
        const answer = answerTo(client);
        await origin.waiting();
        assert.deepEqual([origin.heard, relay.sessions.size], [0, 0]);
        origin.release();
        assert.equal((await answer).status, 200);
        assert.equal(origin.heard, 1);
      }));

    test("a server that is not verified hears nothing, and the client is told in HTTP", () =>
      withRelay("full", async (relay) => {
        assert.equal((await ask(relay)).status, 200);
        for (const [pair, reason] of [
          [own.issue({ dns: ["other.example.com"] }), /is for another name: DNS:other\.example\.com/],
          [other.issue({ dns: [name] }), /its issuer somebody's is not known here/],
          [own.issue({ dns: [name], untilMs: Date.now() - 1000 }), /it expired on/],
        ] as const) {
          origin.use(pair);
          const { status, text, names } = await ask(relay);
          assert.deepEqual([status, names], [502, `DNS:${name}`]);
          assert.match(text, /weir-code: WEIR_UPSTREAM_TLS\r\n/);
          assert.match(text, reason);
        }
        assert.equal(origin.heard, 1);
        const refused = relay.entries().filter(({ type }) => type === "Refused");
        assert.deepEqual(
          refused.map(({ fields }) => fields["code"]),
          ["WEIR_UPSTREAM_TLS", "WEIR_UPSTREAM_TLS", "WEIR_UPSTREAM_TLS"],
        );
      }));

    test("a server that breaks off its handshake, or is not there, is told in HTTP, too", () =>
      withRelay("full", async (relay) => {
        origin.hold();
        const client = open(relay);
        await once(client, "secureConnect");
        const answer = answerTo(client);
        await origin.waiting();
        origin.drop();
        const broken = await answer;
        assert.equal(broken.status, 502);
        assert.match(broken.text, /weir-code: WEIR_UPSTREAM_TLS\r\n/);
        await origin.pause();
        try {
          const gone = await ask(relay);
          assert.equal(gone.status, 502);
          assert.match(gone.text, /weir-code: WEIR_UPSTREAM_UNREACHABLE\r\n/);
        } finally {
          await origin.resume();
        }
      }));

    test("a pinned certificate's names are told from the second visit on, before it is seen again", () =>
      withRelay("first-use", async (relay) => {
        const pair = own.issue({ dns: [name, "www.example.com"], ip: ["192.0.2.7"] });
        const names = `DNS:${name}, DNS:www.example.com, IP Address:192.0.2.7`;
        origin.use(pair);
        assert.equal((await ask(relay)).names, names);
        origin.hold();
        const client = open(relay);
        await once(client, "secureConnect");
        assert.equal(client.getPeerCertificate().subjectaltname, names);
        origin.release();
        assert.equal((await answerTo(client)).status, 200);
        origin.use(own.issue({ dns: [name] }));
        const changed = await ask(relay);
        assert.equal(changed.status, 502);
        assert.match(changed.text, /weir-code: WEIR_UPSTREAM_PIN_CHANGED\r\n/);
        assert.equal(origin.heard, 2);
      }));

    for (const verify of ["ca", "none"])
      test(`with tls.verify: ${verify} a client is told the names that the server has now`, () =>
        withRelay(verify, async (relay) => {
          for (const dns of [[name], ["other.example.com"], ["third.example.com"]]) {
            origin.use(own.issue({ dns }));
            const { status, names } = await ask(relay);
            assert.deepEqual([status, names], [200, `DNS:${dns[0]}`]);
          }
        }));

    test("a client without a name, or with an address for one, is told what the server shows", () =>
      withRelay("full", async (relay) => {
        origin.use(own.issue({ dns: [name], ip: ["127.0.0.1"] }));
        assert.equal((await ask(relay, { servername: "" })).names, `DNS:${name}, IP Address:127.0.0.1`);
      }));

    test("a client that offers HTTP/2 is told the protocol that the server chose this time", () =>
      withRelay("full", async (relay) => {
        for (const chosen of ["h2", "http/1.1", "h2"]) {
          origin.speak(chosen);
          const client = open(relay, { ALPNProtocols: ["h2", "http/1.1"] });
          await once(client, "secureConnect");
          assert.equal(client.alpnProtocol, chosen);
          // One that left in its handshake would be waited for.
          await until(() => relay.sessions.size > 0);
          client.destroy();
          await until(() => relay.sessions.size === 0);
        }
      }));

    test("of a client that left, or refused our certificate, nothing stays", () =>
      withRelay("full", async (relay) => {
        origin.hold();
        const socket = createConnection(relay.port, "127.0.0.1");
        await once(open(relay, { socket }), "secureConnect");
        await origin.waiting();
        socket.resetAndDestroy();
        origin.release();
        await until(() => origin.connections === 0 && relay.sessions.size === 0);
        origin.hold();
        const url = `https://${name}:${relay.port}/`;
        const words = ["--http1.1", "-sS", "--cacert", caFile, "--resolve", `${name}:${relay.port}:127.0.0.1`, url];
        await assert.rejects(promisify(execFile)("curl", words), /SSL certificate problem/);
        await origin.waiting();
        await until(() => relay.logs.some((line) => /handshake with the client failed: .*alert unknown ca/.test(line)));
        origin.release();
        await until(() => origin.connections === 0 && relay.sessions.size === 0);
        assert.equal(origin.heard, 0);
      }));
  });

describe("one side that is gone when the other is ready", () => {
  const hello = { serverName: name, alpn: ["http/1.1"] };
  const opening = (client: Duplex, server: Duplex) =>
    openHttp({
      client: new Duplex() as Socket,
      flow: { destination: { address: "127.0.0.1", port: 443 } } as Flow,
      target: { name: "shop" } as Target,
      hello,
      http2: false,
      alpn: ["http/1.1"],
      ports: {
        foretold: () => ({ names: { commonName: name, dns: [name], ip: [] }, verified() {} }),
        dialSecurely: async () => ({ socket: server, tls: { alpn: "http/1.1" }, names: null }),
        terminateClient: async () => ({ socket: client, tls: { alpn: "http/1.1" } }),
      } as unknown as SessionPorts,
    });

  test("the server: the client is told", async () => {
    const { server, failure } = await opening(new Duplex(), new Duplex().destroy());
    assert.deepEqual([server, failure?.code], [null, "WEIR_UPSTREAM_UNREACHABLE"]);
  });

  test("the client: the server is let go", async () => {
    const server = new Duplex();
    await assert.rejects(opening(new Duplex().destroy(), server), { code: "WEIR_CLIENT_TLS" });
    assert.equal(server.destroyed, true);
  });
});

type Pair = ReturnType<ReturnType<typeof testCa>["issue"]>;

/** An HTTPS server whose certificate and protocol may change, and whose handshakes may be held. */
async function startOrigin() {
  let pair: Pair;
  let protocol: string;
  let heard = 0;
  let held: (() => void)[] | null = null;
  let arrived: () => void = () => {};
  const sockets = new Set<Duplex>();
  const server = createServer(
    {
      ALPNCallback: ({ protocols }) => (protocols.includes(protocol) ? protocol : undefined),
      SNICallback: (_name, done) => hello(() => done(null, createSecureContext(pair))),
    },
    (_request, answer) => {
      heard += 1;
      answer.end("stock");
    },
  );
  function hello(go: () => void): void {
    if (held === null) go();
    else held.push(go);
    arrived();
  }
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", () => {});
  const listen = (at: number): Promise<void> => new Promise((ready) => server.listen(at, "127.0.0.1", ready));
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const origin = {
    port,
    get heard() {
      return heard;
    },
    reset() {
      origin.release();
      origin.use(own.issue({ dns: [name] }));
      protocol = "http/1.1";
      heard = 0;
    },
    use(next: Pair) {
      pair = next;
      // Whoever asks for no name.
      server.setSecureContext(next);
    },
    speak(next: string) {
      protocol = next;
    },
    hold() {
      held ??= [];
    },
    /** Until a handshake is held. */
    async waiting() {
      while (held?.length === 0) await new Promise<void>((done) => (arrived = done));
    },
    release() {
      const going = held ?? [];
      held = null;
      for (const go of going) go();
    },
    drop() {
      held = null;
      for (const socket of sockets) socket.destroy();
    },
    get connections() {
      return sockets.size;
    },
    async pause() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
    resume: () => listen(port),
    async close() {
      await origin.pause();
    },
  };
  origin.reset();
  return origin;
}
