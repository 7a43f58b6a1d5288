/** Bodies of plain requests, as rules and redactions see them: what cannot be seen is told, and redacted or refused. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { gzipSync } from "node:zlib";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const address = "ada@example.com";
const text = `this is confidential, mail ${address} now`;

describe("bodies of plain requests", () => {
  let origin: Origin;
  let relay: Relay;

  before(async () => {
    origin = await startOrigin((request, response) => {
      if (request.url === "/coded") response.setHeader("content-encoding", ["identity", "gzip"]);
      response.setHeader("content-type", "text/plain");
      response.end(request.url === "/coded" ? gzipSync(text) : "well");
    });
    relay = await startRelay({
      hostname: null,
      server: { host: "127.0.0.1", port: origin.port },
      policy: `apiVersion: weir/v1
targets:
  api: { protocol: http, hosts: [api.internal], ports: [${origin.port}], tls: { verify: full, ca: ${origin.caPath} } }
rules:
  - { name: unread, match: { path: /judged, trait: body-unread }, verdict: deny, reason: It cannot be read. }
  - { name: word, match: { path: /judged, keyword: [confidential, größe] }, verdict: deny, reason: A word. }
  - { name: mail, match: { path: /judged, detector: email }, verdict: deny, reason: An address. }
  - { name: addresses, match: { path: /redacted }, redact: [{ detector: email, with: redact }] }
  - { name: answers, match: { path: /coded }, mask: [{ detector: email, with: redact }] }
`,
    });
  });

  after(async () => {
    await relay?.close();
    await origin?.close();
  });

  /** The answer, and what of it reached the server. */
  async function post(path: string, fields: readonly string[], body: string | Buffer, expect = false) {
    const before = origin.reached.length;
    const bytes = Buffer.from(body as string);
    const socket = connectTls({
      socket: connectPlain(relay.port, "127.0.0.1"),
      servername: "api.internal",
      ca: readFileSync(relay.authority.caPath),
    });
    let said = "";
    socket.on("data", (part: Buffer) => {
      const isFirst = said === "";
      said += part.toString("latin1");
      if (expect && isFirst && said.includes(" 100 ")) socket.write(bytes);
    });
    const lines = [
      `Host: api.internal:${origin.port}`,
      "Connection: close",
      `Content-Length: ${bytes.length}`,
      ...fields,
    ];
    socket.write(`POST ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n${expect ? "Expect: 100-continue\r\n" : ""}\r\n`);
    if (!expect) socket.write(bytes);
    await new Promise((resolve) => socket.on("end", resolve));
    return { said, reached: origin.reached[before]?.body ?? null };
  }

  const json = "Content-Type: application/json";
  const words: readonly [string, readonly string[], string][] = [
    ["as it is", ["Content-Type: text/plain"], text],
    ["without a type", [], text],
    ["escaped in JSON", [json], '{"text":"\\u0063onfidential"}'],
    ["as JSON is written for ASCII", [json], '{"text":"Gr\\u00f6\\u00dfe"}'],
    ["escaped in a form", ["Content-Type: application/x-www-form-urlencoded"], `to=${encodeURIComponent(address)}`],
  ];
  for (const [name, fields, body] of words)
    test(`words are found ${name}`, async () => {
      const { said, reached } = await post("/judged", fields, body);
      assert.match(said, /^weir-rule: (?:word|mail)\r$/m);
      assert.equal(reached, null);
    });

  test("what an escaped backslash stands before is no escape", async () => {
    assert.match((await post("/judged", [json], '{"path":"C:\\\\u0063onfidential"}')).said, /^HTTP\/1\.1 200 /);
  });

  const unread: readonly [string, readonly string[], string | Buffer][] = [
    ["coded", [json, "Content-Encoding: gzip"], gzipSync(text)],
    ["coded, said in two lines", [json, "Content-Encoding: identity", "Content-Encoding: gzip"], gzipSync(text)],
    ["of a type that is no text", ["Content-Type: application/octet-stream"], text],
    ["of many parts", ["Content-Type: multipart/form-data; boundary=x"], `--x\r\n\r\n${text}\r\n--x--\r\n`],
    ["in UTF-16", ["Content-Type: text/plain; charset=utf-16le"], Buffer.from(text, "utf16le")],
    ["too long", ["Content-Type: text/plain"], `${text}${" x".repeat(40_000)}`],
  ];
  for (const [name, fields, body] of unread)
    test(`a body ${name} is told to be unread`, async () => {
      const { said, reached } = await post("/judged", fields, body);
      assert.match(said, /^weir-rule: unread\r$/m);
      assert.equal(reached, null);
    });

  test("two types of one body are not understood", async () => {
    const { said, reached } = await post("/redacted", ["Content-Type: image/png", json], text);
    assert.match(said, /header-mismatch/);
    assert.equal(reached, null);
  });

  test("a body of any length is redacted, in as many bytes as it had", async () => {
    const long = `${"x ".repeat(100_000)}${text}`;
    for (const body of [text, long, `${long} ${address}`]) {
      const { said, reached } = await post("/redacted", ["Content-Type: text/plain"], body);
      assert.match(said, /^HTTP\/1\.1 200 /);
      assert.equal(reached?.length, body.length);
      assert.equal(reached?.includes(address), false);
      assert.ok(reached?.includes("confidential, mail *"));
    }
  });

  test("a value is redacted as it is meant, not as it is written", async () => {
    const written = await post("/redacted", [json], '{"to":"\\u0061da\\u0040example.com","a":"\\u00e9"}');
    assert.equal(String(written.reached), `{"to":"\\u002a**\\u002a${"*".repeat(11)}","a":"\\u00e9"}`);
    const form = "Content-Type: application/x-www-form-urlencoded";
    const { reached } = await post("/redacted", [form], "to=ada%40example.com&a=%C3%A9");
    assert.equal(String(reached), `to=***%2A${"*".repeat(11)}&a=%C3%A9`);
  });

  test("a query is read as it is meant", async () => {
    assert.match((await post("/judged?to=ada%40example.com", [json], "{}")).said, /^weir-rule: mail\r$/m);
  });

  test("a body that is sent only when it is asked for is redacted, too", async () => {
    const { reached } = await post("/redacted", ["Content-Type: text/plain"], text, true);
    assert.equal(String(reached), text.replace(address, "*".repeat(address.length)));
  });

  test("what has to be redacted and is encoded does not leave", async () => {
    const { said, reached } = await post("/redacted", [json, "Content-Encoding: gzip"], gzipSync(text));
    assert.match(said, /^HTTP\/1\.1 502 [\s\S]*has to be redacted, and cannot be: it is encoded as gzip/);
    assert.equal(reached, null);
  });

  test("an answer whose coding stands in two lines is masked", async () => {
    const { said } = await post("/coded", [], "");
    assert.ok(said.includes("confidential, mail *"), said);
    assert.ok(!said.includes(address));
  });
});
