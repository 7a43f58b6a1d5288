/** How many connections the listeners take. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { startListeners } from "../../../agent/accept/listener.ts";
import { tcpOptions } from "../../../agent/kernel/native.ts";

test("connections have from their listener that nothing is delayed, and keep-alive", async () => {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const listeners = await startListeners({
    prepare: tcpOptions,
    onFlow: (arrival) => resolve(arrival.socket()),
    onFull: () => {},
  });
  const client = connect(listeners.ports.v4, "127.0.0.1");
  const taken = await promise;
  try {
    const port = (number: number | undefined): string =>
      `:${(number ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
    const ends = `0100007F${port(listeners.ports.v4)} 0100007F${port(client.localPort)}`;
    const line = readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .find((text) => text.includes(ends));
    // Of the fields that follow: state, queues, and the timer that runs; 2 is keep-alive's.
    assert.match(line?.split(ends)[1] ?? "", /^ 01 \w+:\w+ 02:/);
  } finally {
    client.destroy();
    taken.destroy();
    await listeners.close();
  }
});

test("beyond what the open files leave room for, a connection is reset, and it is told once", async () => {
  const told: string[] = [];
  const taken: Socket[] = [];
  const clients: Socket[] = [];
  const listeners = await startListeners({
    descriptorsMax: 212,
    onFlow: (arrival) => void taken.push(arrival.socket().resume()),
    onFull: (reason) => void told.push(reason),
  });
  const open = (): Socket => {
    const client = connect(listeners.ports.v4, "127.0.0.1");
    clients.push(client);
    return client;
  };
  const reset = (): Promise<Error> => new Promise((failed) => open().once("error", failed));
  const until = async (count: number): Promise<void> => {
    while (taken.length < count) await new Promise(setImmediate);
  };
  try {
    assert.equal(listeners.flowsMax, 3);
    for (let i = 0; i < 3; i += 1) open();
    await until(3);
    for (let i = 0; i < 2; i += 1) assert.match((await reset()).message, /ECONNRESET/);
    assert.equal(taken.length, 3);
    assert.deepEqual(told, [
      "3 connections are open, the most there can be, what 212 open files leave room for (ulimit -n); new ones are reset.",
    ]);
    for (const socket of taken.splice(0)) {
      socket.destroy();
      await once(socket, "close");
    }
    open();
    await until(1);
  } finally {
    for (const socket of [...clients, ...taken]) socket.destroy();
    await listeners.close();
  }
});
