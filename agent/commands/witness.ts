/** `weir witness`: cosigns checkpoints of audit logs on another host than theirs (C2SP tlog-witness). */
import { mkdirSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { freshName, openOwnKey, verifierArgument, witnessKeyFiles } from "../../controller/audit/keys.ts";
import { cosignatureKeyType, formatVerifier, noteKeyType } from "../../controller/audit/note.ts";
import { openWitness, requestBytesMax, type Witness } from "../../controller/audit/witness.ts";
import { bracketed } from "../core/address.ts";
import { WeirError } from "../errors.ts";
import { type Listener, listen } from "../health/listening.ts";
import { readListenAddress } from "../listen-address.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";

const stateDirDefault = "/var/lib/weir-witness";

export const help = `weir witness --log KEY [options]

Remembers the last checkpoint of each audit log it knows, and cosigns the next one only when the log has grown from it.
A log that shrank or forked is refused, and what it signed is kept below DIR/conflicts. Run it on another host, by other
people, than the controller: "weir up --witness URL#KEY" shows it every checkpoint.

  --log KEY            a log's verifier key (audit/log-key.vkey of the controller), or a file with it; repeatable
  --listen ADDR:PORT   where it answers POST /add-checkpoint by HTTP (default 127.0.0.1:9348; TLS belongs before it)
  --name NAME          the witness's name in its cosignatures, taken at the first start (default HOST/weir/witness-…)
  --state DIR          its key and what it has seen (default ${stateDirDefault})
`;

const connectionsMax = 64;
const requestWithinMs = 10_000;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      log: { type: "string", multiple: true, default: [] },
      listen: { type: "string", default: "127.0.0.1:9348" },
      name: { type: "string" },
      state: { type: "string", default: stateDirDefault },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const logs = values.log.map(verifierArgument);
  if (logs.length === 0) throw new WeirError("WEIR_USAGE", "--log KEY is missing: whose checkpoints are cosigned?");
  const wrong = logs.find(({ type }) => type !== noteKeyType);
  if (wrong !== undefined) throw new WeirError("WEIR_USAGE", `--log: the key of ${wrong.name} is a witness's.`);
  const { host, port } = readListenAddress("--listen", values.listen, 9348);
  mkdirSync(values.state, { recursive: true, mode: 0o700 });
  const name = (): string => values.name ?? freshName("witness");
  const own = openOwnKey(values.state, witnessKeyFiles, name, cosignatureKeyType);
  const log = (level: "info" | "warn", message: string): void => void io.stderr.write(`weir ${level}: ${message}\n`);
  const witness = openWitness({ dir: values.state, own, logs, log });
  const stopped = new Promise<void>((stop) => {
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
  });
  try {
    const server = await serveWitness(witness, host, port);
    const url = `http://${bracketed(host)}:${server.port}`;
    io.stdout.write(`weir witness ready ${url}#${formatVerifier(own.verifier)}\n`);
    await stopped;
    await server.close();
  } finally {
    witness.close();
  }
  return 0;
}

export function serveWitness(witness: Witness, host: string, port: number): Promise<Listener> {
  const server = createServer((request, response) => {
    answer(request, response, witness).catch(() => response.destroy());
  });
  return listen(server, { host, port, option: "--listen", connectionsMax, requestWithinMs });
}

async function answer(request: IncomingMessage, response: ServerResponse, witness: Witness): Promise<void> {
  const path = (request.url ?? "").split("?")[0] as string;
  if (request.method === "POST" && path === "/add-checkpoint") {
    const body = await bodyOf(request);
    if (body === null) return send(response, 413, "text/plain", "The request is too long.\n");
    const said = await witness.addCheckpoint(body);
    return send(response, said.status, said.contentType, said.body);
  }
  if (request.method === "GET" && path === "/healthz") return send(response, 200, "text/plain", "ok\n");
  if (request.method === "GET" && path.startsWith("/checkpoint/")) {
    const origin = decode(path.slice("/checkpoint/".length));
    const note = origin === null ? null : witness.lastOf(origin);
    if (note !== null) return send(response, 200, "text/plain; charset=utf-8", note);
  }
  send(response, 404, "text/plain", "There is nothing here.\n");
}

async function bodyOf(request: IncomingMessage): Promise<Buffer | null> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += (piece as Buffer).length;
    if (bytes > requestBytesMax) return null;
    pieces.push(piece as Buffer);
  }
  return Buffer.concat(pieces);
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "Content-Type": type, "X-Content-Type-Options": "nosniff" });
  response.end(body);
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
