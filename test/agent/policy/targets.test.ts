/** Which target a connection goes to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findTarget, loadPolicy } from "../../../agent/policy/index.ts";
import type { Destination } from "../../../agent/policy/targets.ts";

const result = loadPolicy([
  {
    file: "p.yaml",
    text: `
apiVersion: weir/v1
targets:
  any: { protocol: postgres, hosts: any, ports: [5432, 6432] }
  wide: { protocol: postgres, hosts: [10.0.0.0/8, "fd00::/8"] }
  narrow: { protocol: postgres, hosts: 10.20.0.0/16 }
  host: { protocol: postgres, hosts: [10.20.3.4, "fd00::5"] }
  suffix: { protocol: postgres, hosts: "*.internal", tls: { verify: ca } }
  longer: { protocol: postgres, hosts: "*.eu.internal" }
  name: { protocol: postgres, hosts: db.internal }
  lax: { protocol: postgres, hosts: lax.test, tls: { verify: first-use } }
  through: { protocol: opaque, hosts: files.test, ports: 443 }
`,
  },
]);
assert.ok("policy" in result);
const { policy } = result;

test("the most specific target wins", () => {
  const table: [Destination, string | null][] = [
    [{ address: "192.0.2.1", port: 5432 }, "any"],
    [{ address: "192.0.2.1", port: 6432 }, "any"],
    [{ address: "192.0.2.1", port: 5433 }, null],
    [{ address: "10.1.1.1", port: 5432 }, "wide"],
    [{ address: "10.1.1.1", port: 6432 }, "any"],
    [{ address: "10.20.1.1", port: 5432 }, "narrow"],
    [{ address: "10.20.3.4", port: 5432 }, "host"],
    [{ address: "::ffff:10.20.3.4", port: 5432 }, "host"],
    [{ address: "fd00::5", port: 5432 }, "host"],
    [{ address: "fd00:0:0:0:0:0:0:5", port: 5432 }, "host"],
    [{ address: "fd12::1", port: 5432 }, "wide"],
    [{ address: "10.20.3.4", port: 5432, hostname: "db.internal" }, "name"],
    [{ address: "10.20.3.4", port: 5432, hostname: "DB.Internal." }, "name"],
    [{ address: "192.0.2.1", port: 5432, hostname: "x.internal" }, "suffix"],
    [{ address: "192.0.2.1", port: 5432, hostname: "x.eu.internal" }, "longer"],
    [{ address: "192.0.2.1", port: 5432, hostname: ".internal" }, "any"],
    [{ address: "192.0.2.1", port: 5432, hostname: "internal" }, "any"],
    [{ address: "192.0.2.1", port: 5433, hostname: "db.internal" }, null],
    [{ address: "192.0.2.1", port: 443, hostname: "files.test" }, "through"],
    [{ address: "not an address", port: 5432 }, "any"],
  ];
  for (const [to, wanted] of table) assert.equal(findTarget(policy, to)?.name ?? null, wanted, JSON.stringify(to));
});

test("a name that is only claimed selects a target that has to prove it", () => {
  const claim = (serverName: string, port = 5432): string | undefined =>
    findTarget(policy, { address: "10.20.3.4", port, serverName })?.name;
  assert.equal(claim("db.internal"), "name");
  assert.equal(claim("lax.test"), "host");
  assert.equal(claim("x.internal"), "host");
  assert.equal(claim("files.test", 443), undefined);
  assert.equal(
    findTarget(policy, { address: "10.20.3.4", port: 5432, hostname: "lax.test", serverName: "db.internal" })?.name,
    "lax",
  );
});
