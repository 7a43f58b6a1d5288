/** A shop in the world of a machine, on port 8080: GET answers `stock`, all else `sold`. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";

export const shopPort = 8080;

export async function startShop(namespace: string, address: string): Promise<ChildProcess> {
  const shop = spawn("nsenter", [`--net=/run/netns/${namespace}`, process.execPath, "-e", code, address]);
  await Promise.race([
    once(shop.stdout as Readable, "data"),
    once(shop, "exit").then(() => assert.fail("the shop did not open")),
  ]);
  return shop;
}

/** A request by bash alone; what came back is printed. */
export function shopRequest(address: string, method: string): string {
  return `exec 3<>/dev/tcp/${address}/${shopPort}; printf '${method} /stock HTTP/1.1\\r\\nHost: ${address}:${shopPort}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3`;
}

/** GET is let through, all else is denied. */
export const shopPolicy = (address: string, reason: string): string => `apiVersion: weir/v1
defaults: { egress: deny }
targets:
  shop: { protocol: http, hosts: [${address}], ports: [${shopPort}] }
rules:
  - { name: reads, match: { target: shop, method: GET }, verdict: allow }
  - { name: no-writes, match: { target: shop }, verdict: deny, reason: ${reason} }
`;

const code = `
require("node:http").createServer((q, s) => { q.resume(); s.end(q.method === "GET" ? "stock\\n" : "sold\\n"); })
  .listen(${shopPort}, process.argv[1], () => console.log("ready"));`;
