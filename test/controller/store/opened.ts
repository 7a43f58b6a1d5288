/** Each store, for tests of what both promise. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, type TestContext } from "node:test";
import pg from "pg";
import { openSqliteStore } from "../../../controller/store/sqlite.ts";
import { storeFile } from "../../../controller/store/sqlite-schema.ts";
import { openStore, type Store } from "../../../controller/store/store.ts";
import { type Postgres, startPostgres } from "../../support/postgres.ts";

export interface Opened {
  readonly store: Store;
  /** The same one again, after it was closed. */
  reopen(): Promise<Store>;
  /** Past the store, while it is closed. */
  sql(text: string): Promise<readonly object[]>;
}

export const stores: Readonly<Record<string, (t: TestContext) => Promise<Opened>>> = {
  async sqlite(t) {
    const dir = mkdtempSync(join(tmpdir(), "weir-store-"));
    let store = openSqliteStore(dir);
    t.after(async () => {
      await store.close().catch(() => {});
      rmSync(dir, { recursive: true, force: true });
    });
    return {
      store,
      async reopen() {
        store = openSqliteStore(dir);
        return store;
      },
      async sql(text) {
        const db = new DatabaseSync(join(dir, storeFile));
        const rows = text.startsWith("SELECT") ? db.prepare(text).all() : [];
        if (!text.startsWith("SELECT")) db.exec(text);
        db.close();
        return rows;
      },
    };
  },
  async postgres(t) {
    server ??= await startPostgres({ tls: false, hba: ["host all all 127.0.0.1/32 trust"] });
    databases += 1;
    await server.admin(`CREATE DATABASE store_${databases}`);
    const url = `postgres://${server.user}@${server.host}:${server.port}/store_${databases}`;
    let store = await openStore(url);
    t.after(() => store.close().catch(() => {}));
    return {
      store,
      async reopen() {
        store = await openStore(url);
        return store;
      },
      async sql(text) {
        const client = new pg.Client(url);
        await client.connect();
        const { rows } = await client.query<object>(text);
        await client.end();
        return rows;
      },
    };
  },
};

let server: Postgres | null = null;
let databases = 0;
after(() => server?.stop());
