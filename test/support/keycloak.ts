/**
 * A real Keycloak over TLS in a network namespace, with the realm of keycloak-realm.json and a database in memory. It is
 * asked through curl, for the test's own process is in another namespace.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { testCa } from "../agent/tls/pki.ts";
import { collect } from "./agent.ts";
import type { Namespace } from "./namespace.ts";

const home = resolve(import.meta.dirname, "../../build/keycloak");
const readyWithinMs = 300_000;
const adminPassword = "s3cret-of-admin";

export function keycloakMissing(): string | null {
  return existsSync(join(home, "version")) ? null : "run scripts/keycloak first";
}

export interface Keycloak {
  /** Of the realm: the issuer of its tokens and the entity id of its SAML side. */
  readonly issuer: string;
  /** PEM file of the authority that signed the server's certificate. */
  readonly caPath: string;
  readonly readyMs: number;
  /** The administrator's API below the realm; the answer's JSON, null when it has none. */
  admin(method: string, path: string, body?: unknown): Promise<unknown>;
  /** A person's id token for the client `weir`, by password. */
  token(login: string): Promise<string>;
  /** PEM text of the certificate that the realm signs with. */
  certificate(): Promise<string>;
  log(): string;
  stop(): Promise<void>;
}

export const passwordOf = (login: string): string => `${login}-s3cret`;

/** `origin`: of Weir's page, as the realm's clients name it. */
export async function startKeycloak(namespace: Namespace, origin: string): Promise<Keycloak> {
  const dir = mkdtempSync(join(tmpdir(), "weir-keycloak-"));
  // `weir login` reads the authority's certificate as the user who logs in.
  chmodSync(dir, 0o755);
  const host = namespace.address4;
  const ca = testCa("Keycloak CA");
  const { cert, key } = ca.issue({ ip: [host] });
  const paths = { ca: join(dir, "ca.pem"), cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
  const logPath = join(dir, "log");
  for (const [path, text] of [
    [paths.ca, ca.pem],
    [paths.cert, cert],
    [paths.key, key],
  ] as const)
    writeFileSync(path, text);
  const base = `https://${host}:8443`;
  const issuer = `${base}/realms/weir`;
  const begun = performance.now();
  const child = start(namespace, host, base, paths, logPath);
  const log = (): string => readFileSync(logPath, "utf8");

  const curl = async (
    url: string,
    more: readonly string[],
    input?: string,
  ): Promise<{ status: number; text: string }> => {
    const words = ["curl", "-sS", "--cacert", paths.ca, "-w", "\n%{http_code}", ...more, url];
    const ran = await collect(spawn("nsenter", [`--net=/run/netns/${namespace.name}`, "--", ...words]), input);
    if (ran.code !== 0) throw new Error(`curl ${url}: ${ran.stderr}`);
    const end = ran.stdout.lastIndexOf("\n");
    return { status: Number(ran.stdout.slice(end + 1)), text: ran.stdout.slice(0, end) };
  };
  const form = async (url: string, fields: Readonly<Record<string, string>>): Promise<Record<string, unknown>> => {
    const { status, text } = await curl(url, ["-d", "@-"], new URLSearchParams(fields).toString());
    if (status !== 200) throw new Error(`${url}: ${status} ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  };
  const ask = async (method: string, url: string, body?: unknown): Promise<unknown> => {
    // The administrator's tokens live a minute.
    const { access_token: bearer } = await form(`${base}/realms/master/protocol/openid-connect/token`, {
      ...{ grant_type: "password", client_id: "admin-cli", username: "admin", password: adminPassword },
    });
    const headers = ["-H", `authorization: Bearer ${String(bearer)}`, "-H", "content-type: application/json"];
    const data = body === undefined ? [] : ["-d", "@-"];
    const { status, text } = await curl(url, ["-X", method, ...headers, ...data], JSON.stringify(body));
    if (status >= 300) throw new Error(`${method} ${url}: ${status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  };
  const stop = async (): Promise<void> => {
    await end(child);
    rmSync(dir, { recursive: true, force: true });
  };

  try {
    while (!log().includes("Listening on:")) {
      if (child.exitCode !== null || performance.now() - begun > readyWithinMs)
        throw new Error(`Keycloak does not start:\n${log()}`);
      await sleep(100);
    }
    const realm = readFileSync(join(import.meta.dirname, "keycloak-realm.json"), "utf8");
    await ask("POST", `${base}/admin/realms`, JSON.parse(realm.replaceAll("@ORIGIN@", origin)));
  } catch (error) {
    await stop();
    throw error;
  }
  const admin = (method: string, path: string, body?: unknown) => ask(method, `${base}/admin/realms/weir${path}`, body);
  return {
    ...{ issuer, caPath: paths.ca, readyMs: performance.now() - begun, admin, log, stop },
    async token(login) {
      const answer = await form(`${issuer}/protocol/openid-connect/token`, {
        ...{ grant_type: "password", client_id: "weir", scope: "openid" },
        ...{ username: login, password: passwordOf(login) },
      });
      return String(answer["id_token"]);
    },
    async certificate() {
      const { active, keys } = (await admin("GET", "/keys")) as {
        active: Record<string, string>;
        keys: { kid: string; certificate?: string }[];
      };
      const found = keys.find(({ kid }) => kid === active["RS256"])?.certificate ?? "";
      return `-----BEGIN CERTIFICATE-----\n${found.replace(/(.{64})/g, "$1\n")}\n-----END CERTIFICATE-----\n`;
    },
  };
}

function start(
  { name }: Namespace,
  host: string,
  base: string,
  paths: { readonly cert: string; readonly key: string },
  logPath: string,
): ChildProcess {
  const words = [
    "start",
    "--optimized",
    "--cache=local",
    `--hostname=${base}`,
    `--http-host=${host}`,
    "--https-port=8443",
    `--https-certificate-file=${paths.cert}`,
    `--https-certificate-key-file=${paths.key}`,
  ];
  const out = openSync(logPath, "w");
  // Java's first compiler alone: it is started once and asked a few things.
  const child = spawn("nsenter", [`--net=/run/netns/${name}`, "--", join(home, "bin/kc.sh"), ...words], {
    detached: true,
    stdio: ["ignore", out, out],
    env: {
      ...process.env,
      JAVA_OPTS: "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xms64m -Xmx512m -XX:MaxMetaspaceSize=256m",
      KC_BOOTSTRAP_ADMIN_USERNAME: "admin",
      KC_BOOTSTRAP_ADMIN_PASSWORD: adminPassword,
    },
  });
  closeSync(out);
  return child;
}

/** Its script waits for the server: both are of one process group. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise((done) => child.once("exit", done));
  process.kill(-child.pid, "SIGKILL");
  await ended;
}
