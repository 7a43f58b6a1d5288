/**
 * The interface every protocol implements: bytes in, commands out. A conversation never touches a socket, a clock,
 * randomness or a file; it is driven by events and answers with commands, which `agent/act` runs.
 */

import type { Operation, ProtocolName } from "../core/operation.ts";
import type { EntryBody } from "../core/record.ts";
import type { Decision, Permit } from "../core/verdict.ts";
import type { OwnDetectors } from "../mask/plan.ts";
import type { HttpContext } from "./http/context.ts";
import type { LargeDone, LargeTask } from "./http/large-body.ts";

export type Side = "client" | "server";

/** What sniffing a prefix says: it is this protocol, it is not, or more bytes are needed. */
export type Sniffed = "yes" | "no" | "more";

/** Facts fixed before the conversation starts. All of them are inputs, so that a test is a transcript. */
export interface ConversationContext {
  readonly destinationPort: number;
  /** What the target holds for login upstream; null: the client's own login is passed on. */
  readonly credential: LoginCredential | null;
  /** Why the target's credential could not be had: no login is tried, and the client is told. Left out: it could. */
  readonly noCredential?: { readonly code: string; readonly message: string };
  /** True when the target's `tls.verify` is `ca` or `full`: the upstream leg must be TLS whatever the client does. */
  readonly upstreamTlsRequired: boolean;
  /** Random bytes for nonces, salts; the edge gives node:crypto's, a test gives fixed ones. */
  readonly random: (bytes: number) => Buffer;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** For masks of the style `hash`: the same value gives the same digest for as long as the key stays. */
  readonly maskKey?: Buffer;
  /** Detectors that the policy defines. */
  readonly custom?: OwnDetectors;
  /** Of a connection that carries HTTP. */
  readonly http?: HttpContext;
}

export interface LoginCredential {
  readonly user: string;
  readonly password: string | null;
  /** The secret the client has to prove by SCRAM; null: the flow's process attribution is the proof. */
  readonly clientPassword: string | null;
}

export interface TlsFacts {
  readonly alpn: string | null;
  /** DER of the certificate presented on that leg: ours towards the client, theirs from the server. */
  readonly certificate: Buffer | null;
}

/** A column by its name; `*` stands for any part that is not known. */
export interface ColumnName {
  readonly schema: string;
  readonly table: string;
  readonly column: string;
}

/** One row of the server's catalog: which table and column a (table oid, attribute number) is. */
export interface CatalogColumn extends ColumnName {
  readonly tableOid: number;
  readonly attribute: number;
  /** For a view's column: the base columns it may depend on; null for a table. */
  readonly dependsOn: readonly ColumnName[] | null;
  /** Of partitions and inheritance: the same column in tables above and below, whose rows these may be. */
  readonly relatives?: readonly ColumnName[];
  /** Computed by the server, and left out by a COPY without a column list. */
  readonly generated?: boolean;
}

/** As a text writes it; a schema that is not written is null: any. */
export type TableName = readonly [schema: string | null, table: string];

export interface CatalogQuestion {
  readonly tableOids: readonly number[];
  /** Every table and view of these names, too. */
  readonly tables?: readonly TableName[];
  /** Read now: what was read before may not be used. */
  readonly fresh?: boolean;
  /** A text that is another one whenever a table or view of these names is made, changed, renamed or dropped. */
  readonly versionOf?: readonly TableName[];
}

export interface CatalogAnswer {
  readonly columns: readonly CatalogColumn[];
  readonly version: string | null;
}

export type WireEvent =
  | { readonly type: "client-bytes"; readonly bytes: Buffer }
  | { readonly type: "server-bytes"; readonly bytes: Buffer }
  /** The TLS handshake that `start-client-tls` asked for is done. */
  | { readonly type: "client-tls"; readonly tls: TlsFacts }
  /** The dial that `dial` asked for is done, TLS included where it was asked. */
  | { readonly type: "server-ready"; readonly tls: TlsFacts | null }
  | { readonly type: "server-failed"; readonly code: string; readonly message: string }
  /** The answer to `ask`; a held operation gets `hold` first (with the approval's id) and the final one later. */
  | {
      readonly type: "decision";
      readonly askId: number;
      readonly decision: Decision;
      readonly approvalId: string | null;
      readonly by?: string;
      /** A budget is used up until then: the refusal says when to come again. */
      readonly retryAfterSeconds?: number;
    }
  /** The answer to `catalog`: the columns of the asked tables; `failed` when they could not be read. */
  | {
      readonly type: "catalog";
      /** The very object of the command. */
      readonly question: CatalogQuestion;
      readonly columns: readonly CatalogColumn[];
      readonly version: string | null;
      readonly failed: boolean;
    }
  /** A CancelRequest for this session came in on another flow. */
  | { readonly type: "cancel" }
  /** The wait that `wake` asked for is over. */
  | { readonly type: "wake" }
  /** The answer to `inflate`: the decoded body, or why there is none. */
  | { readonly type: "inflated"; readonly body: Buffer | null; readonly problem: string }
  /** The answer to `decode`: decoded bytes, null at their end. */
  | { readonly type: "decoded"; readonly bytes: Buffer | null }
  | { readonly type: "decode-failed"; readonly problem: string }
  /** The answer to `work`. */
  | { readonly type: "worked"; readonly workId: number; readonly done: LargeDone }
  | { readonly type: "client-end" }
  | { readonly type: "server-end" }
  /** The agent ends the session (shutdown, revocation, spool failure): tell the client in the protocol. */
  | { readonly type: "terminate"; readonly code: string; readonly reason: string };

export type Command =
  /** To the server only with a permit. Bytes may be a slice of the event's buffer. */
  | { readonly type: "send-server"; readonly bytes: Buffer; readonly permit: Permit }
  | { readonly type: "send-client"; readonly bytes: Buffer }
  /**
   * Connect upstream. `required`: TLS, and a server that does not offer it is `server-failed` with
   * WEIR_UPSTREAM_TLS_REFUSED. `preferred`: TLS when the server offers it, else plain (`server-ready` with tls null).
   * With `postgres` the edge sends the SSLRequest itself; with `direct` TLS starts at once with these ALPN names.
   * `none`: the bare connection, nothing is sent on it (`server-ready` with tls null).
   */
  | {
      readonly type: "dial";
      readonly tls: "required" | "preferred" | "none";
      readonly negotiation: "postgres" | "direct";
      readonly alpn: readonly string[];
    }
  /** Everything after this point from the client is TLS; `leftover` are bytes already read that belong to the handshake. */
  | { readonly type: "start-client-tls"; readonly leftover: Buffer; readonly alpn: readonly string[] }
  | {
      readonly type: "ask";
      readonly askId: number;
      readonly operation: Operation;
      /** Asked again by a client that tries again, it meets the same approval. */
      readonly digest?: () => string;
      /** One of many messages of its connection: who sends the same again sends another. */
      readonly once?: true;
      readonly limit?: { readonly rule: string; readonly rows: number; readonly reason: string };
    }
  /** The held operation `askId` is given up: the client left or cancelled it. */
  | { readonly type: "withdraw"; readonly askId: number; readonly reason: string }
  | { readonly type: "record"; readonly body: EntryBody }
  /** Names of the columns of these tables are needed; nothing more is read from the server before the answer. */
  | { readonly type: "catalog"; readonly question: CatalogQuestion }
  /** Stop or go on reading a side. */
  | { readonly type: "pause"; readonly side: Side }
  | { readonly type: "resume"; readonly side: Side }
  /** Ask the server on a new connection to cancel what this session runs. */
  | { readonly type: "cancel-server"; readonly key: Buffer }
  /** This session is cancelled by this key (the body of a CancelRequest after the request code). */
  | { readonly type: "cancel-key"; readonly key: Buffer }
  /** This flow is a CancelRequest for the session with this key; the edge delivers it or passes it on. */
  | { readonly type: "cancel-request"; readonly key: Buffer }
  /** What the agent may use for its own catalog connection; never recorded. */
  | { readonly type: "login"; readonly user: string; readonly database: string; readonly password: string | null }
  /** One `wake` event after so many milliseconds. */
  | { readonly type: "wake"; readonly ms: number }
  /** Take a content coding (gzip, deflate, br, zstd) away from a whole body of at most `bytesMax` decoded bytes. */
  | { readonly type: "inflate"; readonly coding: string; readonly body: Buffer; readonly bytesMax: number }
  /** What the server sends is encoded: bytes of this coding, null at their end. One body at a time. */
  | { readonly type: "decode"; readonly coding: string; readonly bytes: Buffer | null }
  /** Work on a long body where it holds nothing else up, with what this connection's dialects know. */
  | { readonly type: "work"; readonly workId: number; readonly task: LargeTask; readonly context: HttpContext }
  /** The connection to the server is given up; the session goes on and may dial again. */
  | { readonly type: "drop-server" }
  /** A line for the agent's log. */
  | { readonly type: "log"; readonly level: "info" | "warn"; readonly message: string }
  /** Send what is queued, then close both sides. */
  | { readonly type: "close"; readonly reason: string };

export interface Conversation {
  /** Takes one event and appends the commands it leads to. Never throws for what a peer sent: that becomes commands. */
  handle(event: WireEvent, out: Command[]): void;
  /** Bytes this conversation holds back now; contract: never above `heldBytesMax`. */
  readonly heldBytes: number;
}

export interface Protocol {
  readonly name: ProtocolName;
  /** Limit of what a conversation may hold back, in bytes. */
  readonly heldBytesMax: number;
  sniff(prefix: Uint8Array): Sniffed;
  /** Any asynchronous loading (WASM) is done here, once, before the first conversation. */
  prepare(): Promise<void>;
  open(context: ConversationContext): Conversation;
}
