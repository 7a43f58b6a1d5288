/** Fetches what says what a gRPC target's messages are: a file, read again when it changes, or the server's reflection. */
import { readFileSync, statSync } from "node:fs";
import { connect } from "node:http2";
import { bracketed } from "../core/address.ts";
import type { Flow } from "../core/flow.ts";
import type { Target } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import { readDescriptorSet } from "../wire/grpc/descriptors.ts";
import { reflect } from "./grpc-reflection.ts";
import { dialHttp2 } from "./http-opening.ts";
import type { SessionPorts } from "./ports.ts";

export const descriptorBytesMax = 16 * 1024 * 1024;
/** What a server said of itself is asked for again after this. */
const reflectedMs = 10 * 60_000;
/** Servers whose word is remembered. */
const reflectedMax = 200;

export interface GrpcDescriptorSets {
  /** null: the target names none. Rejects with WEIR_CONFIG_INVALID when what it names cannot be had. `hello` null: the client has no TLS. */
  of(flow: Flow, target: Target, hello: Hello | null): Promise<Buffer | null>;
}

type Ports = Pick<SessionPorts, "dial" | "dialSecurely" | "plainRefusal">;
type Hello = { readonly serverName: string | null };

export function openGrpcDescriptors(ports: Ports): GrpcDescriptorSets {
  const files = new Map<string, { readonly stamp: string; readonly bytes: Buffer }>();
  const reflected = new Map<string, { readonly untilMs: number; readonly bytes: Promise<Buffer> }>();

  function fromFile(path: string): Buffer {
    try {
      const { mtimeMs, size, ino } = statSync(path);
      const stamp = `${mtimeMs} ${size} ${ino}`;
      const known = files.get(path);
      if (known?.stamp === stamp) return known.bytes;
      if (size > descriptorBytesMax) throw new Error(`it is longer than ${descriptorBytesMax} bytes`);
      const bytes = readFileSync(path);
      readDescriptorSet(bytes);
      files.set(path, { stamp, bytes });
      return bytes;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new WeirError("WEIR_CONFIG_INVALID", `The descriptors ${path} cannot be used: ${why}`, { cause });
    }
  }

  function fromServer(flow: Flow, target: Target, hello: Hello | null): Promise<Buffer> {
    const { address, port } = flow.destination;
    const key = JSON.stringify([target.name, address, port, hello === null ? "plain" : [hello.serverName]]);
    const known = reflected.get(key);
    if (known !== undefined && known.untilMs > Date.now()) return known.bytes;
    const bytes = ask(flow, target, hello);
    reflected.delete(key);
    if (reflected.size >= reflectedMax) reflected.delete(reflected.keys().next().value as string);
    reflected.set(key, { untilMs: Date.now() + reflectedMs, bytes });
    bytes.catch(() => reflected.delete(key));
    return bytes;
  }

  async function ask(flow: Flow, target: Target, hello: Hello | null): Promise<Buffer> {
    const authority = hello?.serverName ?? flow.hostname ?? bracketed(flow.destination.address);
    try {
      const socket = await dialHttp2(ports, flow, target, hello);
      if (socket === null) throw new Error("the server does not speak HTTP/2");
      const scheme = hello === null ? "http" : "https";
      const session = connect(`${scheme}://${authority}`, { createConnection: () => socket });
      session.on("error", () => {});
      try {
        const bytes = await reflect(session, descriptorBytesMax);
        readDescriptorSet(bytes);
        return bytes;
      } finally {
        session.destroy();
      }
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new WeirError("WEIR_CONFIG_INVALID", `${authority} does not say what its messages are: ${why}`, { cause });
    }
  }

  return {
    async of(flow, target, hello) {
      if (target.grpc === undefined) return null;
      return target.grpc.from === "file" ? fromFile(target.grpc.path) : fromServer(flow, target, hello);
    },
  };
}
