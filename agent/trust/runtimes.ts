/** Which runtimes a host has, and whether each trusts the certificate of a probe server: shown by its own handshake. */
import { type ExecFileException, execFile } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

export interface RuntimeTrust {
  readonly runtime: string;
  readonly path: string;
  readonly trusted: boolean;
  /** Why not, in the runtime's own words; empty when it does. */
  readonly detail: string;
}

export interface Probe {
  readonly port: number;
  /** Before every path, so that askers do not meet. */
  readonly prefix: string;
  /** Whether a request for a path that begins so came through. */
  reached(path: string): Promise<boolean>;
}

interface Runtime {
  readonly name: string;
  readonly program: string;
  /** The program beside it that makes the handshake, where it is not the same. */
  readonly beside?: string;
  /** The runtime counts as found only where this ends with 0. */
  readonly needs?: readonly string[];
  words(url: string): readonly string[];
  readonly env?: (url: string) => NodeJS.ProcessEnv;
  readonly input?: (path: string) => string;
  /** It ends with an error even when the handshake went well, as no real file is served. */
  readonly exitCodeSaysNothing?: true;
}

/** A JVM on a busy machine takes its time. */
const probeMsMax = 30_000;
const outputBytesMax = 256 * 1024;
const detailCharactersMax = 200;

const python = (body: string): string => `import sys\nurl = sys.argv[1]\n${body}`;

const runtimes: readonly Runtime[] = [
  { name: "curl", program: "curl", words: (url) => ["-sS", "--fail", "-o", "/dev/null", url] },
  { name: "wget", program: "wget", words: (url) => ["-nv", "-O", "/dev/null", "--tries=1", url] },
  { name: "git", program: "git", words: (url) => ["ls-remote", `${url}/repository.git`] },
  {
    name: "openssl",
    program: "openssl",
    words: (url) => [
      ...["s_client", "-connect", new URL(url).host, "-servername", "localhost", "-brief"],
      ...["-verify_return_error", "-verify_hostname", "localhost"],
    ],
    input: (path) => `GET ${path} HTTP/1.0\r\n\r\n`,
    exitCodeSaysNothing: true,
  },
  {
    name: "python3",
    program: "python3",
    words: (url) => ["-c", python("import urllib.request\nurllib.request.urlopen(url, timeout=20).read()"), url],
  },
  {
    name: "python3 requests",
    program: "python3",
    needs: ["-c", "import requests"],
    words: (url) => [
      "-W",
      "ignore",
      "-c",
      python("import requests\nrequests.get(url, timeout=20).raise_for_status()"),
      url,
    ],
  },
  {
    name: "node",
    program: "node",
    words: (url) => [
      "-e",
      `require("https").get(process.argv[1], (r) => { r.resume(); r.on("end", () => process.exit(0)); })
        .on("error", (e) => { console.error(e.message); process.exit(1); });`,
      url,
    ],
  },
  {
    name: "npm",
    program: "npm",
    words: (url) => ["ping", `--registry=${url}/`, "--fetch-retries=0", "--no-update-notifier"],
    exitCodeSaysNothing: true,
  },
  {
    name: "go",
    program: "go",
    words: () => ["list", "-m", "-versions", "weir.invalid/module"],
    // As a module proxy the server is asked with Go's own TLS; nothing is fetched, nothing kept.
    env: (url) => ({ GOPROXY: url, GOFLAGS: "-mod=mod", GOTOOLCHAIN: "local", GONOSUMDB: "*", GOWORK: "off" }),
    exitCodeSaysNothing: true,
  },
  {
    name: "java",
    program: "java",
    beside: "keytool",
    // keytool opens a URL with the JVM's own trust store; no compiler is needed for it.
    words: (url) => ["-printcrl", "-file", url],
    exitCodeSaysNothing: true,
  },
];

/** One after the other, each in the environment that is given. */
export async function probeRuntimes(server: Probe, env: NodeJS.ProcessEnv): Promise<RuntimeTrust[]> {
  // A proxy would be asked for localhost.
  const own = { ...env, NO_PROXY: "localhost", no_proxy: "localhost", GIT_TERMINAL_PROMPT: "0" };
  const found: RuntimeTrust[] = [];
  for (const runtime of runtimes) {
    const path = programOnPath(runtime, env);
    if (path === null) continue;
    if (runtime.needs !== undefined && (await run(path, runtime.needs, own, "")).code !== 0) continue;
    found.push(await probe(runtime, path, server, own));
  }
  return found;
}

async function probe(runtime: Runtime, path: string, server: Probe, env: NodeJS.ProcessEnv): Promise<RuntimeTrust> {
  const token = `${server.prefix}/${runtime.name.replace(" ", "-")}/`;
  const url = `https://localhost:${server.port}${token}file`;
  const own = { ...env, ...runtime.env?.(url) };
  const { code, output } = await run(path, runtime.words(url), own, runtime.input?.(`${token}file`) ?? "");
  const trusted = (runtime.exitCodeSaysNothing === true || code === 0) && (await server.reached(token));
  return { runtime: runtime.name, path, trusted, detail: trusted ? "" : reason(output) };
}

/** The line that speaks of the certificate, else the last one. */
function reason(output: string): string {
  const lines = output
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const told = lines.find((line) => /not trusted|\bverif|certification path|self.signed|unknown auth/i.test(line));
  return (told ?? lines.at(-1) ?? "no answer").slice(0, detailCharactersMax);
}

function programOnPath(runtime: Runtime, env: NodeJS.ProcessEnv): string | null {
  for (const dir of (env.PATH ?? "/usr/bin:/bin").split(delimiter)) {
    const path = join(dir, runtime.program);
    if (!dir.startsWith("/") || !existsSync(path)) continue;
    if (runtime.beside === undefined) return path;
    const beside = join(dirname(realpathSync(path)), runtime.beside);
    return existsSync(beside) ? beside : null;
  }
  return null;
}

function run(
  path: string,
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  input: string,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const options = { env, timeout: probeMsMax, maxBuffer: outputBytesMax };
    const child = execFile(path, words, options, (error: ExecFileException | null, stdout, stderr) =>
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, output: stderr + stdout }),
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
