/** A real PostgreSQL with TLS and SCRAM, started for one test and ended by its pid. */
import { execFile, execFileSync, spawn } from "node:child_process";
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "./free-ports.ts";

const run = promisify(execFile);

export interface PostgresOptions {
  /** Network namespace it runs in; its `host` has to be an address there. */
  readonly namespace?: string;
  readonly host?: string;
  readonly port?: number;
  /** Directory of the server's programs, Debian's by default. */
  readonly bin?: string;
  /** False: the server answers N to an SSLRequest. */
  readonly tls?: boolean;
  /** Lines of pg_hba.conf after `local all all trust`. */
  readonly hba?: readonly string[];
  readonly settings?: Readonly<Record<string, string>>;
}

export interface Postgres {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** The CA that signed the server's certificate. */
  readonly caPath: string;
  readonly dataDir: string;
  readonly statementLogPath: string;
  readonly pid: number;
  /** Runs SQL as the superuser over the server's own Unix socket, past everything. */
  admin(sql: string): Promise<string>;
  /** What `log_statement` wrote so far. */
  statementLog(): string;
  stop(signal?: "SIGINT" | "SIGKILL"): Promise<void>;
}

export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort());
  const bin = options.bin ?? binaries();
  const [uid, gid] = [idOf("-u"), idOf("-g")];
  const dir = mkdtempSync(join(tmpdir(), "weir-pg-"));
  chownSync(dir, uid, gid);
  const asPostgres = { uid, gid, cwd: dir };
  const dataDir = join(dir, "data");
  const password = "s3cret-of-app";
  writeFileSync(join(dir, "password"), password);
  await run(
    join(bin, "initdb"),
    [
      "-D",
      dataDir,
      "-U",
      "app",
      "-A",
      "scram-sha-256",
      `--pwfile=${join(dir, "password")}`,
      "--no-sync",
      "--encoding=UTF8",
      "--locale=C",
    ],
    asPostgres,
  );
  const caPath = makeCertificates(dir, dataDir, host, asPostgres);
  const hba = options.hba ?? ["hostssl all all all scram-sha-256", "hostssl replication all all scram-sha-256"];
  writeFileSync(join(dataDir, "pg_hba.conf"), `local all all trust\n${hba.join("\n")}\n`);
  const statementLogPath = join(dir, "statements.log");
  const settings: Record<string, string> = {
    ssl: options.tls === false ? "off" : "on",
    listen_addresses: host,
    port: String(port),
    unix_socket_directories: dir,
    fsync: "off",
    log_statement: "all",
    log_line_prefix: "%a|",
    max_wal_senders: "4",
    ...options.settings,
  };
  const words = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const inside = options.namespace === undefined ? [] : ["nsenter", `--net=/run/netns/${options.namespace}`, "--"];
  const command = [
    ...inside,
    "setpriv",
    `--reuid=${uid}`,
    `--regid=${gid}`,
    "--clear-groups",
    "sh",
    "-c",
    'exec "$0" "$@" 2>>"$LOG"',
    join(bin, "postgres"),
    "-D",
    dataDir,
    ...words,
  ];
  const child = spawn(command[0] as string, command.slice(1), {
    stdio: "ignore",
    cwd: dir,
    env: { ...process.env, LOG: statementLogPath },
  });
  const admin = async (sql: string): Promise<string> =>
    (
      await run(
        "psql",
        ["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", dir, "-p", String(port), "-U", "app", "-d", "postgres", "-c", sql],
        { maxBuffer: 1 << 28 },
      )
    ).stdout.trim();
  const stop = async (signal: "SIGINT" | "SIGKILL" = "SIGINT"): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      child.kill(signal);
      await gone;
    }
    rmSync(dir, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries += 1) {
    try {
      await admin("SELECT 1");
      break;
    } catch (error) {
      if (tries < 1_200 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 100));
      else {
        const log = readFileSync(statementLogPath, "utf8");
        await stop();
        throw new Error(`PostgreSQL did not start: ${log}`, { cause: error });
      }
    }
  }
  return {
    host,
    port,
    user: "app",
    password,
    database: "postgres",
    caPath,
    dataDir,
    statementLogPath,
    pid: child.pid as number,
    admin,
    statementLog: () => readFileSync(statementLogPath, "utf8"),
    stop,
  };
}

/** libpq's variables for a client of this server. */
export function clientEnvironment(server: Postgres, extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PGHOST: server.host,
    PGPORT: String(server.port),
    PGUSER: server.user,
    PGPASSWORD: server.password,
    PGDATABASE: server.database,
    PGSSLMODE: "require",
    PGCONNECT_TIMEOUT: "20",
    ...extra,
  };
}

/** A CA, and a server certificate of it for the host, localhost and db.internal. */
function makeCertificates(
  dir: string,
  dataDir: string,
  host: string,
  as: { uid: number; gid: number; cwd: string },
): string {
  const openssl = (...words: string[]): void =>
    void execFileSync("openssl", words, { ...as, stdio: ["ignore", "ignore", "pipe"] });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const caPath = join(dir, "ca.crt");
  const caKey = join(dir, "ca.key");
  openssl("req", "-x509", ...curve, "-days", "3", "-subj", "/CN=Test CA", "-keyout", caKey, "-out", caPath);
  const request = join(dir, "server.csr");
  openssl("req", ...curve, "-subj", "/CN=db.internal", "-keyout", join(dataDir, "server.key"), "-out", request);
  const extensions = join(dir, "server.ext");
  writeFileSync(
    extensions,
    `subjectAltName=DNS:db.internal,DNS:localhost,IP:${host},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n`,
  );
  openssl(
    "x509",
    "-req",
    "-days",
    "3",
    "-in",
    request,
    "-CA",
    caPath,
    "-CAkey",
    caKey,
    "-CAcreateserial",
    "-extfile",
    extensions,
    "-out",
    join(dataDir, "server.crt"),
  );
  return caPath;
}

function binaries(): string {
  const root = "/usr/lib/postgresql";
  const newest = readdirSync(root).sort((x, y) => Number(y) - Number(x))[0];
  if (newest === undefined) throw new Error("no PostgreSQL server here; run scripts/setup --dev");
  return join(root, newest, "bin");
}

function idOf(flag: string): number {
  return Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
}
