/**
 * Programs in Go that nobody of this project wrote, built by scripts/interop, and the servers they talk to: gRPC's
 * interop server, and nginx (Debian) and node:http2 as origins of HTTP/2. All in the servers' network namespace, on 443 in TLS or on
 * 80 without, under names that a hosts file in a private mount namespace leads to them.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { testCa } from "../agent/tls/pki.ts";
import type { Namespace } from "./namespace.ts";

const dir = resolve(import.meta.dirname, "../../build/go");
export const grpcClient = join(dir, "grpc-client");
export const h2spec = join(dir, "h2spec");
const grpcServer = join(dir, "grpc-server");
const nginx = "/usr/sbin/nginx";

/** A client of the server of the same name: `ADDRESS [gzip]`. */
export const grpcMasks = join(dir, "grpc-masks");

/** Null: what is needed is there; else why a test has to be skipped. */
export function goToolsMissing(needsNginx: boolean): string | null {
  if (needsNginx && !existsSync(nginx)) return "nginx is not installed";
  return existsSync(grpcMasks) ? null : "run scripts/interop first (it needs Go)";
}

export interface GoServer {
  readonly caFile: string;
  readonly name: string;
  /** The same words, run where the name leads to the server. */
  withNames(words: readonly string[]): string[];
  stop(): Promise<void>;
}

/** gRPC's interop server, as `grpc.internal`. */
export function startGrpcServer(namespace: Namespace, tls = true): Promise<GoServer> {
  return startServer(
    namespace,
    "grpc.internal",
    ({ cert, key }) =>
      tls
        ? [grpcServer, "-port", "443", "-use_tls", "-tls_cert_file", cert, "-tls_key_file", key]
        : [grpcServer, "-port", "80"],
    tls,
  );
}

/** A server of the same service whose replies are full of values (test/support/grpc-masks), as `grpc.internal`. */
export function startGrpcMasks(namespace: Namespace): Promise<GoServer> {
  return startServer(namespace, "grpc.internal", ({ cert, key }) => [grpcMasks, "server", cert, key]);
}

/** node:http2 on 443, as `h2.internal`. */
export function startNodeHttp2(namespace: Namespace): Promise<GoServer> {
  const program = join(import.meta.dirname, "h2-origin-server.ts");
  return startServer(namespace, "h2.internal", ({ cert, key }) => [process.execPath, program, cert, key]);
}

/** nginx, as `h2.internal`: answers every path with a little text, and takes bodies. */
export function startNginx(namespace: Namespace, tls = true): Promise<GoServer> {
  const words = ({ dir: own, cert, key }: Files): string[] => {
    mkdirSync(join(own, "logs"));
    const config = join(own, "nginx.conf");
    writeFileSync(
      config,
      `daemon off; master_process off; user root; pid ${own}/pid; error_log ${own}/logs/error.log;
events {}
http {
  access_log off; client_body_temp_path ${own}/body; proxy_temp_path ${own}/proxy;
  fastcgi_temp_path ${own}/fastcgi; uwsgi_temp_path ${own}/uwsgi; scgi_temp_path ${own}/scgi;
  server {
    ${tls ? `listen 443 ssl http2; ssl_certificate ${cert}; ssl_certificate_key ${key}` : "listen 80 http2"};
    location / { default_type text/plain; return 200 "a little text\n"; }
  }
}
`,
    );
    return [nginx, "-p", own, "-c", config];
  };
  return startServer(namespace, "h2.internal", words, tls);
}

interface Files {
  readonly dir: string;
  readonly cert: string;
  readonly key: string;
}

async function startServer(
  space: Namespace,
  name: string,
  words: (files: Files) => string[],
  tls = true,
): Promise<GoServer> {
  const own = mkdtempSync(join(tmpdir(), "weir-go-"));
  const ca = testCa("Weir test servers");
  const files = { dir: own, cert: join(own, "cert.pem"), key: join(own, "key.pem") };
  const caFile = join(own, "ca.pem");
  const hostsFile = join(own, "hosts");
  const pair = ca.issue({ name, dns: [name] });
  writeFileSync(files.cert, pair.cert);
  writeFileSync(files.key, pair.key);
  writeFileSync(caFile, ca.pem);
  writeFileSync(hostsFile, `127.0.0.1 localhost\n::1 localhost\n${space.address4} ${name}\n`);
  const child = spawn("nsenter", [`--net=/run/netns/${space.name}`, "--", ...words(files)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const stop = async (): Promise<void> => {
    await ended(child);
    rmSync(own, { recursive: true, force: true });
  };
  try {
    await listening(child, space, tls ? 443 : 80);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...{ caFile, name, stop },
    withNames: (command) => [
      ...["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hostsFile],
      ...command,
    ],
  };
}

async function listening(child: ChildProcess, space: Namespace, port: number): Promise<void> {
  let said = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  for (let at = 0; at < 1_200; at += 1) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${said}`);
    const open = execFileSync("nsenter", [`--net=/run/netns/${space.name}`, "ss", "-ltn"], { encoding: "utf8" });
    if (new RegExp(`:${port}\\s`).test(open)) return;
    await sleep(100);
  }
  throw new Error(`the server does not listen: ${said}`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  await exit;
}
