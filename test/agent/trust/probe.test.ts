/** The probe server: who trusts gets through, who does not is not counted, and it goes when nobody asks any more. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openAuthority } from "../../../agent/tls/authority.ts";
import { probeNames, startProbeServer } from "../../../agent/trust/probe-server.ts";
import { createProbeService } from "../../../agent/trust/probe-service.ts";

function ask(port: number, path: string, ca: string | undefined, host = "localhost"): Promise<string> {
  return new Promise((resolve) => {
    const request = get({ host, port, path, agent: false, ...(ca === undefined ? {} : { ca }) }, (response) => {
      response.resume();
      response.on("end", () => resolve("ok"));
    });
    request.on("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
  });
}

test("a request comes through only from who trusts the authority", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-probe-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const authority = await openAuthority(dir);
  const server = await startProbeServer(authority.leafFor(probeNames).context);
  assert.equal(await ask(server.port, "/a/x", authority.caPem), "ok");
  assert.equal(await ask(server.port, "/b/x", authority.caPem, "127.0.0.1"), "ok");
  assert.equal(await ask(server.port, "/c/x", undefined), "SELF_SIGNED_CERT_IN_CHAIN");
  assert.deepEqual(server.paths(), ["/a/x", "/b/x"]);
  await server.close();
});

test("the agent's: askers do not meet, and it goes when nobody asks", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-probe-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const authority = await openAuthority(dir);
  const service = createProbeService(() => authority.leafFor(probeNames).context, 3_000);
  const { port } = await service.ask("/one");
  assert.equal(await ask(port, "/one/curl/", authority.caPem), "ok");
  assert.deepEqual(await service.ask("/one"), { port, reached: ["/one/curl/"] });
  assert.deepEqual((await service.ask("/two")).reached, []);
  while ((await ask(port, "/one/late", authority.caPem)) === "ok") await sleep(20);
  assert.deepEqual((await service.ask("/one")).reached, []);
});
