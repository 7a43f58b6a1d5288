import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, Socket } from "node:net";
import { test } from "node:test";
import { dialUpstream } from "../../../agent/accept/dial.ts";
import { startListeners } from "../../../agent/accept/listener.ts";
import { WeirError } from "../../../agent/errors.ts";

const dialler = { dial: (to: { address: string; port: number }) => connect(to.port, to.address) };

test("flows arrive paused on both loopbacks and are counted", async () => {
  const flows: Socket[] = [];
  const listeners = await startListeners({ onFlow: (arrival) => flows.push(arrival.socket()), onFull: () => {} });
  for (const [address, port] of [
    ["127.0.0.1", listeners.ports.v4],
    ["::1", listeners.ports.v6],
  ] as const) {
    if (port === 0) continue;
    const client = await dialUpstream(dialler, { address, port });
    client.write("early");
    while (flows.length === 0) await new Promise((done) => setImmediate(done));
    const flow = flows.pop()!;
    assert.equal(flow.bytesRead, 0);
    assert.equal(listeners.flows, 1);
    flow.resume();
    assert.equal(String((await once(flow, "data"))[0]), "early");
    client.destroy();
    flow.destroy();
    await once(flow, "close");
    assert.equal(listeners.flows, 0);
  }
  await listeners.close();
});

test("a server that is not there is a coded error with the system's reason", async () => {
  const listeners = await startListeners({ onFlow: () => {}, onFull: () => {} });
  const { v4 } = listeners.ports;
  await listeners.close();
  await assert.rejects(dialUpstream(dialler, { address: "127.0.0.1", port: v4 }), (error) => {
    assert.ok(error instanceof WeirError);
    assert.equal(error.code, "WEIR_UPSTREAM_UNREACHABLE");
    assert.match(error.message, /connection refused \(ECONNREFUSED\)/);
    return true;
  });
});

test("a server that does not answer is a coded error", async () => {
  const silent = { dial: () => new Socket() };
  const dialled = dialUpstream(silent, { address: "192.0.2.1", port: 1 }, 20);
  await assert.rejects(dialled, { code: "WEIR_UPSTREAM_UNREACHABLE", message: /192\.0\.2\.1:1 .* within 20 ms/ });
});
