/**
 * Bedrock's calls are signed over their bodies. Redactions change these: with a key of its own Weir signs anew, without one
 * the call is denied. The official AWS SDK, and a server that checks signatures as AWS does.
 */
import assert from "node:assert/strict";
import { createHash, createHmac, type Hash, type Hmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import { Agent } from "node:https";
import { createRequire } from "node:module";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { writeEvent } from "../../agent/wire/llm/bedrock-frames.ts";
import { EventStreamReader, writeHeaders } from "../../agent/wire/llm/eventstream.ts";
import { testCa } from "../agent/tls/pki.ts";
import { sdkDir, sdkMissing } from "../support/aimock.ts";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const host = "bedrock-runtime.us-east-1.amazonaws.com";
const email = "ada@example.com";
const keys = { AKCLIENT: "the client's secret", AKWEIR: "the secret of weir" };
const ownKey =
  ", credential: { sigv4: { accessKeyId: { env: WEIR_TEST_AWS_ID }, secretAccessKey: { env: WEIR_TEST_AWS_SECRET }, region: us-east-1, service: bedrock } }";
type Key = keyof typeof keys;

/** As the SDK wants it. */
class Sha256 {
  readonly #hash: Hash | Hmac;
  constructor(secret?: Uint8Array) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", secret);
  }
  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

const sdk = createRequire(join(sdkDir, "package.json"));

describe("signed calls of Bedrock under redactions", { skip: sdkMissing() ?? false }, () => {
  let origin: Origin;
  let relay: Relay;
  const seen: { key: string; body: string }[] = [];

  before(async () => {
    process.env["WEIR_TEST_AWS_SECRET"] = keys.AKWEIR;
    process.env["WEIR_TEST_AWS_ID"] = "AKWEIR";
    origin = await startOrigin((request, response, body) => void answer(request, response, body), { names: [host] });
    relay = await startRelay({ hostname: host, server: { host: "127.0.0.1", port: origin.port }, policy: policy("") });
  });

  after(async () => {
    await relay?.close();
    await origin?.close();
  });

  const policy = (credential: string): string => `apiVersion: weir/v1
targets:
  bedrock: { protocol: bedrock, hosts: [${host}], ports: [${origin.port}], tls: { verify: full, ca: ${origin.caPath} }${credential} }
rules:
  - { name: addresses, match: { protocol: llm }, redact: [{ detector: email, with: placeholder }] }
`;

  async function answer(request: IncomingMessage, response: ServerResponse, body: Buffer): Promise<void> {
    const key = await signer(request, body);
    if (key === null) {
      response.writeHead(403, { "content-type": "application/json", "x-amzn-errortype": "InvalidSignatureException" });
      response.end(JSON.stringify({ message: "The request signature we calculated does not match." }));
      return;
    }
    seen.push({ key, body: body.toString() });
    const { messages } = JSON.parse(body.toString()) as { messages: { content: { text: string }[] }[] };
    const text = `You said: ${messages[0]?.content[0]?.text}`;
    if (request.url?.endsWith("/converse") === true) {
      const message = { role: "assistant", content: [{ text }] };
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ output: { message }, stopReason: "end_turn", usage: { totalTokens: 3 } }));
      return;
    }
    response.writeHead(200, { "content-type": "application/vnd.amazon.eventstream" });
    response.write(writeEvent("messageStart", { role: "assistant" }));
    for (const piece of text.match(/.{1,3}/gsu) ?? [])
      response.write(writeEvent("contentBlockDelta", { contentBlockIndex: 0, delta: { text: piece } }));
    response.write(writeEvent("contentBlockStop", { contentBlockIndex: 0 }));
    response.end(writeEvent("messageStop", { stopReason: "end_turn" }));
  }

  /** Whose signature it is; null: nobody's. */
  async function signer({ method = "", url = "", headers }: IncomingMessage, body: Buffer): Promise<Key | null> {
    const said = /Credential=(\w+)\/.*SignedHeaders=([^,]+), Signature=/.exec(headers.authorization ?? "");
    const key = said?.[1] as Key;
    if (keys[key] === undefined) return null;
    const names = said?.[2]?.split(";") ?? [];
    const date = String(headers["x-amz-date"]).replace(/(....)(..)(..T..)(..)(..)/, "$1-$2-$3:$4:$5");
    const signed = await signerOf(key).sign(
      {
        ...{ method, hostname: host, protocol: "https:", path: url, query: {}, body },
        headers: Object.fromEntries(
          names.map((name) => [name, String(headers[name] ?? (name === "host" && headers[":authority"]))]),
        ),
      },
      { signingDate: new Date(date), signableHeaders: new Set(names), unsignableHeaders: new Set() },
    );
    return signed.headers["authorization"] === headers.authorization ? key : null;
  }

  function signerOf(key: Key) {
    const { SignatureV4 } = sdk("@smithy/signature-v4");
    return new SignatureV4({
      ...{ service: "bedrock", region: "us-east-1", sha256: Sha256, applyChecksum: false },
      credentials: { accessKeyId: key, secretAccessKey: keys[key] },
    });
  }

  /** As anyone would use it, but that the name leads to the relay. */
  function client() {
    const { BedrockRuntimeClient } = sdk("@aws-sdk/client-bedrock-runtime");
    const { NodeHttpHandler } = sdk("@smithy/node-http-handler");
    const agent = new Agent();
    agent.createConnection = () =>
      connectTls({
        socket: connectPlain(relay.port, "127.0.0.1"),
        servername: host,
        ca: readFileSync(relay.authority.caPath),
      });
    return new BedrockRuntimeClient({
      ...{
        endpoint: `https://${host}:${origin.port}`,
        region: "us-east-1",
        maxAttempts: 1,
        requestHandler: new NodeHttpHandler({ httpsAgent: agent }),
      },
      credentials: { accessKeyId: "AKCLIENT", secretAccessKey: keys.AKCLIENT },
    });
  }

  const asked = (text: string) => ({
    modelId: "anthropic.claude-sonnet-4-20250514-v1:0",
    messages: [{ role: "user", content: [{ text }] }],
  });

  async function said(text: string): Promise<unknown> {
    const { ConverseCommand } = sdk("@aws-sdk/client-bedrock-runtime");
    const reply = await client().send(new ConverseCommand(asked(text)));
    return reply.output.message.content[0].text;
  }

  test("without a key of Weir's what is redacted is denied, and the rest passes as it was signed", async () => {
    relay.usePolicy(policy(""));
    seen.length = 0;
    assert.equal(await said("hello"), "You said: hello");
    await assert.rejects(said(`hello ${email}`), {
      name: "AccessDeniedException",
      message: /client has signed.*WEIR_MASK_IMPOSSIBLE/,
    });
    assert.deepEqual(
      seen.map(({ key }) => key),
      ["AKCLIENT"],
    );
  });

  test("with one it is signed anew, and the real value comes back in replies and streams", async () => {
    relay.usePolicy(policy(ownKey));
    seen.length = 0;
    assert.equal(await said(`hello ${email}`), `You said: hello ${email}`);
    const { ConverseStreamCommand } = sdk("@aws-sdk/client-bedrock-runtime");
    const reply = await client().send(new ConverseStreamCommand(asked(`bye ${email}`)));
    let text = "";
    for await (const event of reply.stream) text += event.contentBlockDelta?.delta.text ?? "";
    assert.equal(text, `You said: bye ${email}`);
    for (const [at, word] of ["hello", "bye"].entries()) {
      assert.equal(seen[at]?.key, "AKWEIR");
      assert.match(seen[at]?.body ?? "", new RegExp(`"${word} <EMAIL_1>"`));
    }
  });

  describe("events in both directions", () => {
    let sonic: Http2SecureServer;
    let port = 0;
    let through: Relay;
    let dir: string;
    const heard: { key: string | null; isSigned: boolean; said: string | null }[] = [];

    before(async () => {
      dir = mkdtempSync(join(tmpdir(), "weir-sonic-"));
      const ca = testCa("Sonic CA");
      writeFileSync(join(dir, "ca.pem"), ca.pem);
      sonic = createSecureServer(ca.issue({ dns: [host], ip: ["127.0.0.1"] }));
      sonic.on("request", (request, response) => void converse(request, response));
      await new Promise<void>((done) => sonic.listen(0, "127.0.0.1", done));
      port = (sonic.address() as AddressInfo).port;
      through = await startRelay({ hostname: host, server: { host: "127.0.0.1", port }, policy: sessionPolicy("") });
    });

    after(async () => {
      await through?.close();
      await new Promise((done) => sonic?.close(done));
      rmSync(dir, { recursive: true });
    });

    const sessionPolicy = (credential: string): string =>
      policy(credential).replace(String(origin.port), String(port)).replace(origin.caPath, join(dir, "ca.pem"));

    /** Says back each text, three letters an event; whose signatures the events have is in `heard`. */
    async function converse(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
      const key = await signer(request as unknown as IncomingMessage, Buffer.alloc(0));
      let last = /Signature=(\w+)/.exec(request.headers.authorization ?? "")?.[1] ?? "";
      response.writeHead(200, { "content-type": "application/vnd.amazon.eventstream" });
      const say = (event: object) =>
        response.write(writeEvent("chunk", { bytes: Buffer.from(JSON.stringify({ event })).toString("base64") }));
      const reader = new EventStreamReader();
      for await (const bytes of request) {
        for (const { headers, payload } of reader.push(bytes as Buffer)) {
          const date = headers.find(({ name }) => name === ":date");
          const given = headers.find(({ name }) => name === ":chunk-signature")?.value.toString("hex") ?? "";
          const expected =
            key === null || date === undefined
              ? null
              : await signerOf(key).signEvent(
                  { headers: writeHeaders([date]), payload },
                  { signingDate: new Date(Number(date.value.readBigInt64BE())), priorSignature: last },
                );
          last = given;
          const [inner] = payload.length === 0 ? [] : new EventStreamReader().push(payload);
          const json =
            inner === undefined ? "{}" : Buffer.from(JSON.parse(String(inner.payload)).bytes, "base64").toString();
          const content = JSON.parse(json).event?.textInput?.content ?? null;
          heard.push({ key, isSigned: given === expected, said: content });
          for (const piece of content?.match(/.{1,3}/gsu) ?? [])
            say({ textOutput: { contentId: "1", role: "ASSISTANT", content: piece } });
        }
      }
      say({ contentEnd: { contentId: "1" } });
      response.end();
    }

    async function session(...texts: string[]): Promise<string> {
      const { BedrockRuntimeClient, InvokeModelWithBidirectionalStreamCommand } = sdk(
        "@aws-sdk/client-bedrock-runtime",
      );
      const { NodeHttp2Handler } = sdk("@smithy/node-http-handler");
      const createConnection = () =>
        connectTls({
          socket: connectPlain(through.port, "127.0.0.1"),
          ...{ servername: host, ALPNProtocols: ["h2"], ca: readFileSync(through.authority.caPath) },
        });
      const bedrock = new BedrockRuntimeClient({
        requestHandler: new NodeHttp2Handler({ nodeHttp2ConnectOptions: { createConnection } }),
        ...{ endpoint: `https://${host}:${port}`, region: "us-east-1", maxAttempts: 1 },
        credentials: { accessKeyId: "AKCLIENT", secretAccessKey: keys.AKCLIENT },
      });
      async function* body() {
        for (const content of texts)
          yield { chunk: { bytes: Buffer.from(JSON.stringify({ event: { textInput: { content } } })) } };
      }
      const reply = await bedrock.send(
        new InvokeModelWithBidirectionalStreamCommand({ modelId: "amazon.nova-sonic-v1:0", body: body() }),
      );
      let said = "";
      for await (const { chunk } of reply.body)
        said += JSON.parse(Buffer.from(chunk.bytes).toString()).event.textOutput?.content ?? "";
      bedrock.destroy();
      return said;
    }

    const keysOf = () => [...new Set(heard.map(({ key, isSigned }) => `${key} ${isSigned}`))];
    const textsOf = () => heard.flatMap(({ said }) => said ?? []);

    test("without a key of Weir's they pass as they were signed, and what is redacted is denied", async () => {
      heard.length = 0;
      assert.equal(await session("hello", "bye"), "hellobye");
      assert.deepEqual(keysOf(), ["AKCLIENT true"]);
      heard.length = 0;
      await assert.rejects(session(`hello ${email}`), { name: "AccessDeniedException", message: /client has signed/ });
      assert.deepEqual(heard, []);
    });

    test("with one each is signed anew over the one before, and real values come back", async () => {
      through.usePolicy(sessionPolicy(ownKey));
      heard.length = 0;
      const said = await session("hello", `bye ${email}`, `again ${email}`);
      assert.equal(said, `hellobye ${email}again ${email}`);
      assert.deepEqual(keysOf(), ["AKWEIR true"]);
      assert.deepEqual(textsOf(), ["hello", "bye <EMAIL_1>", "again <EMAIL_1>"]);
      assert.equal(heard.at(-1)?.said, null, "the last event is empty, and signed");
    });
  });
});
