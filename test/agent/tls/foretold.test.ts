import assert from "node:assert/strict";
import { test } from "node:test";
import type { TargetTls } from "../../../agent/core/target.ts";
import { openForetold } from "../../../agent/tls/foretold.ts";

const tls = (verify: TargetTls["verify"], serverName: string | null = null): TargetTls => ({
  verify,
  ca: null,
  clientCertificate: null,
  serverName,
});
const place = { address: "192.0.2.7", port: 443 };
const names = { commonName: "shop", dns: ["shop.example.com", "www.example.com"], ip: [] };

test("of a server that has to prove the client's own name for it, that name", () => {
  const foretold = openForetold();
  const told = (hostname: string | null, serverName: string | null, verified: string | null = null) =>
    foretold({ tls: tls("full", verified), hostname, ...place }, serverName).names?.dns ?? null;
  assert.deepEqual(told("shop.example.com", "shop.example.com"), ["shop.example.com"]);
  assert.deepEqual(told("shop.example.com", "shop.example.com", "shop.example.com"), ["shop.example.com"]);
  assert.equal(told("shop.example.com", "shop.example.com", "proxy.internal"), null, "another name is verified");
  assert.equal(told("shop.example.com", null), null, "what the client looks for is not known");
  assert.equal(told("192.0.2.7", "192.0.2.7"), null, "as an address it would have to stand there");
});

test("of a pinned certificate its names, once it was seen, and by the server's own name", () => {
  const foretold = openForetold();
  const server = { tls: tls("first-use"), hostname: "shop.example.com", ...place };
  assert.equal(foretold(server, null).names, null);
  foretold(server, null).verified(names);
  assert.equal(foretold(server, null).names, names);
  assert.equal(foretold({ ...server, port: 8443 }, null).names, null);
  assert.equal(foretold({ ...server, hostname: "other.example.com" }, "other.example.com").names, null);
});

test("where certificates may come and go, nothing", () => {
  const foretold = openForetold();
  for (const verify of ["ca", "none"] as const) {
    const server = { tls: tls(verify), hostname: "shop.example.com", ...place };
    foretold(server, null).verified(names);
    assert.equal(foretold(server, "shop.example.com").names, null);
    assert.equal(foretold({ ...server, tls: tls("first-use") }, null).names, null, "it was no pin");
  }
});

test("the server seen first is forgotten first", () => {
  const foretold = openForetold();
  const server = (at: number) => ({ tls: tls("first-use"), hostname: `s${at}.example.com`, ...place });
  for (let at = 0; at <= 2_000; at += 1) foretold(server(at), null).verified(names);
  assert.equal(foretold(server(0), null).names, null);
  assert.equal(foretold(server(1), null).names, names);
});
