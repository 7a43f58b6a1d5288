/** The client's TLS over real sockets, with bytes that were read before. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect as connectPlain, createServer, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { connect } from "node:tls";
import { WeirError } from "../../../agent/errors.ts";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { terminateClient } from "../../../agent/tls/terminate.ts";
import { terminateClientNatively } from "../../../agent/tls/terminate-native.ts";
import { tempDir } from "./pki.ts";

const engines = [
  ["node:tls", terminateClient as unknown as typeof terminateClientNatively, false],
  ["native", terminateClientNatively, hasNativeTls() ? false : "build/weir-tls.node is not built"],
] as const;

for (const [engine, terminate, skip] of engines)
  describe(engine, { skip }, () => {
    /** Accepts one client, reads until `take` bytes are there (0: nothing), then ends its TLS. */
    async function terminator(t: TestContext, take: number, alpn: readonly string[] = []) {
      const authority = await openAuthority(tempDir(t));
      const leaf = authority.leafFor({ commonName: "db.example", dns: ["db.example"], ip: ["127.0.0.1"] });
      const server = createServer({ pauseOnConnect: true });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      t.after(() => server.close());
      const terminated = once(server, "connection").then(async ([socket]: Socket[]) => {
        const client = socket as Socket;
        t.after(() => client.destroy());
        client.on("error", () => {});
        let held = Buffer.alloc(0);
        while (held.length < take) {
          client.resume();
          const [piece] = (await once(client, "data")) as [Buffer];
          client.pause();
          held = Buffer.concat([held, piece]);
        }
        return terminate(client, { leftover: held, leaf, alpn });
      });
      terminated.catch(() => {});
      return { authority, port: (server.address() as AddressInfo).port, terminated };
    }

    /** A tunnel that hands the client's bytes on in pieces of `pieceBytes`, each in a packet of its own. */
    async function slowly(t: TestContext, to: number, pieceBytes: number): Promise<number> {
      const server = createServer((client) => {
        const onward = connectPlain(to, "127.0.0.1").setNoDelay(true);
        onward.pipe(client);
        t.after(() => onward.destroy());
        onward.on("error", () => client.destroy());
        client.on("error", () => onward.destroy());
        let queue = Promise.resolve();
        client.on("data", (bytes) => {
          for (let at = 0; at < bytes.length; at += pieceBytes) {
            queue = queue.then(async () => {
              onward.write(bytes.subarray(at, at + pieceBytes));
              await new Promise((done) => setImmediate(done));
            });
          }
        });
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      t.after(() => server.close());
      return (server.address() as AddressInfo).port;
    }

    for (const [what, take, pieceBytes] of [
      ["nothing read before", 0, 0],
      ["one byte read before", 1, 1],
      ["half a record head read before", 3, 3],
      ["a piece of the ClientHello read before", 100, 64],
      ["the whole ClientHello read before", 200, 0],
    ] as const) {
      test(`the handshake goes through with ${what}`, async (t) => {
        const { authority, port, terminated } = await terminator(t, take, ["postgresql"]);
        const via = pieceBytes === 0 ? port : await slowly(t, port, pieceBytes);
        const client = connect({
          port: via,
          host: "127.0.0.1",
          servername: "db.example",
          ca: authority.caPem,
          ALPNProtocols: ["postgresql"],
        });
        t.after(() => client.destroy());
        await once(client, "secureConnect");
        const { socket, tls, serverName } = await terminated;
        assert.equal(client.authorized, true);
        assert.deepEqual([tls.alpn, serverName, client.alpnProtocol], ["postgresql", "db.example", "postgresql"]);
        assert.deepEqual(client.getPeerCertificate().raw, tls.certificate);
        client.write("ping");
        assert.equal(String((await once(socket as unknown as Socket, "data"))[0]), "ping");
        socket.write("pong");
        assert.equal(String((await once(client, "data"))[0]), "pong");
      });
    }

    test("no ALPN offered, none answered; no SNI, no name", async (t) => {
      const { authority, port, terminated } = await terminator(t, 0);
      const client = connect({ port, host: "127.0.0.1", ca: authority.caPem, ALPNProtocols: ["postgresql"] });
      t.after(() => client.destroy());
      await once(client, "secureConnect");
      const { tls, serverName } = await terminated;
      assert.deepEqual([tls.alpn, serverName, client.alpnProtocol], [null, null, false]);
    });

    for (const [what, bytes] of [
      ["plain text", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
      ["a TLS alert", Buffer.from([0x15, 3, 1, 0, 2, 2, 40])],
      ["an end without a word", null],
      ["a reset", "reset"],
    ] as const) {
      test(`${what} instead of a handshake is WEIR_CLIENT_TLS`, async (t) => {
        const { port, terminated } = await terminator(t, 0);
        const client = connectPlain(port, "127.0.0.1");
        client.on("error", () => {});
        t.after(() => client.destroy());
        await once(client, "connect");
        if (bytes === "reset") client.resetAndDestroy();
        else if (bytes === null) client.end();
        else client.write(bytes);
        await assert.rejects(
          terminated,
          (error: WeirError) => error instanceof WeirError && error.code === "WEIR_CLIENT_TLS",
        );
      });
    }

    test("a reset after the handshake crashes nobody who has not listened yet", async (t) => {
      const { authority, port, terminated } = await terminator(t, 0);
      const raw = connectPlain(port, "127.0.0.1");
      const client = connect({ socket: raw, servername: "db.example", ca: authority.caPem });
      client.on("error", () => {});
      await once(client, "secureConnect");
      const { socket } = await terminated;
      raw.resetAndDestroy();
      socket.resume();
      await new Promise((done) => socket.once("close", done));
    });

    test("a client that does not trust the authority is told of as such", async (t) => {
      const { port, terminated } = await terminator(t, 0);
      // TLS 1.2, as there the client judges before the handshake ends.
      const program = `
import socket, ssl, sys
context = ssl.create_default_context()
context.maximum_version = ssl.TLSVersion.TLSv1_2
context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="db.example")`;
      spawn("python3", ["-c", program, String(port)], { stdio: "ignore" });
      await assert.rejects(terminated, /The TLS handshake with the client failed: .*unknown ca/i);
    });
  });
