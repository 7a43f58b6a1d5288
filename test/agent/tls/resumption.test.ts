/** Sessions with servers that are resumed: what is remembered for how long, and real servers that resume or do not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createServer, type TlsOptions } from "node:tls";
import type { TargetTls } from "../../../agent/core/target.ts";
import { WeirError } from "../../../agent/errors.ts";
import { nativeContext, resumingContext } from "../../../agent/tls/native/context.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import type { SecureSocket } from "../../../agent/tls/native/secure-socket.ts";
import { openPins } from "../../../agent/tls/pins.ts";
import { rememberSessions } from "../../../agent/tls/resumption.ts";
import { secureUpstreamNatively } from "../../../agent/tls/upstream-native.ts";
import { ca, shake } from "./native-pair.ts";
import { tempDir, testCa } from "./pki.ts";

const skip = hasNativeTls() ? false : "build/weir-tls.node is not built, or this Node exports no OpenSSL";
const at = (name: string) => ({ address: "192.0.2.7", port: 443, name });
const leafOf = (issuer: typeof ca) => issuer.issue({ name: "db.example", dns: ["db.example"] });

function remembering() {
  const clock = { nowMs: 0 };
  const sessions = rememberSessions(
    () => ({}),
    () => clock.nowMs,
  );
  return { sessions, clock };
}

test("a server has a context of its own, as long as it is verified by the same settings", () => {
  const { sessions } = remembering();
  const [full, none] = [{}, {}];
  const first = sessions.contextFor(at("a.example"), full);
  assert.equal(sessions.contextFor(at("a.example"), full), first);
  assert.notEqual(sessions.contextFor(at("b.example"), full), first);
  assert.notEqual(sessions.contextFor({ ...at("a.example"), port: 8443 }, full), first);
  assert.notEqual(sessions.contextFor({ ...at("a.example"), address: "192.0.2.8" }, full), first);
  const unverified = sessions.contextFor(at("a.example"), none);
  assert.notEqual(unverified, first);
  const again = sessions.contextFor(at("a.example"), full);
  assert.notEqual(again, unverified);
  assert.notEqual(again, first);
});

test("ten minutes after the full handshake the next one is full, however often it was resumed, and when the certificate ends", () => {
  const { sessions, clock } = remembering();
  const settings = {};
  const first = sessions.contextFor(at("a.example"), settings);
  for (; clock.nowMs < 600_000; clock.nowMs += 60_000) {
    assert.equal(sessions.contextFor(at("a.example"), settings), first);
    sessions.accepted(at("a.example"), settings, Number.MAX_SAFE_INTEGER);
  }
  const second = sessions.contextFor(at("a.example"), settings);
  assert.notEqual(second, first);
  sessions.accepted(at("a.example"), settings, clock.nowMs + 5_000);
  clock.nowMs += 4_999;
  assert.equal(sessions.contextFor(at("a.example"), settings), second);
  clock.nowMs += 1;
  assert.notEqual(sessions.contextFor(at("a.example"), settings), second);
});

test("a server that failed or was refused begins from nothing; thousands of servers do not grow it", () => {
  const { sessions } = remembering();
  const settings = {};
  const first = sessions.contextFor(at("a.example"), settings);
  sessions.forget(at("a.example"));
  const second = sessions.contextFor(at("a.example"), settings);
  assert.notEqual(second, first);
  for (let other = 0; other < 500; other += 1) sessions.contextFor(at(`${other}.example`), settings);
  assert.notEqual(sessions.contextFor(at("a.example"), settings), second);
});

interface Server {
  readonly port: number;
  /** One for each handshake. */
  readonly reused: boolean[];
}

/** Answers "hello"; what it is sent ends it. */
async function listen(t: TestContext, options: TlsOptions): Promise<Server> {
  const reused: boolean[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(options, (socket) => {
    reused.push(socket.isSessionReused());
    socket.on("error", () => {});
    socket.on("data", () => socket.end());
    socket.write("hello");
  });
  server.on("connection", (socket) => sockets.add(socket));
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, reused };
}

async function carrierTo(t: TestContext, { port }: Server): Promise<Socket> {
  const carrier = connect(port, "127.0.0.1");
  t.after(() => carrier.destroy());
  await once(carrier, "connect");
  return carrier;
}

/** Reads the greeting, with which the ticket comes; "cut": goes without a word. */
async function greeted(socket: SecureSocket, end: "ended" | "cut" = "ended"): Promise<void> {
  assert.equal(String((await once(socket, "data"))[0]), "hello");
  if (end === "cut") {
    socket.destroy();
    return;
  }
  const closed = once(socket, "close");
  socket.resume();
  socket.write("bye");
  await closed;
}

async function visit(t: TestContext, server: Server, context: object, end?: "ended" | "cut") {
  const { secured, described } = await shake(await carrierTo(t, server), false, { context, serverName: "db.example" });
  await greeted(secured, end);
  return described;
}

const oneServers = () => resumingContext(nativeContext({ server: false, roots: ca.pem }));

for (const end of ["ended", "cut"] as const)
  test(`one ticket is resumed again and again, the connection before was ${end}`, { skip }, async (t) => {
    const server = await listen(t, leafOf(ca));
    const context = oneServers();
    const first = await visit(t, server, context, end);
    assert.deepEqual([first.resumed, first.verifyResult], [false, 0]);
    for (let again = 0; again < 3; again += 1) {
      const next = await visit(t, server, context, end);
      assert.deepEqual([next.resumed, next.verifyResult], [true, 0]);
      assert.deepEqual(next.peerCertificate, first.peerCertificate);
    }
    assert.deepEqual(server.reused, [false, true, true, true]);
  });

test("many connections at once by one ticket, half of them given up in mid-handshake", { skip }, async (t) => {
  const server = await listen(t, leafOf(ca));
  const context = oneServers();
  await visit(t, server, context);
  const one = async (n: number): Promise<void> => {
    const carrier = await carrierTo(t, server);
    const shaken = shake(carrier, false, { context, serverName: "db.example" });
    if (n % 2 === 1) {
      carrier.destroy();
      await shaken.then(({ secured }) => secured.destroy()).catch(() => {});
    } else await greeted((await shaken).secured);
  };
  await Promise.all(Array.from({ length: 60 }, (_, n) => one(n)));
  assert.equal((await visit(t, server, context)).resumed, true);
});

test("what was not verified stays so when it is resumed", { skip }, async (t) => {
  const server = await listen(t, leafOf(testCa("Somebody's CA")));
  const context = oneServers();
  for (const resumed of [false, true]) {
    const described = await visit(t, server, context);
    assert.equal(described.resumed, resumed);
    assert.equal(described.verifyText, "unable to get local issuer certificate");
  }
});

test("a server that does not know the ticket makes the whole handshake, and shows its own certificate", {
  skip,
}, async (t) => {
  const server = await listen(t, leafOf(ca));
  const other = await listen(t, leafOf(testCa("Somebody's CA")));
  const context = oneServers();
  const { peerCertificate } = await visit(t, server, context);
  const described = await visit(t, other, context);
  assert.equal(described.resumed, false);
  assert.notEqual(described.verifyResult, 0);
  assert.notDeepEqual(described.peerCertificate, peerCertificate);
});

test("TLS 1.2 is not resumed: its keys would be the first connection's", { skip }, async (t) => {
  const server = await listen(t, { ...leafOf(ca), maxVersion: "TLSv1.2" });
  const context = oneServers();
  for (let again = 0; again < 3; again += 1) await visit(t, server, context);
  assert.deepEqual(server.reused, [false, false, false]);
});

test("without a context of its own a server is not resumed, and a server's context offers nothing", {
  skip,
}, async (t) => {
  const server = await listen(t, leafOf(ca));
  const shared = nativeContext({ server: false, roots: ca.pem });
  for (let again = 0; again < 2; again += 1) await visit(t, server, shared);
  assert.deepEqual(server.reused, [false, false]);
  const leaf = leafOf(ca);
  const serving = nativeContext({ server: true, certificate: leaf.cert, key: leaf.key });
  assert.throws(() => resumingContext(serving), { message: /context must be a client's/ });
});

/** With a CA file that stays as it is: each change of it makes new settings. */
function directory(t: TestContext): string {
  const dir = tempDir(t);
  writeFileSync(join(dir, "ca.pem"), ca.pem);
  return dir;
}

/** As the agent does it. `port`: the server that is meant, whoever is there. */
async function upstream(
  t: TestContext,
  server: Server,
  dir: string,
  { port = server.port, ...tls }: Partial<TargetTls> & { port?: number } = {},
): Promise<void> {
  const { socket } = await secureUpstreamNatively(await carrierTo(t, server), {
    tls: { verify: "full", ca: join(dir, "ca.pem"), clientCertificate: null, serverName: null, ...tls },
    hostname: "db.example",
    address: "127.0.0.1",
    port,
    alpn: [],
    pins: await openPins(dir),
  });
  await greeted(socket);
}

const refused = (sentence: RegExp) => (error: unknown) => {
  assert.ok(error instanceof WeirError);
  assert.match(error.message, sentence);
  return true;
};

for (const verify of ["full", "first-use"] as const)
  test(`the second connection to a server resumes the first one's session: ${verify}`, { skip }, async (t) => {
    const dir = directory(t);
    const server = await listen(t, leafOf(ca));
    // The second of a new server is the first whose key is no post-quantum one where the server has no use for it.
    for (let again = 0; again < 4; again += 1) await upstream(t, server, dir, { verify });
    assert.deepEqual(server.reused.slice(2), [true, true]);
  });

test("whoever takes a server's place is verified anew", { skip }, async (t) => {
  const dir = directory(t);
  const server = await listen(t, leafOf(ca));
  for (let again = 0; again < 3; again += 1) await upstream(t, server, dir);
  const impostor = await listen(t, leafOf(testCa("Somebody's CA")));
  for (let again = 0; again < 2; again += 1)
    await assert.rejects(
      upstream(t, impostor, dir, { port: server.port }),
      refused(/its issuer Somebody's CA is not known/),
    );
  assert.equal(impostor.reused.includes(true), false);
  // The server is back: it begins from nothing.
  const before = server.reused.length;
  await upstream(t, server, dir);
  assert.deepEqual(server.reused.slice(before), [false]);
});

test("a session that was begun by laxer settings is not offered under stricter ones, and names are judged each time", {
  skip,
}, async (t) => {
  const dir = directory(t);
  const unknown = await listen(t, leafOf(testCa("Somebody's CA")));
  for (let again = 0; again < 3; again += 1) await upstream(t, unknown, dir, { verify: "none" });
  assert.equal(unknown.reused.at(-1), true);
  // Resumed, it would say of the chain that nobody looked at it.
  await assert.rejects(upstream(t, unknown, dir), refused(/its issuer Somebody's CA is not known/));

  const misnamed = await listen(t, ca.issue({ name: "evil.example", dns: ["evil.example"] }));
  for (let again = 0; again < 3; again += 1) await upstream(t, misnamed, dir, { verify: "ca" });
  assert.equal(misnamed.reused.at(-1), true);
  await assert.rejects(upstream(t, misnamed, dir), refused(/is for another name: DNS:evil\.example/));
});
