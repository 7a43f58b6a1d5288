/** A PostgreSQL with tables behind a relay with a policy, and what clients print of it. */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { clientEnvironment, type Postgres, startPostgres } from "./postgres.ts";
import { type Relay, startRelay } from "./relay.ts";

const python = resolve(import.meta.dirname, "../../build/venv/bin/python");
const outputBytesMax = 64 * 1024 * 1024;

export interface GovernedPostgres {
  readonly server: Postgres;
  readonly relay: Relay;
  /** Of a client that comes through the relay. */
  readonly env: NodeJS.ProcessEnv;
  /** What psql prints, errors too: its bytes as Latin-1. */
  psql(commands: readonly string[], env?: NodeJS.ProcessEnv): Promise<string>;
  /** The same of psycopg; `c` is its connection. */
  python(script: string): Promise<string>;
  stop(): Promise<void>;
}

export async function startGovernedPostgres(
  tables: string,
  policy: (port: number) => string,
): Promise<GovernedPostgres> {
  const server = await startPostgres();
  const relay = await server
    .admin(tables)
    .then(() => startRelay({ server, policy: policy(server.port) }))
    .catch(async (error: unknown) => {
      await server.stop();
      throw error;
    });
  const env = clientEnvironment(server, { PGPORT: String(relay.port) });
  return {
    server,
    relay,
    env,
    psql: (commands, own = env) =>
      printed("psql", ["-Xq", "-v", "VERBOSITY=verbose", ...commands.flatMap((sql) => ["-c", sql])], own),
    python: (script) =>
      printed(
        python,
        [
          "-c",
          `import os, psycopg, threading\nwith psycopg.connect(autocommit=True) as c:\n${script.replace(/^/gm, "    ")}`,
        ],
        env,
      ),
    async stop() {
      await relay.close();
      await server.stop();
    },
  };
}

function printed(program: string, words: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const options = { env, encoding: "latin1" as const, maxBuffer: outputBytesMax };
  return new Promise((done) => {
    execFile(program, words, options, (_error, stdout, stderr) => done(stdout + stderr));
  });
}
