import assert from "node:assert/strict";
import { test } from "node:test";
import type { WeirError } from "../../agent/errors.ts";
import { readListenAddress } from "../../agent/listen-address.ts";

test("an address is numbers, or this host, and a port", () => {
  assert.deepEqual(readListenAddress("--listen", "[::1]:9350", 1), { host: "::1", port: 9350 });
  assert.deepEqual(readListenAddress("--listen", "localhost:80", 1), { host: "localhost", port: 80 });
  for (const text of ["", "9350", "example.com:1", "127.0.0.1:70000"])
    assert.throws(
      () => readListenAddress("--listen", text, 1),
      (error: WeirError) => error.code === "WEIR_USAGE" && error.message.startsWith(`--listen ${text}: `),
    );
});
