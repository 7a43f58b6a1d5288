/**
 * The model providers, under their real names, in the servers' network namespace: npm `@copilotkit/aimock` (MIT) behind
 * TLS. Certificates come from an authority of the test's own; HTTP/2 is offered, because the AWS SDK for JavaScript
 * speaks nothing else to Bedrock.
 *
 * Names: a hosts file is bind-mounted over /etc/hosts in a private mount namespace (`unshare -m`), so that a client
 * program needs no base URL and no proxy variable, and nothing of the machine changes. `/etc/netns/<name>/hosts` would do
 * it only for `ip netns exec`, which mounts a new /sys and so hides the cgroups that the agent needs. To run a client:
 *
 *     direct      nsenter --net=/run/netns/<a> -- ${aimock.withNames(words)}, with aimock.trust in its environment
 *     governed    startTestAgent({ …, wrap: aimock.withNames([]) }), then agent.run(words): the agent needs the names as
 *                 well, as it looks up those that its policy names
 *
 * Each name has an address of its own, so that a flow's address tells which target it is meant for.
 *
 * The SDKs are installed below build/sdk (JavaScript) and build/venv (Python) by test/e2e/sdk/install.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { testCa } from "../agent/tls/pki.ts";
import type { AimockServerOptions, SeenRequest } from "./aimock-server.ts";
import { endServer, hostsIn, placeScripts } from "./named-server.ts";
import type { Namespace } from "./namespace.ts";

export type { SeenRequest } from "./aimock-server.ts";

const root = resolve(import.meta.dirname, "../..");
export const sdkDir = process.env["WEIR_TEST_SDK"] ?? join(root, "build/sdk");
export const venvPython = process.env["WEIR_TEST_PYTHON"] ?? join(root, "build/venv/bin/python");
const scriptsDir = join(root, "test/e2e/sdk");

/** Names that the providers' SDKs use when nobody tells them another. */
export const providerNames = [
  "api.openai.com",
  "api.anthropic.com",
  "generativelanguage.googleapis.com",
  "bedrock-runtime.us-east-1.amazonaws.com",
  "weir-test.openai.azure.com",
] as const;
/** Ollama speaks plain HTTP; its clients take the server from the variable OLLAMA_HOST. */
export const ollamaName = "ollama.internal";
export const ollamaHost = `http://${ollamaName}:11434`;

/** Last byte of the address of the first name. */
const firstHost = 11;

export type SdkScript =
  | "openai.mjs"
  | "anthropic.mjs"
  | "genai.mjs"
  | "bedrock.mjs"
  | "ollama.mjs"
  | "realtime.mjs"
  | "live.mjs"
  | "bedrock-sonic.mjs"
  | "openai_client.py"
  | "anthropic_client.py"
  | "bedrock_client.py";

/** One line of a client program. */
export interface SdkLine {
  readonly call: string;
  readonly ok: boolean;
  /** What the SDK gave back, in a shape of this project's own. */
  readonly result?: unknown;
  readonly error?: { readonly type: string; readonly status: number | null; readonly message: string };
}

export interface Aimock {
  /** The authority behind the providers' certificates. */
  readonly caFile: string;
  /** Environment that makes each SDK's runtime trust `caFile`: for runs without Weir. */
  readonly trust: Readonly<Record<string, string>>;
  readonly hostsFile: string;
  /** The same words, run where the providers' names lead to the mock. */
  withNames(words: readonly string[]): string[];
  /** What was asked of the mock so far, headers and bodies as they arrived. */
  requests(): Promise<SeenRequest[]>;
  clear(): Promise<void>;
  stop(): Promise<void>;
}

/** Null: the SDKs are installed; else why a test has to be skipped. */
export function sdkMissing(): string | null {
  if (!existsSync(join(sdkDir, "node_modules/@copilotkit/aimock"))) return "run test/e2e/sdk/install first";
  return existsSync(venvPython) ? null : "build/venv is missing; run scripts/setup --dev";
}

/** `node script calls…` or `python script calls…`. */
export function sdkWords(script: SdkScript, calls: readonly string[] = []): string[] {
  const path = script.endsWith(".py") ? join(scriptsDir, script) : join(sdkDir, script);
  return [script.endsWith(".py") ? venvPython : process.execPath, path, ...calls];
}

/** Keys for the SDKs: each wants one, the mock takes any. */
export const sdkKeys: Readonly<Record<string, string>> = {
  OPENAI_API_KEY: "test-openai-key",
  AZURE_OPENAI_API_KEY: "test-azure-key",
  ANTHROPIC_API_KEY: "test-anthropic-key",
  GEMINI_API_KEY: "test-gemini-key",
  AWS_ACCESS_KEY_ID: "AKIDTESTONLY",
  AWS_SECRET_ACCESS_KEY: "test-aws-secret",
  AWS_REGION: "us-east-1",
  AWS_DEFAULT_REGION: "us-east-1",
  AWS_EC2_METADATA_DISABLED: "true",
  OLLAMA_HOST: ollamaHost,
};

export function readLines(stdout: string): SdkLine[] {
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as SdkLine);
}

/** Starts the mock in `namespace`, on 443 for the providers and 11434 for Ollama. */
export async function startAimock(namespace: Namespace): Promise<Aimock> {
  placeScripts(scriptsDir, sdkDir);
  const dir = mkdtempSync(join(tmpdir(), "weir-aimock-"));
  const ca = testCa("Weir test providers");
  const caFile = join(dir, "ca.pem");
  writeFileSync(caFile, ca.pem);
  const names = [...providerNames, ollamaName].map((name, i) => {
    const address = namespace.address4.replace(/\d+$/, String(firstHost + i));
    execFileSync("ip", ["-n", namespace.name, "addr", "add", `${address}/24`, "dev", "veth0"], { stdio: "ignore" });
    return `${address} ${name}`;
  });
  const { hostsFile, withNames } = hostsIn(dir, names);
  const options: AimockServerOptions = {
    sdkDir,
    // All of the namespace's, whatever the name.
    address: "0.0.0.0",
    tlsPort: 443,
    plainPort: 11_434,
    certificates: providerNames.map((name) => ({ name, ...ca.issue({ name, dns: [name] }) })),
  };
  const child = spawn(
    "nsenter",
    [
      `--net=/run/netns/${namespace.name}`,
      "--",
      process.execPath,
      join(import.meta.dirname, "aimock-server.ts"),
      JSON.stringify(options),
    ],
    { stdio: ["ignore", "ignore", "pipe", "ipc"] },
  );
  const ask = await ready(child);
  return {
    caFile,
    trust: {
      NODE_EXTRA_CA_CERTS: caFile,
      SSL_CERT_FILE: caFile,
      REQUESTS_CA_BUNDLE: caFile,
      AWS_CA_BUNDLE: caFile,
    },
    hostsFile,
    withNames,
    requests: () => ask("requests"),
    clear: async () => {
      await ask("clear");
    },
    stop: () => endServer(child, dir),
  };
}

type Ask = (what: "requests" | "clear") => Promise<SeenRequest[]>;

function ready(child: ChildProcess): Promise<Ask> {
  const waiting = new Map<number, (requests: SeenRequest[]) => void>();
  let said = "";
  let next = 0;
  child.stderr?.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  return new Promise((resolve, reject) => {
    child.on("message", (message: { ready?: true; id?: number; requests?: SeenRequest[] }) => {
      if (message.ready) {
        resolve((what) => {
          const id = next++;
          return new Promise((done) => {
            waiting.set(id, done);
            child.send({ id, do: what });
          });
        });
        return;
      }
      waiting.get(message.id as number)?.(message.requests ?? []);
      waiting.delete(message.id as number);
    });
    child.once("exit", (code) => reject(new Error(`the mock ended with ${code}:\n${said}`)));
  });
}
