/**
 * WebSockets through everything but the kernel, with npm `ws` on both ends: the messages of both sides arrive as they
 * were sent; masked where a rule says so; and realtime sessions of OpenAI's API are decided event by event.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { createRequire } from "node:module";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { testCa } from "../agent/tls/pki.ts";
import { filesWith } from "../support/agent.ts";
import { sdkDir, sdkMissing } from "../support/aimock.ts";
import { type Relay, startRelay } from "../support/relay.ts";

/** What is used of npm `ws`. */
interface Ws {
  readonly extensions: string;
  readonly readyState: number;
  send(data: string | Buffer, options?: { fin?: boolean; binary?: boolean }): void;
  ping(data: string): void;
  close(code?: number, reason?: string): void;
  terminate(): void;
  on(event: "message", listener: (data: Buffer, isBinary: boolean) => void): void;
  on(event: "close", listener: (code: number, reason: Buffer) => void): void;
  on(event: "error", listener: (error: Error) => void): void;
  on(event: "open", listener: () => void): void;
  on(event: "pong" | "ping", listener: (data: Buffer) => void): void;
  once: Ws["on"];
}
interface WsPackage {
  new (url: string, options: object): Ws;
  readonly WebSocketServer: new (options: object) => { on(event: "connection", listener: (ws: Ws) => void): void };
}

interface RealtimeEvent {
  readonly text: string;
  readonly error: { readonly code: string; readonly message: string; readonly event_id: string };
}

const email = "ada.lovelace@example.com";
const skip = sdkMissing() ?? false;

describe("WebSockets", { skip }, () => {
  let server: Server;
  let port = 0;
  let relay: Relay;
  let WebSocket: WsPackage;
  let serve: (ws: Ws, path: string) => void = () => {};
  const dir = mkdtempSync(join(tmpdir(), "weir-ws-"));
  const caPath = join(dir, "ca.pem");

  before(async () => {
    WebSocket = createRequire(`${sdkDir}/package.json`)("ws") as WsPackage;
    const ca = testCa("WebSocket CA");
    writeFileSync(caPath, ca.pem);
    server = createServer(ca.issue({ dns: ["ws.internal", "plain.internal", "api.internal"] }), (_request, response) =>
      response.end("no WebSocket"),
    );
    const sockets = new WebSocket.WebSocketServer({ server, perMessageDeflate: { threshold: 0 } });
    (sockets as unknown as { on(event: string, listener: (ws: Ws, request: { url: string }) => void): void }).on(
      "connection",
      (ws, request) => serve(ws, request.url),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    port = (server.address() as AddressInfo).port;
    const target = (protocol: string, host: string): string =>
      `{ protocol: ${protocol}, hosts: [${host}], ports: [${port}], tls: { ca: ${caPath} } }`;
    relay = await startRelay({
      policy: `apiVersion: weir/v1
targets:
  plain: ${target("http", "plain.internal")}
  masked: ${target("http", "ws.internal")}
  openai: ${target("openai", "api.internal")}
rules:
  - { name: no-cats, match: { target: openai, when: 'op.prompt.contains("cats")' }, verdict: deny, reason: "Dogs only." }
  - { name: ask, match: { target: openai, when: 'op.prompt.contains("payroll")' }, verdict: hold, reason: "Payroll is asked about." }
  - { name: masks, match: { target: [masked, openai] }, mask: [{ detector: [email, credit-card] }] }
  - { name: names, match: { target: openai }, redact: [{ detector: [iban], with: placeholder }] }
`,
      server: { host: "127.0.0.1", port },
      hostname: null,
    });
  });

  after(async () => {
    await relay?.close();
    server?.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(dir, { recursive: true, force: true });
  });

  /** Not open yet: the first message may come with what opens it. */
  const dial = (host: string, path = "/", options: object = {}): Ws =>
    new WebSocket(`wss://${host}:${port}${path}`, {
      ...options,
      createConnection: () =>
        connectTls({
          socket: connectPlain(relay.port, "127.0.0.1"),
          servername: host,
          ca: readFileSync(relay.authority.caPath),
        }),
    });
  const open = async (host: string, path?: string, options?: object): Promise<Ws> => {
    const ws = dial(host, path, options);
    await new Promise<void>((resolve, reject) => {
      ws.on("open", resolve);
      ws.on("error", reject);
    });
    return ws;
  };
  const next = (ws: Ws): Promise<{ data: Buffer; isBinary: boolean }> =>
    new Promise((resolve) => ws.once("message", (data, isBinary) => resolve({ data, isBinary })));
  const closed = (ws: Ws): Promise<{ code: number; reason: string }> =>
    new Promise((resolve) => ws.once("close", (code, reason) => resolve({ code, reason: reason.toString() })));

  const echo = (ws: Ws): void => {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
    ws.on("error", () => {});
  };

  for (const host of ["plain.internal", "ws.internal"])
    describe(`${host === "ws.internal" ? "with" : "without"} masks`, () => {
      test("messages of every length, text and binary, whole and in fragments, come back as they were", async () => {
        serve = echo;
        const ws = await open(host);
        for (const length of [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000]) {
          // Where masks look, bytes at random may look like a value.
          const bytes = host === "ws.internal" ? Buffer.alloc(length, 0x80) : randomBytes(length);
          ws.send(bytes);
          const binary = await next(ws);
          assert.ok(binary.isBinary && binary.data.equals(bytes), `${length} bytes`);
          const text = "ü".repeat(length);
          ws.send(text);
          const said = await next(ws);
          assert.ok(!said.isBinary && said.data.toString() === text, `${length} characters`);
        }
        ws.send("one, ", { fin: false });
        ws.send("two, ", { fin: false });
        ws.ping("between");
        ws.send("three", { fin: true });
        assert.equal((await next(ws)).data.toString(), "one, two, three");
        ws.close();
        await closed(ws);
      });

      test("pings are answered by the other end, with their bytes", async () => {
        serve = echo;
        const ws = await open(host);
        const pong = new Promise<string>((resolve) => ws.once("pong", (data) => resolve(data.toString())));
        ws.ping("are you there?");
        assert.equal(await pong, "are you there?");
        ws.terminate();
      });

      for (const [code, reason] of [
        [1000, ""],
        [1001, "going away"],
        [1011, "a defect"],
        [3000, "of the application"],
        [4999, "ü".repeat(60)],
      ] as const)
        test(`a close with ${code} of either side reaches the other`, async () => {
          let seen: Promise<{ code: number; reason: string }> | undefined;
          serve = (ws) => {
            echo(ws);
            seen = closed(ws);
          };
          const ws = await open(host);
          ws.close(code, reason);
          assert.deepEqual(await closed(ws), { code, reason });
          assert.deepEqual(await seen, { code, reason });
          serve = (peer) => peer.close(code, reason);
          assert.deepEqual(await closed(await open(host)), { code, reason });
        });

      test("what is sent with the handshake's answer, and much at once, is not lost", async () => {
        serve = (ws) => {
          for (let at = 0; at < 1_000; at += 1) ws.send(`message ${at}`);
          ws.close(1000);
        };
        const got: string[] = [];
        const ws = dial(host);
        ws.on("message", (data) => got.push(data.toString()));
        await closed(ws);
        assert.deepEqual(
          got,
          Array.from({ length: 1_000 }, (_, at) => `message ${at}`),
        );
      });
    });

  test("compression is agreed on where nothing is masked, and taken out of the offer where something is", async () => {
    serve = echo;
    const plain = await open("plain.internal");
    assert.match(plain.extensions, /permessage-deflate/);
    plain.send("compress me ".repeat(1_000));
    assert.equal((await next(plain)).data.toString(), "compress me ".repeat(1_000));
    plain.terminate();
    const masked = await open("ws.internal");
    assert.equal(masked.extensions, "");
    masked.terminate();
  });

  test("a value in a message is masked, also where it is cut over fragments", async () => {
    serve = (ws) => {
      ws.send(`{"mail":"${email}"}`);
      ws.send("card 4111 1111 ", { fin: false });
      ws.send("1111 1111, bye", { fin: true });
    };
    const ws = dial("ws.internal");
    const got: string[] = [];
    await new Promise<void>((resolve) =>
      ws.on("message", (data) => {
        if (got.push(data.toString()) === 2) resolve();
      }),
    );
    assert.equal(JSON.parse(got[0] as string).mail, "*".repeat(email.length));
    assert.match(got[1] as string, /^card [* ]{19}, bye$/);
    ws.terminate();
  });

  test("a server that changes to another protocol than was asked for is not followed", async () => {
    serve = () => {};
    const said = await new Promise<string>((resolve, reject) => {
      const socket = connectTls({
        socket: connectPlain(relay.port, "127.0.0.1"),
        servername: "plain.internal",
        ca: readFileSync(relay.authority.caPath),
      });
      let got = "";
      socket.on("data", (bytes: Buffer) => {
        got += bytes.toString();
        if (got.includes("\r\n\r\n")) socket.destroy();
      });
      socket.on("close", () => resolve(got));
      socket.on("error", reject);
      socket.write(
        `GET / HTTP/1.1\r\nHost: plain.internal:${port}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n` +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      );
    });
    assert.doesNotMatch(said, /^HTTP\/1\.1 101/);
  });

  describe("realtime", () => {
    const session = async (): Promise<{
      ws: Ws;
      got: Record<string, unknown>[];
      until(type: string): Promise<RealtimeEvent>;
    }> => {
      const ws = await open("api.internal", "/v1/realtime?model=gpt-realtime");
      const got: Record<string, unknown>[] = [];
      const waiting: (() => void)[] = [];
      ws.on("message", (data) => {
        got.push(JSON.parse(data.toString()));
        for (const wake of waiting.splice(0)) wake();
      });
      const until = async (type: string): Promise<RealtimeEvent> => {
        for (;;) {
          const at = got.findIndex((event) => event["type"] === type);
          if (at >= 0) return got.splice(at, 1)[0] as unknown as RealtimeEvent;
          await new Promise<void>((wake) => waiting.push(wake));
        }
      };
      return { ws, got, until };
    };
    const say = (text: string): string =>
      JSON.stringify({
        type: "conversation.item.create",
        event_id: "event_1",
        item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
      });
    const seen: Record<string, unknown>[] = [];
    const remember =
      (answer: (ws: Ws, event: Record<string, unknown>) => void) =>
      (ws: Ws): void => {
        seen.length = 0;
        ws.on("error", () => {});
        ws.on("message", (data) => {
          const event = JSON.parse(data.toString());
          seen.push(event);
          answer(ws, event);
        });
        ws.send(JSON.stringify({ type: "session.created", session: { id: "sess_1" } }));
      };
    const where = { response_id: "resp_1", item_id: "item_1", output_index: 0, content_index: 0 };

    test("what the model says is masked over its deltas: text, transcript, arguments, and what tells it once more", async () => {
      const text = `Write to ${email} or ${email}.`;
      const args = JSON.stringify({ to: email, n: 1 });
      serve = remember((ws, event) => {
        if (event["type"] !== "response.create") return;
        for (const [type, whole] of [
          ["response.output_text", text],
          ["response.output_audio_transcript", text],
          ["response.function_call_arguments", args],
        ] as const) {
          for (const delta of whole.match(/.{1,3}/gs) ?? [])
            ws.send(JSON.stringify({ type: `${type}.delta`, ...where, delta }));
          const last = type.includes("arguments") ? "arguments" : type.includes("transcript") ? "transcript" : "text";
          ws.send(JSON.stringify({ type: `${type}.done`, ...where, [last]: whole }));
        }
        ws.send(
          JSON.stringify({
            type: "response.done",
            response: { id: "resp_1", usage: { input_tokens: 5, output_tokens: 7 }, output: [{ text }] },
          }),
        );
      });
      const { ws, got, until } = await session();
      ws.send(JSON.stringify({ type: "response.create" }));
      await until("response.done");
      assert.ok(!JSON.stringify(got).includes(email));
      const joined = (type: string): string =>
        got.filter((event) => event["type"] === type).reduce((all, event) => all + String(event["delta"]), "");
      const hidden = text.replaceAll(email, "*".repeat(email.length));
      assert.equal(joined("response.output_text.delta"), hidden);
      assert.equal(joined("response.output_audio_transcript.delta"), hidden);
      assert.deepEqual(JSON.parse(joined("response.function_call_arguments.delta")), {
        to: "*".repeat(email.length),
        n: 1,
      });
      ws.terminate();
    });

    test("an event is denied by its prompt: the server never sees it, the session goes on", async () => {
      serve = remember((ws, event) => ws.send(JSON.stringify({ type: "ack", of: event["type"] })));
      const { ws, until } = await session();
      ws.send(say("tell me of cats"));
      const { error } = await until("error");
      assert.equal(error.code, "weir_denied");
      assert.equal(error.event_id, "event_1");
      assert.match(error.message, /no-cats.*Dogs only/);
      ws.send(say("tell me of dogs"));
      await until("ack");
      assert.ok(!JSON.stringify(seen).includes("cats"));
      ws.terminate();
    });

    for (const [name, bytes, trait] of [
      ["a doubled name", '{"type":"response.cancel","type":"response.create"}', /duplicate-keys/],
      ["no JSON", "response.create", /unreadable-body/],
      ["no type", '{"response":{}}', /unreadable-body/],
      ["JSON 100,000 deep", `{"type":"x","a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, /unreadable-body/],
    ] as const)
      test(`${name} is denied as not understood`, async () => {
        serve = remember(() => {});
        const { ws, until } = await session();
        ws.send(bytes);
        assert.match((await until("error")).error.message, trait);
        assert.deepEqual(seen, []);
        ws.terminate();
      });

    test("a held event waits, what follows waits behind it, pings do not; approved, they go in order", async () => {
      serve = remember((ws, event) => ws.send(JSON.stringify({ type: "ack", of: event["type"] })));
      const { ws, until } = await session();
      ws.send(say("the payroll, please"));
      ws.send(JSON.stringify({ type: "response.create" }));
      const pong = new Promise((resolve) => ws.once("pong", resolve));
      ws.ping("");
      await pong;
      assert.deepEqual(seen, []);
      const pending = relay.approvals.list().filter(({ status }) => status === "pending");
      assert.equal(pending.length, 1);
      relay.approvals.decide(pending[0]?.id as string, "approved", "tester", "fine");
      await until("ack");
      await until("ack");
      assert.deepEqual(
        seen.map((event) => event["type"]),
        ["conversation.item.create", "response.create"],
      );
      ws.terminate();
    });

    test("who leaves withdraws what was held", async () => {
      serve = remember(() => {});
      const { ws } = await session();
      ws.send(say("the payroll again"));
      const pending = () => relay.approvals.list().filter(({ status }) => status === "pending");
      while (pending().length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      ws.terminate();
      // Nobody comes back for a message of a connection: it does not wait as a request does for its next try.
      for (let at = 0; pending().length > 0 && at < 200; at += 1)
        await new Promise((resolve) => setTimeout(resolve, 10));
      assert.equal(pending().length, 0);
      assert.deepEqual(seen, []);
    });

    test("values leave under names, and come back", async () => {
      const iban = "DE89370400440532013000";
      serve = remember((ws, event) => {
        if (event["type"] !== "conversation.item.create") return;
        for (const delta of ["<IB", "AN_1", "> it is"])
          ws.send(JSON.stringify({ type: "response.output_text.delta", ...where, delta }));
        ws.send(JSON.stringify({ type: "response.output_text.done", ...where, text: "<IBAN_1> it is" }));
      });
      const { ws, got, until } = await session();
      ws.send(say(`pay ${iban}`));
      const done = await until("response.output_text.done");
      assert.equal(done.text, `${iban} it is`);
      assert.equal(got.map((event) => event["delta"] ?? "").join(""), `${iban} it is`);
      assert.ok(!JSON.stringify(seen).includes(iban) && JSON.stringify(seen).includes("<IBAN_1>"));
      ws.terminate();
    });

    test("sound passes under one decision", async () => {
      serve = remember((ws) => ws.send(JSON.stringify({ type: "ack" })));
      const { ws, until } = await session();
      const audio = randomBytes(3_000).toString("base64");
      for (let at = 0; at < 5; at += 1) ws.send(JSON.stringify({ type: "input_audio_buffer.append", audio }));
      for (let at = 0; at < 5; at += 1) await until("ack");
      assert.equal(seen.length, 5);
      assert.ok(seen.every((event) => event["audio"] === audio));
      ws.terminate();
    });

    test("a client whose frames cannot be read is told, and the connection ends", async () => {
      serve = remember(() => {});
      const { ws } = await session();
      const raw = (ws as unknown as { _socket: { write(bytes: Buffer): void } })._socket;
      raw.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0]));
      assert.equal((await closed(ws)).code, 1008);
    });
  });

  test("the record tells each event, and neither values nor prompts that a mask hides", () => {
    const told = relay
      .entries()
      .map((entry) => JSON.stringify(entry, (_key, value) => (typeof value === "bigint" ? Number(value) : value)));
    assert.ok(told.some((entry) => entry.includes("conversation.item.create") && entry.includes("no-cats")));
    assert.ok(told.some((entry) => entry.includes("outputTokens")));
    for (const text of [email, "DE89370400440532013000"]) assert.deepEqual(filesWith(relay.stateDir, text), []);
  });
});
