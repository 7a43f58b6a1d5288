/** HTTP messages as the parts behind the framing see them, whatever version carried them (RFC 9110). */

/**
 * Header or trailer fields in the order they came, names as they were written. Lists are short, so a look-up walks.
 * Fields are a flat list `[name, value, name, value, …]`; values are latin1 text, as on the wire.
 */
export class Headers {
  readonly fields: string[];
  /** True once something was changed: the head then has to be written anew. */
  changed = false;

  constructor(fields: string[] = []) {
    this.fields = fields;
  }

  /** The first value; null when there is none. `name` is lower case. */
  get(name: string): string | null {
    const at = this.#find(name, 0);
    return at < 0 ? null : (this.fields[at + 1] as string);
  }

  /** All values, in order. */
  all(name: string): string[] {
    const values: string[] = [];
    for (let at = this.#find(name, 0); at >= 0; at = this.#find(name, at + 2))
      values.push(this.fields[at + 1] as string);
    return values;
  }

  has(name: string): boolean {
    return this.#find(name, 0) >= 0;
  }

  /** Replaces every field of this name by one. */
  set(name: string, value: string): void {
    const first = this.#find(name, 0);
    if (first < 0) {
      this.fields.push(name, value);
      this.changed = true;
      return;
    }
    if (this.fields[first + 1] !== value) {
      this.fields[first + 1] = value;
      this.changed = true;
    }
    for (let at = this.#find(name, first + 2); at >= 0; at = this.#find(name, first + 2)) this.#cut(at);
  }

  delete(name: string): void {
    for (let at = this.#find(name, 0); at >= 0; at = this.#find(name, 0)) this.#cut(at);
  }

  /** All of them. */
  replace(fields: readonly string[]): void {
    this.fields.splice(0, this.fields.length, ...fields);
    this.changed = true;
  }

  copy(): Headers {
    const copy = new Headers([...this.fields]);
    copy.changed = this.changed;
    return copy;
  }

  #cut(at: number): void {
    this.fields.splice(at, 2);
    this.changed = true;
  }

  #find(name: string, from: number): number {
    const { fields } = this;
    for (let at = from; at < fields.length; at += 2) {
      const field = fields[at] as string;
      if (field.length === name.length && (field === name || field.toLowerCase() === name)) return at;
    }
    return -1;
  }
}

/** How the end of a body is known. */
export type BodyLength =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  /** Of a response: until the connection ends. */
  | { readonly kind: "close" };

export interface RequestHead {
  readonly method: string;
  /** As sent: origin form (`/path?query`), absolute form, `*`, or authority form of CONNECT. */
  target: string;
  readonly scheme: "http" | "https";
  /** Host header or `:authority`, as sent. */
  readonly authority: string;
  readonly headers: Headers;
  readonly version: "1.0" | "1.1" | "2";
  body: BodyLength;
  /** The head's bytes as they came (HTTP/1): sent on as they are while nothing is changed. */
  readonly raw: Buffer | null;
}

export interface ResponseHead {
  readonly status: number;
  reason: string;
  readonly headers: Headers;
  readonly version: "1.0" | "1.1" | "2";
  body: BodyLength;
  readonly raw: Buffer | null;
}

/** A whole response that Weir makes itself. */
export interface OwnResponse {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

/** Media type without parameters, lower case; empty when there is none. */
export function mediaType(headers: Headers): string {
  const value = headers.get("content-type") ?? "";
  const semicolon = value.indexOf(";");
  return (semicolon < 0 ? value : value.slice(0, semicolon)).trim().toLowerCase();
}

/** What its type says of it; null: nothing. */
export function charset(headers: Headers): string | null {
  return /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(headers.get("content-type") ?? "")?.[1]?.toLowerCase() ?? null;
}

/** Codings of the body as one list, lower case; empty: it is as it is. Lines of one field are one list (RFC 9110 §5.3). */
export function contentCoding(headers: Headers): string {
  const codings = headers.all("content-encoding").join().toLowerCase().split(",");
  return codings
    .map((coding) => coding.trim())
    .filter((coding) => coding !== "" && coding !== "identity")
    .join(", ")
    .slice(0, 40);
}

/** A body of another length than it came with. */
export function setLength(head: RequestHead, body: BodyLength): void {
  const { headers } = head;
  head.body = body;
  headers.delete("transfer-encoding");
  if (body.kind === "length") headers.set("content-length", String(body.bytes));
  if (body.kind !== "chunked") return;
  headers.delete("content-length");
  if (head.version !== "2") headers.set("transfer-encoding", "chunked");
}

/** Digests of a body that was changed are wrong (RFC 9530, RFC 1864). */
const digestFields = ["content-md5", "digest", "content-digest", "repr-digest", "etag"];

/** Of a response whose body is read on its way, and may leave in another length. */
export function fitHead(head: ResponseHead, { isRead, isResized }: { isRead: boolean; isResized: boolean }): void {
  if (isResized && head.body.kind === "length") {
    head.headers.delete("content-length");
    head.body = head.version === "1.0" ? { kind: "close" } : { kind: "chunked" };
    if (head.version === "1.1") head.headers.set("transfer-encoding", "chunked");
  }
  if (isRead) for (const name of digestFields) head.headers.delete(name);
}

/** What is masked has to be readable: no content coding is asked for. */
export function askIdentity(headers: Headers): void {
  for (const name of ["accept-encoding", "grpc-accept-encoding"]) if (headers.has(name)) headers.set(name, "identity");
}

/** Of a stream that begins while its request is held. */
export function streamHead(
  { status, headers }: Omit<OwnResponse, "body">,
  version: RequestHead["version"],
): ResponseHead {
  const chunked = version === "1.1" ? ["transfer-encoding", "chunked"] : [];
  return {
    status,
    reason: "OK",
    headers: new Headers([...headers.flat(), ...chunked]),
    version: "1.1",
    body: version === "1.0" ? { kind: "close" } : { kind: "chunked" },
    raw: null,
  };
}
