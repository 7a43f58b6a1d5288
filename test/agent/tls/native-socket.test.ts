/** The native TLS engine against itself, Node and openssl over real sockets. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectPlain, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type ConnectionOptions, connect, createServer as createTlsServer } from "node:tls";
import { nativeContext } from "../../../agent/tls/native/context.ts";
import { hasNativeTls, highWaterBytes, hub } from "../../../agent/tls/native/hub.ts";
import type { SecureSocket } from "../../../agent/tls/native/secure-socket.ts";
import { until } from "../../support/until.ts";
import { ca, listener, pair, shake } from "./native-pair.ts";
import { tempDir, testCa } from "./pki.ts";

const skip = hasNativeTls() ? false : "build/weir-tls.node is not built, or this Node exports no OpenSSL";
const MB = 1024 * 1024;

type Readable = Pick<SecureSocket, "on"> | Socket;

/** All that comes until the end. */
function collect(socket: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const on = socket.on.bind(socket) as unknown as (name: string, listener: (bytes: Buffer) => void) => void;
  return new Promise((resolve) => {
    on("data", (bytes) => pieces.push(bytes));
    on("end", () => resolve(Buffer.concat(pieces)));
  });
}

/** Unlike `once`, an error before does not matter. */
function closing(socket: SecureSocket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

/** A client of node:tls on a server of the engine. */
async function nodeClient(t: TestContext, options: ConnectionOptions = {}) {
  const { port, next } = await listener(t);
  const accepted = next();
  const raw = connectPlain({ port, host: "127.0.0.1" });
  const client = connect({
    socket: raw,
    servername: "db.example",
    ca: ca.pem,
    ALPNProtocols: ["postgresql"],
    ...options,
  });
  client.on("error", () => {});
  t.after(() => client.destroy());
  const [{ secured, described }] = await Promise.all([
    accepted.then((carrier) => shake(carrier, true, { alpn: ["postgresql"] })),
    once(client, "secureConnect"),
  ]);
  t.after(() => secured.destroy());
  return { raw, client, server: secured, described };
}

test("a handshake between two of ours: version, ALPN, SNI, verified", { skip }, async (t) => {
  const { client, server } = await pair(
    t,
    { serverName: "db.example", alpn: ["http/1.1", "postgresql"] },
    { alpn: ["postgresql", "x"] },
  );
  assert.deepEqual(
    [client.described.version, client.described.alpn, client.described.verifyResult],
    ["TLSv1.3", "postgresql", 0],
  );
  assert.deepEqual([server.described.alpn, server.described.serverName], ["postgresql", "db.example"]);
  client.secured.write("ping");
  assert.equal(String((await once(server.secured, "data"))[0]), "ping");
  server.secured.write("pong");
  assert.equal(String((await once(client.secured, "data"))[0]), "pong");
});

test("each connection shows its own leaf and what stands behind it, whoever was served before", { skip }, async (t) => {
  const shown = async (context: object) => {
    const { port, next } = await listener(t);
    const accepted = next();
    const client = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
    t.after(() => client.destroy());
    const [{ secured }] = await Promise.all([
      accepted.then((carrier) => shake(carrier, true, { context })),
      once(client, "secureConnect"),
    ]);
    t.after(() => secured.destroy());
    const { subject, issuerCertificate } = client.getPeerCertificate(true);
    return [subject.CN, issuerCertificate?.subject.CN];
  };
  const made = ["One CA", "Other CA"].map((name) => {
    const authority = testCa(name);
    const { cert, key } = authority.issue({ name: `server of ${name}` });
    return nativeContext({ server: true, certificate: cert + authority.pem, key });
  }) as [object, object];
  for (const round of [1, 2]) {
    assert.deepEqual(await shown(made[0]), ["server of One CA", "One CA"], `round ${round}`);
    assert.deepEqual(await shown(made[1]), ["server of Other CA", "Other CA"], `round ${round}`);
  }
});

for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
  test(`${version} with a client of node:tls`, { skip }, async (t) => {
    const { client, server, described } = await nodeClient(t, { minVersion: version, maxVersion: version });
    assert.deepEqual([described.version, described.alpn, described.serverName], [version, "postgresql", "db.example"]);
    assert.equal(client.authorized, true);
    assert.equal(client.isSessionReused(), false);
    const all = collect(server);
    client.end("x".repeat(100_000));
    assert.equal((await all).length, 100_000);
    const back = collect(client);
    server.end("done");
    assert.equal(String(await back), "done");
  });
}

test("TLS 1.1 is refused, and so is a client that offers none of our protocols", { skip }, async (t) => {
  for (const options of [
    { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" },
    { ALPNProtocols: ["h2"] },
  ] as const)
    await assert.rejects(nodeClient(t, { ...options } as ConnectionOptions), /protocol|version/i);
});

test("a post-quantum key is agreed on where the server prefers it, not with our own clients", { skip }, async (t) => {
  // Node's own server, with OpenSSL's own order.
  const leaf = ca.issue({ name: "db.example", dns: ["db.example"] });
  const server = createTlsServer({ cert: leaf.cert, key: leaf.key }, (socket) => socket.on("error", () => {}));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const agreed = async (classicFirst: boolean): Promise<boolean> => {
    const plain = connectPlain({ port: (server.address() as AddressInfo).port, host: "127.0.0.1" });
    await once(plain, "connect");
    const context = nativeContext({ server: false, roots: ca.pem, classicFirst });
    const { secured, described } = await shake(plain, false, { context });
    secured.destroy();
    return described.postQuantum;
  };
  assert.equal(await agreed(false), true);
  // Without a key of ours for it the server asks for one.
  assert.equal(await agreed(true), true);
  const { client } = await pair(t);
  assert.equal(client.described.postQuantum, false);
});

test("an unknown issuer is told, with the certificate", { skip }, async (t) => {
  const strange = nativeContext({ server: false, roots: testCa("Strange CA").pem });
  const { client } = await pair(t, { context: strange });
  assert.notEqual(client.described.verifyResult, 0);
  assert.ok((client.described.peerCertificate?.length ?? 0) > 100);
});

test("contexts refuse what is no certificate, no key, or not its key", { skip }, async () => {
  const [one, two] = [ca.issue({}), ca.issue({})];
  assert.throws(() => nativeContext({ server: true }), /certificate or key/);
  assert.throws(() => nativeContext({ server: true, certificate: one.cert, key: two.key }), /certificate or key/);
  assert.throws(() => nativeContext({ server: true, certificate: one.cert, key: "x" }), /certificate or key/);
  assert.throws(() => nativeContext({ server: false, roots: "no certificate" }), /roots/);
});

test("many writes of one byte arrive in order, also from inside a data event", { skip }, async (t) => {
  const { client, server } = await pair(t);
  const count = 20_000;
  server.secured.on("data", (bytes: Buffer) => {
    for (const byte of bytes) server.secured.write(Buffer.of(byte));
  });
  const back = collect(client.secured);
  const sent = Buffer.alloc(count);
  for (let at = 0; at < count; at += 1) {
    sent[at] = at % 251;
    client.secured.write(sent.subarray(at, at + 1));
    if (at % 5_000 === 0) await new Promise((done) => setImmediate(done));
  }
  client.secured.end();
  await once(server.secured, "end");
  server.secured.end();
  assert.ok((await back).equals(sent));
});

/** Bytes to and fro, each sent back after `pause`. */
async function converse(client: SecureSocket, rounds: number, pause: () => Promise<void>): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    await pause();
    const back = once(client as unknown as NodeJS.EventEmitter, "data");
    client.write("ping");
    assert.equal(String((await back)[0]), "ping");
  }
}

test("a conversation alone is waited for, but not one that is slow, nor for ever, and timers fire meanwhile", {
  skip,
}, async (t) => {
  const shaken = await pair(t);
  const [client, server] = [shaken.client.secured, shaken.server.secured];
  server.on("data", (bytes: Buffer) => server.write(bytes));
  client.resume();
  let ticks = 0;
  const ticking = setInterval(() => (ticks += 1), 1);
  t.after(() => clearInterval(ticking));
  await converse(client, 2_000, async () => {});
  assert.ok(ticks > 0, "a timer fired");
  clearInterval(ticking);
  // Each vain wait costs two of eight credits, each other gives one back; then there is no waiting for 512 turns.
  const before = hub().vainWaits;
  await converse(client, 300, () => new Promise((done) => setTimeout(done, 1)));
  const vain = hub().vainWaits - before;
  assert.ok(vain > 0 && vain < 60, `${vain} vain waits in 300 rounds`);
  await new Promise((done) => setTimeout(done, 50));
  assert.ok(hub().vainWaits - before - vain <= 1, "silence is not waited for");
});

test("bytes that are kept are not overwritten by later ones", { skip }, async (t) => {
  const { client, server } = await pair(t);
  const kept: Buffer[] = [];
  const copies: Buffer[] = [];
  server.secured.on("data", (bytes: Buffer) => {
    kept.push(bytes);
    copies.push(Buffer.from(bytes));
  });
  for (let round = 0; round < 400; round += 1) {
    const piece = Buffer.alloc(1 + ((round * 997) % 40_000), round % 250);
    client.secured.write(piece);
    piece.fill(255);
    await new Promise((done) => setImmediate(done));
  }
  client.secured.end();
  await once(server.secured, "end");
  for (const [at, piece] of kept.entries()) assert.ok(piece.equals(copies[at] as Buffer));
  assert.ok(!Buffer.concat(kept).includes(255));
});

/** Sends `total` bytes in pieces as fast as `write` allows. */
async function pump(socket: SecureSocket, total: number, pieceBytes: number): Promise<{ hash: string; most: number }> {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(pieceBytes);
  let most = 0;
  for (let sent = 0; sent < total; sent += pieceBytes) {
    piece.fill((sent / pieceBytes) % 256);
    hash.update(piece);
    const accepted = socket.write(piece);
    most = Math.max(most, socket.writableLength);
    if (!accepted) await once(socket, "drain");
    // Accepted writes must not starve the loop.
    else if ((sent / pieceBytes) % 16 === 0) await new Promise((done) => setImmediate(done));
  }
  socket.end();
  return { hash: hash.digest("hex"), most };
}

async function hashOf(socket: SecureSocket, slow: boolean): Promise<string> {
  const hash = createHash("sha256");
  let count = 0;
  socket.on("data", (bytes: Buffer) => {
    hash.update(bytes);
    count += 1;
    if (slow && count % 100 === 0) {
      socket.pause();
      setTimeout(() => socket.resume(), 1);
    }
  });
  await once(socket, "end");
  return hash.digest("hex");
}

test("100 MB both ways at once with pauses: the same bytes, little memory", { skip }, async (t) => {
  const { client, server } = await pair(t);
  const before = process.memoryUsage().rss;
  let highest = 0;
  const watch = setInterval(() => {
    highest = Math.max(highest, process.memoryUsage().rss);
  }, 20);
  t.after(() => clearInterval(watch));
  const [up, down, atServer, atClient] = await Promise.all([
    pump(client.secured, 100 * MB, 64 * 1024),
    pump(server.secured, 100 * MB, 64 * 1024),
    hashOf(server.secured, true),
    hashOf(client.secured, false),
  ]);
  assert.equal(atServer, up.hash);
  assert.equal(atClient, down.hash);
  for (const { most } of [up, down]) assert.ok(most <= highWaterBytes + 2 * 64 * 1024, `${most} bytes waited`);
  assert.ok(highest - before < 120 * MB, `grew by ${(highest - before) / MB} MB`);
});

test("a paused side reads no more than one piece, and the writer is told to stop", { skip }, async (t) => {
  const { client, server } = await pair(t);
  let read = 0;
  server.secured.on("data", (bytes: Buffer) => {
    read += bytes.length;
    server.secured.pause();
  });
  let written = 0;
  while (client.secured.write(Buffer.alloc(64 * 1024))) {
    written += 64 * 1024;
    await new Promise((done) => setImmediate(done));
  }
  await new Promise((done) => setTimeout(done, 50));
  assert.ok(read > 0 && read <= 81 * 1024, `${read}`);
  assert.ok(written < 64 * MB);
  server.secured.removeAllListeners("data");
  server.secured.on("data", (bytes: Buffer) => {
    read += bytes.length;
  });
  server.secured.resume();
  client.secured.end();
  await once(server.secured, "end");
  assert.ok(read > written);
});

test("each side's end is its own: an answer still comes after it, then both are closed", { skip }, async (t) => {
  const { client, server, serverCarrier, clientCarrier } = await pair(t);
  const question = collect(server.secured);
  const answer = collect(client.secured);
  client.secured.end("question");
  assert.equal(String(await question), "question");
  server.secured.write("a long ");
  await new Promise((done) => setTimeout(done, 20));
  const closed = Promise.all([once(server.secured, "close"), once(client.secured, "close")]);
  server.secured.end("answer");
  assert.equal(String(await answer), "a long answer");
  await closed;
  assert.ok(serverCarrier.destroyed && clientCarrier.destroyed);
  assert.ok(server.secured.destroyed && server.secured.writableEnded);
  assert.equal(server.secured.write("late"), false);
});

test("without allowHalfOpen the peer's end ends ours", { skip }, async (t) => {
  const { port, next } = await listener(t, { allowHalfOpen: false });
  const accepted = next();
  const raw = connectPlain({ port, host: "127.0.0.1", allowHalfOpen: true });
  const client = connect({ socket: raw, ca: ca.pem, servername: "db.example" });
  const { secured } = await shake(await accepted, true);
  const closed = closing(secured);
  secured.resume();
  client.resume();
  client.end();
  await Promise.all([once(client, "end"), closed]);
});

test("an end of TCP without close_notify is an end", { skip }, async (t) => {
  const { port, next } = await listener(t);
  const accepted = next();
  const raw = connectPlain({ port, host: "127.0.0.1" });
  const client = connect({ socket: raw, ca: ca.pem, servername: "db.example" });
  client.on("error", () => {});
  const { secured } = await shake(await accepted, true);
  const all = collect(secured);
  client.write("half", () => raw.end());
  assert.equal(String(await all), "half");
  secured.destroy();
});

test("a reset is an error and a close, also while paused with much to send", { skip }, async (t) => {
  for (const paused of [false, true]) {
    const { raw, server } = await nodeClient(t);
    const failed = once(server, "error");
    const closed = closing(server);
    if (paused) {
      server.pause();
      while (server.write(Buffer.alloc(64 * 1024))) await new Promise((done) => setImmediate(done));
    } else server.resume();
    raw.resetAndDestroy();
    assert.match(String(((await failed) as [NodeJS.ErrnoException])[0].code), /ECONNRESET|EPIPE/);
    await closed;
  }
});

test("junk instead of a handshake, and junk in the middle of a stream, are errors with a reason", {
  skip,
}, async (t) => {
  for (const junk of ["GET / HTTP/1.1\r\n\r\n", Buffer.alloc(70_000, 0x16), Buffer.of(22, 3, 1, 255, 255, 1)]) {
    const { port, next } = await listener(t);
    const accepted = next();
    const client = connectPlain({ port, host: "127.0.0.1" });
    client.on("error", () => {});
    client.end(junk);
    await assert.rejects(shake(await accepted, true), /request|version|record|closed|length|message/i);
    client.destroy();
  }
  const { raw, server: secured } = await nodeClient(t);
  secured.resume();
  const failed = once(secured, "error");
  const closed = closing(secured);
  raw.write(Buffer.concat([Buffer.of(23, 3, 3, 0, 40), Buffer.alloc(40, 7)]));
  assert.match(String((await failed)[0]), /decryption failed or bad record mac/);
  await closed;
});

test("sockets that are closed at any point of a turn hear nothing more and harm nobody", { skip }, async (t) => {
  const pairs = await Promise.all(Array.from({ length: 12 }, () => pair(t)));
  const servers = pairs.map((one) => one.server.secured);
  let after = 0;
  for (const [at, server] of servers.entries()) {
    const next = servers[(at + 1) % servers.length] as SecureSocket;
    server.on("data", () => {
      if (server.destroyed) after += 1;
      server.write("x");
      next.write("y");
      next.destroy();
      server.destroy();
      server.write("z");
      server.end();
      server.resume();
      server.pause();
    });
  }
  const closed = pairs.map((one) => closing(one.client.secured));
  for (const { client } of pairs) {
    client.secured.resume();
    client.secured.on("end", () => client.secured.end());
    client.secured.write("go");
  }
  // In the same turn: some are closed before what they wrote was flushed.
  for (const { client } of pairs.slice(8)) client.secured.destroy();
  await Promise.all(closed);
  assert.equal(after, 0);
});

test("hundreds of connections, ended in every way, leave no descriptor behind", { skip }, async (t) => {
  const { port, next, sockets } = await listener(t);
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const one = async (way: number): Promise<void> => {
    const plain = connectPlain({ port, host: "127.0.0.1", allowHalfOpen: true });
    plain.on("error", () => {});
    const accepted = next();
    await once(plain, "connect");
    const carrier = await accepted;
    if (way === 0) {
      plain.resetAndDestroy();
      await assert.rejects(shake(carrier, true));
      return;
    }
    const [there, here] = await Promise.all([shake(carrier, true), shake(plain, false)]);
    const closed = [closing(there.secured), closing(here.secured)];
    there.secured.on("end", () => there.secured.end()).resume();
    here.secured.on("end", () => here.secured.end()).resume();
    here.secured.write("hello");
    if (way === 1) here.secured.end();
    else if (way === 2) there.secured.destroy();
    else here.secured.destroy();
    await Promise.all(closed);
  };
  await one(1);
  const before = descriptors();
  for (let at = 0; at < 300; at += 1) await one(at % 4);
  await until(() => sockets.size === 0 && descriptors() === before);
});

test("renegotiation is refused, and the connection stays what it was", { skip }, async (t) => {
  const { client, server } = await nodeClient(t, { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" });
  server.on("data", (bytes: Buffer) => server.write(bytes));
  const outcome = new Promise((done) => {
    client.once("error", () => done("error"));
    client.once("close", () => done("closed"));
    client.renegotiate({}, (error) => done(error === null ? "renegotiated" : "error"));
  });
  assert.notEqual(await outcome, "renegotiated");
});

test("keys are updated in both directions, by us and by the peer", { skip }, async (t) => {
  const { client, server } = await pair(t);
  server.secured.on("data", (bytes: Buffer) => server.secured.write(bytes));
  const back = collect(client.secured);
  for (let round = 0; round < 50; round += 1) {
    assert.ok(client.secured.updateKeys());
    if (round % 3 === 0) assert.ok(server.secured.updateKeys());
    client.secured.write(`round ${round};`);
    await new Promise((done) => setImmediate(done));
  }
  client.secured.end();
  await once(server.secured, "end");
  server.secured.end();
  assert.match(String(await back), /^round 0;.*round 49;$/);
  const old = await nodeClient(t, { maxVersion: "TLSv1.2" });
  assert.equal(old.server.updateKeys(), false);
});

test("openssl s_client asks for new keys and for a renegotiation", { skip }, async (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, "ca.pem"), ca.pem);
  for (const [version, command] of [
    ["-tls1_3", "K\n"],
    ["-tls1_2", "R\n"],
  ] as const) {
    const { port, next } = await listener(t);
    const accepted = next();
    const program = spawn(
      "openssl",
      ["s_client", version, "-connect", `127.0.0.1:${port}`, "-CAfile", join(dir, "ca.pem")],
      { stdio: ["pipe", "ignore", "ignore"] },
    );
    t.after(() => program.kill());
    const { secured } = await shake(await accepted, true);
    let got = "";
    secured.on("data", (bytes: Buffer) => {
      got += bytes;
    });
    const over = closing(secured);
    secured.on("end", () => secured.end());
    program.stdin.write("before\n");
    while (!got.includes("before")) await new Promise((done) => setTimeout(done, 10));
    program.stdin.write(command);
    await new Promise((done) => setTimeout(done, 100));
    program.stdin.end("after\n");
    await over;
    // TLS 1.2: the refusal is a warning, on which this client gives up by itself.
    if (version === "-tls1_3") assert.equal(got, "before\nafter\n");
    else assert.ok(got.startsWith("before\n"));
  }
});

test("a write's callback is called, and one that can no longer be sent hears of it", { skip }, async (t) => {
  const { client, server } = await pair(t);
  server.secured.pause();
  await new Promise<void>((done) => client.secured.write("one", "utf8", () => done()));
  let told: unknown = null;
  while (client.secured.write(Buffer.alloc(64 * 1024))) await new Promise((done) => setImmediate(done));
  const last = new Promise<void>((done) => {
    client.secured.write("last", (error) => {
      told = error;
      done();
    });
  });
  client.secured.destroy();
  await last;
  assert.ok(told instanceof Error);
});
