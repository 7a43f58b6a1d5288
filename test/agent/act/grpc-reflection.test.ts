/** Descriptors of a target: a file that changes, and a server that is asked; what cannot be had is an error. */
import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectHttp2, createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { openGrpcDescriptors } from "../../../agent/act/grpc-descriptors.ts";
import { reflect } from "../../../agent/act/grpc-reflection.ts";
import type { SessionPorts } from "../../../agent/act/ports.ts";
import type { Flow } from "../../../agent/core/flow.ts";
import type { GrpcDescriptors, Target } from "../../../agent/core/target.ts";
import { readDescriptorSet } from "../../../agent/wire/grpc/descriptors.ts";
import { FrameReader, frameOf } from "../../../agent/wire/grpc/frames.ts";
import { fieldsOf } from "../../../agent/wire/grpc/protobuf.ts";

const set = readFileSync(resolve(import.meta.dirname, "../../vectors/grpc/grpc-testing.desc"));
const files = [...fieldsOf(set)].map(({ start, end }) => set.subarray(start, end));
const nameOf = (file: Buffer): string => text(file, 1);
const limit = 1_000_000;

function text(bytes: Buffer, number: number): string {
  const found = [...fieldsOf(bytes)].find((field) => field.number === number);
  return found === undefined ? "" : bytes.toString("utf8", found.start, found.end);
}

/** Lengths below 16 KiB. */
function field(number: number, value: Buffer): Buffer {
  const length = value.length < 128 ? [value.length] : [(value.length & 0x7f) | 0x80, value.length >> 7];
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), value]);
}

/** As grpc/reflection/v1/reflection.proto says; `symbol` answers with the file that defines the one service. */
function reflected(request: Buffer): Buffer {
  if (text(request, 7) !== "") {
    const services = ["grpc.testing.TestService", "grpc.reflection.v1.ServerReflection"];
    return field(6, Buffer.concat(services.map((name) => field(1, field(1, Buffer.from(name))))));
  }
  const wanted = text(request, 3) || "grpc/testing/test.proto";
  const file = files.find((one) => nameOf(one) === wanted);
  return file === undefined ? field(7, field(2, Buffer.from(`no ${wanted}`))) : field(4, field(1, file));
}

describe("descriptors of gRPC targets", () => {
  let server: Http2Server;
  let dir: string;
  let version = "v1";
  let calls = 0;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "weir-desc-"));
    server = createServer();
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      calls += 1;
      stream.on("error", () => {});
      if (headers[":path"] !== `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`) {
        stream.respond(
          { ":status": 200, "content-type": "application/grpc", "grpc-status": "12" },
          { endStream: true },
        );
        return;
      }
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      const frames = new FrameReader();
      stream.on("data", (bytes: Buffer) => {
        for (const { message } of frames.push(bytes)) stream.write(frameOf(reflected(message)));
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  });

  after(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const address = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ask = async (bytesMax = limit): Promise<Buffer> => {
    const session = connectHttp2(address());
    try {
      return await reflect(session, bytesMax);
    } finally {
      session.destroy();
    }
  };

  for (const one of ["v1", "v1alpha"])
    test(`${one}: a server says what its services are, and what their files import`, async () => {
      version = one;
      const schema = readDescriptorSet(await ask());
      assert.equal(schema.method("grpc.testing.TestService", "UnaryCall")?.input.name, "grpc.testing.SimpleRequest");
    });

  test("a server without reflection, and one that says too much, are errors", async () => {
    version = "none";
    await assert.rejects(ask(), /no reflection/);
    version = "v1";
    await assert.rejects(ask(1000), /too large/);
  });

  const open = () =>
    openGrpcDescriptors({
      dialSecurely: async () => ({
        socket: connect((server.address() as AddressInfo).port, "127.0.0.1"),
        tls: { alpn: "h2" },
      }),
    } as unknown as SessionPorts);
  const hello = { serverName: null };
  const flow = { destination: { address: "127.0.0.1", port: 1 }, hostname: null } as unknown as Flow;
  const of = (grpc?: GrpcDescriptors): Target => ({ name: "t", ...(grpc === undefined ? {} : { grpc }) }) as Target;

  test("a server is asked once, again after an error, and its word is remembered", async () => {
    const sets = open();
    version = "none";
    await assert.rejects(sets.of(flow, of({ from: "reflection" }), hello), /WEIR|does not say what its messages are/);
    version = "v1";
    const first = await sets.of(flow, of({ from: "reflection" }), hello);
    const asked = calls;
    assert.equal(await sets.of(flow, of({ from: "reflection" }), hello), first);
    assert.equal(calls, asked);
    assert.equal(await sets.of(flow, of(), hello), null);
  });

  test("a server of a client without TLS is asked without", async () => {
    version = "v1";
    const { port } = server.address() as AddressInfo;
    const plain = openGrpcDescriptors({
      dial: async () => connect(port, "127.0.0.1"),
      plainRefusal: () => null,
    } as unknown as SessionPorts);
    const target = { ...of({ from: "reflection" }), tls: { verify: "full" } } as Target;
    assert.deepEqual(await plain.of(flow, target, null), await open().of(flow, target, hello));
  });

  test("a server that is known by an IPv6 address alone is asked", async () => {
    version = "v1";
    const there = { destination: { address: "fd00::1", port: 1 }, hostname: null } as unknown as Flow;
    assert.ok(((await open().of(there, of({ from: "reflection" }), hello))?.length ?? 0) > 0);
  });

  test("a file is read again when it changes; what is no set is refused with its path", async () => {
    const path = join(dir, "set.desc");
    writeFileSync(path, set);
    const sets = open();
    const first = await sets.of(flow, of({ from: "file", path }), hello);
    assert.equal(await sets.of(flow, of({ from: "file", path }), hello), first);
    appendFileSync(path, "not a set");
    await assert.rejects(sets.of(flow, of({ from: "file", path }), hello), /set\.desc cannot be used/);
    await assert.rejects(sets.of(flow, of({ from: "file", path: join(dir, "none") }), null), /none cannot be used/);
  });
});
