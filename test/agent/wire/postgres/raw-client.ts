/** A client that speaks in single messages, so that a test decides what goes in one segment. Plain, password login. */
import { connect, type Socket } from "node:net";
import { serialize } from "pg-protocol";
import { Parser } from "pg-protocol/dist/parser.js";

export interface Heard {
  readonly name: string;
  readonly [field: string]: unknown;
}

export class RawClient {
  readonly heard: Heard[] = [];
  readonly #socket: Socket;
  readonly #parser = new Parser();
  #wake: () => void = () => {};
  closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) =>
      this.#parser.parse(bytes, (message) => {
        // The text of an error is a property of Error, which a spread leaves out.
        const { message: text } = message as { message?: string };
        this.heard.push({ ...message, message: text } as unknown as Heard);
        this.#wake();
      }),
    );
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  send(...parts: Buffer[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** One byte in each write. */
  drip(bytes: Buffer): void {
    for (const byte of bytes) this.#socket.write(Buffer.from([byte]));
  }

  /** Everything heard up to the first message for which `last` says yes, taken out. */
  async until(last: string | ((message: Heard) => boolean)): Promise<Heard[]> {
    const is = typeof last === "string" ? (message: Heard) => message.name === last : last;
    for (;;) {
      const at = this.heard.findIndex(is);
      if (at >= 0) return this.heard.splice(0, at + 1);
      if (this.closed) return this.heard.splice(0);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  end(): void {
    this.#socket.destroy();
  }
}

export async function logIn(
  at: { host: string; port: number },
  login: { user: string; password: string; database: string },
): Promise<RawClient> {
  const socket = connect(at.port, at.host);
  socket.setNoDelay(true);
  const client = new RawClient(socket);
  client.send(serialize.startup({ user: login.user, database: login.database }));
  await client.until((message) => message.name !== "notice");
  client.send(serialize.password(login.password));
  await client.until((message) => message.name === "readyForQuery" || message.name === "error");
  return client;
}
