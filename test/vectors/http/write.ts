/** Writes session.json: a connection of HTTP/1.1 with each kind of body. Run it again after a change here. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const host = "Host: api.internal:5432\r\n";
const turns: readonly (readonly ["client" | "server", string])[] = [
  ["client", `GET /a?b=c HTTP/1.1\r\n${host}Accept: */*\r\n\r\n`],
  ["server", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"],
  ["client", `POST /form HTTP/1.1\r\n${host}Content-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world`],
  ["server", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"],
  [
    "client",
    `PUT /chunks HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\nA\r\n0123456789\r\n0\r\n\r\n`,
  ],
  ["server", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"],
  ["client", `HEAD / HTTP/1.1\r\n${host}\r\n`],
  ["server", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"],
  ["client", `DELETE /last HTTP/1.1\r\n${host}Connection: close\r\n\r\n`],
  ["server", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngone"],
];
const events = turns.map(([side, text]) => ({ side, base64: Buffer.from(text, "latin1").toString("base64") }));
writeFileSync(join(import.meta.dirname, "session.json"), `${JSON.stringify({ events }, null, 2)}\n`);
