/** Streaming replication (CopyBoth): refused by default, and with a rule the same as direct; what it carries is not masked. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const run = promisify(execFile);

const policy = (port: number, mask = ""): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [127.0.0.1], ports: [${port}], tls: { verify: first-use } }
rules:
  - { name: replicas, match: { target: db, kind: replication }, verdict: allow${mask} }
  - { name: rest, match: { target: db }, verdict: allow${mask} }
`;

describe("replication", () => {
  let server: Postgres;
  let bin: string;
  const dir = mkdtempSync(join(tmpdir(), "weir-replication-"));
  before(async () => {
    server = await startPostgres({ settings: { wal_level: "logical", max_replication_slots: "4" } });
    bin = (await run("pg_config", ["--bindir"])).stdout.trim();
    await server.admin("CREATE TABLE people (id int, card text)");
  });
  after(async () => {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const through = (relay: Relay) => clientEnvironment(server, { PGPORT: String(relay.port), PGSSLMODE: "require" });

  test("logical changes stream as they come, the client's acknowledgements go back, and both end in order", async () => {
    const relay = await startRelay({ server, policy: policy(server.port) });
    try {
      const env = through(relay);
      const slot = ["-d", "postgres", "--slot", "weir"];
      await run(join(bin, "pg_recvlogical"), [...slot, "--create-slot", "-P", "test_decoding"], { env });
      const child = spawn(
        join(bin, "pg_recvlogical"),
        [...slot, "--start", "-f", "-", "-o", "skip-empty-xacts=1", "--status-interval=1", "--fsync-interval=1"],
        { env, stdio: ["ignore", "pipe", "ignore"] },
      );
      let got = "";
      const brought = new Promise<void>((done) => {
        child.stdout.on("data", (bytes: Buffer) => {
          got += bytes;
          if (got.includes("[integer]:1000 ")) done();
        });
      });
      await server.admin("INSERT INTO people SELECT i, repeat('x', i) FROM generate_series(1, 1000) i");
      await brought;
      // What the client acknowledges arrives.
      const acknowledged = "SELECT confirmed_flush_lsn >= (SELECT max(lsn) FROM seen) FROM pg_replication_slots";
      await server.admin("CREATE TABLE seen AS SELECT pg_current_wal_lsn() AS lsn");
      while ((await server.admin(acknowledged)) !== "t") await new Promise((resolve) => setTimeout(resolve, 100));
      const gone = new Promise<number | null>((done) => child.once("exit", done));
      child.kill("SIGINT");
      assert.equal(await gone, 0);
      const ids = [...got.matchAll(/id\[integer\]:(\d+) card\[text\]:'(x+)'/g)];
      assert.equal(ids.length, 1000);
      assert.ok(ids.every((match, index) => Number(match[1]) === index + 1 && match[2]?.length === index + 1));
      await run(join(bin, "pg_recvlogical"), [...slot, "--drop-slot"], { env });
    } finally {
      await relay.close();
    }
  });

  test("a base backup with its log is complete", async () => {
    const relay = await startRelay({ server, policy: policy(server.port) });
    try {
      const target = join(dir, "backup");
      await run(join(bin, "pg_basebackup"), ["-D", target, "-X", "stream", "-c", "fast", "--no-sync"], {
        env: through(relay),
      });
      await run(join(bin, "pg_verifybackup"), [target]);
    } finally {
      await relay.close();
    }
  });

  test("under masks it is refused, as nobody could mask it", async () => {
    const relay = await startRelay({
      server,
      policy: policy(server.port, ", mask: [{ detector: all, with: redact }]"),
    });
    try {
      const failed = await run(join(bin, "pg_basebackup"), ["-D", join(dir, "masked"), "-c", "fast"], {
        env: through(relay),
      }).then(
        () => "it was served",
        (error: { stderr: string }) => error.stderr,
      );
      assert.match(failed, /cannot be masked: replication carries whole tables[\s\S]*WEIR_MASK_IMPOSSIBLE/);
      assert.ok(!existsSync(join(dir, "masked", "PG_VERSION")));
    } finally {
      await relay.close();
    }
  });
});
