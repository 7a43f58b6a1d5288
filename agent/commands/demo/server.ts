/** A throw-away PostgreSQL with TLS in a network namespace of its own, for the demo. */
import { execFile, execFileSync, spawn } from "node:child_process";
import { chownSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { WeirError } from "../../errors.ts";

const exec = promisify(execFile);
const readyTriesMax = 100;

export interface DemoServer {
  readonly clientNamespace: string;
  readonly host: string;
  readonly password: string;
  stop(): Promise<void>;
}

/** Two namespaces joined by a veth pair: the runner, and the server. Throws WEIR_KERNEL_UNSUPPORTED when they cannot be made. */
export async function startDemoServer(): Promise<DemoServer> {
  const bin = binaries();
  const tag = `weir-demo-${process.pid}`;
  const [client, server] = [`${tag}-a`, `${tag}-b`];
  const subnet = `10.230.${process.pid % 250}`;
  const host = `${subnet}.2`;
  const dir = mkdtempSync(join(tmpdir(), "weir-demo-db-"));
  const password = "demo-password";
  let postgres: ReturnType<typeof spawn> | null = null;
  const stop = async (): Promise<void> => {
    if (postgres?.exitCode === null && postgres.pid !== undefined) {
      const gone = new Promise<void>((resolve) => postgres?.once("exit", () => resolve()));
      // SIGINT is PostgreSQL's fast shutdown.
      postgres.kill("SIGINT");
      await gone;
    }
    for (const name of [client, server]) await exec("ip", ["netns", "del", name]).catch(() => {});
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    ip(`netns add ${client}`);
    ip(`netns add ${server}`);
    ip(`-n ${client} link set lo up`);
    ip(`-n ${server} link set lo up`);
    ip(`-n ${client} link add veth0 type veth peer name veth0 netns ${server}`);
    ip(`-n ${client} addr add ${subnet}.1/24 dev veth0`);
    ip(`-n ${server} addr add ${host}/24 dev veth0`);
    ip(`-n ${client} link set veth0 up`);
    ip(`-n ${server} link set veth0 up`);

    const [uid, gid] = postgresUser();
    chownSync(dir, uid, gid);
    const data = join(dir, "data");
    writeFileSync(join(dir, "password"), password, { mode: 0o644 });
    const asPostgres = { uid, gid, cwd: dir };
    await exec(
      join(bin, "initdb"),
      [
        "-D",
        data,
        "-U",
        "demo",
        "-A",
        "scram-sha-256",
        `--pwfile=${join(dir, "password")}`,
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
      ],
      asPostgres,
    );
    const subject = ["-subj", "/CN=orders-db", "-addext", `subjectAltName=IP:${host},DNS:localhost`];
    await exec(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        ...subject,
        "-keyout",
        join(data, "server.key"),
        "-out",
        join(data, "server.crt"),
      ],
      asPostgres,
    );
    writeFileSync(join(data, "pg_hba.conf"), "local all all trust\nhostssl all all all scram-sha-256\n");
    const settings = [
      "-c",
      "ssl=on",
      "-c",
      `listen_addresses=${host}`,
      "-c",
      `unix_socket_directories=${dir}`,
      "-c",
      "fsync=off",
      "-c",
      "log_statement=all",
    ];
    postgres = spawn(
      "nsenter",
      [
        `--net=/run/netns/${server}`,
        "--",
        "setpriv",
        `--reuid=${uid}`,
        `--regid=${gid}`,
        "--clear-groups",
        join(bin, "postgres"),
        "-D",
        data,
        ...settings,
      ],
      { stdio: "ignore", cwd: dir },
    );
    await ready(bin, dir);
    return { clientNamespace: client, host, password, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function binaries(): string {
  const root = "/usr/lib/postgresql";
  try {
    const version = readdirSync(root).sort((a, b) => Number(b) - Number(a))[0];
    if (version !== undefined) return join(root, version, "bin");
  } catch {
    // said below
  }
  throw new WeirError("WEIR_KERNEL_UNSUPPORTED", "The demo needs a PostgreSQL server. Run: scripts/setup --demo");
}

function ip(words: string): void {
  try {
    execFileSync("ip", words.split(" "), { stdio: ["ignore", "ignore", "pipe"] });
  } catch (cause) {
    throw new WeirError(
      "WEIR_KERNEL_UNSUPPORTED",
      `\`ip ${words}\` failed; the demo needs root and network namespaces.`,
      { cause },
    );
  }
}

function postgresUser(): [number, number] {
  const id = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }).trim());
  return [id("-u"), id("-g")];
}

async function ready(bin: string, dir: string): Promise<void> {
  for (let tries = 0; tries < readyTriesMax; tries += 1) {
    try {
      await exec(join(bin, "pg_isready"), ["-h", dir, "-q"]);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new WeirError("WEIR_UPSTREAM_UNREACHABLE", "The demo's PostgreSQL did not start.");
}
