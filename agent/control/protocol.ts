/** What the `weir` command and the agent say to each other over the Unix socket: one JSON object a line each way. */

export type ControlRequest =
  | { readonly op: "status" }
  | { readonly op: "run"; readonly name: string | null; readonly token?: string }
  | { readonly op: "probe"; readonly prefix: string }
  | { readonly op: "login"; readonly token: string }
  | { readonly op: "logout" }
  | { readonly op: "login-issuers" }
  | { readonly op: "identities" }
  | {
      readonly op: "revoke" | "restore";
      readonly what: string;
      readonly issuer: string | null;
      readonly reason: string;
    }
  | { readonly op: "approvals" }
  | { readonly op: "tools" }
  | { readonly op: "accept-tool"; readonly name: string }
  | {
      readonly op: "decide";
      readonly id: string;
      readonly decision: "approve" | "deny";
      readonly reason: string;
      /** Milliseconds for which the same is approved without asking again. */
      readonly forMs?: number;
    };

/** Null when the line is not a request. Any user of the host may write one. */
export function parseRequest(line: string): ControlRequest | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (value === null || typeof value !== "object") return null;
  const { op, name, id, decision, reason, prefix, token, forMs } = value as Readonly<Record<string, unknown>>;
  if (
    op === "status" ||
    op === "approvals" ||
    op === "logout" ||
    op === "login-issuers" ||
    op === "identities" ||
    op === "tools"
  )
    return { op };
  if (op === "run" && (name === null || typeof name === "string")) {
    if (token === undefined) return { op, name };
    return typeof token === "string" ? { op, name, token } : null;
  }
  if (op === "login" && typeof token === "string") return { op, token };
  if (op === "revoke" || op === "restore") {
    const { what, issuer } = value as Readonly<Record<string, unknown>>;
    if (typeof what !== "string" || typeof reason !== "string") return null;
    return issuer === null || typeof issuer === "string" ? { op, what, issuer, reason } : null;
  }
  if (op === "accept-tool" && typeof name === "string") return { op, name };
  if (op === "probe" && typeof prefix === "string" && prefix.startsWith("/")) return { op, prefix };
  if (op !== "decide" || typeof id !== "string" || typeof reason !== "string") return null;
  if (forMs !== undefined && !(Number.isSafeInteger(forMs) && (forMs as number) > 0)) return null;
  const granted = forMs === undefined ? {} : { forMs: forMs as number };
  return decision === "approve" || decision === "deny" ? { op, id, decision, reason, ...granted } : null;
}

/** A tool of an MCP server that is not now what it was when it was first seen. */
export interface ChangedTool {
  readonly name: string;
  readonly before: string;
  readonly now: string;
}

export interface ApprovalView {
  readonly id: string;
  readonly status: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly user: string;
  readonly database: string;
  readonly target: string;
  readonly process: string;
  readonly text: string;
  readonly rule: string;
  readonly reason: string;
  readonly risks: readonly string[];
  readonly grantedUntilMs: number | null;
}

/** What `weir run` needs to show the authority to programs that read no variable. */
export interface RunTrust {
  /** The authority's certificate. */
  readonly caPath: string;
  /** The caller has rights by sudo, which he would lose in a user namespace. */
  readonly sudo: boolean;
}

export interface StatusView {
  readonly version: string;
  readonly pid: number;
  readonly scope: string;
  /** Digest of the one in force. */
  readonly policy: string;
  readonly mode: string;
  /** The policy that is followed over Kafka; null: the host's own files. */
  readonly follows: string | null;
  /** Which version of it is in force, and whose it is; null: none is yet. */
  readonly origin: {
    readonly id: string;
    readonly version: number;
    readonly signer: string;
    readonly by: string;
  } | null;
  readonly sessions: number;
  readonly ui: string | null;
}

export interface IdentityView {
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
  readonly untilMs: number;
}

export interface LoginIssuer {
  readonly issuer: string;
  readonly clientId: string;
  readonly scope: string;
  readonly ca: string | null;
}

/** Who is bound and who is revoked. `where` is a cgroup, or `uid 1000`. */
export interface IdentitiesView {
  readonly bound: readonly (IdentityView & { readonly where: string; readonly refused: string | null })[];
  readonly revoked: readonly {
    readonly what: string;
    readonly issuer: string | null;
    readonly reason: string;
    readonly by: string;
    readonly atMs: number;
  }[];
}

export type ControlReply =
  | { readonly ok: true; readonly login: IdentityView | null }
  | { readonly ok: true; readonly loginIssuers: readonly LoginIssuer[] }
  | { readonly ok: true; readonly identities: IdentitiesView }
  | { readonly ok: true; readonly revoked: { readonly kind: string; readonly ended: number } }
  | { readonly ok: true; readonly status: StatusView }
  | {
      readonly ok: true;
      readonly cgroup: string;
      readonly environment: Readonly<Record<string, string>>;
      /** Whom the run stands for; null: nobody is proven. */
      readonly identity?: IdentityView | null;
      readonly trust?: RunTrust;
    }
  | { readonly ok: true; readonly probe: { readonly port: number; readonly reached: readonly string[] } }
  | { readonly ok: true; readonly approvals: readonly ApprovalView[] }
  | { readonly ok: true; readonly approval: ApprovalView }
  | { readonly ok: true; readonly tools: readonly ChangedTool[] }
  | { readonly ok: true; readonly accepted: boolean }
  | { readonly ok: false; readonly code: string; readonly message: string };

/** A request or a reply is never longer than this. */
export const controlLineBytesMax = 1024 * 1024;
