/**
 * Unmodified runtimes under `weir run` trust the agent's authority: by variables, and, where they read none, by the
 * bundles that they find. Each shows it by a handshake with a server on loopback that has a leaf of the authority.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { trustVariables } from "../../agent/trust/environment.ts";
import { testCa } from "../agent/tls/pki.ts";
import { collect, type Ran, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, startPostgres } from "../support/postgres.ts";

const repository = resolve(import.meta.dirname, "../..");
const systemBundle = "/etc/ssl/certs/ca-certificates.crt";
const venv = join(repository, "build/venv");
const noRequests = existsSync(join(venv, "bin/python"))
  ? !execFileSync(join(venv, "bin/python"), ["-c", "import importlib.util as u; print(u.find_spec('requests'))"])
      .toString()
      .startsWith("None")
    ? false
    : "build/venv has no requests: run scripts/setup --dev"
  : "there is no build/venv: run scripts/setup --dev";
/** Of the environment of who runs the tests, variables that he has set himself would win. */
const plainEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !(trustVariables as readonly string[]).includes(name)),
);
const bare = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
/**
 * The host's mounts, without those that tests beside this one make and remove: by where they are mounted, for what a run
 * binds over a bundle comes from a directory of theirs, too.
 */
const mounts = (): readonly string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => !["/run/", "/sys/", `${tmpdir()}/`].some((place) => line.split(" ")[4]?.startsWith(place)));
const on = (program: string): string | false => (existsSync(`/usr/bin/${program}`) ? false : `there is no ${program}`);

describe("certificate trust under weir run", () => {
  let spaces: NamespacePair;
  let agent: TestAgent;
  let probe: ChildProcess;
  let url: string;
  let dir: string;
  before(async () => {
    spaces = await makeNamespacePair("trust");
    agent = await startTestAgent({ namespace: spaces.a, policy: "apiVersion: weir/v1\n" });
    const words = [`--net=/run/netns/${spaces.a.name}`, "--", process.execPath];
    probe = spawn("nsenter", [...words, join(repository, "test/support/probe-child.ts"), agent.stateDir], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const port = await new Promise<string>((done) => probe.stdout?.once("data", (bytes) => done(String(bytes).trim())));
    url = `https://localhost:${port}/x`;
    dir = mkdtempSync(join(tmpdir(), "weir-trust-"));
    chmodSync(dir, 0o755);
  });
  after(async () => {
    probe?.kill();
    await agent?.remove();
    await spaces?.remove();
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  });

  /** As a user without rights. */
  const runAs = (user: string, words: readonly string[], options: readonly string[] = []): Promise<Ran> =>
    collect(
      spawn(
        "nsenter",
        [
          ...[
            `--net=/run/netns/${spaces.a.name}`,
            "--",
            "runuser",
            "-u",
            user,
            "--",
            "env",
            "-C",
            "/",
            "HOME=/",
            "TMPDIR=",
          ],
          ...[weirCommand, "run", "--state", agent.stateDir, ...options, "--", ...words],
        ],
        { env: { PATH: process.env.PATH } },
      ),
    );
  const readable = (): string | false => {
    try {
      execFileSync("runuser", ["-u", "nobody", "--", weirCommand, "--help"], { stdio: "ignore" });
      return false;
    } catch {
      return "the checkout cannot be read by other users";
    }
  };
  const good = (ran: Ran): void => assert.deepEqual([ran.code, ran.stderr], [0, ""], ran.stdout + ran.stderr);
  const python = (context: string): string =>
    `import ssl, urllib.request as u; print(u.urlopen('${url}', context=${context}).read())`;

  test("every runtime of the host trusts it, by weir trust status itself", async () => {
    const ran = await agent.run([weirCommand, "trust", "status", "--json", "--state", agent.stateDir]);
    const answer = JSON.parse(ran.stdout) as { trusted: boolean; runtimes: { runtime: string; trusted: boolean }[] };
    assert.deepEqual(
      answer.runtimes.filter(({ trusted }) => !trusted),
      [],
    );
    assert.equal(ran.code, 0);
    assert.ok(answer.runtimes.some(({ runtime }) => runtime === "node"));
  });

  test("outside of weir run nothing trusts it, and status says so", async () => {
    const ran = await agent.weir(["trust", "status", "--state", agent.stateDir]);
    assert.equal(ran.code, 1, ran.stdout + ran.stderr);
    assert.match(ran.stdout, /DOES NOT {2}node/);
    assert.match(ran.stdout, /weir run: variables, and bundles bound in a mount namespace/);
  });

  test("variables alone: curl, git, Python, Node", { skip: on("curl") || on("git") }, async () => {
    const alone = (command: string): Promise<Ran> =>
      agent.weir(["run", "--state", agent.stateDir, "--trust", "env", "--", "sh", "-c", command], {
        env: plainEnvironment,
      });
    good(await alone(`curl -sS ${url}`));
    good(await alone(`git ls-remote ${url}`));
    good(await alone(`python3 -c "${python("None")}"`));
    good(await alone(`'${process.execPath}' -e "fetch('${url}').then((r) => r.text()).then(console.log)"`));
    assert.notEqual((await alone(`${bare.join(" ")} curl -sS ${url}`)).code, 0);
  });

  test("without a variable: curl and wget", { skip: on("curl") || on("wget") }, async () => {
    good(await agent.run([...bare, "curl", "-sS", url]));
    good(await agent.run([...bare, "wget", "-q", "-O", "-", url]));
  });

  test("requests and certifi of a virtual environment, also without a variable", { skip: noRequests }, async () => {
    const program = join(venv, "bin/python");
    const get = `import requests; print(requests.get('${url}').text)`;
    good(await agent.run([program, "-c", get]));
    good(await agent.run(["env", "-i", program, "-c", get]));
    const certifi = `import certifi\n${python("ssl.create_default_context(cafile=certifi.where())")}`;
    good(await agent.run(["env", "-i", program, "-c", certifi]));
  });

  test("a bundle that the caller names himself keeps its own roots and gets ours", { skip: on("curl") }, async () => {
    const own = join(dir, "own.pem");
    const text = `# my own\n${testCa("own").pem}`;
    writeFileSync(own, text);
    const ran = await agent.run(["sh", "-c", `curl -sS ${url} && head -1 ${own}`], {
      env: { ...process.env, CURL_CA_BUNDLE: own },
    });
    good(ran);
    assert.equal(ran.stdout, "weir\n# my own\n");
    assert.equal(readFileSync(own, "utf8"), text);
  });

  test("libpq verifies what it verified before: a server on loopback, which nobody intercepts, is reached", {
    skip: on("psql"),
  }, async () => {
    const server = await startPostgres({ namespace: spaces.a.name });
    try {
      const ask = (sslmode: string, home: string): Promise<Ran> =>
        agent.run(
          ["psql", "-XAt", `sslmode=${sslmode}`, "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"],
          {
            env: { ...clientEnvironment(server, { HOME: home, PGSSLMODE: undefined }), PGSSLROOTCERT: undefined },
          },
        );
      for (const sslmode of ["prefer", "require"]) assert.equal((await ask(sslmode, dir)).stdout, "t\n", sslmode);
      mkdirSync(join(dir, ".postgresql"));
      cpSync(server.caPath, join(dir, ".postgresql/root.crt"));
      const verified = await ask("verify-full", dir);
      assert.equal(verified.stdout, "t\n", verified.stderr);
      const count = await agent.run(["sh", "-c", "grep -c BEGIN ~/.postgresql/root.crt"], {
        env: { ...process.env, HOME: dir },
      });
      assert.equal(count.stdout, "2\n", "with the agent's authority in it");
    } finally {
      await server.stop();
    }
  });

  test("Java", {
    skip: existsSync("/usr/bin/keytool") ? false : "there is no java: apt-get install default-jre-headless",
  }, async () => {
    const ran = await agent.run([...bare, "keytool", "-printcrl", "-file", url]);
    assert.doesNotMatch(ran.stdout + ran.stderr, /PKIX|SSLHandshake/);
  });

  test("the host sees nothing of it, and it ends with the command", async () => {
    const before = mounts();
    const bytes = readFileSync(systemBundle);
    const { child, done } = agent.start(["sh", "-c", `grep -c ${systemBundle} /proc/self/mountinfo; read x`]);
    await new Promise((seen) => child.stdout?.once("data", seen));
    assert.deepEqual(mounts(), before);
    assert.deepEqual(readFileSync(systemBundle), bytes);
    child.stdin?.end("\n");
    const ran = await done;
    assert.equal(ran.stdout.trim(), "1");
    assert.deepEqual(mounts(), before);
  });

  test("standard output ends with the command: nothing stays beside it that holds it open", async () => {
    const ran = await agent.run(["sh", "-c", "sleep 300 >/dev/null 2>&1 </dev/null & echo $!"]);
    assert.equal(ran.code, 0);
    process.kill(Number(ran.stdout));
  });

  test("a user without rights, in a user namespace: the same trust, himself, and no rights gained", {
    skip: readable(),
  }, async () => {
    const ran = await runAs("nobody", [
      "sh",
      "-c",
      `${bare.join(" ")} curl -sS ${url}; id -u; grep CapEff /proc/self/status`,
    ]);
    good(ran);
    assert.equal(ran.stdout, `weir\n65534\nCapEff:\t${"0".repeat(16)}\n`);
    // Nobody else is mapped: what belongs to others cannot be taken.
    const denied = await runAs("nobody", [
      "sh",
      "-c",
      "chown 0 /tmp/none-such 2>&1; umount /etc/ssl/certs/ca-certificates.crt",
    ]);
    assert.notEqual(denied.code, 0);
    // He may not read the authority's key; the agent has a server for him to prove it on.
    const status = await runAs("nobody", [weirCommand, "trust", "status", "--state", agent.stateDir]);
    assert.match(status.stdout, /trusts +curl/, status.stderr);
    assert.match(status.stdout, /weir run: variables, and bundles bound in a user namespace/);
    const variables = await runAs(
      "nobody",
      ["sh", "-c", `curl -sS ${url}; cat /proc/self/uid_map`],
      ["--trust", "env"],
    );
    good(variables);
    assert.match(variables.stdout, /^weir\n\s+0\s+0\s+4294967295\n$/);
  });

  test("what is bound over can be replaced and removed like any file", { skip: noRequests }, async () => {
    const work = join(dir, "work");
    mkdirSync(join(work, ".venv/lib/python3.11/site-packages/certifi"), { recursive: true });
    const file = join(work, ".venv/lib/python3.11/site-packages/certifi/cacert.pem");
    writeFileSync(join(work, ".venv/pyvenv.cfg"), "");
    writeFileSync(file, testCa("own").pem);
    cpSync(file, join(work, "copy.pem"));
    const count = `grep -c BEGIN ${file}`;
    const script = [
      count,
      // As update-ca-certificates does it: a new file takes the place of the old one, and is extended at once.
      `cp copy.pem ${file}.new; sleep 0.1; mv ${file}.new ${file}; sleep 0.1; ${count}`,
      `touch ${file}.bak; rm ${file}.bak; sleep 0.1; rm ${file}; ls ${file} 2>/dev/null || echo gone; cp copy.pem ${file}; ${count}; sleep 1.5; ${count}`,
      "rm -r .venv/pyvenv.cfg; sleep 0.1; rm -r .venv; ls -A",
    ];
    const ran = await agent.run(["sh", "-ec", script.join("\n")], { cwd: work });
    assert.deepEqual(ran.stdout.trim().split("\n"), ["2", "2", "gone", "1", "2", "copy.pem"], ran.stderr);
  });

  test("what cannot be bound is said once, and the command runs", async () => {
    const words = ["run", "--state", agent.stateDir, "--", "sh", "-c", "echo ran; exit 7"];
    const ran = await collect(
      spawn("nsenter", [
        `--net=/run/netns/${spaces.a.name}`,
        "--",
        "setpriv",
        "--bounding-set=-sys_admin",
        "--",
        weirCommand,
        ...words,
      ]),
    );
    assert.deepEqual([ran.code, ran.stdout], [7, "ran\n"]);
    assert.match(ran.stderr, /^weir run: unshare: Operation not permitted; [^\n]+\n$/);
  });
});
