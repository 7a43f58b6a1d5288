/** What a connection brought is collected young when it is over (docs/decisions/0019): sessions of 15 KB each stayed once. */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "node:tls";
import { hasNativeTls } from "../../agent/tls/native/hub.ts";
import { testCa } from "../agent/tls/pki.ts";

/** Of the old generation, for each connection. A whole session is three times as much. */
const keptBytesMax = 5_000;
/** Until functions are compiled and caches are filled. */
const warmUp = 400;
const counted = 400;
/** Between two collections. */
const batch = 20;

const skip = hasNativeTls() ? false : "build/weir-tls.node is not built";

test("of connections that are over nothing but a little grows old", { skip }, async () => {
  const leaf = testCa("the shop's").issue({ name: "shop.example.com", dns: ["shop.example.com"] });
  const origin = createServer({ key: leaf.key, cert: leaf.cert }, (_request, response) => response.end("hello"));
  await once(origin.listen(0, "127.0.0.1"), "listening");
  const { port } = origin.address() as AddressInfo;
  const options = {
    server: { host: "127.0.0.1", port },
    hostname: null,
    policy: `{ apiVersion: weir/v1, targets: { shop: { protocol: http, hosts: [127.0.0.1], ports: [${port}], tls: { verify: none } } } }`,
  };
  const relay = fork(join(import.meta.dirname, "../support/relay-child.ts"), [JSON.stringify(options)], {
    // So much that V8 itself collects nothing in between.
    execArgv: ["--expose-gc", "--min-semi-space-size=32", "--liftoff-only"],
  });
  const said = async (): Promise<Record<string, number>> => {
    const [message] = await Promise.race([
      once(relay, "message"),
      once(relay, "exit").then(([code]) => Promise.reject(new Error(`the relay ended with ${code}`))),
    ]);
    return message as Record<string, number>;
  };
  const settled = async () => {
    relay.send("settle");
    return (await said()) as { oldBytes: number; sessions: number };
  };
  try {
    const relayPort = (await said())["port"] as number;
    const visit = async (): Promise<void> => {
      const client = connect({
        port: relayPort,
        host: "127.0.0.1",
        servername: "shop.example.com",
        rejectUnauthorized: false,
      });
      client.write(`GET / HTTP/1.1\r\nHost: shop.example.com:${port}\r\nConnection: close\r\n\r\n`);
      let answer = "";
      for await (const bytes of client) answer += bytes;
      assert.match(answer, /^HTTP\/1.1 200 .*hello/s);
    };
    /** Four at once: some are always under way when others end. */
    const visits = async (count: number): Promise<number> => {
      for (let done = 0; done < count; done += batch) {
        await Promise.all(
          Array.from({ length: 4 }, async () => {
            for (let at = 0; at < batch / 4; at += 1) await visit();
          }),
        );
        await settled();
      }
      return (await settled()).oldBytes;
    };
    const before = await visits(warmUp);
    const kept = ((await visits(counted)) - before) / counted;
    assert.ok(kept < keptBytesMax, `${kept.toFixed(0)} bytes of each connection are kept`);
  } finally {
    relay.send("end");
    await once(relay, "exit");
    origin.closeAllConnections();
    origin.close();
  }
});
