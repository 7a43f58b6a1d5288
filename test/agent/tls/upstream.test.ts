/** The server's TLS: each way to verify against real servers that are wrong in one way each. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { type EventEmitter, once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectPlain, createServer as createPlain, type Socket } from "node:net";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { createServer, type TlsOptions } from "node:tls";
import { unreachable } from "../../../agent/accept/dial.ts";
import type { Endpoint } from "../../../agent/core/flow.ts";
import type { TargetTls } from "../../../agent/core/target.ts";
import { type ErrorCode, WeirError } from "../../../agent/errors.ts";
import { connectMarked } from "../../../agent/kernel/native.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { openPins } from "../../../agent/tls/pins.ts";
import {
  negotiatePostgresTls,
  type SecuredUpstream,
  secureUpstream,
  type UpstreamTlsOptions,
} from "../../../agent/tls/upstream.ts";
import { connectUpstreamNatively, type Dial, secureUpstreamNatively } from "../../../agent/tls/upstream-native.ts";
import { tempDir, testCa } from "./pki.ts";

const hourMs = 3_600_000;
const ca = testCa("Good CA");

type Secure = (t: TestContext, port: number, options: UpstreamTlsOptions) => Promise<Secured>;
type Secured = Omit<SecuredUpstream, "socket"> & { readonly socket: EventEmitter };

const onConnected =
  (secureBy: (socket: Socket, options: UpstreamTlsOptions) => Promise<Secured>): Secure =>
  async (t, port, options) => {
    const socket = connectPlain(port, "127.0.0.1");
    t.after(() => socket.destroy());
    await once(socket, "connect");
    return secureBy(socket, options);
  };

const dialled: Secure = async (t, port, options) => {
  const secured = await connectUpstreamNatively(dialOf({ address: "127.0.0.1", port }), options);
  t.after(() => secured.socket.destroy());
  return secured;
};

function dialOf(to: Endpoint, timeoutMs = 60_000): Dial {
  return { connect: () => connectMarked(4, to, 0), timeoutMs, unreachable: (cause) => unreachable(to, cause) };
}

const notBuilt = hasNativeTls() ? false : "build/weir-tls.node is not built";
const engines = [
  ["node:tls", onConnected(secureUpstream), false],
  ["native", onConnected(secureUpstreamNatively), notBuilt],
  ["native, dialled by itself", dialled, process.getuid?.() === 0 ? notBuilt : "a mark needs root"],
] as const;

for (const [engine, secureBy, skip] of engines)
  describe(engine, { skip }, () => {
    async function listen(t: TestContext, options: TlsOptions): Promise<number> {
      const server = createServer(options, (socket) => {
        socket.on("error", () => {});
        socket.write("hello");
      });
      server.on("tlsClientError", () => {});
      const sockets = new Set<Socket>();
      server.on("connection", (socket) => sockets.add(socket));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      t.after(() => {
        for (const socket of sockets) socket.destroy();
        server.close();
      });
      return (server.address() as AddressInfo).port;
    }

    async function secure(
      t: TestContext,
      port: number,
      tls: Partial<TargetTls>,
      dir: string,
      hostname: string | null = "db.example",
    ) {
      const caPath = join(dir, "ca.pem");
      writeFileSync(caPath, ca.pem);
      return secureBy(t, port, {
        tls: { verify: "full", ca: caPath, clientCertificate: null, serverName: null, ...tls },
        hostname,
        address: "127.0.0.1",
        port: 5432,
        alpn: ["postgresql"],
        pins: await openPins(dir),
      });
    }

    const refused = (code: ErrorCode, sentence: RegExp) => (error: unknown) => {
      assert.ok(error instanceof WeirError);
      assert.equal(error.code, code);
      assert.match(error.message, sentence);
      return true;
    };

    test("full: a good chain and name are taken, and the names come out", async (t) => {
      const dir = tempDir(t);
      const leaf = ca.issue({ name: "the db", dns: ["db.example", "*.db.example"], ip: ["127.0.0.1", "2001:db8::1"] });
      const port = await listen(t, { ...leaf, ALPNProtocols: ["postgresql"] });
      const { tls, names, socket } = await secure(t, port, {}, dir);
      assert.equal(tls.alpn, "postgresql");
      assert.deepEqual(names.dns, ["db.example", "*.db.example"]);
      assert.equal(names.commonName, "the db");
      assert.equal(names.ip[0], "127.0.0.1");
      assert.equal(names.ip.length, 2);
      assert.equal(String((await once(socket, "data"))[0]), "hello");
      await secure(t, port, {}, dir, null);
      await secure(t, port, { serverName: "x.db.example" }, dir, "alias.example");
    });

    test("full and ca: each kind of wrong certificate is refused with its reason", async (t) => {
      const dir = tempDir(t);
      const other = testCa("Other CA").issue({ dns: ["db.example"] });
      const past = { fromMs: Date.now() - 48 * hourMs, untilMs: Date.now() - hourMs };
      const future = { fromMs: Date.now() + hourMs, untilMs: Date.now() + 2 * hourMs };
      const wrong = [
        [other, /issuer Other CA is not known here; name the CA in the target's tls.ca/],
        [ca.issue({ dns: ["db.example"], ...past }), /it expired on /],
        [ca.issue({ dns: ["db.example"], ...future }), /it is not valid before /],
      ] as const;
      for (const [certificate, sentence] of wrong) {
        const port = await listen(t, certificate);
        for (const verify of ["full", "ca"] as const)
          await assert.rejects(secure(t, port, { verify }, dir), refused("WEIR_UPSTREAM_TLS", sentence));
        await secure(t, port, { verify: "none" }, dir);
      }
    });

    test("full refuses another name, ca does not look at it", async (t) => {
      const dir = tempDir(t);
      const port = await listen(t, ca.issue({ name: "db.example", dns: ["evil.example"] }));
      await assert.rejects(
        secure(t, port, {}, dir),
        refused("WEIR_UPSTREAM_TLS", /for another name: DNS:evil\.example/),
      );
      await assert.rejects(
        secure(t, port, {}, dir, null),
        refused("WEIR_UPSTREAM_TLS", /127\.0\.0\.1 is for another name/),
      );
      await secure(t, port, { verify: "ca" }, dir);
    });

    test("first-use remembers over restarts, and refuses a change", async (t) => {
      const dir = tempDir(t);
      const first = await listen(t, testCa("Any CA").issue({ dns: ["x"] }));
      await secure(t, first, { verify: "first-use" }, dir);
      await secure(t, first, { verify: "first-use" }, dir);
      const second = await listen(t, testCa("Any CA").issue({ dns: ["x"] }));
      await assert.rejects(
        secure(t, second, { verify: "first-use" }, dir),
        refused("WEIR_UPSTREAM_PIN_CHANGED", /not the one seen first .*pins\.jsonl/),
      );
      // Another server has a pin of its own.
      await secure(t, second, { verify: "first-use" }, dir, "other.example");
      assert.equal(readFileSync(join(dir, "pins.jsonl"), "utf8").split("\n").length, 3);
    });

    test("names that are not plain are not mirrored", async (t) => {
      const dir = tempDir(t);
      const port = await listen(t, ca.issue({ dns: ["good.example", "bad.example, DNS:evil.example", "ev\u0000il"] }));
      const { names } = await secure(t, port, { verify: "none" }, dir);
      assert.deepEqual(names.dns, ["good.example"]);
    });

    test("a server that asks for a client certificate gets the target's", async (t) => {
      const dir = tempDir(t);
      const client = ca.issue({ name: "weir-client" });
      writeFileSync(join(dir, "client.pem"), client.cert);
      writeFileSync(join(dir, "client.key"), client.key);
      const options = { ...ca.issue({ dns: ["db.example"] }), ca: ca.pem, requestCert: true };
      // Our writer's leaves are for servers, so the server only looks at who signed it.
      let seen = "";
      const server = createServer({ ...options, rejectUnauthorized: false }, (socket) => {
        seen = String(socket.getPeerCertificate().subject?.CN ?? "nobody");
        socket.end("hello");
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      t.after(() => server.close());
      const { port } = server.address() as AddressInfo;
      const clientCertificate = { cert: join(dir, "client.pem"), key: join(dir, "client.key") };
      const secured = await secure(t, port, { clientCertificate }, dir);
      await once(secured.socket, "data");
      assert.equal(seen, "weir-client");
      writeFileSync(join(dir, "other.key"), ca.issue().key);
      await assert.rejects(
        secure(t, port, { clientCertificate: { ...clientCertificate, key: join(dir, "other.key") } }, dir),
        refused("WEIR_UPSTREAM_TLS", /settings of the target cannot be used/),
      );
      await assert.rejects(
        secure(t, port, { ca: join(dir, "missing.pem") }, dir),
        refused("WEIR_UPSTREAM_TLS", /settings of the target cannot be used: .*missing\.pem/),
      );
    });

    test("a CA file without a certificate is refused, it does not mean everybody", async (t) => {
      const dir = tempDir(t);
      writeFileSync(join(dir, "empty.pem"), "");
      const port = await listen(t, ca.issue({ dns: ["db.example"] }));
      await assert.rejects(secure(t, port, { ca: join(dir, "empty.pem") }, dir), refused("WEIR_UPSTREAM_TLS", /./));
    });

    test("what is not TLS is refused", async (t) => {
      const dir = tempDir(t);
      for (const answer of ["SSH-2.0-x\r\n", ""]) {
        const server = createPlain((socket) => {
          socket.on("error", () => {});
          socket.end(answer);
        });
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        t.after(() => server.close());
        const { port } = server.address() as AddressInfo;
        await assert.rejects(
          secure(t, port, {}, dir),
          refused("WEIR_UPSTREAM_TLS", /handshake with db\.example failed/),
        );
      }
    });

    test("the answer to an SSLRequest is one byte, S or N, and nothing behind it", async (t) => {
      for (const [answer, expected] of [
        ["S", "S"],
        ["N", "N"],
        ["SX", null],
        ["NR\u0000", null],
        ["E", null],
        ["", null],
      ] as const) {
        let asked = "";
        const server = createPlain((socket) => {
          socket.on("error", () => {});
          socket.once("data", (bytes) => {
            asked = bytes.toString("hex");
            if (answer === "") socket.destroy();
            else socket.write(answer);
          });
        });
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        t.after(() => server.close());
        const socket = connectPlain((server.address() as AddressInfo).port, "127.0.0.1");
        t.after(() => socket.destroy());
        if (expected === null)
          await assert.rejects(negotiatePostgresTls(socket), refused("WEIR_UPSTREAM_TLS", /answer|closed/));
        else assert.equal(await negotiatePostgresTls(socket), expected);
        assert.equal(asked, "0000000804d2162f");
      }
    });
  });

describe("a server that TLS is to be put on and that cannot be reached", {
  skip: process.getuid?.() === 0 ? notBuilt : "a mark needs root",
}, () => {
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const reach = async (t: TestContext, dial: Dial): Promise<unknown> =>
    connectUpstreamNatively(dial, {
      tls: { verify: "none", ca: null, clientCertificate: null, serverName: null },
      hostname: null,
      address: "127.0.0.1",
      port: 1,
      alpn: [],
      pins: await openPins(tempDir(t)),
    });

  test("refuses: the system's reason is told", async (t) => {
    const server = createPlain().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    await assert.rejects(reach(t, dialOf({ address: "127.0.0.1", port })), {
      code: "WEIR_UPSTREAM_UNREACHABLE",
      message: /127\.0\.0\.1:\d+ could not be reached: connection refused \(ECONNREFUSED\)/,
    });
  });

  test("has no route: told without waiting", async (t) => {
    await assert.rejects(reach(t, dialOf({ address: "255.255.255.255", port: 1 })), {
      code: "WEIR_UPSTREAM_UNREACHABLE",
      message: /network is unreachable \(ENETUNREACH\)|not permitted|EACCES/,
    });
  });

  test("does not answer: given up in time, and its descriptor is closed", async (t) => {
    // Nobody accepts, and its backlog is full: the kernel drops what comes beyond.
    const server = spawn(
      "python3",
      [
        "-c",
        "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(0); print(s.getsockname()[1],flush=True); sys.stdin.read()",
      ],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    t.after(() => server.kill());
    const port = Number(String((await once(server.stdout, "data"))[0]));
    const first = connectPlain(port, "127.0.0.1");
    t.after(() => first.destroy());
    await once(first, "connect");
    const before = descriptors();
    await assert.rejects(reach(t, dialOf({ address: "127.0.0.1", port }, 50)), {
      code: "WEIR_UPSTREAM_UNREACHABLE",
      message: /127\.0\.0\.1:\d+ .* within 50 ms/,
    });
    assert.equal(descriptors(), before);
  });

  test("accepts and says nothing of TLS: that is a failure of TLS", async (t) => {
    const server = createPlain((socket) => socket.on("error", () => {}).end("SSH-2.0-none\r\n")).listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    await assert.rejects(reach(t, dialOf({ address: "127.0.0.1", port })), { code: "WEIR_UPSTREAM_TLS" });
  });
});
