/** gRPC's own interop programs, and h2spec, through a real agent: the same as direct. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { collect, type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import {
  type GoServer,
  goToolsMissing,
  grpcClient,
  grpcMasks,
  h2spec,
  startGrpcMasks,
  startGrpcServer,
  startNginx,
  startNodeHttp2,
} from "../support/go-tools.ts";
import { makeNamespacePair, type Namespace, type NamespacePair } from "../support/namespace.ts";

const needsRoot = process.getuid?.() === 0 ? null : "needs root";

/** Those of google.golang.org/grpc/interop that need no account of a cloud. */
const interopCases = [
  ...["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream"],
  ...["timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message"],
  ...["special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service"],
];

const descriptorsFile = resolve(import.meta.dirname, "../vectors/grpc/grpc-testing.desc");

const grpcTarget = (caFile: string, descriptors: boolean): string => `
  grpc:
    protocol: grpc
    hosts: [grpc.internal]
    ports: [80, 443]
    tls: { verify: full, ca: ${caFile} }
${descriptors ? `    grpc: { descriptors: ${descriptorsFile} }` : ""}`;

interface Through {
  readonly pair: NamespacePair;
  readonly server: GoServer;
  readonly agent: TestAgent;
  remove(): Promise<void>;
}

/** A server, and an agent before it whose policy knows the server's authority. */
async function startThrough(
  name: string,
  start: (space: Namespace) => Promise<GoServer>,
  targetAndRules: (caFile: string) => readonly [string, string],
): Promise<Through> {
  const pair = await makeNamespacePair(name);
  let server: GoServer | null = null;
  try {
    server = await start(pair.b);
    const [target, rules] = targetAndRules(server.caFile);
    const policy = `apiVersion: weir/v1\ntargets:${target}\nrules:${rules}\n`;
    const agent = await startTestAgent({ namespace: pair.a, wrap: server.withNames([]), policy });
    const remove = async (): Promise<void> => {
      await agent.remove();
      await server?.stop();
      await pair.remove();
    };
    return { pair, server, agent, remove };
  } catch (error) {
    await server?.stop();
    await pair.remove();
    throw error;
  }
}

const interopWords = (name: string, tls = true): string[] => [
  ...[grpcClient, ...(tls ? ["-use_tls"] : []), "-server_host", "grpc.internal"],
  ...["-server_port", tls ? "443" : "80", "-test_case", name],
];

const directly = (pair: NamespacePair, server: GoServer, words: readonly string[]): Promise<Ran> =>
  collect(
    spawn("nsenter", [`--net=/run/netns/${pair.a.name}`, "--", ...server.withNames(words)], {
      env: { ...process.env, SSL_CERT_FILE: server.caFile },
    }),
  );

for (const tls of [true, false])
  describe(`gRPC's interop cases, ${tls ? "in TLS" : "with insecure credentials"}`, {
    skip: needsRoot ?? goToolsMissing(false) ?? false,
  }, () => {
    let through: Through;

    before(async () => {
      const start = (space: Namespace): Promise<GoServer> => startGrpcServer(space, tls);
      through = await startThrough(tls ? "grpc" : "grpcplain", start, (caFile) => [grpcTarget(caFile, false), " []"]);
    });

    after(() => through?.remove());

    for (const name of interopCases) {
      test(name, async () => {
        const { agent, pair, server } = through;
        const direct = await directly(pair, server, interopWords(name, tls));
        assert.equal(direct.code, 0, direct.stderr);
        const ran = await agent.run(server.withNames(interopWords(name, tls)));
        assert.equal(ran.code, 0, ran.stderr + agent.output());
      });
    }

    test("each was an operation of its service and method", async () => {
      const { stdout } = await through.agent.weir(["export"]);
      for (const call of ["EmptyCall", "UnaryCall", "StreamingInputCall", "FullDuplexCall"])
        assert.ok(stdout.includes(`grpc grpc.internal:${tls ? 443 : 80} grpc.testing.TestService/${call}`), call);
    });
  });

describe("gRPC messages by their descriptors", { skip: needsRoot ?? goToolsMissing(false) ?? false }, () => {
  const rules = `
  - name: no-status-2
    match: { when: 'op.rpc == "UnaryCall" && has(op.message.responseStatus) && op.message.responseStatus.code == 2' }
    verdict: deny
    reason: Nobody asks for that.
  - name: no-large-third
    match: { host: grpc.internal, when: 'op.rpc == "FullDuplexCall" && op.message.responseParameters.exists(p, p.size == 2653)' }
    verdict: deny
    reason: Not this size.
  - { name: masks, match: { target: grpc }, mask: [ { detector: credit-card, with: redact }, { json: "$.username", with: redact } ] }`;
  let through: Through;

  before(async () => {
    through = await startThrough("grpcmsg", startGrpcServer, (caFile) => [grpcTarget(caFile, true), rules]);
  });

  after(() => through?.remove());

  const run = (name: string): Promise<Ran> => through.agent.run(through.server.withNames(interopWords(name)));

  test("what no rule speaks of is as it was, read and written again", async () => {
    const allowed = interopCases.filter((name) => name !== "ping_pong" && !name.includes("status"));
    for (const name of allowed) {
      const { code, stderr } = await run(name);
      assert.equal(code, 0, `${name}: ${stderr}`);
    }
  });

  test("a rule on the message of a call denies it, in gRPC's own words", async () => {
    const { code, stderr } = await run("status_code_and_message");
    assert.notEqual(code, 0);
    assert.match(stderr, /PermissionDenied.*no-status-2.*Nobody asks for that/);
  });

  test("a later message of a stream is judged as the first one", async () => {
    const { code, stderr } = await run("ping_pong");
    assert.notEqual(code, 0);
    assert.match(stderr, /PermissionDenied|INTERNAL_ERROR|Internal/);
    const { stdout } = await through.agent.weir(["export"]);
    assert.match(stdout, /A later message of the call is denied by rule \\"no-large-third\\": Not this size/);
  });

  test("the record has the message", async () => {
    const { stdout } = await through.agent.weir(["export"]);
    assert.match(stdout, /UnaryCall \{.*responseSize\\":314159/);
  });
});

describe("gRPC replies under masks", { skip: needsRoot ?? goToolsMissing(false) ?? false }, () => {
  const mail = "ada.lovelace@example.com";
  const card = "card 4111 1111 1111 1111.";
  const hidden = (text: string): string => "*".repeat(text.length);
  const hiddenCard = `card ${hidden(card.slice(5, -1))}.`;

  interface Said {
    readonly call: string;
    readonly [name: string]: unknown;
  }

  /** What a client gets through an agent whose target knows the messages, or does not. */
  async function ask(descriptors: boolean, masks: string): Promise<{ plain: Said[]; gzip: Said[]; exported: string }> {
    const rules = `\n  - { name: masks, match: { target: grpc }, record: result, mask: [ ${masks} ] }`;
    const { agent, server, remove } = await startThrough("grpcmask", startGrpcMasks, (caFile) => [
      grpcTarget(caFile, descriptors),
      rules,
    ]);
    try {
      const run = async (...words: string[]): Promise<Said[]> => {
        const client = [grpcMasks, "client", "grpc.internal:443", ...words];
        const { code, stdout, stderr } = await agent.run(server.withNames(client));
        assert.equal(code, 0, stderr);
        return stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line));
      };
      const plain = await run();
      const gzip = descriptors ? await run("gzip") : plain;
      return { plain, gzip, exported: (await agent.weir(["export"])).stdout };
    } finally {
      await remove();
    }
  }

  const everywhere: Said[] = [
    { call: "unary", username: hidden(mail), scope: `read ${hidden(mail)} only`, body: hiddenCard },
    { call: "status", code: 5, message: `no customer ${hidden(mail)}`, details: [hidden(mail)] },
    {
      call: "stream",
      code: 5,
      message: `that was all for ${hidden(mail)}`,
      details: [],
      bodies: Array(5).fill(hiddenCard),
    },
    { call: "both", bodies: [`${hiddenCard} first`, `${hiddenCard} second`], ended: true },
  ];

  test("by what detectors find: a reply, each message of a stream, what an error says", async () => {
    const { plain, gzip, exported } = await ask(true, "{ detector: [email, credit-card] }");
    assert.deepEqual(plain, everywhere);
    assert.deepEqual(gzip, everywhere);
    assert.ok(!exported.includes(mail) && !exported.includes(card.slice(5, -1)));
  });

  test("without a descriptor in the bytes of each message", async () => {
    const { plain } = await ask(false, "{ detector: [email, credit-card] }");
    assert.deepEqual(plain, everywhere);
  });

  test("one field by its path, and nothing beside it", async () => {
    const { plain, gzip } = await ask(true, '{ json: "$.username", with: redact }');
    for (const said of [plain, gzip]) {
      const [unary, status, stream] = said;
      assert.deepEqual(unary, { call: "unary", username: hidden(mail), scope: `read ${mail} only`, body: card });
      assert.deepEqual(status?.["details"], [mail]);
      assert.deepEqual(stream?.["bodies"], Array(5).fill(card));
    }
  });
});

describe("h2spec", { skip: needsRoot ?? goToolsMissing(true) ?? false, concurrency: true }, () => {
  interface Said {
    readonly total: string;
    readonly failed: readonly string[];
  }

  function read({ stdout }: Ran): Said {
    const summary = /^\d+ tests, \d+ passed, \d+ skipped, \d+ failed$/m.exec(stdout)?.[0];
    assert.ok(summary !== undefined, stdout);
    const list = stdout.slice(stdout.indexOf("Failures:"));
    return { total: summary, failed: [...list.matchAll(/^\s+×\s+(.*)$/gm)].map(([, name]) => name as string) };
  }

  /** Of an origin alone, and of the agent before it. */
  async function compare(tag: string, waitS: number, start: (space: Namespace) => Promise<GoServer>, tls = true) {
    const { pair, server, agent, remove } = await startThrough(tag, start, (caFile) => [
      `\n  h2: { protocol: http, hosts: [h2.internal], ports: [80, 443], tls: { verify: full, ca: ${caFile} } }`,
      " []",
    ]);
    try {
      const port = tls ? ["-p", "443", "-t", "-k"] : ["-p", "80"];
      const words = [h2spec, "-h", "h2.internal", ...port, "-o", String(waitS)];
      const alone = read(await directly(pair, server, words));
      return { alone, through: read(await agent.run(server.withNames(words))) };
    } finally {
      await remove();
    }
  }

  test("before node:http2, what the origin alone keeps is kept", async (context) => {
    const { alone, through } = await compare("h2node", 2, startNodeHttp2);
    context.diagnostic(`node:http2 alone: ${alone.total}; through Weir: ${through.total}`);
    assert.deepEqual(
      through.failed.filter((name) => !alone.failed.includes(name)),
      [],
    );
  });

  // Frames end at Weir: what it keeps of them is what its own HTTP/2 keeps, whatever stands behind.
  for (const tls of [true, false])
    test(`before nginx ${tls ? "in" : "without"} TLS, no more fails than with nginx alone`, async (context) => {
      const start = (space: Namespace): Promise<GoServer> => startNginx(space, tls);
      const { alone, through } = await compare(tls ? "h2nginx" : "h2cnginx", 1, start, tls);
      context.diagnostic(`nginx alone: ${alone.total}; through Weir: ${through.total}`);
      assert.ok(through.failed.length <= alone.failed.length, through.failed.join("\n"));
    });
});
