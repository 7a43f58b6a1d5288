/** How a client of Streamable HTTP is kept while its request is held: a stream that has begun. */
import type { HoldingStream } from "../http/dialect.ts";
import { writeEvent } from "../sse/event.ts";
import { errorCodes, errorMessage, refusalMessage, type Told } from "./refusal.ts";

export interface Holding {
  readonly told: Told;
  /** JSON of the token that the client gave for progress notifications; null: it asked for none. */
  readonly progressToken: string | null;
  /** The server's answer as it may leave. */
  readonly read: (body: Buffer, status: number) => Buffer;
}

/** Progress only ever grows: ours stays below 1, where the server's own begins. */
const progressParts = 1000;

export function holdingStream({ told, progressToken, read }: Holding): HoldingStream {
  return {
    head: {
      status: 200,
      headers: [
        ["content-type", "text/event-stream"],
        ["cache-control", "no-store"],
        // Proxies with buffers of their own would keep the signs of life for themselves.
        ["x-accel-buffering", "no"],
      ],
    },
    beat: (sequence) =>
      progressToken === null
        ? Buffer.from(": held by Weir\n\n")
        : event(
            `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":${progressToken},"progress":${(sequence + 1) / progressParts},"message":"Weir holds this call for approval."}}`,
          ),
    refuse: (refusal) => event(refusalMessage(refusal, told)),
    wrap(status, body) {
      const message = status < 300 || isMessage(body) ? read(body, status) : null;
      if (message !== null && message.length > 0 && isMessage(message)) return event(message);
      const reason = `the server answered with HTTP status ${status} and no message`;
      return event(errorMessage(told.id, { code: errorCodes.failed, message: `Weir: ${reason}`, data: { status } }));
    },
  };
}

function event(message: Buffer | string): Buffer {
  return writeEvent("message", message.toString("utf8"));
}

function isMessage(body: Buffer): boolean {
  try {
    const value = JSON.parse(body.toString("utf8")) as { jsonrpc?: unknown } | null;
    return typeof value === "object" && value !== null && value.jsonrpc === "2.0";
  } catch {
    return false;
  }
}
