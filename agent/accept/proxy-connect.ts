/**
 * Asks a proxy for a tunnel to the server (CONNECT, RFC 9110 §9.3.6): where the network lets nothing out but through one.
 * What goes through the tunnel is verified and governed as without it.
 */
import type { Socket } from "node:net";
import { bracketed } from "../core/address.ts";
import { WeirError } from "../errors.ts";

const answerMsMax = 10_000;
const answerBytesMax = 16 * 1024;
const headEnd = "\r\n\r\n";

/** Of the proxy's own connection; resolves when its bytes are the server's. Throws WEIR_UPSTREAM_UNREACHABLE. */
export function connectThrough(
  socket: Socket,
  to: { readonly host: string; readonly port: number },
  timeoutMs = answerMsMax,
): Promise<void> {
  const authority = `${bracketed(to.host)}:${to.port}`;
  return new Promise((resolve, reject) => {
    let got = Buffer.alloc(0);
    const done = (problem: string | null): void => {
      clearTimeout(timer);
      socket.off("data", read);
      socket.off("error", failed);
      socket.off("close", closed);
      socket.pause();
      if (problem === null) resolve();
      else reject(new WeirError("WEIR_UPSTREAM_UNREACHABLE", `The proxy gives no way to ${authority}: ${problem}.`));
    };
    const timer = setTimeout(() => done(`no answer within ${timeoutMs} ms`), timeoutMs);
    const failed = (error: Error): void => done(error.message);
    const closed = (): void => done("it closed the connection");
    const read = (bytes: Buffer): void => {
      got = Buffer.concat([got, bytes]);
      const end = got.indexOf(headEnd);
      if (end < 0) {
        if (got.length > answerBytesMax) done(`its answer is longer than ${answerBytesMax} bytes`);
        return;
      }
      const [line = ""] = got.toString("latin1", 0, end).split("\r\n");
      const status = /^HTTP\/1\.[01] (\d{3})(?: [\t\x20-\x7e]*)?$/.exec(line)?.[1];
      const refused = status === undefined ? "it does not answer in HTTP/1.1" : `it answers ${line.slice(9, 80)}`;
      done(status?.startsWith("2") === true ? null : refused);
      // A server that speaks first.
      if (got.length > end + headEnd.length) socket.unshift(got.subarray(end + headEnd.length));
    };
    socket.on("data", read);
    socket.once("error", failed);
    socket.once("close", closed);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    socket.resume();
  });
}
