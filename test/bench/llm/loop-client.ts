/** A realtime session in a process of its own: one message of so many bytes up, and what comes back until the end. */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { MessageReader, writeMessage } from "../../../agent/wire/websocket/messages.ts";

const [port = "", caPath = "", host = "", bytes = ""] = process.argv.slice(2);
const socket = connectTls({
  socket: connect(Number(port), "127.0.0.1"),
  servername: host.split(":")[0] as string,
  ca: readFileSync(caPath),
  ALPNProtocols: ["http/1.1"],
});
const reader = new MessageReader(false);
const text = "The quick brown fox jumps over the lazy dog, and writes to 12 people. ".repeat(Number(bytes) / 70);
const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
let head = "";
socket.write(
  `GET /v1/realtime?model=m HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
);
socket.on("data", (part: Buffer) => {
  let rest = part;
  if (!head.includes("\r\n\r\n")) {
    head += part.toString("latin1");
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    rest = Buffer.from(head.slice(end + 4), "latin1");
    const event = Buffer.from(JSON.stringify({ type: "conversation.item.create", item }));
    socket.write(writeMessage(1, event, Buffer.from([1, 2, 3, 4])));
  }
  for (const message of reader.push(rest)) {
    if (message.kind !== "message" || !message.payload.includes("response.done")) continue;
    process.stdout.write("101");
    socket.destroy();
  }
});
