/** Where `weir run` gets a token from, and what it says when there is none. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readToken } from "../../../agent/commands/token.ts";
import { serve } from "../identity/issuer.ts";
import { tempDir } from "../tls/pki.ts";

test("of a file, without its line end", async (t) => {
  const file = join(tempDir(t), "token");
  writeFileSync(file, "a.b.c\n");
  assert.equal(await readToken({ from: "file", what: file }, {}), "a.b.c");
  writeFileSync(file, "\n");
  await assert.rejects(readToken({ from: "file", what: file }, {}), { code: "WEIR_IDENTITY_INVALID" });
  writeFileSync(file, "x".repeat(16 * 1024 + 1));
  await assert.rejects(readToken({ from: "file", what: file }, {}), /longer than 16384 bytes/);
  await assert.rejects(readToken({ from: "file", what: "/absent" }, {}), { code: "WEIR_USAGE" });
  await assert.rejects(readToken({ from: "file", what: "/dev/zero" }, {}), /longer than 16384 bytes/);
});

test("of a variable", async () => {
  assert.equal(await readToken({ from: "env", what: "T" }, { T: "a.b.c" }), "a.b.c");
  await assert.rejects(readToken({ from: "env", what: "T" }, {}), /T holds no token/);
});

test("of GitHub's runner: the audience asked for, the runner's own token shown to nobody else", async (t) => {
  const asked: string[] = [];
  let status = 200;
  const url = await serve(t, (request, response) => {
    asked.push(`${request.url} ${request.headers.authorization}`);
    if (status === 302) response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
    else response.writeHead(status).end(JSON.stringify({ value: "a.b.c" }));
  });
  const env = { ACTIONS_ID_TOKEN_REQUEST_URL: `${url}/token?v=1`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: "runner" };
  assert.equal(await readToken({ from: "github", what: "weir prod" }, env), "a.b.c");
  assert.deepEqual(asked, ["/token?v=1&audience=weir+prod Bearer runner"]);
  for (status of [302, 403, 500])
    await assert.rejects(readToken({ from: "github", what: "weir" }, env), { code: "WEIR_IDENTITY_INVALID" });
  await assert.rejects(readToken({ from: "github", what: "weir" }, {}), /id-token: write/);
});
