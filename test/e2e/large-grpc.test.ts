/** gRPC messages through everything but the kernel, of megabytes and held ones: judged, masked and refused in their order. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { gunzipSync, gzipSync } from "node:zlib";
import { FrameReader, frameOf } from "../../agent/wire/grpc/frames.ts";
import { largeBodyBytesMin } from "../../agent/wire/http/large-body.ts";
import { testCa } from "../agent/tls/pki.ts";
import { dyingBodies } from "../support/dying-bodies.ts";
import { type Relay, type RelayOptions, startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const mebi = 1024 * 1024;
const email = "ada.lovelace@example.com";
const stars = "*".repeat(email.length);
const line = `some words of prose, and order 4711, and ${email} once in a line of it.\n`;
const prose = (bytes: number): string => line.repeat(Math.ceil(bytes / line.length));
const masked = (text: string): string => text.replaceAll(email, stars);

const varint = (value: number): Buffer => {
  const bytes: number[] = [];
  let left = value;
  for (; left > 127; left = Math.floor(left / 128)) bytes.push((left % 128) | 128);
  return Buffer.from([...bytes, left]);
};
const field = (number: number, value: Buffer): Buffer =>
  Buffer.concat([varint(number * 8 + 2), varint(value.length), value]);
/** StreamingOutputCallRequest { payload { body } }, with EchoStatus { code } where one is given. */
const asked = (text: string, code = 0): Buffer =>
  Buffer.concat([
    field(3, field(2, Buffer.from(text))),
    ...(code === 0 ? [] : [field(7, Buffer.concat([Buffer.from([8]), varint(code)]))]),
  ]);
/** StreamingOutputCallResponse { payload { body } } */
const answered = (text: string): Buffer => field(1, field(2, Buffer.from(text)));
const zipped = (message: Buffer): Buffer => {
  const frame = frameOf(gzipSync(message));
  frame[0] = 1;
  return frame;
};

interface Call {
  readonly stream: ClientHttp2Stream;
  /** When it is over: its messages, and what the trailers (or a head without a body) say. */
  readonly over: Promise<{ messages: Buffer[]; trailers: IncomingHttpHeaders; rst: number }>;
}

describe("long messages of gRPC", () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-large-grpc-"));
  let server: Http2SecureServer;
  let serve: (stream: ServerHttp2Stream, messages: readonly Buffer[], ended: boolean) => void = () => {};
  /** Messages that reached the server, of the call at hand. */
  let reached: Buffer[] = [];
  let relay: Relay;
  let session: ClientHttp2Session;
  const open: { relay: Relay; session: ClientHttp2Session }[] = [];

  before(async () => {
    const ca = testCa("Origin CA");
    writeFileSync(join(dir, "ca.pem"), ca.pem);
    server = createSecureServer(ca.issue({ dns: ["grpc.internal"] }));
    server.on("stream", (stream) => {
      const frames = new FrameReader();
      stream.on("error", () => {});
      stream.on("data", (part: Buffer) => {
        const messages = frames
          .push(part)
          .map((frame) => (frame.isCompressed ? gunzipSync(frame.message) : frame.message));
        reached.push(...messages);
        if (messages.length > 0 && !stream.destroyed) serve(stream, messages, false);
      });
      stream.on("end", () => {
        if (!stream.destroyed) serve(stream, [], true);
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    ({ relay, session } = await start());
  });

  after(async () => {
    for (const one of open) {
      one.session.destroy();
      await one.relay.close();
    }
    await new Promise((done) => server.close(done));
    rmSync(dir, { recursive: true, force: true });
  });

  async function start(options: Partial<RelayOptions> = {}): Promise<{ relay: Relay; session: ClientHttp2Session }> {
    const { port } = server.address() as AddressInfo;
    const through = await startRelay({
      policy: `apiVersion: weir/v1
targets:
  grpc:
    protocol: grpc
    hosts: [grpc.internal]
    ports: [${port}]
    tls: { ca: ${join(dir, "ca.pem")} }
    grpc: { descriptors: ${resolve(import.meta.dirname, "../vectors/grpc/grpc-testing.desc")} }
rules:
  - { name: no-7, match: { when: 'has(op.message.responseStatus) && op.message.responseStatus.code == 7' }, verdict: deny, reason: "Not seven." }
  - { name: ask-9, match: { when: 'has(op.message.responseStatus) && op.message.responseStatus.code == 9' }, verdict: hold, reason: "Somebody looks." }
  - { name: mails, match: { target: grpc }, mask: [{ detector: email }], redact: [{ detector: email }] }
`,
      server: { host: "127.0.0.1", port },
      hostname: null,
      ...options,
    });
    const socket = connectTls({
      socket: connectPlain(through.port, "127.0.0.1"),
      servername: "grpc.internal",
      ca: readFileSync(through.authority.caPath),
      ALPNProtocols: ["h2"],
    });
    const opened = {
      relay: through,
      session: connect(`https://grpc.internal:${port}`, { createConnection: () => socket }),
    };
    opened.session.on("error", () => {});
    open.push(opened);
    return opened;
  }

  function call(by = session, fields: Record<string, string> = {}): Call {
    reached = [];
    const stream = by.request({
      ...{ ":method": "POST", ":path": "/grpc.testing.TestService/FullDuplexCall", te: "trailers" },
      ...{ "content-type": "application/grpc", ...fields },
    });
    const frames = new FrameReader();
    const messages: Buffer[] = [];
    let trailers: IncomingHttpHeaders = {};
    stream.on("error", () => {});
    stream.on("response", (head) => {
      trailers = head;
    });
    stream.on("data", (part: Buffer) => messages.push(...frames.push(part).map(({ message }) => message)));
    stream.on("trailers", (told: IncomingHttpHeaders) => {
      trailers = told;
    });
    const over = new Promise<Awaited<Call["over"]>>((done) => {
      stream.on("close", () => done({ messages, trailers, rst: stream.rstCode ?? 0 }));
    });
    return { stream, over };
  }

  /** Answers with these frames when the client has said all. */
  function answers(frames: readonly Buffer[], coding = "identity"): void {
    serve = (stream, _messages, ended) => {
      // The end of a call that an earlier test has answered may come now.
      if (!ended || stream.headersSent) return;
      stream.respond(
        { ":status": 200, "content-type": "application/grpc", "grpc-encoding": coding },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.concat(frames));
    };
  }

  /** The approval that is waited for. */
  async function pending(through: Relay): Promise<string> {
    for (;;) {
      const asked = through.approvals.list().find(({ status }) => status === "pending");
      if (asked !== undefined) return asked.id;
      await new Promise((done) => setTimeout(done, 5));
    }
  }

  const texts = [
    `first ${email}`,
    prose(2 * mebi),
    "third",
    `${"x".repeat(largeBodyBytesMin)} ${email}`,
    `last ${email}`,
  ];

  for (const coding of ["identity", "gzip"]) {
    const framed = coding === "gzip" ? zipped : frameOf;

    test(`answers keep their order around long ones (${coding})`, async () => {
      answers(
        texts.map((text) => framed(answered(text))),
        coding,
      );
      const { stream, over } = call();
      stream.end(frameOf(asked("hello")));
      const { messages, trailers } = await over;
      assert.deepEqual(
        messages.map(String),
        texts.map((text) => answered(masked(text)).toString()),
      );
      assert.equal(trailers["grpc-status"], "0");
    });

    test(`requests keep their order around long ones, the first one long, too (${coding})`, async () => {
      answers([]);
      for (const said of [texts, [...texts].reverse(), [prose(3 * mebi)]]) {
        const { stream, over } = call(session, { "grpc-encoding": coding });
        for (const text of said) stream.write(framed(asked(text)));
        stream.end();
        const { trailers } = await over;
        assert.equal(trailers["grpc-status"], "0");
        assert.deepEqual(
          reached.map(String),
          said.map((text) => asked(masked(text)).toString()),
        );
      }
    });
  }

  test("both ways at a time", async () => {
    serve = (stream, messages, ended) => {
      if (!stream.headersSent) stream.respond({ ":status": 200, "content-type": "application/grpc" });
      for (const _message of messages) stream.write(frameOf(answered(prose(mebi))));
      if (ended) stream.end();
    };
    const { stream, over } = call();
    for (let i = 0; i < 4; i += 1) stream.write(frameOf(asked(`${i} ${prose(mebi)}`)));
    stream.end();
    const { messages } = await over;
    assert.deepEqual(
      reached.map(String),
      [0, 1, 2, 3].map((i) => asked(masked(`${i} ${prose(mebi)}`)).toString()),
    );
    assert.deepEqual(messages.map(String), Array(4).fill(answered(masked(prose(mebi))).toString()));
  });

  test("a long message is judged, as the first one and as a later one", async () => {
    answers([]);
    const first = call();
    first.stream.end(frameOf(asked(prose(2 * mebi), 7)));
    assert.match(String((await first.over).trailers["grpc-message"]), /no-7.*Not seven/);
    assert.deepEqual(reached, []);
    const later = call();
    later.stream.write(frameOf(asked("fine")));
    later.stream.end(frameOf(asked(prose(2 * mebi), 7)));
    const { trailers } = await later.over;
    assert.equal(trailers["grpc-status"], "7", JSON.stringify(trailers));
    assert.match(String(trailers["grpc-message"]), /no-7.*Not seven/);
    assert.deepEqual(reached.map(String), [asked("fine").toString()]);
  });

  describe("a later message that is held", () => {
    /** Says what came, and ends when the client does. */
    const echoes = (): void => {
      serve = (stream, messages, ended) => {
        if (!stream.headersSent) stream.respond({ ":status": 200, "content-type": "application/grpc" });
        for (const message of messages) stream.write(frameOf(answered(`got ${message.length}`)));
        if (ended) stream.end();
      };
    };
    const said = [asked("one"), asked(`two ${email}`, 9), asked("three"), asked("four")];
    const hidden = [said[0], asked(masked(`two ${email}`), 9), said[2], said[3]].map(String);

    test("waits with those behind it, while answers go on, and leaves redacted once it is approved", async () => {
      echoes();
      const { stream, over } = call();
      for (const message of said) stream.write(frameOf(message));
      stream.end();
      const id = await pending(relay);
      // The first one is there before anybody has decided.
      await until(() => reached.length === 1);
      assert.deepEqual(reached.map(String), hidden.slice(0, 1));
      relay.approvals.decide(id, "approved", "tester", "fine");
      const { messages, rst } = await over;
      assert.equal(rst, 0);
      assert.deepEqual(reached.map(String), hidden);
      assert.equal(messages.length, 4);
      const entries = JSON.stringify(relay.entries().slice(-8));
      assert.match(entries, /ask-9/);
      assert.match(entries, /"approved"/);
    });

    test("ends the call when it is not, and nothing of it left", async () => {
      answers([]);
      const { stream, over } = call();
      for (const message of said) stream.write(frameOf(message));
      stream.end();
      await until(() => reached.length === 1);
      relay.approvals.decide(await pending(relay), "denied", "tester", "Not that one.");
      const { trailers } = await over;
      assert.equal(trailers["grpc-status"], "7", JSON.stringify(trailers));
      assert.match(String(trailers["grpc-message"]), /ask-9/);
      assert.deepEqual(reached.map(String), hidden.slice(0, 1));
    });

    test("is withdrawn when the client gives up, and nothing runs after", async () => {
      echoes();
      const { stream, over } = call();
      for (const message of said) stream.write(frameOf(message));
      const id = await pending(relay);
      const leftOnes = (): number =>
        relay.entries().filter((entry) => JSON.stringify(entry).includes("gave the request up")).length;
      const before = leftOnes();
      await until(() => reached.length === 1);
      stream.close(constants.NGHTTP2_CANCEL);
      await over;
      await until(() => leftOnes() > before);
      // Whoever says yes now is too late.
      relay.approvals.decide(id, "approved", "tester", "fine");
      const next = call();
      next.stream.end(frameOf(asked("next")));
      await next.over;
      assert.deepEqual(reached.map(String), [asked("next").toString()]);
    });

    test("a call whose first message was held goes on with its later ones", async () => {
      echoes();
      const { stream, over } = call();
      stream.write(frameOf(asked("first", 9)));
      relay.approvals.decide(await pending(relay), "approved", "tester", "fine");
      stream.write(frameOf(asked("second")));
      stream.end(frameOf(asked("third")));
      const { messages } = await over;
      assert.deepEqual(reached.map(String), [asked("first", 9), asked("second"), asked("third")].map(String));
      assert.equal(messages.length, 3);
    });

    test("a long one counts as denied", async () => {
      answers([]);
      const { stream, over } = call();
      stream.write(frameOf(asked("one")));
      stream.end(frameOf(asked(prose(mebi), 9)));
      assert.equal((await over).trailers["grpc-status"], "7");
      assert.deepEqual(reached.map(String), hidden.slice(0, 1));
    });
  });

  test("many short messages in gzip that are long ones are masked, or refused where one is too long", async () => {
    const bomb = zipped(answered(`${email} ${"0".repeat(4 * mebi)}`));
    answers(Array(8).fill(bomb), "gzip");
    const { stream, over } = call();
    stream.end(frameOf(asked("hello")));
    const { messages } = await over;
    assert.equal(messages.length, 8);
    for (const message of messages) assert.ok(!message.includes(email) && message.includes(stars));
    answers([zipped(answered(`${email} ${"0".repeat(40 * mebi)}`))], "gzip");
    const refused = call();
    refused.stream.end(frameOf(asked("hello")));
    const { messages: none, trailers, rst } = await refused.over;
    assert.deepEqual(none, []);
    assert.ok(trailers["grpc-status"] !== "0" && (rst !== 0 || trailers["grpc-status"] !== undefined));
  });

  test("a call that is given up in the middle of a long message leaves the next ones alone", async () => {
    answers([]);
    const given = call();
    given.stream.write(frameOf(asked("short")));
    given.stream.write(frameOf(asked(prose(2 * mebi))).subarray(0, mebi));
    given.stream.close(constants.NGHTTP2_CANCEL);
    await given.over;
    const worked = call();
    worked.stream.end(frameOf(asked(prose(4 * mebi))));
    await new Promise((done) => worked.stream.once("finish", done));
    worked.stream.close(constants.NGHTTP2_CANCEL);
    await worked.over;
    const next = call();
    next.stream.end(frameOf(asked(prose(mebi))));
    assert.equal((await next.over).trailers["grpc-status"], "0");
    assert.deepEqual(reached.map(String), [asked(masked(prose(mebi))).toString()]);
  });

  test("an answer without messages is masked, though the client's long one is still on its way", async () => {
    serve = (stream, messages) => {
      if (messages.length === 0 || stream.headersSent) return;
      const fields = { "content-type": "application/grpc", "grpc-status": "5", "grpc-message": `no ${email}` };
      stream.respond({ ":status": 200, ...fields }, { endStream: true });
    };
    const { stream, over } = call();
    // As gRPC's clients do when they know how it ended.
    stream.once("end", () => stream.close());
    stream.write(frameOf(asked("short")));
    stream.write(frameOf(asked(prose(4 * mebi))));
    const { trailers, messages } = await over;
    assert.deepEqual([trailers["grpc-status"], trailers["grpc-message"]], ["5", `no ${stars}`]);
    assert.deepEqual(messages, []);
    answers([]);
    const next = call();
    next.stream.end(frameOf(asked(prose(mebi))));
    assert.equal((await next.over).trailers["grpc-status"], "0");
  });

  test("a server that breaks off in the middle of a long answer breaks off the call", async () => {
    serve = (stream, _messages, ended) => {
      if (!ended) return;
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(frameOf(answered(email)));
      const long = frameOf(answered(prose(2 * mebi)));
      stream.write(long.subarray(0, mebi), () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    };
    const { stream, over } = call();
    stream.end(frameOf(asked("hello")));
    const { messages, rst } = await over;
    assert.notEqual(rst, 0);
    assert.deepEqual(messages.map(String), [answered(stars).toString()].slice(0, messages.length));
  });

  test("a thread that dies ends the call: what it had reaches nobody, and the record says so", async () => {
    const frail = await start({ largeBodies: dyingBodies() });
    answers([frameOf(answered(email)), frameOf(answered(prose(mebi))), frameOf(answered("after"))]);
    const first = call(frail.session);
    first.stream.end(frameOf(asked(prose(mebi))));
    assert.match(String((await first.over).trailers["grpc-message"]), /It died/);
    assert.deepEqual(reached, []);
    const later = call(frail.session);
    later.stream.write(frameOf(asked("short")));
    later.stream.end(frameOf(asked(prose(mebi))));
    assert.match(String((await later.over).trailers["grpc-message"]), /It died/);
    assert.deepEqual(reached.map(String), [asked("short").toString()]);
    const reply = call(frail.session);
    reply.stream.end(frameOf(asked("short")));
    const { messages, rst } = await reply.over;
    assert.deepEqual(messages.map(String), [answered(stars).toString()]);
    assert.notEqual(rst, 0);
    const results = frail.relay.entries().filter(({ type }) => type === "Result");
    assert.equal(results.filter((entry) => JSON.stringify(entry).includes("WEIR_LIMIT_REACHED")).length, 2);
  });
});
