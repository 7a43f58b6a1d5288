/**
 * What operations bring is collected young when they are over (docs/decisions/0019): of a connection 15 KB stayed once, and of
 * every request 2 KB where many connections had stayed open before.
 */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import { hasNativeTls } from "../../agent/tls/native/hub.ts";
import { testCa } from "../agent/tls/pki.ts";

/** Of the old generation, for each connection. A whole session is three times as much. */
const keptBytesMax = 5_000;
/** Until functions are compiled and caches are filled. */
const warmUp = 400;
const counted = 400;
/** Between two collections. */
const batch = 20;

/** They stay open until the last one was answered. */
const staying = 600;
/** Of the old generation, for each request on a connection that stays open. */
const keptOfRequestMax = 300;
const asking = 16;
const requestsToWarmUp = 8_000;
const requestsCounted = 2_000;

const skip = hasNativeTls() ? false : "build/weir-tls.node is not built";

interface Settled {
  readonly oldBytes: number;
}

interface Relayed {
  readonly port: number;
  /** Where the server is; clients name it. */
  readonly serverPort: number;
  settled(): Promise<Settled>;
}

async function relayed(flags: readonly string[], run: (relay: Relayed) => Promise<void>): Promise<void> {
  const leaf = testCa("the shop's").issue({ name: "shop.example.com", dns: ["shop.example.com"] });
  const origin = createServer({ key: leaf.key, cert: leaf.cert }, (_request, response) => response.end("hello"));
  await once(origin.listen(0, "127.0.0.1"), "listening");
  const { port: serverPort } = origin.address() as AddressInfo;
  const options = {
    server: { host: "127.0.0.1", port: serverPort },
    hostname: null,
    policy: `{ apiVersion: weir/v1, targets: { shop: { protocol: http, hosts: [127.0.0.1], ports: [${serverPort}], tls: { verify: none } } } }`,
  };
  const child = fork(join(import.meta.dirname, "../support/relay-child.ts"), [JSON.stringify(options)], {
    execArgv: ["--expose-gc", ...flags],
  });
  const ended = once(child, "exit");
  const said = async (): Promise<unknown> => {
    const [message] = await Promise.race([
      once(child, "message"),
      ended.then(([code]) => Promise.reject(new Error(`the relay ended with ${code}`))),
    ]);
    return message;
  };
  try {
    const { port } = (await said()) as { port: number };
    await run({
      port,
      serverPort,
      settled() {
        child.send("settle");
        return said() as Promise<Settled>;
      },
    });
  } finally {
    child.send("end");
    await ended;
    origin.closeAllConnections();
    origin.close();
  }
}

function client(port: number): TLSSocket {
  return connect({ port, host: "127.0.0.1", servername: "shop.example.com", rejectUnauthorized: false });
}

// So much that V8 itself collects nothing in between.
test("of connections that are over nothing but a little grows old", { skip }, () =>
  relayed(["--min-semi-space-size=32", "--liftoff-only"], async ({ port, serverPort, settled }) => {
    const visit = async (): Promise<void> => {
      const visitor = client(port);
      visitor.write(`GET / HTTP/1.1\r\nHost: shop.example.com:${serverPort}\r\nConnection: close\r\n\r\n`);
      let answer = "";
      for await (const bytes of visitor) answer += bytes;
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
  }),
);

test("nor of requests, where many connections had stayed open before", { skip }, () =>
  relayed(flagsOfWeir(), async ({ port, serverPort, settled }) => {
    const request = `GET / HTTP/1.1\r\nHost: shop.example.com:${serverPort}\r\n\r\n`;
    const ask = async (on: TLSSocket): Promise<void> => {
      on.write(request);
      const [answer] = await once(on, "data");
      assert.match(String(answer), /^HTTP\/1.1 200 /);
    };
    const stayed: TLSSocket[] = [];
    for (let at = 0; at < staying; at += 1) {
      const one = client(port);
      stayed.push(one);
      await ask(one);
    }
    for (const one of stayed) one.destroy();
    const clients = Array.from({ length: asking }, () => client(port));
    const requests = async (count: number): Promise<number> => {
      await Promise.all(
        clients.map(async (one) => {
          for (let at = 0; at < count / asking; at += 1) await ask(one);
        }),
      );
      return (await settled()).oldBytes;
    };
    const before = await requests(requestsToWarmUp);
    const kept = ((await requests(requestsCounted)) - before) / requestsCounted;
    for (const one of clients) one.destroy();
    assert.ok(kept < keptOfRequestMax, `${kept.toFixed(0)} bytes of each request are kept`);
  }),
);

/** Those that the agent runs with: what is held is that they are right. */
function flagsOfWeir(): string[] {
  const script = readFileSync(join(import.meta.dirname, "../../scripts/weir"), "utf8");
  const exec = script.slice(script.indexOf("\nexec "));
  return exec.match(/--[\w-]+(=\S+)?/g) ?? [];
}
