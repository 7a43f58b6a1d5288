/**
 * The key that the client never sees: every kind of credential from every source, against servers that repeat what they
 * are sent in every way that servers do. Each key is a canary; it is looked for in what the client received, in the
 * memory of a client that is still running, in the agent's words and in all files of its state.
 */
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { filesWith, type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import { startEchoOrigin } from "../support/echo-origin.ts";
import type { NamedOrigin } from "../support/named-origin.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { type Openbao, openbaoMissing, startOpenbao } from "../support/openbao.ts";

const skip = process.getuid?.() === 0 ? (openbaoMissing() ?? false) : "needs root";

const canaries = {
  bearer: "canary-bearer-7f3a91c2/+=x",
  header: "canary-header-51d0e6",
  query: "canary query&88b2",
  basic: "canary-basic-0c44d9",
  sigv4: "canary-session-9a1fe7",
  signing: "canary-signing-30c5b8",
  vault: "canary-vault-token-61",
} as const;
const kinds = ["bearer", "header", "query", "basic", "sigv4"] as const;
const ownKey = "own-key-of-the-client";

/** As it may be found. */
const formsOf = (secret: string): string[] => [
  ...[secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), secret.replaceAll("&", "&amp;")],
  ...[new URLSearchParams({ a: secret }).toString().slice(2), encodeURIComponent(encodeURIComponent(secret))],
  ...[Buffer.from(secret).toString("hex"), Buffer.from(`service:${secret}`).toString("base64")],
  ...[0, 1, 2].map((pad) =>
    // Letters that no neighbour changes, see credential.ts.
    Buffer.from(`${"x".repeat(pad)}${secret}`)
      .toString("base64")
      .slice(pad === 0 ? 0 : pad + 1, -4),
  ),
];
const forms = Object.values(canaries).flatMap(formsOf);

describe("the upstream's key", { skip }, () => {
  let net: NamespacePair;
  let origin: NamedOrigin;
  let bao: Openbao;
  let agent: TestAgent;
  let dir: string;

  before(async () => {
    net = await makeNamespacePair("cred");
    origin = await startEchoOrigin(net.b, [...kinds.map((kind) => `${kind}.internal`), "elsewhere.internal"]);
    bao = await startOpenbao(net.b, canaries.vault);
    await bao.put("ci/service", { password: canaries.basic });
    dir = mkdtempSync(join(tmpdir(), "weir-keys-"));
    writeFileSync(join(dir, "header"), `${canaries.header}\n`, { mode: 0o600 });
    writeFileSync(join(dir, "query"), `${canaries.query}\n`, { mode: 0o600 });
    const tls = `tls: { verify: full, ca: ${origin.caPath} }`;
    agent = await startTestAgent({
      namespace: net.a,
      wrap: origin.withNames([]),
      env: {
        WEIR_TEST_BEARER: canaries.bearer,
        WEIR_TEST_SIGNING: canaries.signing,
        WEIR_TEST_SESSION: canaries.sigv4,
        WEIR_TEST_ID: "AKIDEXAMPLE",
        WEIR_TEST_VAULT: canaries.vault,
      },
      policy: `apiVersion: weir/v1
targets:
  bearer: { protocol: http, hosts: [bearer.internal], ${tls}, credential: { bearer: { env: WEIR_TEST_BEARER } } }
  header: { protocol: http, hosts: [header.internal], ${tls}, credential: { header: { name: X-Service-Key, value: { file: ${dir}/header } } } }
  query: { protocol: http, hosts: [query.internal], ${tls}, credential: { query: { name: key, value: { exec: [cat, ${dir}/query] } } } }
  basic:
    protocol: http
    hosts: [basic.internal]
    ${tls}
    credential:
      basic:
        user: service
        password: { vault: { address: "${bao.address}", mount: secret, path: ci/service, field: password, token: { env: WEIR_TEST_VAULT } } }
  sigv4:
    protocol: http
    hosts: [sigv4.internal]
    ${tls}
    credential:
      sigv4:
        accessKeyId: { env: WEIR_TEST_ID }
        secretAccessKey: { env: WEIR_TEST_SIGNING }
        sessionToken: { env: WEIR_TEST_SESSION }
        region: eu-central-1
        service: execute-api
  elsewhere: { protocol: http, hosts: [elsewhere.internal], ${tls} }
rules:
  # Not even who allows it gets a key to another host.
  - { name: any-host, match: { trait: host-mismatch }, verdict: allow }
  - { name: keep, match: { host: "*" }, record: result }
`,
    });
  });

  after(async () => {
    await agent?.remove();
    await bao?.stop();
    await origin?.stop();
    await net?.remove();
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  });

  const curl = (...words: string[]): Promise<Ran> =>
    agent.run(["curl", "-sSiv", "--max-time", "120", "-H", `x-api-key: ${ownKey}`, ...words]);
  const seenBy = async (name: string): Promise<string[]> =>
    (await origin.seen()).filter((line) => line.startsWith(`${name}.internal`));
  const clean = (text: string, where: string): void => {
    for (const form of forms) assert.ok(!text.includes(form), `${where}: ${form} in ${text}`);
  };

  const arrives: Readonly<Record<(typeof kinds)[number], RegExp>> = {
    bearer: /"authorization":"Bearer canary-bearer-7f3a91c2\/\+=x"/,
    header: /"x-service-key":"canary-header-51d0e6"/,
    query: /"url":"\/[^"]*key=canary%20query%2688b2"/,
    basic: new RegExp(`"authorization":"Basic ${Buffer.from(`service:${canaries.basic}`).toString("base64")}"`),
    sigv4: /"x-amz-security-token":"canary-session-9a1fe7".*"authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\//,
  };
  const places = ["/echo", "/redirect", "/empty-redirect", "/error", "/gzip", "/image", "/slow", "/trailers", "/hints"];

  for (const kind of kinds) {
    for (const version of ["--http1.1", "--http2"]) {
      test(`${kind}, ${version.slice(2)}: arrives, and comes back in no answer`, async () => {
        const urls = places.map((place) => `https://${kind}.internal${place}`);
        const said = await curl(version, ...urls);
        assert.equal(said.code, 0, said.stderr);
        clean(said.stdout + said.stderr, kind);
        const answers = said.stdout.match(/HTTP\/[12](?:\.1)? (?:200|302|401)/g) ?? [];
        assert.equal(answers.length, places.length, said.stdout);
        const bare = await curl(version, "-I", `https://${kind}.internal/empty-redirect`);
        assert.match(bare.stdout, /^location: https:\/\/elsewhere/im);
        clean(bare.stdout + bare.stderr, kind);
        const seen = await seenBy(kind);
        assert.ok(seen.length >= places.length);
        for (const line of seen) {
          assert.match(sorted(line), arrives[kind]);
          assert.ok(!line.includes(ownKey), "the client's own stays behind");
        }
      });
    }
  }

  /** Fields of SigV4 come in an order of their own. */
  function sorted(line: string): string {
    return line.startsWith("sigv4")
      ? line.replace(/("authorization":"[^"]*"),(.*)("x-amz-security-token":"[^"]*")/, "$3,$2$1")
      : line;
  }

  test("the body of an answer is still there, but for the key", async () => {
    const { stdout } = await curl("--http1.1", "https://bearer.internal/echo");
    assert.match(stdout, /"authorization":"Bearer \*{26}"/);
    assert.match(stdout, /"host":"bearer\.internal"/);
  });

  test("whoever asks for one part after the other is answered with the whole, without the key", async () => {
    for (const version of ["--http1.1", "--http2"]) {
      const whole = JSON.parse(
        (await curl(version, "-si", "https://bearer.internal/parts")).stdout.split("\r\n\r\n")[1] as string,
      );
      assert.equal(whole.headers.authorization, `Bearer ${"*".repeat(canaries.bearer.length)}`);
      const said = await curl(
        version,
        "-r",
        "0-60",
        "https://bearer.internal/parts",
        "-r",
        "61-",
        "https://bearer.internal/parts",
      );
      assert.equal(said.stdout.match(/HTTP\/[12](?:\.1)? 200/g)?.length, 2, said.stdout);
      assert.ok(!/canary|x-service-key/i.test(said.stdout));
      const forced = await curl(version, "https://bearer.internal/parts?forced");
      assert.match(forced.stdout, /HTTP\/[12](?:\.1)? 502/);
      assert.match(forced.stdout, /WEIR_MASK_IMPOSSIBLE/);
    }
    assert.ok((await seenBy("bearer")).every((line) => !/"range"/.test(line)));
  });

  test("cut over the frames and the messages of a WebSocket it is hidden", async () => {
    const program = `
      const socket = new WebSocket("wss://bearer.internal/ws-cut");
      let text = "";
      socket.onmessage = ({ data }) => { text += data; };
      socket.onclose = () => { console.log(text); process.exit(); };
      socket.onerror = ({ message }) => { console.log(message); process.exit(1); };`;
    const said = await agent.run([process.execPath, "--input-type=module", "-e", program]);
    const [inFrames, inMessages] = said.stdout.split("|");
    assert.match(inFrames ?? "", /"authorization":"Bearer \*{26}"/, said.stderr);
    // A message's end waits for nothing: fewer than six letters at its end are told from no other text.
    const [, key] = /"authorization":"Bearer ([^"]*)"/.exec(inMessages ?? "") ?? [];
    assert.equal(key?.length, canaries.bearer.length);
    assert.ok(key.replaceAll("*", "").length <= 5, key);
  });

  test("a redirect to another host is followed without it", async () => {
    for (const kind of kinds) {
      const said = await curl("-L", `https://${kind}.internal/redirect`);
      assert.match(said.stdout, /"url":"\/landing/);
      clean(said.stdout + said.stderr, kind);
    }
    const seen = await seenBy("elsewhere");
    assert.ok(seen.length >= kinds.length);
    for (const line of seen) clean(line, "elsewhere");
  });

  test("another host in Host, or another server behind the name, gets none", async () => {
    const before = (await seenBy("bearer")).length;
    for (const version of ["--http1.1", "--http2"]) {
      const fronted = await curl(version, "-H", "Host: elsewhere.internal", "https://bearer.internal/echo");
      assert.match(fronted.stdout, /HTTP\/[12](?:\.1)? 403/, fronted.stderr);
      assert.match(fronted.stdout, /another host than the one/);
    }
    assert.equal((await seenBy("bearer")).length, before);
    const led = await curl("--connect-to", "bearer.internal:443:elsewhere.internal:443", "https://bearer.internal/led");
    assert.doesNotMatch(led.stdout, /"url":"\/led/);
    for (const line of await seenBy("elsewhere")) clean(line, "elsewhere");
  });

  test("it is not in the memory of a client that made the requests, nor in its environment", async () => {
    const program = `
      const urls = JSON.parse(process.argv[1]);
      globalThis.kept = [];
      const headers = { "x-api-key": ["own-key", "of-the-client"].join("-") };
      for (const url of urls) {
        const answer = await fetch(url, { redirect: "manual", headers });
        kept.push([...answer.headers], await answer.text());
      }
      const socket = new WebSocket("wss://bearer.internal/ws");
      kept.push(await new Promise((done, failed) => {
        socket.onmessage = ({ data }) => done(data);
        socket.onerror = failed;
      }));
      console.log(JSON.stringify({ pid: process.pid, socket: kept.at(-1) }));
      await new Promise((done) => setTimeout(done, 60_000));`;
    const urls = kinds.flatMap((kind) => places.map((place) => `https://${kind}.internal${place}`));
    const { child, done } = agent.start([process.execPath, "--input-type=module", "-e", program, JSON.stringify(urls)]);
    const said = await new Promise<string>((resolve, reject) => {
      let text = "";
      child.stdout?.on("data", (bytes: Buffer) => {
        text += bytes.toString();
        if (text.includes("\n")) resolve(text);
      });
      child.once("close", () => reject(new Error(text)));
    });
    const { pid, socket } = JSON.parse(said) as { pid: number; socket: string };
    assert.match(socket, /"authorization":"Bearer \*{26}"/);
    const found = inMemory(pid, [ownKey, ...forms]);
    process.kill(pid, "SIGTERM");
    await done;
    assert.deepEqual(found, [ownKey], "only its own");
    const environment = await agent.run(["env"]);
    clean(environment.stdout, "environment");
  });

  test("it is in no file of the agent's state, no record, no export and no word of the log", async () => {
    const exported = (await agent.weir(["export"])).stdout;
    clean(exported, "export");
    assert.match(exported, /https:\/\/query\.internal\/echo/, "the requests are in it");
    clean((await agent.weir(["sessions", "ls", "--json"])).stdout, "sessions");
    await agent.stop();
    clean(agent.output(), "log");
    for (const form of forms) assert.deepEqual(filesWith(agent.stateDir, form), [], form);
    assert.ok(filesWith(agent.stateDir, "https://bearer.internal/echo").length > 0, "files are looked through");
  });
});

/** Which of these are in the memory of a process. */
function inMemory(pid: number, words: readonly string[]): string[] {
  const found = new Set<string>();
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const partBytes = 8 * 1024 * 1024;
  const overlapBytes = 256;
  const part = Buffer.alloc(partBytes);
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line);
    if (range === null) continue;
    const [start, end] = [Number.parseInt(range[1] as string, 16), Number.parseInt(range[2] as string, 16)];
    for (let at = start; at < end; at += partBytes - overlapBytes) {
      let read = 0;
      try {
        read = readSync(memory, part, 0, Math.min(partBytes, end - at), at);
      } catch {
        // Mapped, but not to be read (vvar).
        break;
      }
      const text = part.subarray(0, read);
      for (const word of words) if (text.includes(word) || text.includes(word, 0, "utf16le")) found.add(word);
    }
  }
  closeSync(memory);
  return words.filter((word) => found.has(word));
}
