import assert from "node:assert/strict";
import { test } from "node:test";
import { refusalsMin, refusesCertificate, rememberPinnedClients } from "../../../agent/act/pinned-clients.ts";
import type { Flow } from "../../../agent/core/flow.ts";

const flowOf = (exe: string, uid = 1000): Flow => ({
  id: "f",
  destination: { address: "10.0.0.1", port: 443 },
  source: { address: "127.0.0.1", port: 1 },
  hostname: null,
  process: {
    ...{ pid: 1, ppid: 1, uid, gid: uid, comm: "x", exe, commandLine: [] },
    ...{ startTicks: 1, cgroup: "/" },
  },
  identity: null,
  openedAtMs: 0,
  via: "bpf",
});

test("a client counts as pinning after some refusals in a row, for that server alone", () => {
  const clients = rememberPinnedClients();
  const app = flowOf("/opt/app");
  for (let at = 1; at < refusalsMin; at += 1) assert.equal(clients.refused(app, "a", 0), false);
  assert.equal(clients.isPinned(app, "a", 0), false);
  assert.equal(clients.refused(app, "a", 0), true);
  assert.ok(clients.isPinned(app, "a", 1_000));
  assert.equal(clients.isPinned(app, "b", 0), false);
  assert.equal(clients.isPinned(flowOf("/opt/other"), "a", 0), false);
  assert.equal(clients.isPinned(flowOf("/opt/app", 1001), "a", 0), false);
});

test("a handshake that works, or a day, makes it forgotten", () => {
  const clients = rememberPinnedClients();
  const app = flowOf("/opt/app");
  for (let at = 0; at < refusalsMin; at += 1) clients.refused(app, "a", 0);
  assert.equal(clients.isPinned(app, "a", 25 * 3600 * 1000), false);
  clients.accepted(app, "a");
  assert.equal(clients.isPinned(app, "a", 0), false);
});

test("what is remembered has an end", () => {
  const clients = rememberPinnedClients();
  for (let round = 0; round < refusalsMin; round += 1) clients.refused(flowOf("/first"), "a", 0);
  for (let at = 0; at < 10_000; at += 1) clients.refused(flowOf(`/app/${at}`), "a", 0);
  assert.equal(clients.isPinned(flowOf("/first"), "a", 0), false);
});

test("alerts that speak of the certificate, and others", () => {
  for (const text of ["tlsv1 alert unknown ca", "ssl/tls alert bad certificate", "sslv3 alert certificate unknown"])
    assert.ok(refusesCertificate(`error:0A000418:SSL routines::${text}:../ssl/record.c`), text);
  for (const text of ["tlsv1 alert protocol version", "tlsv1 alert handshake failure", "wrong version number"])
    assert.ok(!refusesCertificate(text), text);
});
