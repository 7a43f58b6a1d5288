/** The authority's certificates, judged by those who will meet them: openssl, Python, Node. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connect, createServer } from "node:tls";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { toPem } from "../../../agent/tls/certificate.ts";
import { tempDir } from "./pki.ts";

const names = { commonName: "db.example", dns: ["db.example", "*.db.example"], ip: ["127.0.0.1", "2001:db8::1"] };

test("openssl verifies authority and leaf strictly, with name and address", async (t) => {
  const dir = tempDir(t);
  const authority = await openAuthority(dir);
  const leafPath = join(dir, "leaf.pem");
  writeFileSync(leafPath, toPem(authority.leafFor(names).certificateDer));
  const openssl = (...args: string[]) => execFileSync("openssl", args, { encoding: "utf8" });
  const strict = ["verify", "-x509_strict", "-check_ss_sig", "-CAfile", authority.caPath];
  assert.match(openssl(...strict, authority.caPath), /: OK/);
  assert.match(openssl(...strict, "-purpose", "sslserver", "-verify_hostname", "a.db.example", leafPath), /: OK/);
  assert.match(openssl(...strict, "-verify_ip", "127.0.0.1", leafPath), /: OK/);
  assert.match(openssl(...strict, "-verify_ip", "2001:db8::1", leafPath), /: OK/);
  assert.throws(() => openssl(...strict, "-verify_hostname", "other.example", leafPath));
  const text = openssl("x509", "-in", leafPath, "-noout", "-text");
  assert.match(text, /CA:FALSE/);
  assert.match(text, /TLS Web Server Authentication/);
});

test("node and python accept a server with the leaf, and refuse another name", async (t) => {
  const dir = tempDir(t);
  const authority = await openAuthority(dir);
  const server = createServer({ SNICallback: (_, done) => done(null, authority.leafFor(names).context) }, (socket) =>
    socket.end("hello"),
  );
  // Without SNI Node asks no callback: the same leaf for who connects by address.
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", servername: "db.example", ca: authority.caPem });
  await once(socket, "secureConnect");
  assert.equal(socket.authorized, true);
  socket.destroy();
  const program = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
context.verify_flags |= ssl.VERIFY_X509_STRICT
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as raw:
    with context.wrap_socket(raw, server_hostname=sys.argv[3]) as secured:
        print(secured.recv(10).decode())`;
  const python = async (file: string, name: string) => {
    const child = spawn("python3", ["-c", program, String(port), file, name]);
    let output = "";
    child.stdout.on("data", (piece) => (output += piece));
    child.stderr.on("data", (piece) => (output += piece));
    await once(child, "close");
    return output;
  };
  assert.equal(await python(authority.caPath, "db.example"), "hello\n");
  assert.equal(await python(authority.bundlePath, "x.db.example"), "hello\n");
  assert.match(await python(authority.caPath, "other.example"), /Hostname mismatch/);
});

test("the authority survives a restart, its key is for its owner only, leaves are cached and renewed", async (t) => {
  const dir = tempDir(t);
  let nowMs = Date.now();
  const first = await openAuthority(dir, () => nowMs);
  const again = await openAuthority(dir, () => nowMs);
  assert.equal(again.caPem, first.caPem);
  assert.equal(statSync(join(dir, "ca/ca-key.pem")).mode & 0o777, 0o600);
  assert.ok(readFileSync(first.bundlePath, "utf8").endsWith(first.caPem));
  const leaf = first.leafFor(names);
  assert.equal(first.leafFor(names), leaf);
  nowMs += 17 * 3_600_000;
  assert.equal(first.leafFor(names), leaf);
  nowMs += 2 * 3_600_000;
  const renewed = first.leafFor(names);
  assert.notEqual(renewed, leaf);
  assert.notEqual(
    new X509Certificate(renewed.certificateDer).serialNumber,
    new X509Certificate(leaf.certificateDer).serialNumber,
  );
});

test("an authority that is about to expire is replaced at start", async (t) => {
  const dir = tempDir(t);
  const sixYearsMs = 6 * 365 * 24 * 3_600_000;
  const old = await openAuthority(dir, () => Date.now() - sixYearsMs);
  const fresh = await openAuthority(dir);
  assert.notEqual(fresh.caPem, old.caPem);
  assert.ok(Date.parse(new X509Certificate(fresh.caPem).validTo) > Date.now());
});

test("a clock that is put back makes what it signed anew, at once the leaf, at the next start the authority", async (t) => {
  const dir = tempDir(t);
  const dayMs = 24 * 3_600_000;
  let nowMs = Date.now() + dayMs;
  const authority = await openAuthority(dir, () => nowMs);
  const early = authority.leafFor(names);
  nowMs -= dayMs;
  const leaf = new X509Certificate(authority.leafFor(names).certificateDer);
  assert.notEqual(authority.leafFor(names), early);
  assert.ok(Date.parse(leaf.validFrom) <= nowMs);
  assert.notEqual((await openAuthority(dir, () => nowMs)).caPem, authority.caPem);
});

test("a damaged file is told with its path and what to do, and nothing is made over it", async (t) => {
  const dir = tempDir(t);
  await openAuthority(dir);
  for (const name of ["ca.pem", "ca-key.pem"]) {
    const path = join(dir, "ca", name);
    const whole = readFileSync(path);
    writeFileSync(path, "");
    await assert.rejects(openAuthority(dir), {
      code: "WEIR_STATE_DAMAGED",
      message: new RegExp(`/ca/${name} cannot be read \\(.+\\)\\. Move .+/ca away: another authority is made`),
    });
    assert.equal(readFileSync(path, "utf8"), "");
    writeFileSync(path, whole);
  }
});

test("certificates with very many names and very long names are well-formed", async (t) => {
  const authority = await openAuthority(tempDir(t));
  const dns = Array.from({ length: 4_000 }, (_, at) => `host-${at}.a-long-name.example`);
  const leaf = new X509Certificate(authority.leafFor({ commonName: "ö".repeat(90), dns, ip: [] }).certificateDer);
  assert.equal(leaf.checkHost("host-3999.a-long-name.example"), "host-3999.a-long-name.example");
  assert.ok(leaf.verify(new X509Certificate(authority.caPem).publicKey));
  const none = new X509Certificate(authority.leafFor({ commonName: null, dns: [], ip: [] }).certificateDer);
  assert.equal(none.subject, "CN=weir");
});
