/** Asks a server by gRPC's server reflection (grpc/reflection/v1/reflection.proto) what its services and messages are. */
import { type ClientHttp2Session, type ClientHttp2Stream, constants } from "node:http2";
import { FrameReader, frameOf } from "../wire/grpc/frames.ts";
import { type Field, fieldsOf } from "../wire/grpc/protobuf.ts";

const answerMs = 5_000;
const filesMax = 2_000;
/** Versions of the service, the newer one first. */
const paths = ["v1", "v1alpha"].map((version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`);
const unimplemented = "12";

/** A FileDescriptorSet of all services of the server but reflection itself, with what their files import. */
export async function reflect(session: ClientHttp2Session, bytesMax: number): Promise<Buffer> {
  for (const path of paths) {
    const files = await collect(session, path, bytesMax);
    if (files !== null) return Buffer.concat(files.map((file) => field(1, file)));
  }
  throw new Error("it has no reflection");
}

/** null: the server does not know this version. */
async function collect(session: ClientHttp2Session, path: string, bytesMax: number): Promise<Buffer[] | null> {
  const asked = openStream(session, path);
  try {
    const listed = await asked.ask(field(7, Buffer.from("*")));
    if (listed === null) return null;
    const services = [...parts(listed, 6)]
      .flatMap((list) => [...parts(list, 1)])
      .map((service) => textOf(service, 1))
      .filter((name) => !name.startsWith("grpc.reflection."));
    const files = new Map<string, Buffer>();
    let bytes = 0;
    const wanted = services.map((name) => field(4, Buffer.from(name)));
    const missing = new Set<string>();
    for (let request = wanted.shift(); request !== undefined; request = wanted.shift()) {
      const answer = await asked.ask(request);
      if (answer === null) throw new Error("its reflection ended");
      for (const [error] of [[...parts(answer, 7)]])
        if (error !== undefined) throw new Error(textOf(error, 2).slice(0, 200));
      for (const file of [...parts(answer, 4)].flatMap((found) => [...parts(found, 1)])) {
        const name = textOf(file, 1);
        if (files.has(name)) continue;
        bytes += file.length;
        files.set(name, file);
        if (files.size > filesMax || bytes > bytesMax) throw new Error("its descriptors are too large");
        for (const imported of parts(file, 3)) {
          const other = imported.toString("utf8");
          if (files.has(other) || missing.has(other)) continue;
          missing.add(other);
          wanted.push(field(3, imported));
        }
      }
    }
    return [...files.values()];
  } finally {
    asked.close();
  }
}

/** One question at a time on one stream; an answer of null says that nothing answers there. */
function openStream(session: ClientHttp2Session, path: string) {
  const stream: ClientHttp2Stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
  });
  const frames = new FrameReader();
  let settle: { done: (answer: Buffer | null) => void; failed: (error: Error) => void } | null = null;
  let ended: Error | null = null;
  let isKnown = true;
  const timer = setTimeout(() => fail(new Error(`it did not answer in ${answerMs} ms`)), answerMs);
  const fail = (error: Error): void => {
    ended ??= error;
    if (isKnown) settle?.failed(error);
    else settle?.done(null);
  };
  const status = (fields: { readonly "grpc-status"?: unknown; readonly ":status"?: unknown }): void => {
    const code = fields["grpc-status"];
    if (code === unimplemented || fields[":status"] === 404) isKnown = false;
    if (code !== undefined && code !== "0") fail(new Error(`its reflection answers with status ${String(code)}`));
  };
  stream.on("response", status);
  stream.on("trailers", status);
  stream.on("error", fail);
  stream.on("close", () => fail(new Error("its reflection ended")));
  stream.on("data", (bytes: Buffer) => {
    try {
      for (const { message } of frames.push(bytes)) settle?.done(message);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
  return {
    ask: (request: Buffer): Promise<Buffer | null> =>
      new Promise((done, failed) => {
        settle = { done, failed };
        if (ended !== null) fail(ended);
        else stream.write(frameOf(request));
      }),
    close() {
      clearTimeout(timer);
      stream.close(constants.NGHTTP2_CANCEL);
    },
  };
}

function* parts(bytes: Buffer, number: number): Generator<Buffer> {
  for (const found of fieldsOf(bytes)) if (found.number === number && found.wire === 2) yield part(bytes, found);
}

function part(bytes: Buffer, { start, end }: Field): Buffer {
  return bytes.subarray(start, end);
}

function textOf(bytes: Buffer, number: number): string {
  const [text] = parts(bytes, number);
  return text?.toString("utf8") ?? "";
}

/** A field of bytes as protocol buffers write it. */
function field(number: number, value: Buffer): Buffer {
  const length: number[] = [];
  let left = value.length;
  for (; left >= 0x80; left >>>= 7) length.push((left & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length, left]), value]);
}
