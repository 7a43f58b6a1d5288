import assert from "node:assert/strict";
import { isIP } from "node:net";
import { test } from "node:test";
import {
  formatAddress,
  hasPrefix,
  networkOf,
  parseAddress,
  parseHostAddress,
  unmapped,
} from "../../../agent/core/address.ts";
import { randomOf } from "../../support/random.ts";

test("an address as text, as bytes, as canonical text", () => {
  const table: [string, string | null][] = [
    ["10.0.0.1", "10.0.0.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["010.0.0.1", null],
    ["1.2.3", null],
    ["1.2.3.", null],
    ["1.2.3.4.5", null],
    ["256.1.1.1", null],
    ["1.2.3.256", null],
    ["", null],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["::ffff:102:304", "1.2.3.4"],
    ["::1.2.3.4", "::102:304"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
    ["64:ff9b::1.2.3.04", null],
    ["1.2.3.4::", null],
    ["1.2.3.4::1", null],
    ["::1.2.3.4:1", null],
    ["1:2:3:4:5:6:7:1.2.3.4", null],
    [":", null],
    [":::", null],
    ["1::2::3", null],
    ["1:2:3:4:5:6:7:8:9", null],
    ["1:2:3:4:5:6:7:8::", null],
    ["1:2:3:4:5:6:7", null],
    ["1:2:3:4:5:6:7:", null],
    [":1", null],
    ["1:", null],
    ["fe80::1%eth0", null],
    ["[::1]", null],
    ["12345::", null],
    ["g::", null],
  ];
  for (const [text, wanted] of table) {
    const bytes = parseAddress(text);
    assert.equal(bytes === null ? null : formatAddress(bytes), wanted, text);
  }
});

test("a mapped address stays as it is written, and is the IPv4 address when a host is meant", () => {
  assert.equal(parseAddress("::ffff:10.0.0.1")?.length, 16);
  assert.deepEqual(parseHostAddress("::ffff:10.0.0.1"), Uint8Array.of(10, 0, 0, 1));
  assert.equal(parseHostAddress("::fffe:10.0.0.1")?.length, 16);
  assert.equal(parseHostAddress("1::ffff:10.0.0.1")?.length, 16);
  assert.equal(parseHostAddress("nothing"), null);
  assert.deepEqual(unmapped(Uint8Array.of(1, 2, 3, 4)), Uint8Array.of(1, 2, 3, 4));
});

test("networks", () => {
  const [network, inside, outside] = ["10.20.0.0", "10.23.255.255", "10.24.0.0"].map((text) => parseAddress(text)!);
  assert.equal(hasPrefix(inside!, network!, 14), true);
  assert.equal(hasPrefix(outside!, network!, 14), false);
  assert.equal(hasPrefix(inside!, parseAddress("::")!, 0), false);
  assert.deepEqual(networkOf(inside!, 14), network);
  assert.equal(formatAddress(networkOf(parseAddress("2001:db8:ffff::1")!, 33)), "2001:db8:8000::");
});

test("what is no address to Node is none here, and canonical text is read as the same bytes", () => {
  const seed = Number(process.env.WEIR_FUZZ_SEED ?? 1);
  const next = randomOf(seed);
  const pieces = ["0", "1", "f", "00", "25", "255", "ffff", "abcde", ":", ":", ":", "::", ".", "1.2.3.4", "%", " "];
  let addresses = 0;
  for (let round = 0; round < 50_000; round += 1) {
    const length = 1 + next(17);
    const text = Array.from({ length }, () => pieces[next(pieces.length)]).join("");
    const bytes = parseAddress(text);
    assert.equal(bytes !== null, isIP(text) !== 0 && !text.includes("%"), `seed ${seed}: ${text}`);
    if (bytes === null) continue;
    addresses += 1;
    assert.deepEqual(parseHostAddress(formatAddress(bytes)), unmapped(bytes), `seed ${seed}: ${text}`);
  }
  assert.ok(addresses > 50);
});
