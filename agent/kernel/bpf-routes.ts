/** Keeps the BPF maps of targets equal to what the policy and the names known now ask for. */
import { isLoopback } from "./address.ts";
import type { Bpf } from "./native.ts";
import type { Route } from "./target-map.ts";

/** Of the maps' own room (bpf/maps.md); beyond, the firewall's redirect still takes the flows. */
const routesMax = 16_384;

export interface BpfRoutes {
  set(routes: readonly Route[]): void;
  add(routes: readonly Route[]): void;
  readonly size: number;
}

export function bpfRoutes(bpf: Pick<Bpf, "addTarget" | "removeTarget">): BpfRoutes {
  const current = new Map<string, Route>();

  function add(routes: readonly Route[]): void {
    for (const route of routes) {
      const key = `${route.address}/${route.prefix}:${route.port}`;
      if (current.has(key) || current.size >= routesMax) continue;
      const { address, prefix, port } = route;
      bpf.addTarget({ address, prefix, port, takeLoopback: isLoopback(address) });
      current.set(key, route);
    }
  }

  function set(routes: readonly Route[]): void {
    const wanted = new Set(routes.map((route) => `${route.address}/${route.prefix}:${route.port}`));
    // What is new comes before what is old goes: at no moment is a target that both hold left out.
    add(routes);
    for (const [key, route] of current) {
      if (wanted.has(key)) continue;
      bpf.removeTarget(route);
      current.delete(key);
    }
  }

  return {
    set,
    add,
    get size() {
      return current.size;
    },
  };
}
