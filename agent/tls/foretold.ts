/**
 * What a client may be told of a server that was not heard yet: only what the server's certificate is held to before
 * anything is sent to it.
 */
import { isIP } from "node:net";
import type { LeafNames } from "./authority.ts";
import { expectedName, pinName, type UpstreamTlsOptions } from "./upstream.ts";

/** Servers whose pinned certificate's names are remembered; beyond it the one seen first is forgotten. */
const serversMax = 2_000;

type Server = Pick<UpstreamTlsOptions, "tls" | "hostname" | "address" | "port">;

export interface Foretold {
  /** For our leaf; null: the server has to be heard first. */
  readonly names: LeafNames | null;
  /** The server was verified, and these are its certificate's names. */
  verified(names: LeafNames): void;
}

/** `serverName`: what the client calls the server in its hello. */
export function openForetold(): (server: Server, serverName: string | null) => Foretold {
  const pinned = new Map<string, LeafNames>();

  function pin(name: string, names: LeafNames): void {
    if (pinned.has(name)) return;
    if (pinned.size >= serversMax) pinned.delete(pinned.keys().next().value as string);
    pinned.set(name, names);
  }

  return (server, serverName) => {
    switch (server.tls.verify) {
      // It has to be valid for this very name. A client that writes an address there looks for the address.
      case "full": {
        const proven = serverName !== null && serverName === expectedName(server) && isIP(serverName) === 0;
        return { names: proven ? { commonName: serverName, dns: [serverName], ip: [] } : null, verified: () => {} };
      }
      // It has to be the same one.
      case "first-use": {
        const name = pinName(server);
        return { names: pinned.get(name) ?? null, verified: (names) => pin(name, names) };
      }
      default:
        return { names: null, verified: () => {} };
    }
  };
}
