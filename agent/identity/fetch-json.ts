/** Gets a small JSON document over HTTPS: bounded in time and size, certificate verified, no redirect followed. */
import { readFileSync } from "node:fs";
import { request as plainRequest } from "node:http";
import { request } from "node:https";

const answerMsMax = 5_000;
export const documentBytesMax = 256 * 1024;

/** Rejects with a short sentence of what went wrong; nothing that the server said stands in it. */
export function fetchJson(url: string, caPath: string | null, answerMs = answerMsMax): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const secure = url.startsWith("https:");
    const ca = secure && caPath !== null ? { ca: readFileSync(caPath) } : {};
    const signal = AbortSignal.timeout(answerMs);
    const fail = (why: string): void => reject(new Error(`${url}: ${why}`));
    const failed = (error: Error): void =>
      fail(signal.aborted ? `no answer within ${answerMs / 1000} s` : messageOf(error));
    const asked = (secure ? request : plainRequest)(
      url,
      { ...ca, agent: false, signal, headers: { accept: "application/json" } },
      (answer) => {
        if (answer.statusCode !== 200) {
          answer.destroy();
          fail(`it answers ${answer.statusCode}`);
          return;
        }
        const pieces: Buffer[] = [];
        let bytes = 0;
        answer.on("error", failed);
        answer.on("data", (piece: Buffer) => {
          bytes += piece.length;
          if (bytes > documentBytesMax) answer.destroy(new Error(`longer than ${documentBytesMax} bytes`));
          else pieces.push(piece);
        });
        answer.on("end", () => {
          try {
            resolve(JSON.parse(Buffer.concat(pieces).toString("utf8")));
          } catch {
            fail("its answer is no JSON");
          }
        });
      },
    );
    asked.on("error", failed);
    asked.end();
  });
}

function messageOf(error: Error): string {
  return error.message === "" && "code" in error ? String(error.code) : error.message;
}
