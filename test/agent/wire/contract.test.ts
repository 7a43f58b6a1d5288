/** What every registered protocol keeps: see agent/wire/README.md. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { Parser } from "pg-protocol/dist/parser.js";
import { errorTable } from "../../../agent/errors.ts";
import type { Protocol, WireEvent } from "../../../agent/wire/protocol.ts";
import { protocols } from "../../../agent/wire/registry.ts";
import { contextForTest, decideForTest, seeded, transcript } from "./engine.ts";

const vectors = join(import.meta.dirname, "../../vectors");
const seed = Number(process.env.FUZZ_SEED ?? 20261121);
const fuzzRuns = 300;

before(async () => {
  for (const protocol of protocols) await protocol.prepare();
});

function conversations(protocol: Protocol): WireEvent[][] {
  const dir = join(vectors, protocol.name);
  const files = existsSync(dir) ? readdirSync(dir).filter((file) => file.endsWith(".json")) : [];
  const found = files.map((file) => {
    const { events } = JSON.parse(readFileSync(join(dir, file), "utf8")) as {
      events: { side: "client" | "server"; base64: string }[];
    };
    return events.map<WireEvent>(({ side, base64 }) => ({
      type: side === "client" ? "client-bytes" : "server-bytes",
      bytes: Buffer.from(base64, "base64"),
    }));
  });
  if (found.length > 0) return found;
  const bytes = Buffer.from("any bytes at all");
  return [
    [
      { type: "client-bytes", bytes },
      { type: "server-bytes", bytes },
    ],
  ];
}

/** The same bytes in other pieces; each piece in memory of its own, so that nothing relies on a shared buffer. */
function split(events: readonly WireEvent[], next: (left: number) => number): WireEvent[] {
  return events.flatMap((event) => {
    if (event.type !== "client-bytes" && event.type !== "server-bytes") return [event];
    const pieces: WireEvent[] = [];
    for (let at = 0; at < event.bytes.length; ) {
      const size = Math.max(1, Math.min(event.bytes.length - at, next(event.bytes.length - at)));
      pieces.push({ type: event.type, bytes: Buffer.from(event.bytes.subarray(at, at + size)) });
      at += size;
    }
    return pieces;
  });
}

/** Chunks of HTTP are framing, not message: a chunk that came in pieces may leave as several. */
function messages(name: string, bytes: Buffer): string {
  return name === "http"
    ? bytes
        .toString("latin1")
        .replace(/\r\n[0-9a-f]+\r\n(?=[^\r])/g, "")
        .replace(/\r\n/g, "")
    : bytes.toString("latin1");
}

for (const protocol of protocols) {
  const { name } = protocol;

  test(`${name}: sniffing a prefix never contradicts a longer one`, () => {
    for (const events of conversations(protocol)) {
      const first = events.find((event) => event.type === "client-bytes");
      if (first === undefined) continue;
      let said = "more";
      for (let length = 0; length <= Math.min(64, first.bytes.length); length += 1) {
        const now = protocol.sniff(first.bytes.subarray(0, length));
        if (said !== "more") assert.equal(now, said, `at ${length} bytes`);
        said = now;
      }
      assert.notEqual(said, "more");
    }
  });

  test(`${name}: any split of the bytes leaves the same bytes and the same record`, () => {
    const random = seeded(seed);
    for (const events of conversations(protocol)) {
      const whole = transcript(protocol, events);
      const ways: ((left: number) => number)[] = [() => 1, () => 2, () => 5, () => 1460];
      for (let run = 0; run < 20; run += 1) ways.push((left) => 1 + Math.floor(random() * Math.min(left, 200)));
      for (const way of ways) {
        const pieces = transcript(protocol, split(events, way));
        assert.deepEqual(messages(name, pieces.client), messages(name, whole.client), `to the client, seed ${seed}`);
        assert.deepEqual(messages(name, pieces.server), messages(name, whole.server), `to the server, seed ${seed}`);
        assert.deepEqual(pieces.records, whole.records);
        assert.equal(pieces.closed, whole.closed);
        assert.ok(pieces.heldBytesMax <= protocol.heldBytesMax);
      }
    }
  });

  test(`${name}: nothing goes to the server before an operation was asked`, () => {
    for (const events of conversations(protocol)) {
      const { commands } = transcript(protocol, events);
      const ask = commands.findIndex(({ type }) => type === "ask");
      const send = commands.findIndex(({ type }) => type === "send-server");
      const record = commands.findIndex(({ type }) => type === "record");
      assert.ok(ask >= 0 && (send < 0 || (ask < send && record < send)));
    }
  });

  test(`${name}: junk gives coded errors and nothing else`, () => {
    const random = seeded(seed);
    for (const events of conversations(protocol))
      for (let run = 0; run < fuzzRuns; run += 1) {
        const mangled = mangle(
          split(events, () => 400),
          random,
        );
        const result = transcript(protocol, mangled);
        assert.ok(result.heldBytesMax <= protocol.heldBytesMax, `held ${result.heldBytesMax}, seed ${seed} run ${run}`);
        const defect = result.commands.find(
          (command) => command.type === "log" && command.message.includes("WEIR_INTERNAL"),
        );
        assert.equal(defect, undefined, `seed ${seed} run ${run}: ${JSON.stringify(defect)}`);
        const code = /^(WEIR_[A-Z_]+)/.exec(result.closed ?? "")?.[1];
        if (code !== undefined) assert.ok(code in errorTable, code);
      }
  });

  test(`${name}: a denied session ends with a word, and sends nothing up`, () => {
    const decision = { action: "deny" as const, permit: null };
    const [events = []] = conversations(protocol);
    const result = transcript(protocol, events, contextForTest, (operation) => ({
      ...decision,
      verdict: { ...decideForTest(operation).verdict, action: "deny", rule: "none-shall-pass", reason: "Closed." },
    }));
    assert.equal(result.server.length, 0);
    if (name === "http") {
      // The connection goes on: each of the five requests has its own refusal, but HEAD without a body.
      const said = result.client.toString("latin1");
      assert.equal(said.match(/HTTP\/1\.1 403 Forbidden\r\n/g)?.length, 5);
      assert.equal(said.match(/rule "none-shall-pass": Closed\./g)?.length, 4);
      return;
    }
    assert.match(result.closed ?? "", /WEIR_DENIED/);
    if (name !== "postgres") return;
    const heard: string[] = [];
    new Parser().parse(result.client, (message) =>
      heard.push(`${message.name} ${(message as { message?: string }).message}`),
    );
    assert.deepEqual(heard, ['error denied by rule "none-shall-pass": Closed.']);
  });
}

test("the canary: a conversation that throws would be seen", () => {
  const broken: Protocol = {
    ...(protocols[0] as Protocol),
    open: () => ({
      heldBytes: 0,
      handle: () => {
        throw new Error("canary");
      },
    }),
  };
  assert.throws(() => transcript(broken, [{ type: "client-bytes", bytes: Buffer.from("x") }]), /canary/);
});

/** Some bytes changed, some pieces dropped, doubled or grown; lengths of all ones among them. */
function mangle(events: readonly WireEvent[], random: () => number): WireEvent[] {
  const result: WireEvent[] = [];
  for (const event of events) {
    if (event.type !== "client-bytes" && event.type !== "server-bytes") continue;
    const bytes = Buffer.from(event.bytes);
    const dice = random();
    if (dice < 0.1) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    else if (dice < 0.13) bytes.fill(0xff, Math.floor(random() * bytes.length)).subarray(0, 4);
    if (dice < 0.16 && dice >= 0.13) continue;
    result.push({ ...event, bytes });
    if (dice > 0.98) result.push({ ...event, bytes: Buffer.from(bytes) });
    if (dice > 0.96 && dice < 0.98)
      result.push({ ...event, bytes: Buffer.from(bytes.map(() => Math.floor(random() * 256))) });
  }
  return result;
}
