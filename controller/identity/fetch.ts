/** `fetch` for an issuer's documents: its own authority, bounded in time and size, no redirect followed. */
import { request as plainRequest } from "node:http";
import { request } from "node:https";

const answerMs = 10_000;
const documentBytesMax = 256 * 1024;

interface Asked {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: unknown;
}

export function boundedFetch(ca: string | null): (url: string, options: Asked) => Promise<Response> {
  return (url, { method = "GET", body, headers = {} }) =>
    new Promise((resolve, reject) => {
      const secure = url.startsWith("https:");
      const asked = (secure ? request : plainRequest)(
        url,
        {
          method,
          agent: false,
          headers: Object.fromEntries(new Headers(headers as Record<string, string>)),
          signal: AbortSignal.timeout(answerMs),
          ...(secure && ca !== null ? { ca } : {}),
        },
        (answer) => {
          const pieces: Buffer[] = [];
          let bytes = 0;
          answer.on("error", reject);
          answer.on("data", (piece: Buffer) => {
            bytes += piece.length;
            if (bytes > documentBytesMax) answer.destroy(new Error(`${url}: longer than ${documentBytesMax} bytes`));
            else pieces.push(piece);
          });
          answer.on("end", () => {
            const status = answer.statusCode ?? 502;
            const type = answer.headers["content-type"] ?? "";
            const whole = status === 204 || status === 304 ? null : Buffer.concat(pieces);
            // What is redirected is no answer; the caller sees the status and gives up.
            resolve(new Response(whole, { status: status < 200 ? 502 : status, headers: { "content-type": type } }));
          });
        },
      );
      asked.on("error", reject);
      asked.end(body === undefined || body === null ? undefined : String(body));
    });
}
