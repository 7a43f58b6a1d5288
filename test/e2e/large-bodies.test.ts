/**
 * Bodies of megabytes through everything but the kernel: they leave as short ones do, the event loop goes on with the
 * others', and a thread that dies of one is an error that its client understands.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { ClientRequest } from "node:http";
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createSecureServer,
  type Http2SecureServer,
} from "node:http2";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import type { FlowSession } from "../../agent/act/session.ts";
import { largeBodyBytesMin } from "../../agent/wire/http/large-body.ts";
import { MessageReader, writeMessage } from "../../agent/wire/websocket/messages.ts";
import { testCa } from "../agent/tls/pki.ts";
import { open, redactOf, verdictOf } from "../agent/wire/llm/exchange.ts";
import { dyingBodies } from "../support/dying-bodies.ts";
import { type Origin, startOrigin } from "../support/origin.ts";
import { type Relay, type RelayOptions, startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const email = "ada.lovelace@example.com";
const chat = "/v1/chat/completions";
const mebi = 1024 * 1024;
const line = `some words of prose, and order 4711, and ${email} once in a line of it.\n`;
const prose = (bytes: number): string => line.repeat(Math.ceil(bytes / line.length));
const prompt = (content: string): Buffer =>
  Buffer.from(JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content }] }));
const call = Buffer.from(
  JSON.stringify({ jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "t", arguments: {} } }),
);
const result = (text: string): string =>
  JSON.stringify({ jsonrpc: "2.0", id: 7, result: { content: [{ type: "text", text }] } });
const choices = (content: string): string =>
  JSON.stringify({ id: "x", choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }] });

const names = ["openai", "mcp", "json"];
const policy = ({ port, caPath }: Pick<Origin, "port" | "caPath">): string => {
  const target = (name: string, protocol: string): string =>
    `  ${name}: { protocol: ${protocol}, hosts: [${name}.internal], ports: [${port}], tls: { ca: ${caPath} } }\n`;
  return `apiVersion: weir/v1
targets:
${target("openai", "openai")}${target("mcp", "mcp")}${target("json", "http")}
rules:
  - { name: secret, match: { target: openai, when: '!op.promptCut && op.prompt.contains("confidential")' }, verdict: deny, reason: "Not to a model." }
  - { name: held, match: { target: openai, when: '!op.promptCut && op.prompt.contains("please ask")' }, verdict: hold, reason: "Somebody looks." }
  - { name: model, match: { target: openai }, mask: [{ detector: email }], redact: [{ detector: email, with: placeholder }] }
  - { name: rest, match: { target: [mcp, json] }, mask: [{ detector: email }, { json: "$..ssn" }], redact: [{ detector: email }] }
`;
};

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  readonly broken: boolean;
}

describe("long bodies", () => {
  let origin: Origin;
  let relay: Relay;
  /** What the server answers. */
  let answer: { readonly type: string; readonly body: string | Buffer; readonly coding?: string } = {
    ...{ type: "application/json", body: "{}" },
  };

  before(async () => {
    origin = await startOrigin(
      (_request, response) => {
        const coding = answer.coding === undefined ? {} : { "content-encoding": answer.coding };
        response.writeHead(200, { "content-type": answer.type, ...coding });
        response.end(answer.body);
      },
      { names: names.map((name) => `${name}.internal`) },
    );
    relay = await start();
  });

  after(async () => {
    await relay?.close();
    await origin?.close();
  });

  function start(options: Partial<RelayOptions> = {}): Promise<Relay> {
    const server = { host: "127.0.0.1", port: origin.port };
    return startRelay({ policy: policy(origin), server, hostname: null, ...options });
  }

  function dial(to: string, through: Relay, alpn: string[] = ["http/1.1"]): TLSSocket {
    return connectTls({
      socket: connectPlain(through.port, "127.0.0.1"),
      servername: `${to}.internal`,
      ca: readFileSync(through.authority.caPath),
      ALPNProtocols: alpn,
    });
  }

  function send(to: string, path: string, body: Buffer, through = relay, more: RequestOptions = {}): ClientRequest {
    const headers = {
      ...{ host: `${to}.internal:${origin.port}`, "content-type": "application/json", "content-length": body.length },
      ...{ accept: "application/json, text/event-stream" },
      ...more.headers,
    };
    const sent = httpsRequest({ method: "POST", path, createConnection: () => dial(to, through), headers });
    sent.end(body);
    return sent;
  }

  function post(to: string, path: string, body: Buffer, through = relay, more: RequestOptions = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = send(to, path, body, through, more);
      sent.on("error", reject);
      sent.on("response", (response) => {
        const got: Buffer[] = [];
        const end = (broken: boolean) => (): void => {
          const { statusCode: status = 0, headers } = response;
          resolve({ status, headers, body: Buffer.concat(got).toString(), broken });
        };
        response.on("data", (part: Buffer) => got.push(part));
        response.on("end", end(false));
        response.on("error", end(true));
      });
    });
  }

  /** The session of this request, once it has all of the body. */
  async function readingSession(earlier: ReadonlySet<FlowSession>): Promise<FlowSession> {
    for (;;) {
      const session = [...relay.sessions].find((one) => !earlier.has(one));
      if (session !== undefined && "bytesUp" in session && Number(session.bytesUp) > 8 * mebi) return session;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** A prompt's body as it reaches the model. */
  function redacted(body: Buffer): string {
    const exchange = open(chat);
    exchange.describe(body);
    return String(exchange.rewrite?.(body, verdictOf({ redactions: [redactOf(["email"])] })));
  }

  for (const bytes of [largeBodyBytesMin - 1, largeBodyBytesMin, largeBodyBytesMin + 1, 2 * mebi]) {
    test(`a prompt of ${bytes} bytes is redacted, and its reply has the values back`, async () => {
      answer = { type: "application/json", body: choices("To <EMAIL_1>.") };
      const bare = prompt("").length;
      const body = prompt(`${email} ${"x".repeat(bytes - bare - email.length - 1)}`);
      assert.equal(body.length, bytes);
      const said = await post("openai", chat, body);
      assert.equal(said.status, 200, said.body);
      assert.equal(said.body, choices(`To ${email}.`));
      assert.equal(origin.reached.at(-1)?.body.toString(), redacted(body));
    });

    test(`a result of ${bytes} bytes is masked`, async () => {
      const bare = result(" ").length + email.length;
      answer = { type: "application/json", body: result(`${email} ${"x".repeat(bytes - bare)}`) };
      const said = await post("mcp", "/mcp", call);
      assert.equal(said.body.length, bytes);
      assert.equal(said.body, String(answer.body).replace(email, "*".repeat(email.length)));
    });
  }

  test("a long prompt is refused for what stands in it", async () => {
    const { length } = origin.reached;
    const said = await post("openai", chat, prompt(`${prose(mebi / 2)} confidential`));
    assert.equal(said.status, 403);
    assert.match(said.body, /permission_error/);
    assert.equal(origin.reached.length, length);
  });

  test("by path, and coded", async () => {
    const rows = Array.from({ length: 20_000 }, (_, id) => ({ id, ssn: "078-05-1120", mail: email }));
    const masked = rows.map((row) => ({ ...row, ssn: "*".repeat(11), mail: "*".repeat(email.length) }));
    answer = { type: "application/json", body: gzipSync(JSON.stringify({ rows })), coding: "gzip" };
    const said = await post("json", "/rows", Buffer.from("{}"));
    assert.deepEqual(JSON.parse(said.body), { rows: masked });
  });

  test("events of a stream keep their order around a long one", async () => {
    const texts = [
      "first",
      `${email} ${prose(2 * mebi)}`,
      "third",
      `${"y".repeat(largeBodyBytesMin)} ${email}`,
      "last",
    ];
    answer = { type: "text/event-stream", body: texts.map((text) => `data: ${result(text)}\n\n: beat\n\n`).join("") };
    const said = await post("mcp", "/mcp", call);
    assert.equal(said.body, String(answer.body).replaceAll(email, "*".repeat(email.length)));
  });

  test("events of a model's stream keep their order around long ones, and go on in each other", async () => {
    const delta = (content: string): string =>
      `data: ${JSON.stringify({ id: "x", choices: [{ index: 0, delta: { content } }] })}\n\n`;
    const half = email.length / 2;
    const texts = [
      ...["first ", `${email.slice(0, half)}`, `${email.slice(half)} ${prose(2 * mebi)} ${email.slice(0, 5)}`],
      ...[`${email.slice(5)} third `, `${"y".repeat(largeBodyBytesMin)} <EMA`, "IL_1> last"],
    ];
    answer = {
      type: "text/event-stream",
      body: `${texts.map((text) => `${delta(text)}: beat\n\n`).join("")}data: [DONE]\n\n`,
    };
    const asked = Buffer.from(
      JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "for bob@example.com" }] }),
    );
    const said = await post("openai", chat, asked);
    const events = said.body.split("\n\n").filter((event) => event.startsWith("data: {"));
    const told = events.map(
      (event) => (JSON.parse(event.slice(6)) as { choices: [{ delta: { content: string } }] }).choices,
    );
    const whole = texts.join("").replaceAll(email, "*".repeat(email.length)).replace("<EMAIL_1>", "bob@example.com");
    assert.ok(
      told
        .map(
          ([
            {
              delta: { content },
            },
          ]) => content,
        )
        .join("") === whole,
    );
    assert.equal(said.body.split(": beat").length, texts.length + 1);
    assert.ok(said.body.endsWith("data: [DONE]\n\n"));
  });

  describe("a realtime session", () => {
    const event = (more: object): Buffer => Buffer.from(JSON.stringify(more));
    const delta = (text: string): Buffer =>
      event({
        ...{ type: "response.output_text.delta", response_id: "r", item_id: "i", output_index: 0, content_index: 0 },
        delta: text,
      });
    const done = event({ type: "response.done", response: { id: "r", usage: { input_tokens: 3, output_tokens: 4 } } });
    const ping = Buffer.from([0x89, 0]);
    const item = (said: string): Buffer => {
      const content = [{ type: "input_text", text: said }];
      return event({
        type: "conversation.item.create",
        event_id: "e7",
        item: { type: "message", role: "user", content },
      });
    };

    /** Sends these, and is sent `answers` after `after` of them; what reached the server, and what came back. */
    async function session(
      sent: readonly Buffer[],
      { after, answers, through = relay }: { after: number; answers: readonly Buffer[]; through?: Relay },
    ): Promise<{ reached: string[]; told: string[] }> {
      const got: Buffer[] = [];
      origin.upgrade((server) => {
        const reader = new MessageReader(true);
        server.on("data", (bytes: Buffer) => {
          for (const part of reader.push(bytes)) {
            if (part.kind !== "message") continue;
            got.push(part.payload);
            if (got.length === after)
              for (const one of [...answers, done]) server.write(one === ping ? ping : writeMessage(1, one, null));
          }
        });
      });
      const socket = dial("openai", through);
      socket.write(
        `GET /v1/realtime?model=m HTTP/1.1\r\nHost: openai.internal:${origin.port}\r\nConnection: Upgrade\r\n` +
          "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      );
      const parse = new MessageReader(false);
      let head = "";
      const told: string[] = [];
      await new Promise<void>((resolve, reject) => {
        socket.on("error", reject);
        socket.on("close", () => resolve());
        socket.on("data", (bytes: Buffer) => {
          let rest = bytes;
          if (!head.includes("\r\n\r\n")) {
            head += bytes.toString("latin1");
            const end = head.indexOf("\r\n\r\n");
            if (end < 0) return;
            for (const one of sent) socket.write(writeMessage(1, one, Buffer.from([1, 2, 3, 4])));
            rest = Buffer.from(head.slice(end + 4), "latin1");
          }
          for (const part of parse.push(rest)) told.push(part.kind === "message" ? part.payload.toString() : "control");
          if (told.at(-1)?.includes("response.done") === true) socket.destroy();
        });
      });
      const textOf = (one: Buffer): string =>
        (JSON.parse(one.toString()) as { item: { content: [{ text: string }] } }).item.content[0].text;
      return { reached: got.map(textOf), told };
    }

    const deltasOf = (told: readonly string[]): unknown[] =>
      told.map((one) => (one === "control" ? one : (JSON.parse(one) as { delta?: string }).delta));

    test("its messages keep their order around long ones, both ways", async () => {
      const text = `${email} ${prose(2 * mebi)}`;
      const answers = [delta("first ada.love"), delta(`lace@example.com ${text}`), ping, delta("last")];
      const mine = "bob@example.com";
      const { reached, told } = await session([item("short"), item(`${mine} ${prose(mebi)}`), item(`${mine} again`)], {
        ...{ after: 3, answers: [...answers, delta(" for <EMAIL_1> and <EMAIL_2>")] },
      });
      const named = `<EMAIL_1> ${prose(mebi).replaceAll(email, "<EMAIL_2>")}`;
      assert.deepEqual(reached, ["short", named, "<EMAIL_1> again"]);
      const hidden = text.replaceAll(email, "*".repeat(email.length));
      // The client's own values come back where the model says their names; what the server knew of itself is hidden.
      const all = deltasOf(told);
      assert.equal(
        all.filter((one) => typeof one === "string" && one !== "control").join(""),
        `first ${"*".repeat(email.length)} ${hidden}last for ${mine} and ${email}`,
      );
      assert.equal(all.indexOf("control"), 2);
    });

    test("a long message is refused for what stands in it, and the next ones go on", async () => {
      const { reached, told } = await session([item(`${prose(mebi / 2)} confidential`), item("after")], {
        ...{ after: 1, answers: [] },
      });
      assert.deepEqual(reached, ["after"]);
      assert.match(told[0] ?? "", /"type":"error".*Not to a model.*"event_id":"e7"/);
    });

    test("a long one that is held is redacted once it is approved", async () => {
      const approving = setInterval(() => {
        for (const { id, status } of relay.approvals.list())
          if (status === "pending") relay.approvals.decide(id, "approved", "tester", "fine");
      }, 20);
      const { reached } = await session([item(`please ask ${prose(mebi / 2)}`), item("after")], {
        after: 2,
        answers: [],
      });
      clearInterval(approving);
      assert.deepEqual(reached, [`please ask ${prose(mebi / 2).replaceAll(email, "<EMAIL_1>")}`, "after"]);
    });

    test("one that the thread dies of ends the session, whichever way it went", async () => {
      const frail = await start({ largeBodies: dyingBodies() });
      const up = await session([item("short"), item(prose(mebi)), item("after")], {
        after: 9,
        answers: [],
        through: frail,
      });
      assert.deepEqual(up.reached, ["short"]);
      assert.match(up.told[0] ?? "", /"type":"error".*It died/);
      const down = await session([item("short")], {
        ...{ after: 1, answers: [delta("before. "), delta(`${email} ${prose(mebi)}`), delta("after")], through: frail },
      });
      assert.equal(deltasOf(down.told.slice(0, 1))[0], "before. ");
      assert.match(down.told[1] ?? "", /"type":"error".*It died/);
      assert.ok(!down.told.some((one) => one.includes(email) || one.includes("after")));
      await frail.close();
    });
  });

  test("the event loop turns while a body of 16 MiB is worked on", async () => {
    answer = { type: "application/json", body: "{}" };
    const body = prompt(prose(16 * mebi));
    const cpu = (): number => process.threadCpuUsage().user + process.threadCpuUsage().system;
    const before = cpu();
    const expected = redacted(body);
    const atOnce = cpu() - before;
    let turns = 0;
    let longest = 0;
    let last = cpu();
    // Of this thread's own time, so that it counts what holds the loop up and not who else is on the machine. The
    // client, the server and the test stand in the same loop: what they need is in it, too.
    const timer = setInterval(() => {
      turns += 1;
      const now = cpu();
      longest = Math.max(longest, now - last);
      last = now;
    }, 5);
    const said = await post("openai", chat, body);
    clearInterval(timer);
    assert.equal(said.status, 200);
    assert.equal(origin.reached.at(-1)?.body.equals(Buffer.from(expected)), true);
    assert.ok(turns > 10, `${turns} turns`);
    assert.ok(longest < atOnce / 3, `a turn took ${longest} µs, and the work at once ${atOnce} µs`);
  });

  test("a session that is ended while its body is worked on has a last word", async () => {
    const { length } = origin.reached;
    const earlier = new Set(relay.sessions);
    const said = post("openai", chat, prompt(prose(8 * mebi)));
    const session = await readingSession(earlier);
    session.terminate("WEIR_SESSION_ENDED", "Somebody ended it.");
    const { status, headers } = await said;
    assert.equal(status, 503);
    assert.equal(headers["weir-code"], "WEIR_SESSION_ENDED");
    assert.equal(origin.reached.length, length);
  });

  test("a long prompt that is held is redacted once it is approved", async () => {
    answer = { type: "application/json", body: choices("To <EMAIL_1>.") };
    const body = prompt(`please ask ${prose(mebi / 2)}`);
    const said = post("openai", chat, body);
    const pending = () => relay.approvals.list().find(({ status }) => status === "pending");
    await until(() => pending() !== undefined);
    relay.approvals.decide(pending()?.id as string, "approved", "tester", "fine");
    assert.equal((await said).body, choices(`To ${email}.`));
    assert.equal(origin.reached.at(-1)?.body.toString(), redacted(body));
  });

  test("a client that leaves while its body is worked on sends nothing up, and holds up nobody", async () => {
    const { length } = origin.reached;
    const earlier = new Set(relay.sessions);
    const sent = send("openai", chat, prompt(prose(8 * mebi)));
    sent.on("error", () => {});
    const session = await readingSession(earlier);
    sent.destroy();
    await session.done;
    answer = { type: "application/json", body: choices("fine") };
    assert.equal((await post("openai", chat, prompt("hello"))).status, 200);
    assert.equal((await post("openai", chat, prompt(prose(mebi)))).status, 200);
    assert.equal(origin.reached.length, length + 2);
  });

  describe("a thread that dies", () => {
    let frail: Relay;
    const why = "The body cannot be read: it takes too much memory.";

    before(async () => {
      // What becomes of a real one is told by the thread's own tests.
      frail = await start({ largeBodies: dyingBodies(why) });
    });

    after(async () => {
      await frail?.close();
    });

    const messageOf = ({ body }: Answer): string => (JSON.parse(body) as { error: { message: string } }).error.message;

    test("of a prompt: the error of the API, and nothing goes up", async () => {
      const { length } = origin.reached;
      const said = await post("openai", chat, prompt(prose(mebi)), frail);
      assert.equal(said.status, 503, said.body);
      assert.equal(said.headers["weir-code"], "WEIR_LIMIT_REACHED");
      assert.match(messageOf(said), /takes too much memory/);
      assert.equal(origin.reached.length, length);
    });

    test("of a reply: the error in its place, with a status of its own, and in the record", async () => {
      answer = { type: "application/json", body: choices(prose(mebi)) };
      const said = await post("openai", chat, prompt("hello"), frail);
      assert.equal(said.status, 502, said.body.slice(0, 200));
      assert.match(messageOf(said), /takes too much memory/);
      answer = { type: "application/json", body: JSON.stringify({ text: prose(mebi) }) };
      const plain = await post("json", "/text", Buffer.from("{}"), frail);
      assert.equal(plain.status, 502);
      assert.equal(plain.headers["weir-code"], "WEIR_LIMIT_REACHED");
      const results = frail.entries().filter(({ type }) => type === "Result");
      assert.match(JSON.stringify(results), /WEIR_LIMIT_REACHED/);
    });

    test("of an MCP message, a result, and an event of a stream that goes on", async () => {
      const long = { name: "t", arguments: { text: prose(mebi) } };
      const refused = [
        await post(
          "mcp",
          "/mcp",
          Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: 7, method: "tools/call", params: long })),
          frail,
        ),
      ];
      answer = { type: "application/json", body: result(prose(mebi)) };
      refused.push(await post("mcp", "/mcp", call, frail));
      for (const said of refused) {
        assert.match(messageOf(said), /takes too much memory/);
        assert.match(said.body, /"code":"WEIR_LIMIT_REACHED"/);
      }
      answer = { type: "text/event-stream", body: `data: ${result(prose(mebi))}\n\ndata: ${result("short")}\n\n` };
      const [first = "", second = ""] = (await post("mcp", "/mcp", call, frail)).body.split("\n\n");
      assert.match(first, /^data: \{"jsonrpc":"2.0","id":7,"error":.*WEIR_LIMIT_REACHED/);
      assert.equal(second, `data: ${result("short")}`);
    });
  });

  describe("over HTTP/2", () => {
    const dir = mkdtempSync(join(tmpdir(), "weir-large-h2-"));
    let server: Http2SecureServer;
    let both: Relay;
    let session: ClientHttp2Session;
    let reached = "";

    before(async () => {
      const ca = testCa("Origin CA");
      writeFileSync(join(dir, "ca.pem"), ca.pem);
      server = createSecureServer(ca.issue({ dns: ["openai.internal"] }));
      server.on("stream", (stream) => {
        const parts: Buffer[] = [];
        stream.on("error", () => {});
        stream.on("data", (part: Buffer) => parts.push(part));
        stream.on("end", () => {
          reached = Buffer.concat(parts).toString();
          stream.respond({ ":status": 200, "content-type": answer.type });
          stream.end(answer.body);
        });
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo;
      const text = policy({ ...origin, port, caPath: join(dir, "ca.pem") });
      both = await startRelay({ policy: text, server: { host: "127.0.0.1", port }, hostname: null });
      session = connectHttp2(`https://openai.internal:${port}`, {
        createConnection: () => dial("openai", both, ["h2"]),
      });
      session.on("error", () => {});
    });

    after(async () => {
      session?.destroy();
      await both?.close();
      await new Promise((resolve) => server.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    });

    const ask = (body: Buffer): Promise<string> =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ":method": "POST", ":path": chat, "content-type": "application/json" });
        const got: Buffer[] = [];
        stream.on("data", (part: Buffer) => got.push(part));
        stream.on("end", () => resolve(Buffer.concat(got).toString()));
        stream.on("error", reject);
        stream.end(body);
      });

    test("a long prompt is redacted and its long reply masked, beside short ones", async () => {
      const text = prose(2 * mebi);
      answer = { type: "application/json", body: choices(`<EMAIL_1> ${text}`) };
      const long = ask(prompt(text));
      assert.equal(await long, choices(`${email} ${text.replaceAll(email, "*".repeat(email.length))}`));
      assert.equal(reached, redacted(prompt(text)));
      answer = { type: "application/json", body: choices("fine") };
      assert.deepEqual(await Promise.all([ask(prompt(text)), ask(prompt("hi"))]), [choices("fine"), choices("fine")]);
    });
  });
});
