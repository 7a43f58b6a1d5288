/** Each store, for tests of what both promise. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext } from "node:test";
import { openSqliteStore } from "../../../controller/store/sqlite.ts";
import { openStore, type Store } from "../../../controller/store/store.ts";
import { type Postgres, startPostgres } from "../../support/postgres.ts";

export interface Opened {
  readonly store: Store;
  /** The same one again, after it was closed. */
  reopen(): Promise<Store>;
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
    };
  },
};

let server: Postgres | null = null;
let databases = 0;
after(() => server?.stop());
