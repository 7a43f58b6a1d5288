import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { connectThrough } from "../../../agent/accept/proxy-connect.ts";

/** What comes of it when a proxy answers so; `asked` is what it was sent. */
async function through(answer: (socket: Socket) => void, host = "db.internal", timeoutMs = 60_000) {
  let asked = "";
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      asked += bytes.toString();
      if (asked.endsWith("\r\n\r\n")) answer(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  try {
    await connectThrough(socket, { host, port: 5432 }, timeoutMs);
    const first = await new Promise<string>((resolve) => {
      socket.once("data", (bytes: Buffer) => resolve(String(bytes)));
      socket.resume();
    });
    return { asked, first };
  } finally {
    socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("asks for name and port, and leaves what the server says first", async () => {
  const { asked, first } = await through((socket) => {
    socket.write("HTTP/1.1 200 Connection established\r\nVia: x\r\n");
    setTimeout(() => socket.write("\r\nhello"), 10);
  });
  assert.equal(asked, "CONNECT db.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\n");
  assert.equal(first, "hello");
  assert.match(
    (await through((socket) => socket.write("HTTP/1.0 200\r\n\r\nx"), "::1")).asked,
    /^CONNECT \[::1\]:5432 /,
  );
});

test("every other answer is no way, and says why", async () => {
  const no = (answer: (socket: Socket) => void, words: RegExp): Promise<void> =>
    assert.rejects(
      through(answer, "db.internal", 300).then(() => {}),
      (error: Error & { code?: string }) => error.code === "WEIR_UPSTREAM_UNREACHABLE" && words.test(error.message),
    );
  await no((socket) => socket.write("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), /answers 407 Proxy/);
  await no((socket) => socket.write("SSH-2.0-x\r\n\r\n"), /HTTP\/1\.1/);
  await no((socket) => socket.end(), /closed/);
  await no(() => {}, /no answer within 300 ms/);
  await no((socket) => socket.write(`HTTP/1.1 200 ${"x".repeat(20_000)}`), /longer than 16384 bytes/);
});
