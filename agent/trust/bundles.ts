/** Where files with trusted certificates lie on a host: the system's, those in Python packages, Java's. A bounded search. */
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { trustVariables } from "./environment.ts";

export interface SearchOptions {
  /** "/" but in tests and images. */
  readonly root: string;
  readonly env: NodeJS.ProcessEnv;
  /** Null: only what belongs to the host. */
  readonly cwd: string | null;
  /** The program to be run: its virtual environment counts. */
  readonly program: string | null;
}

export interface Bundle {
  /** Without links. */
  readonly path: string;
  readonly kind: "pem" | "java";
}

/** More are not looked for; a host has about ten. */
const bundlesMax = 120;
/** Directories that are listed in one search; a listing costs about 20 µs. */
const listingsMax = 400;
/** Of one directory; beyond it holds data, not environments. */
const namesMax = 2_000;
/** How far above the working directory a virtual environment is looked for. */
const ancestorsMax = 4;

/** Debian and Ubuntu, RHEL and Fedora, Alpine, SUSE, FreeBSD's ports, Nix; then where OpenSSL builds look. */
const systemFiles = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/pki/tls/certs/ca-bundle.trust.crt",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/pki/tls/cert.pem",
  "/etc/ssl/ca-bundle.pem",
  "/var/lib/ca-certificates/ca-bundle.pem",
  "/etc/ssl/cert.pem",
  "/etc/ssl/certs/ca-bundle.crt",
  "/usr/lib/ssl/cert.pem",
  "/usr/local/ssl/cert.pem",
  "/usr/local/etc/openssl/cert.pem",
  "/usr/local/share/certs/ca-root-nss.crt",
  "/opt/conda/ssl/cacert.pem",
];

/** What libpq and its kin verify with where no variable names another file. */
const libpqFiles = [".postgresql/root.crt"];

/** Below a directory of Python packages. */
const packageFiles = [
  "certifi/cacert.pem",
  "pip/_vendor/certifi/cacert.pem",
  "botocore/cacert.pem",
  "httplib2/cacerts.txt",
  "stripe/data/ca-certificates.crt",
  "grpc/_cython/_credentials/roots.pem",
];

/** Prefixes of Python installations; a star stands for one directory. */
const pythonPrefixes = [
  "/usr",
  "/usr/local",
  "/opt/*",
  "/opt/*/*",
  "/opt/pyenv/versions/*",
  "/opt/hostedtoolcache/Python/*/*",
];
const homePythonPrefixes = [
  ".local",
  ".pyenv/versions/*",
  ".local/share/pipx/venvs/*",
  ".local/share/uv/python/*",
  ".local/share/uv/tools/*",
  "miniconda3",
  "anaconda3",
  "miniconda3/envs/*",
  "anaconda3/envs/*",
];
const awsCliPatterns = ["/usr/local/aws-cli/v2/*/dist/awscli/botocore/cacert.pem"];

const javaPatterns = [
  "/etc/ssl/certs/java/cacerts",
  "/etc/pki/java/cacerts",
  "/etc/pki/ca-trust/extracted/java/cacerts",
  "/usr/lib/jvm/*/lib/security/cacerts",
  "/usr/lib/jvm/*/jre/lib/security/cacerts",
  "/usr/java/*/lib/security/cacerts",
  "/opt/*/lib/security/cacerts",
  "/opt/java/*/lib/security/cacerts",
  "/opt/hostedtoolcache/*/*/x64/lib/security/cacerts",
];
const homeJavaPatterns = [".sdkman/candidates/java/*/lib/security/cacerts", ".jdks/*/lib/security/cacerts"];

/** Existing files, each once, whatever links lead to it; the system's first. */
export function findBundles(options: SearchOptions): Bundle[] {
  const found = new Map<string, Bundle>();
  const search = new Search(options.root);
  const add = (paths: Iterable<string>, kind: Bundle["kind"]): void => {
    for (const path of paths) {
      const real = search.file(path);
      if (real !== null && found.size < bundlesMax && !found.has(real)) found.set(real, { path: real, kind });
    }
  };
  const home = options.env.HOME;
  add(systemFiles, "pem");
  // What the caller has chosen himself is read by his tools in the place of ours.
  add(chosen(options.env), "pem");
  add(belowHome(home, libpqFiles), "pem");
  for (const pattern of [...javaPatterns, ...belowHome(home, homeJavaPatterns)]) add(search.expand(pattern), "java");
  for (const directory of javaHomes(options, search)) {
    add([join(directory, "lib/security/cacerts"), join(directory, "jre/lib/security/cacerts")], "java");
  }
  for (const pattern of awsCliPatterns) add(search.expand(pattern), "pem");
  for (const prefix of pythonInstallations(options, search, home)) {
    for (const packages of packageDirectories(prefix, search)) {
      add(
        packageFiles.map((file) => join(packages, file)),
        "pem",
      );
    }
    // conda's own OpenSSL.
    add([join(prefix, "ssl/cacert.pem")], "pem");
  }
  return [...found.values()];
}

function chosen(env: NodeJS.ProcessEnv): string[] {
  return trustVariables.flatMap((name) => (env[name]?.startsWith("/") ? [env[name]] : []));
}

function belowHome(home: string | undefined, patterns: readonly string[]): string[] {
  return home?.startsWith("/") ? patterns.map((pattern) => join(home, pattern)) : [];
}

function javaHomes({ env, program }: SearchOptions, search: Search): string[] {
  const homes = env.JAVA_HOME?.startsWith("/") ? [env.JAVA_HOME] : [];
  for (const launcher of [...onPath(env).map((dir) => join(dir, "java")), ...(program === null ? [] : [program])]) {
    const real = search.file(launcher);
    if (real?.endsWith("/bin/java")) homes.push(dirname(dirname(real)));
  }
  return homes;
}

/** Prefixes: `PREFIX/lib/python3.…/site-packages` is where the packages are. Nearest to the command first. */
function pythonInstallations(
  { env, cwd, program }: SearchOptions,
  search: Search,
  home: string | undefined,
): Set<string> {
  const prefixes = new Set<string>();
  const named = [env.VIRTUAL_ENV, env.CONDA_PREFIX, env.UV_PROJECT_ENVIRONMENT].filter((dir) => dir?.startsWith("/"));
  for (const dir of named) prefixes.add(dir as string);
  for (const dir of onPath(env)) prefixes.add(dirname(dir));
  if (program !== null) {
    prefixes.add(dirname(dirname(resolve(cwd ?? "/", program))));
    const real = search.file(resolve(cwd ?? "/", program));
    if (real !== null) prefixes.add(dirname(dirname(real)));
  }
  for (const dir of cwd === null ? [] : environmentsAround(cwd, search)) prefixes.add(dir);
  for (const pattern of [...pythonPrefixes, ...belowHome(home, homePythonPrefixes)])
    for (const dir of search.expand(pattern)) prefixes.add(dir);
  return prefixes;
}

function onPath(env: NodeJS.ProcessEnv): string[] {
  return (env.PATH ?? "/usr/bin:/bin").split(delimiter).filter((dir) => dir.startsWith("/"));
}

/** Virtual environments in the working directory, one level below it, and beside its ancestors. */
function* environmentsAround(cwd: string, search: Search): Generator<string> {
  let at = cwd;
  for (let level = 0; level <= ancestorsMax; level += 1) {
    for (const name of ["", ".venv", "venv", "env", "build/venv"]) {
      const dir = join(at, name);
      if (search.file(join(dir, "pyvenv.cfg")) !== null) yield dir;
    }
    if (at === "/") break;
    at = dirname(at);
  }
  for (const name of search.names(cwd)) {
    const dir = join(cwd, name);
    if (search.file(join(dir, "pyvenv.cfg")) !== null) yield dir;
  }
  for (const name of search.names(join(cwd, ".tox"))) yield join(cwd, ".tox", name);
  for (const name of search.names(join(cwd, ".nox"))) yield join(cwd, ".nox", name);
}

function* packageDirectories(prefix: string, search: Search): Generator<string> {
  yield join(prefix, "lib/python3/dist-packages");
  for (const lib of ["lib", "lib64"]) {
    for (const name of search.names(join(prefix, lib))) {
      if (!/^(python|pypy)\d/.test(name)) continue;
      yield join(prefix, lib, name, "site-packages");
      yield join(prefix, lib, name, "dist-packages");
    }
  }
}

/** The file system as the search sees it: below a root, each directory listed once, a bounded number of them. */
class Search {
  private readonly root: string;
  private readonly listed = new Map<string, readonly string[]>();

  constructor(root: string) {
    this.root = root === "/" ? "" : resolve(root);
  }

  /** The real path of an existing file; null else. */
  file(path: string): string | null {
    // Most of what is looked for is not there, and an exception costs more than the question.
    if (!existsSync(this.root + path)) return null;
    try {
      const real = realpathSync(this.root + path);
      return statSync(real).isFile() ? real : null;
    } catch {
      return null;
    }
  }

  names(dir: string): readonly string[] {
    const known = this.listed.get(dir);
    if (known !== undefined) return known;
    let names: string[] = [];
    if (this.listed.size < listingsMax && existsSync(this.root + dir)) {
      try {
        names = readdirSync(this.root + dir).slice(0, namesMax);
      } catch {
        // not there, or not for this user
      }
    }
    this.listed.set(dir, names);
    return names;
  }

  /** Paths that fit the pattern; they need not exist where the last part has no star. */
  expand(pattern: string): string[] {
    const star = pattern.indexOf("/*");
    if (star < 0) return [pattern];
    const rest = pattern.slice(star + 2);
    return this.names(pattern.slice(0, star) || "/").flatMap((name) =>
      this.expand(`${pattern.slice(0, star)}/${name}${rest}`),
    );
  }
}
