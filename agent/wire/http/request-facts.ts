/** What a request's head says, in the words of a policy. */
import { createHash } from "node:crypto";
import { formatAddress, parseHostAddress } from "../../core/address.ts";
import type { HttpFacts, Operation } from "../../core/operation.ts";
import type { HostPattern } from "../../core/target.ts";
import type { Described } from "./dialect.ts";
import { mediaType, type RequestHead } from "./message.ts";

/** How the connection got here: what the client called the server, and where it really went. */
export interface Destination {
  /** SNI of the client's TLS hello; null: none was sent, or no TLS. */
  readonly serverName: string | null;
  /** What the host asked the DNS for. */
  readonly hostname: string | null;
  readonly address: string;
  readonly port: number;
  /** Hosts of the target. */
  readonly hosts: readonly HostPattern[];
}

/** Two of them, joined by a comma, are none (Trace Context, section 3.3.1.1). */
const traceparent = /^[0-9a-f]{2}(?:-[0-9a-f]{2,32}){3}$/;

export function factsOf(head: RequestHead): HttpFacts {
  const { path, query } = splitTarget(head.target);
  const trace = head.headers.get("traceparent");
  const facts = {
    method: head.method,
    scheme: head.scheme,
    host: hostOf(head.authority),
    path: normalPath(path),
    query,
    contentType: mediaType(head.headers),
  };
  return trace !== null && traceparent.test(trace) ? { ...facts, traceparent: trace } : facts;
}

/** `bytes`: of the body; of one whose length is not known, the largest there is. */
export function requestOperation(
  described: Described,
  head: RequestHead,
  http: HttpFacts,
  destination: Destination,
  bytes: number,
): Operation {
  const traits = [...described.traits, ...traitsOf(head, destination)];
  if (bytes === Number.MAX_SAFE_INTEGER) traits.push("length-unknown");
  return {
    kind: "request",
    user: "",
    database: "",
    relations: none,
    columns: none,
    functions: none,
    parameters: none,
    ...described,
    verbs: shared(described.verbs),
    traits: shared(traits),
    bytes,
    http,
  };
}

const none: readonly never[] = Object.freeze([]);

/** Lists of words that many requests have alike, once: by their identity the record knows what it has encoded already. */
const lists = new Map<string, readonly string[]>();
/** A client chooses methods, and an API its verbs; what comes beyond is not kept. */
const listsMax = 256;
const listCharactersMax = 256;

function shared(list: readonly string[]): readonly string[] {
  if (list.length === 0) return none;
  const key = list.length === 1 ? `=${list[0]}` : JSON.stringify(list);
  const known = lists.get(key);
  if (known !== undefined) return known;
  if (lists.size >= listsMax || key.length > listCharactersMax) return list;
  const kept = Object.freeze([...list]);
  lists.set(key, kept);
  return kept;
}

/** Who asks for the same thing again, with the same bytes, has the same digest; the policy's session adds who it is. */
export function requestDigest({ method, host, path, query }: HttpFacts, key: string, body: string | Buffer): string {
  return createHash("sha256")
    .update(JSON.stringify([method, host, path, query, key]))
    .update(body)
    .digest("hex");
}

/** Names of `policy/words.ts`; see README.md. */
export function traitsOf(head: RequestHead, destination: Destination): string[] {
  const traits: string[] = [];
  if (!agrees(head, destination)) traits.push("host-mismatch");
  if (isAmbiguous(splitTarget(head.target).path)) traits.push("ambiguous-path");
  // Two of them: which does the server go by?
  if (new Set(head.headers.all("content-type")).size > 1) traits.push("header-mismatch");
  if (head.scheme === "http") traits.push("plaintext");
  if (head.method === "CONNECT") traits.push("connect-method");
  const upgrade = head.headers.get("upgrade");
  if (upgrade !== null) traits.push(upgrade.toLowerCase() === "websocket" ? "websocket" : "upgrade");
  return traits;
}

/** Without port, lower case, without brackets. */
export function hostOf(authority: string): string {
  const name = authority.startsWith("[") ? authority.slice(1, authority.indexOf("]")) : (authority.split(":")[0] ?? "");
  const lower = name.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** Path and query of a request target in origin or absolute form. */
export function splitTarget(target: string): { path: string; query: string } {
  let rest = target;
  if (!target.startsWith("/")) {
    const absolute = /^https?:\/\/[^/?#]+/i.exec(target);
    if (absolute !== null) rest = target.slice(absolute[0].length);
    if (!rest.startsWith("/")) rest = rest.startsWith("?") ? `/${rest}` : rest === "" ? "/" : rest;
  }
  const mark = rest.indexOf("?");
  return mark < 0 ? { path: rest, query: "" } : { path: rest.slice(0, mark), query: rest.slice(mark + 1) };
}

/**
 * Who is asked has to be the same in the TLS hello, in Host and in the destination: else one name is decided and
 * another answers (domain fronting). A name that nothing confirms has to be one of the target's own.
 */
function agrees(head: RequestHead, to: Destination): boolean {
  const host = hostOf(head.authority);
  if (head.method === "CONNECT") return false;
  const port = /:([0-9]+)$/.exec(head.authority)?.[1];
  if (Number(port ?? (head.scheme === "https" ? 443 : 80)) !== to.port) return false;
  if (to.serverName !== null) return host === hostOf(to.serverName) && to.hosts.some((own) => covers(own, host));
  if (host === to.address.toLowerCase()) return true;
  if (to.hostname !== null && host === hostOf(to.hostname)) return true;
  // There are many ways to write an address, and no target's hosts make another one of it.
  const address = parseHostAddress(host);
  if (address !== null) return formatAddress(address) === to.address.toLowerCase();
  return to.hosts.some((pattern) => covers(pattern, host));
}

function covers(pattern: HostPattern, host: string): boolean {
  switch (pattern.kind) {
    case "name":
      return pattern.name === host;
    case "suffix":
      return host.endsWith(pattern.suffix) && host.length > pattern.suffix.length;
    case "cidr":
    case "any":
      return true;
  }
}

/** RFC 3986 §6.2.2: escapes of unreserved characters are undone, others written in capitals, dot segments removed. */
function normalPath(path: string): string {
  if (!/[%]|\/\./.test(path)) return path;
  const decoded = path.replace(/%([0-9A-Fa-f]{2})/g, (written, hex: string) => {
    const letter = String.fromCharCode(Number.parseInt(hex, 16));
    return /[A-Za-z0-9._~-]/.test(letter) ? letter : written.toUpperCase();
  });
  if (!decoded.includes("/.")) return decoded;
  const kept: string[] = [];
  const segments = decoded.split("/");
  for (const [at, segment] of segments.entries()) {
    if (segment === "..") {
      if (kept.length > 1) kept.pop();
      if (at === segments.length - 1) kept.push("");
    } else if (segment !== ".") kept.push(segment);
    else if (at === segments.length - 1) kept.push("");
  }
  return kept.join("/");
}

/**
 * A server may read such a path differently: dot segments, backslashes, NUL, broken escapes, escaped escapes, and a #,
 * where nginx ends it.
 */
function isAmbiguous(path: string): boolean {
  if (!/[%\\#]|(?:^|\/)\./.test(path)) return false;
  return (
    /(?:^|\/|%2f)(?:\.|%2e){1,2}(?:\/|%2f|$)/i.test(path) ||
    /\\|%5c|%00|%25(?:2e|2f|5c)/i.test(path) ||
    /%(?![0-9A-Fa-f]{2})/.test(path) ||
    path.includes("#")
  );
}

const secretParameter =
  /(^|&)([^=&]*(?:key|token|secret|signature|sig|password|passwd|credential|code|auth|session)[^=&]*=)[^&]*/gi;

/** A query as it may be recorded: what is named like a secret is hidden. */
export function recordedQuery(query: string): string {
  return query.replace(secretParameter, "$1$2***");
}
