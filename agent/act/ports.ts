/** What a session needs from the other edges. `main.ts` joins them; a test can give its own. */
import type { Socket } from "node:net";
import type { Flow } from "../core/flow.ts";
import type { Operation } from "../core/operation.ts";
import type { EntryBody } from "../core/record.ts";
import type { Target } from "../core/target.ts";
import type { Unsecured } from "../core/unsecured.ts";
import type { Decision, Verdict } from "../core/verdict.ts";
import type { CatalogAnswer, CatalogQuestion, TlsFacts } from "../wire/protocol.ts";
import type { Anomalies } from "./anomalies.ts";
import type { Budgets } from "./budgets.ts";
import type { Gate } from "./gate.ts";
import type { LargeBodies } from "./large-bodies.ts";

export interface CertificateNames {
  readonly commonName: string | null;
  readonly dns: readonly string[];
  readonly ip: readonly string[];
}

export interface Foretold {
  /** For our leaf; null: the server has to be heard first. */
  readonly names: CertificateNames | null;
  /** The server was verified, and these are its certificate's names. */
  verified(names: CertificateNames): void;
}

export interface SecuredUpstream {
  readonly socket: Socket;
  readonly tls: TlsFacts;
  readonly names: CertificateNames;
}

export interface HoldRequest {
  readonly flow: Flow;
  readonly target: Target;
  readonly operation: Operation;
  readonly verdict: Verdict;
  readonly limit: { readonly rule: string; readonly rows: number; readonly reason: string } | null;
  /** The same for a client that tries the same thing again; null: each ask is one of its own. */
  readonly digest: string | null;
  /** Whose client cannot come back for it. */
  readonly once?: true;
}

export interface HoldOutcome {
  readonly decision: "approved" | "denied" | "timeout";
  readonly by: string;
  readonly reason: string;
}

export interface Held {
  readonly id: string;
  withdraw(reason: string): void;
}

export interface UpstreamLogin {
  readonly user: string;
  readonly database: string;
  readonly password: string | null;
}

export interface SessionPorts {
  /** Runs `decide` of the policy in force. */
  decide(flow: Flow, target: Target, operation: Operation): Decision;
  /** What has to be waited for before `decide`: texts too long to be scanned in one go. Null: nothing. */
  prepare(flow: Flow, target: Target, operation: Operation): Promise<void> | null;
  /** The permit of an approved operation, made of the verdict that held it. */
  approve(verdict: Verdict): Decision;
  refuse(verdict: Verdict, reason: string): Decision;
  readonly budgets: Budgets;
  readonly anomalies: Anomalies;
  hold(request: HoldRequest, decided: (outcome: HoldOutcome) => void): Held;
  /** Appends to the session's chain; `gate` makes it safe before anything of it is forwarded. */
  record(session: string, body: EntryBody): void;
  readonly gate: Gate;
  readonly largeBodies: LargeBodies;
  dial(flow: Flow, target: Target): Promise<Socket>;
  /** Both in one, where TLS comes first. */
  dialSecurely(
    flow: Flow,
    target: Target,
    alpn: readonly string[],
    serverName: string | null,
  ): Promise<SecuredUpstream>;
  /** `serverName`: what the client called the server in its TLS hello. */
  secureUpstream(
    socket: Socket,
    target: Target,
    flow: Flow,
    alpn: readonly string[],
    serverName?: string | null,
  ): Promise<SecuredUpstream>;
  /** A connection of the agent's own to a PostgreSQL flow's server, secured as the target says. */
  openUpstream(flow: Flow, target: Target): Promise<Socket>;
  /** "S" or "N": the server's answer to an SSLRequest. */
  negotiatePostgresTls(socket: Socket): Promise<"S" | "N">;
  /** Why this server may not be used in plain text; null: it may. */
  plainRefusal(flow: Flow, target: Target): Error | null;
  /** What a client may be told of a server before it is heard. */
  foretold(flow: Flow, target: Target, serverName: string | null): Foretold;
  terminateClient(
    client: Unsecured<Socket>,
    options: {
      leftover: Buffer;
      names: CertificateNames | null;
      flow: Flow;
      alpn: readonly string[];
      serverName?: string | null;
    },
  ): Promise<{ socket: Socket; tls: TlsFacts }>;
  /** Column names of tables on this flow's server, read by the agent's own connection. */
  catalog(flow: Flow, target: Target, login: UpstreamLogin, question: CatalogQuestion): Promise<CatalogAnswer>;
  cancels: {
    register(flow: Flow, key: Buffer, cancel: () => boolean): void;
    forget(flow: Flow, key: Buffer): void;
    /** Delivers to a session that holds something; false: pass it to the server. */
    deliver(flow: Flow, key: Buffer): boolean;
  };
  log(level: "info" | "warn", message: string): void;
}
