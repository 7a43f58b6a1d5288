/**
 * What no SDK sends, and what no model answers, through everything but the kernel: it is denied in the API's own shape,
 * ended, or passed as the policy says, and the memory stays bounded.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect as connectPlain } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { createGzip, gzipSync } from "node:zlib";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const email = "ada.lovelace@example.com";
const chat = "/v1/chat/completions";
const prompt = (content: string): string => JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content }] });

const policy = (origin: Origin): string => `apiVersion: weir/v1
targets:
  openai: { protocol: openai, hosts: [api.internal], ports: [${origin.port}], tls: { ca: ${origin.caPath} } }
rules:
  - { name: no-secrets, match: { when: 'op.prompt.contains("confidential")' }, verdict: deny, reason: "Not to a model." }
  - { name: masks, match: { target: openai }, mask: [{ detector: email }], redact: [{ detector: email, with: placeholder }] }
`;

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  /** The response ended before it was whole. */
  readonly broken: boolean;
}

describe("bad input to and from a model's API", () => {
  let origin: Origin;
  let relay: Relay;
  let answer: (
    url: string,
    response: import("node:http").ServerResponse,
    request: import("node:http").IncomingMessage,
  ) => void;

  before(async () => {
    origin = await startOrigin((request, response) => answer(request.url ?? "", response, request));
    const server = { host: "127.0.0.1", port: origin.port };
    relay = await startRelay({ policy: policy(origin), server, hostname: null });
  });

  after(async () => {
    await relay?.close();
    await origin?.close();
  });

  const dial = (): TLSSocket =>
    connectTls({
      socket: connectPlain(relay.port, "127.0.0.1"),
      servername: "api.internal",
      ca: readFileSync(relay.authority.caPath),
    });

  /** Parts are written one by one, so that a chunk ends where a part does. */
  const post = (
    path: string,
    parts: readonly (string | Buffer)[],
    headers: Record<string, string> = {},
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = httpsRequest({
        method: "POST",
        path,
        createConnection: dial,
        headers: { host: `api.internal:${origin.port}`, "content-type": "application/json", ...headers },
      });
      sent.on("response", (response) => {
        const got: Buffer[] = [];
        const end = (broken: boolean) => (): void =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(got),
            broken,
          });
        response.on("data", (part: Buffer) => got.push(part));
        response.on("end", end(false));
        response.on("error", end(true));
      });
      sent.on("error", reject);
      sent.setNoDelay(true);
      for (const part of parts) sent.write(part);
      sent.end();
    });

  /** Bytes as they are; what came back until the connection ended. */
  const raw = (bytes: string, end = false): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = dial();
      let got = "";
      socket.on("data", (part: Buffer) => {
        got += part.toString("latin1");
      });
      socket.on("close", () => resolve(got));
      socket.on("error", reject);
      socket.setTimeout(120_000, () => socket.destroy(new Error("the connection was left open")));
      socket.write(bytes);
      if (end) socket.end();
    });

  const errorOf = ({ body }: Answer): { message: string; type: string; code: string } => {
    const { error } = JSON.parse(body.toString()) as { error: { message: string; type: string; code: string } };
    return error;
  };

  const denied = (said: Answer, words: RegExp): void => {
    assert.equal(said.status, 403, said.body.toString());
    assert.equal(errorOf(said).type, "permission_error");
    assert.match(errorOf(said).message, words);
  };

  const unreached = async (act: () => Promise<void>): Promise<void> => {
    const { length } = origin.reached;
    await act();
    assert.equal(origin.reached.length, length, "nothing of it reached the server");
  };

  describe("requests", () => {
    before(() => {
      answer = (_url, response) => {
        response.setHeader("content-type", "application/json");
        response.end('{"choices":[]}');
      };
    });

    const unreadable: Readonly<Record<string, string | Buffer>> = {
      "no JSON": "model=gpt-4o",
      "half of a JSON": prompt("hello").slice(0, -2),
      "two JSON texts": prompt("hello") + prompt("hello"),
      "JSON 100,000 deep": `{"messages":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
      "objects 100,000 deep": `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`,
      "a byte order mark": `\ufeff${prompt("hello")}`,
      "UTF-16": Buffer.from(prompt("hello"), "utf16le"),
      "a lone byte of UTF-8": Buffer.concat([Buffer.from('{"model":"'), Buffer.from([0xc3]), Buffer.from('"}')]),
      "a surrogate in UTF-8": Buffer.concat([
        Buffer.from('{"model":"'),
        Buffer.from("eda080", "hex"),
        Buffer.from('"}'),
      ]),
      "an overlong quote": Buffer.concat([Buffer.from('{"model":"'), Buffer.from("c0a2", "hex"), Buffer.from('"}')]),
    };
    for (const [name, body] of Object.entries(unreadable))
      test(`${name} is denied as not understood`, () =>
        unreached(async () => denied(await post(chat, [body]), /unreadable-body/)));

    for (const [name, body] of Object.entries({
      "a doubled name": '{"model":"a","messages":[],"messages":[{"role":"user","content":"confidential"}]}',
      "a doubled name behind an escape": '{"messages":[{"content":"a","c\\u006fntent":"confidential"}]}',
      "a name in capitals beside itself": '{"messages":[],"Messages":[{"content":"confidential"}]}',
    }))
      test(`${name} is denied: the server might read the other one`, () =>
        unreached(async () => denied(await post(chat, [body]), /duplicate-keys/)));

    test("characters cut by the borders of chunks arrive as they are", async () => {
      const body = Buffer.from(prompt("grüße, 日本語, 🙂"));
      const said = await post(
        chat,
        Array.from(body, (byte) => Buffer.from([byte])),
      );
      assert.equal(said.status, 200);
      assert.equal(origin.reached.at(-1)?.body.toString("hex"), body.toString("hex"));
    });

    test("invalid UTF-8 that only shows over a border of chunks is denied", () =>
      unreached(async () => {
        const [head, tail] = prompt("X").split("X") as [string, string];
        denied(await post(chat, [head, Buffer.from([0xe6, 0x97]), Buffer.from([0x41]), tail]), /unreadable-body/);
      }));

    test("another character set than UTF-8 is denied: the server would read other words", () =>
      unreached(async () => {
        const said = await post(chat, [prompt("+AGM-onfidential")], {
          "content-type": "application/json; charset=utf-7",
        });
        denied(said, /unreadable-body/);
      }));

    test("UTF-8 by its name passes", async () => {
      const said = await post(chat, [prompt("hello")], { "content-type": 'application/json; charset="UTF-8"' });
      assert.equal(said.status, 200);
    });

    for (const type of ["text/plain", "application/x-www-form-urlencoded", "image/png", "multipart/form-data"])
      test(`a prompt is read though it is called ${type}: servers do not look`, () =>
        unreached(async () =>
          denied(await post(chat, [prompt("confidential")], { "content-type": type }), /no-secrets/),
        ));

    test("a method of the API that nobody here knows is denied, in the API's shape", () =>
      unreached(async () => denied(await post("/v1/dreams", [prompt("hello")]), /unknown-api/)));

    test("and its prompt is read all the same", () =>
      unreached(async () => denied(await post("/v1/dreams", [prompt("confidential")]), /no-secrets/)));

    test("gzip is taken away, the prompt read and redacted", async () => {
      await unreached(async () =>
        denied(await post(chat, [gzipSync(prompt("confidential"))], { "content-encoding": "gzip" }), /no-secrets/),
      );
      const said = await post(chat, [gzipSync(prompt(`I am ${email}`))], { "content-encoding": "gzip" });
      assert.equal(said.status, 200);
      const reached = origin.reached.at(-1);
      assert.equal(reached?.headers["content-encoding"], undefined);
      assert.equal(reached?.body.toString(), prompt("I am <EMAIL_1>"));
    });

    for (const [name, body, coding] of [
      ["plain bytes that say they are gzip", Buffer.from(prompt("hello")), "gzip"],
      ["gzip that says it is brotli", gzipSync(prompt("hello")), "br"],
      ["gzip that ends early", gzipSync(prompt("hello".repeat(1000))).subarray(0, 40), "gzip"],
      ["a coding nobody knows", Buffer.from(prompt("hello")), "compress"],
      ["two codings", gzipSync(gzipSync(prompt("hello"))), "gzip, gzip"],
    ] as const)
      test(`${name} is refused, in the API's shape`, () =>
        unreached(async () => {
          const said = await post(chat, [body], { "content-encoding": coding });
          assert.equal(said.status, 400);
          assert.equal(errorOf(said).code, "weir_frame_invalid");
        }));

    test("a body that decodes to gigabytes is refused before it fills the memory", () =>
      unreached(async () => {
        const bomb = await gzipOfZeros(2);
        const before = process.memoryUsage.rss();
        const said = await post(chat, [bomb], { "content-encoding": "gzip" });
        assert.equal(said.status, 400);
        assert.match(errorOf(said).message, /longer than 33554432 bytes/);
        assert.ok(process.memoryUsage.rss() - before < 300 * mib);
      }));

    test("a body longer than the limit is refused at its head, or where the limit is reached", () =>
      unreached(async () => {
        const host = `Host: api.internal:${origin.port}`;
        const told = await raw(`POST ${chat} HTTP/1.1\r\n${host}\r\nContent-Length: 99999999999\r\n\r\n{`);
        assert.match(told, /^HTTP\/1\.1 413 /);
        assert.match(told, /weir_frame_too_large/);
      }));

    test("a body that ends early asks nothing", () =>
      unreached(async () => {
        const host = `Host: api.internal:${origin.port}`;
        assert.equal(await raw(`POST ${chat} HTTP/1.1\r\n${host}\r\nContent-Length: 500\r\n\r\n{"model":`, true), "");
        const chunked = `POST ${chat} HTTP/1.1\r\n${host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"mod`;
        assert.equal(await raw(chunked, true), "");
      }));

    test("heads over the limit are answered 431", () =>
      unreached(async () => {
        const host = `Host: api.internal:${origin.port}`;
        const long = `GET /v1/models HTTP/1.1\r\n${host}\r\nX-Long: ${"a".repeat(70_000)}\r\n\r\n`;
        assert.match(await raw(long), /^HTTP\/1\.1 431 /);
        const many = `GET /v1/models HTTP/1.1\r\n${host}\r\n${"X: y\r\n".repeat(300)}\r\n`;
        assert.match(await raw(many), /^HTTP\/1\.1 431 /);
      }));
  });

  describe("replies that have to be masked", () => {
    const said = `{"choices":[{"message":{"content":"write to ${email}"}}]}`;
    const ask = (headers: Record<string, string> = {}): Promise<Answer> => post(chat, [prompt("hello")], headers);

    const reply = (fields: Record<string, string>, ...parts: (string | Buffer)[]): void => {
      answer = (_url, response) => {
        response.writeHead(200, { "content-type": "application/json", ...fields });
        for (const part of parts) response.write(part);
        response.end();
      };
    };
    const hidden = ({ body }: Answer): void => assert.ok(!body.includes(email), body.toString());

    for (const [name, fields, body] of [
      ["plain text that says it is gzip", { "content-encoding": "gzip" }, said],
      ["gzip cut in the middle", { "content-encoding": "gzip" }, gzipSync(said).subarray(0, 30)],
      ["gzip that says it is zstd", { "content-encoding": "zstd" }, gzipSync(said)],
    ] as const)
      test(`${name}: nothing of it is passed as if it were whole`, async () => {
        reply(fields, body);
        const got = await ask();
        hidden(got);
        assert.ok(got.broken || got.status === 502, `${got.status} ${got.body}`);
      });

    test("a coding nobody knows is a 502 of the API", async () => {
      reply({ "content-encoding": "compress" }, said);
      const got = await ask();
      assert.equal(got.status, 502);
      assert.equal(errorOf(got).code, "weir_mask_impossible");
    });

    test("gzip that says nothing of itself is no JSON, and is not passed", async () => {
      reply({}, gzipSync(said));
      const got = await ask();
      hidden(got);
      assert.equal(errorOf(got).code, "weir_mask_impossible");
    });

    for (const type of ["application/x-unheard-of", "application/octet-stream", "text/x-dream"])
      test(`a reply called ${type} is masked where it is text`, async () => {
        reply({ "content-type": type }, said);
        hidden(await ask());
      });

    test("10 GB out of 10 MB: the reply ends at the limit, and nobody decodes the rest", async () => {
      const bomb = await gzipOfZeros(10);
      reply({ "content-encoding": "gzip" }, bomb);
      const before = process.memoryUsage.rss();
      const cpu = process.cpuUsage();
      const got = await ask();
      assert.match(errorOf(got).message, /longer than 33554432 bytes/);
      assert.ok(process.memoryUsage.rss() - before < 400 * mib);
      const { user } = process.cpuUsage(cpu);
      assert.ok(user < 20_000_000, `${user / 1e6} s of CPU`);
    });

    test("a reply 100,000 deep is not passed unread", async () => {
      reply({}, `{"a":${"[".repeat(100_000)}"${email}"${"]".repeat(100_000)}}`);
      const got = await ask();
      hidden(got);
      assert.equal(errorOf(got).code, "weir_mask_impossible");
    });

    test("doubled names, each is masked", async () => {
      reply({}, `{"a":"${email}","a":"${email}","choices":[{"message":{"content":"x","content":"${email}"}}]}`);
      hidden(await ask());
    });

    test("broken UTF-8 over the borders of reads hides no value", async () => {
      const [head, tail] = said.split("write to ") as [string, string];
      for (const bytes of ["c3", "e697", "f09f99", "eda080", "ff"]) {
        reply({}, head, Buffer.from(bytes, "hex"), tail);
        hidden(await ask());
        reply({ "content-type": "text/plain" }, head, Buffer.from(bytes, "hex"), tail);
        hidden(await ask());
        const event = (text: string | Buffer): Buffer =>
          Buffer.concat([
            Buffer.from('data: {"choices":[{"index":0,"delta":{"content":"'),
            Buffer.from(text),
            Buffer.from('"}}]}\n\n'),
          ]);
        reply(
          { "content-type": "text/event-stream" },
          event(Buffer.from(bytes, "hex")),
          event(email),
          "data: [DONE]\n\n",
        );
        hidden(await ask());
      }
    });

    test("a byte order mark before JSON or events hides no value", async () => {
      reply({}, `\ufeff${said}`);
      hidden(await ask());
      reply(
        { "content-type": "text/event-stream" },
        `\ufeffdata: {"choices":[{"index":0,"delta":{"content":"${email} "}}]}\n\ndata: [DONE]\n\n`,
      );
      hidden(await ask());
    });

    test("an event 100,000 deep, and one that never ends", async () => {
      reply(
        { "content-type": "text/event-stream" },
        `data: {"a":${"[".repeat(100_000)}"${email}"${"]".repeat(100_000)}}\n\n`,
      );
      hidden(await ask());
      answer = (_url, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("data: ");
        const more = (): void => {
          while (!response.destroyed && response.write("x".repeat(65_536)));
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      };
      const got = await ask();
      assert.match(got.body.toString(), /WEIR_MASK_IMPOSSIBLE/);
      assert.ok(got.body.length < mib);
    });

    test("a reply that breaks off is told as one", async () => {
      answer = (_url, response) => {
        response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
        response.write(said);
        setTimeout(() => response.destroy(), 20);
      };
      const got = await ask();
      hidden(got);
      assert.ok(got.broken || got.status === 502, `${got.status} ${got.body}`);
    });
  });
});

const mib = 1024 * 1024;

/** Some gigabytes of zeros, some megabytes long. */
async function gzipOfZeros(gigabytes: number): Promise<Buffer> {
  const zip = createGzip({ level: 1 });
  const parts: Buffer[] = [];
  zip.on("data", (part: Buffer) => parts.push(part));
  const done = new Promise((resolve) => zip.once("end", resolve));
  zip.end(Buffer.alloc(64 * mib));
  await done;
  // Members of gzip may follow one another (RFC 1952 §2.2).
  const member = Buffer.concat(parts);
  return Buffer.concat(Array.from({ length: gigabytes * 16 }, () => member));
}
