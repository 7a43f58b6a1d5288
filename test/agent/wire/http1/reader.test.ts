/** The framing of HTTP/1.1: every split gives the same parts, and what could be read in two ways is refused. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PeerError } from "../../../../agent/errors.ts";
import { headBytesMax, RequestReader, ResponseReader } from "../../../../agent/wire/http1/reader.ts";

interface Seen {
  heads: string[];
  bodies: string[];
  trailers: (readonly string[] | null)[];
}

function read(reader: RequestReader | ResponseReader, pieces: readonly Buffer[], finish = false): Seen {
  const seen: Seen = { heads: [], bodies: [], trailers: [] };
  let body = "";
  const pull = (): void => {
    for (let part = reader.next(); part !== null; part = reader.next()) {
      if (part.type === "head") {
        const { head } = part;
        seen.heads.push("method" in head ? `${head.method} ${head.target}` : `${head.status} ${head.reason}`);
      } else if (part.type === "body") body += part.bytes.toString("latin1");
      else {
        seen.bodies.push(body);
        seen.trailers.push(part.trailers?.fields ?? null);
        body = "";
      }
    }
  };
  for (const piece of pieces) {
    reader.push(piece);
    pull();
  }
  if (finish) {
    reader.finish();
    pull();
  }
  return seen;
}

const stream = Buffer.from(
  [
    "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    "\r\nPUT /q HTTP/1.1\r\nHost: x:8080\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\nWiki\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
    "DELETE / HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\n\r\n",
  ].join(""),
  "latin1",
);

describe("requests", () => {
  test("every split of the bytes gives the same messages", () => {
    const whole = read(new RequestReader("https"), [stream]);
    assert.deepEqual(whole.heads, ["GET /a?b=c", "POST /p", "PUT /q", "DELETE /"]);
    assert.deepEqual(whole.bodies, ["", "hello", "Wiki0123456789", ""]);
    assert.deepEqual(whole.trailers, [null, null, ["X-Sum", "1"], null]);
    for (let at = 1; at < stream.length; at += 1)
      assert.deepEqual(
        read(new RequestReader("https"), [stream.subarray(0, at), stream.subarray(at)]),
        whole,
        `at ${at}`,
      );
    const single = [...stream].map((byte) => Buffer.from([byte]));
    assert.deepEqual(read(new RequestReader("https"), single), whole);
  });

  const host = "Host: x\r\n";
  const refused: Readonly<Record<string, string>> = {
    "length and coding": `POST / HTTP/1.1\r\n${host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
    "coding and length": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n`,
    "two lengths": `POST / HTTP/1.1\r\n${host}Content-Length: 1\r\nContent-Length: 1\r\n\r\n`,
    "a list of lengths": `POST / HTTP/1.1\r\n${host}Content-Length: 1, 1\r\n\r\n`,
    "a signed length": `POST / HTTP/1.1\r\n${host}Content-Length: +1\r\n\r\n`,
    "a length in hex": `POST / HTTP/1.1\r\n${host}Content-Length: 0x1\r\n\r\n`,
    "an empty length": `POST / HTTP/1.1\r\n${host}Content-Length:\r\n\r\n`,
    "another coding": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: gzip, chunked\r\n\r\n`,
    "a coding in disguise": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: xchunked\r\n\r\n`,
    "a coding after a tab": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: \x0bchunked\r\n\r\n`,
    "two codings": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n`,
    "a coding in HTTP/1.0": `POST / HTTP/1.0\r\n${host}Transfer-Encoding: chunked\r\n\r\n`,
    "white space before the colon": `POST / HTTP/1.1\r\n${host}Content-Length : 1\r\n\r\n`,
    "a folded line": `GET / HTTP/1.1\r\n${host}A: b\r\n c\r\n\r\n`,
    "a folded first line": `GET / HTTP/1.1\r\n A: b\r\n${host}\r\n`,
    "a bare line feed": `GET / HTTP/1.1\r\n${host}A: b\nC: d\r\n\r\n`,
    "only line feeds": "GET / HTTP/1.1\nHost: x\n\n",
    "a bare carriage return": `GET / HTTP/1.1\r\n${host}A: b\rC: d\r\n\r\n`,
    "a NUL in a value": `GET / HTTP/1.1\r\n${host}A: b\0\r\n\r\n`,
    "a NUL in a name": `GET / HTTP/1.1\r\n${host}A\0: b\r\n\r\n`,
    "a line without a colon": `GET / HTTP/1.1\r\n${host}nothing\r\n\r\n`,
    "an empty name": `GET / HTTP/1.1\r\n${host}: b\r\n\r\n`,
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "two Hosts": `GET / HTTP/1.1\r\n${host}Host: y\r\n\r\n`,
    "a Host with a path": "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a Host with a user": "GET / HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "an absolute target of another Host": `GET http://y/ HTTP/1.1\r\n${host}\r\n`,
    "a target with a space": `GET /a b HTTP/1.1\r\n${host}\r\n`,
    "a target that is no path": `GET a HTTP/1.1\r\n${host}\r\n`,
    "HTTP/2's preface": "PRI * HTTP/2.0\r\n\r\n",
    "another version": `GET / HTTP/1.2\r\n${host}\r\n`,
    "a chunk size that is none": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
    "an empty chunk size": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n\r\n`,
    "a negative chunk": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n-1\r\n`,
    "a chunk size with a bare line feed": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n1\na\r\n`,
    "a chunk longer than its size": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n`,
    "a trailer that is a length": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n`,
    "a chunk of more than memory": `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n`,
  };
  for (const [name, text] of Object.entries(refused)) {
    test(`refused: ${name}`, () => {
      for (const pieces of [
        [Buffer.from(text, "latin1")],
        [...Buffer.from(text, "latin1")].map((b) => Buffer.from([b])),
      ])
        assert.throws(
          () => read(new RequestReader("https"), pieces),
          (error) =>
            error instanceof PeerError && /^WEIR_(FRAME_INVALID|FRAME_TOO_LARGE|UNSUPPORTED)$/.test(error.code),
        );
    });
  }

  test("a head without an end is refused at its limit", () => {
    const reader = new RequestReader("https");
    const line = Buffer.from(`A: ${"b".repeat(1000)}\r\n`);
    assert.throws(() => {
      reader.push(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n"));
      for (let bytes = 0; bytes < headBytesMax * 2; bytes += line.length) {
        reader.push(line);
        reader.next();
      }
    }, /longer than/);
  });
});

describe("responses", () => {
  const answer = (text: string, method = "GET", finish = false): Seen => {
    const reader = new ResponseReader();
    reader.expect(method);
    return read(reader, [Buffer.from(text, "latin1")], finish);
  };

  test("a body by length, by chunks, until the end, and none", () => {
    assert.deepEqual(answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").bodies, ["hi"]);
    assert.deepEqual(answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").bodies, [
      "hi",
    ]);
    assert.deepEqual(answer("HTTP/1.1 200 OK\r\n\r\nhi there").bodies, []);
    assert.deepEqual(answer("HTTP/1.1 200 OK\r\n\r\nhi there", "GET", true).bodies, ["hi there"]);
    assert.deepEqual(answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "HEAD").bodies, [""]);
    assert.deepEqual(answer("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n").bodies, [""]);
    assert.deepEqual(answer("HTTP/1.1 204 \r\n\r\n").heads, ["204 "]);
    assert.deepEqual(answer("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n").heads, ["200 "]);
  });

  test("an answer before the answer", () => {
    const seen = answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
    assert.deepEqual(seen.heads, ["100 Continue", "200 OK"]);
    assert.deepEqual(seen.bodies, ["", "x"]);
  });

  test("an answer with two ends is refused", () => {
    assert.throws(
      () => answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
      PeerError,
    );
    assert.throws(() => answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"), PeerError);
    assert.throws(() => answer("ICY 200 OK\r\n\r\n"), PeerError);
  });
});
