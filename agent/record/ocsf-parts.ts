/** What several classes of OCSF events have in common. */
import type { Fields } from "./read.ts";

export type Json = { [key: string]: unknown };

/** Both ends of a connection. Who is not known has the name for it: an endpoint without any is none. */
export function ends(flow: Fields | null): Json {
  const source = flow?.["source"] as { address: string; port: number } | undefined;
  const destination = flow?.["destination"] as { address: string; port: number } | undefined;
  const hostname = flow?.["hostname"];
  return {
    src_endpoint: source === undefined ? { name: "unknown" } : { ip: source.address, port: source.port },
    ...(destination === undefined
      ? {}
      : {
          dst_endpoint: {
            ip: destination.address,
            port: destination.port,
            ...(typeof hostname === "string" ? { hostname } : {}),
          },
        }),
  };
}

export function actor(flow: Fields | null, user: string): Json {
  const process = (flow?.["process"] ?? null) as Fields | null;
  const identity = (flow?.["identity"] ?? null) as Fields | null;
  return {
    // The name that the server knows, and, where one is verified, who stands behind it.
    user: { name: user, ...(identity === null ? {} : verified(identity)) },
    ...(process === null
      ? {}
      : {
          process: {
            pid: process["pid"],
            name: process["comm"],
            cmd_line: wellFormed((process["commandLine"] as string[]).join(" ")),
            file: { path: process["exe"], name: String(process["exe"]).split("/").at(-1), type_id: 1 },
            user: { uid: String(process["uid"]) },
          },
        }),
  };
}

function verified(identity: Fields): Json {
  const groups = (identity["groups"] as string[]).map((name) => ({ name }));
  return { uid: identity["subject"], domain: identity["issuer"], ...(groups.length === 0 ? {} : { groups }) };
}

/** Half of a surrogate pair has no canonical form. */
export function wellFormed<T>(value: T): T | string {
  return typeof value === "string" ? value.toWellFormed() : value;
}
