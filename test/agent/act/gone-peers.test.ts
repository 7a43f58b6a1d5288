/** A client that is reset while nothing is read from it, as its server takes nothing more: all of it is let go. */
import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, createServer as createTls } from "node:tls";
import { startRelay } from "../../support/relay.ts";
import { until } from "../../support/until.ts";
import { testCa } from "../tls/pki.ts";

/** More than every buffer on the way. */
const uploadBytes = 64 * 1024 * 1024;

describe("clients that are gone while nothing is read from them", { concurrency: true }, () => {
  const servers: Server[] = [];
  const taken: Socket[] = [];
  const takesNothing = (socket: Socket): void => {
    taken.push(socket.pause().on("error", () => {}));
  };
  let plain = 0;
  let secure = 0;

  const listening = async (server: Server): Promise<number> => {
    servers.push(server);
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return (server.address() as { port: number }).port;
  };

  before(async () => {
    plain = await listening(createServer({ pauseOnConnect: true }, takesNothing));
    secure = await listening(createTls(testCa("Takes nothing").issue({ dns: ["up.internal"] }), takesNothing));
  });
  after(() => {
    for (const socket of taken) socket.destroy();
    for (const server of servers) server.close();
  });

  for (const [name, tls] of [
    ["plain text", null],
    ["TLS by the addon", "native"],
    ["TLS by node:tls", "node"],
  ] as const)
    test(name, async (t) => {
      const port = tls === null ? plain : secure;
      const relay = await startRelay({
        policy: `apiVersion: weir/v1
targets:
  up: { protocol: http, hosts: [up.internal], ports: [${port}], tls: { verify: none } }
`,
        server: { host: "127.0.0.1", port },
        hostname: "up.internal",
        tls: tls ?? "native",
      });
      t.after(() => relay.close());
      const beneath = connect(relay.port, "127.0.0.1");
      const client =
        tls === null ? beneath : connectTls({ socket: beneath, servername: "up.internal", rejectUnauthorized: false });
      for (const socket of [beneath, client]) socket.on("error", () => {});
      client.write(`POST /up HTTP/1.1\r\nHost: up.internal:${port}\r\nContent-Length: ${uploadBytes}\r\n\r\n`);
      client.write(Buffer.alloc(uploadBytes));
      let sent = -1;
      for (let now = 0; sent !== now || now === 0; now = beneath.bytesWritten - beneath.writableLength) {
        sent = now;
        await sleep(500);
      }
      assert.equal(relay.sessions.size, 1);
      beneath.resetAndDestroy();
      await until(() => relay.sessions.size === 0);
    });
});
