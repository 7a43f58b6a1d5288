/** Which engine ends a connection's TLS, and what the operator says about it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { connect, TLSSocket } from "node:tls";
import { readConfig } from "../../../agent/config.ts";
import { WeirError } from "../../../agent/errors.ts";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { openTlsEngine } from "../../../agent/tls/engine.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { tempDir } from "./pki.ts";

/** One client that offers these protocols, ended by the engine; what its bytes come through. */
async function terminated(t: TestContext, wanted: "native" | "node", alpn: readonly string[]): Promise<Socket> {
  const authority = await openAuthority(tempDir(t));
  const leaf = authority.leafFor({ commonName: "api.example", dns: ["api.example"], ip: [] });
  const server = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const accepted = once(server, "connection");
  const client = connect({
    port: (server.address() as AddressInfo).port,
    rejectUnauthorized: false,
    ALPNProtocols: [...alpn],
  });
  t.after(() => client.destroy());
  const [plain] = (await accepted) as [Socket];
  const { socket, tls } = await openTlsEngine(wanted).terminateClient(plain, { leftover: Buffer.alloc(0), leaf, alpn });
  t.after(() => socket.destroy());
  assert.equal(tls.alpn, alpn[0]);
  const answered = once(client, "data");
  socket.write("hello");
  assert.equal(String((await answered)[0]), "hello");
  return socket;
}

test("the native engine carries what needs no stream of Node's; HTTP/2 does", async (t) => {
  assert.equal(openTlsEngine("native").name, hasNativeTls() ? "native" : "node");
  assert.equal((await terminated(t, "native", ["http/1.1"])) instanceof TLSSocket, !hasNativeTls());
  assert.ok((await terminated(t, "native", ["h2"])) instanceof TLSSocket);
});

test("--tls node, WEIR_TLS and the configuration file choose node:tls", async (t) => {
  assert.equal(openTlsEngine("node").name, "node");
  assert.ok((await terminated(t, "node", ["http/1.1"])) instanceof TLSSocket);
  const read = (args: readonly string[], env: NodeJS.ProcessEnv = {}) => readConfig(args, { policyDir: "/", env }).tls;
  assert.equal(read([]), "native");
  assert.equal(read([], { WEIR_TLS: "node" }), "node");
  assert.equal(read(["--tls", "native"], { WEIR_TLS: "node" }), "native");
  assert.throws(
    () => read(["--tls", "openssl"]),
    (error) => error instanceof WeirError && error.code === "WEIR_USAGE",
  );
});
