/** Captures the conversations beside this file from a real server: `node test/vectors/postgres/capture.ts`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { serialize } from "pg-protocol";
import { startProxy } from "../../agent/wire/postgres/proxy.ts";
import { logIn } from "../../agent/wire/postgres/raw-client.ts";
import { startPostgres } from "../../support/postgres.ts";

const policy = `rules:
  - { name: no-destruction, match: { verb: [drop, truncate] }, verdict: deny, reason: "Destructive." }
`;
const server = await startPostgres({ tls: false, hba: ["host all all all scram-sha-256"] });
await server.admin("CREATE TABLE kept (id int, name text); INSERT INTO kept SELECT g, 'row ' || g FROM generate_series(1, 50) g");
let events: { side: "client" | "server"; base64: string }[] = [];
const proxy = await startProxy({
  server,
  policy,
  random: (bytes) => Buffer.alloc(bytes, 7),
  tap: (event) => {
    if (event.type !== "client-bytes" && event.type !== "server-bytes") return;
    const side = event.type === "client-bytes" ? "client" : "server";
    events.push({ side, base64: event.bytes.toString("base64") });
  },
});
const save = (name: string): void => {
  writeFileSync(join(import.meta.dirname, `${name}.json`), `${JSON.stringify({ random: 7, events }, null, 1)}\n`);
  events = [];
};
const client = await logIn(proxy, server);
const unnamed = (text: string): Buffer[] => [
  serialize.parse({ text }),
  serialize.bind({}),
  serialize.describe({ type: "P" }),
  serialize.execute({}),
];
client.send(serialize.query("SELECT id, name FROM kept ORDER BY id"));
await client.until("readyForQuery");
client.send(serialize.query("DROP TABLE kept"));
await client.until("readyForQuery");
client.send(...unnamed("SELECT 1"), ...unnamed("TRUNCATE kept"), serialize.sync());
await client.until("readyForQuery");
client.send(serialize.query("BEGIN"));
await client.until("readyForQuery");
client.send(serialize.query("DROP TABLE kept"));
await client.until("readyForQuery");
client.send(serialize.query("ROLLBACK"));
await client.until("readyForQuery");
client.send(serialize.parse({ name: "s", text: "SELECT name FROM kept WHERE id = $1" }), serialize.sync());
await client.until("readyForQuery");
for (const id of ["3", "77"]) {
  client.send(serialize.bind({ statement: "s", values: [id] }), serialize.execute({ rows: 1 }), serialize.sync());
  await client.until("readyForQuery");
}
client.send(serialize.query("COPY kept FROM STDIN"));
await client.until("copyInResponse");
client.send(serialize.copyData(Buffer.from("51\trow 51\n")), serialize.copyDone());
await client.until("readyForQuery");
client.send(serialize.query("COPY kept TO STDOUT"));
await client.until("readyForQuery");
client.send(serialize.query("SELECT 1/0"));
await client.until("readyForQuery");
client.send(serialize.end());
await client.until("nothing");
save("session");
await proxy.close();
await server.stop();
