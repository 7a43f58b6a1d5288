/** A target: a named destination in the policy. */
import type { TargetProtocol } from "./operation.ts";

export type HostPattern =
  | { readonly kind: "any" }
  | { readonly kind: "cidr"; readonly family: 4 | 6; readonly address: string; readonly prefix: number }
  /** A DNS name, lower case, no trailing dot. */
  | { readonly kind: "name"; readonly name: string }
  /** `*.example.com` is the suffix `.example.com`. */
  | { readonly kind: "suffix"; readonly suffix: string };

export interface TargetTls {
  /** `none`: no check; `first-use`: pinned at first sight; `ca`: chain only; `full`: chain and name (default). */
  readonly verify: "none" | "first-use" | "ca" | "full";
  /** Path of a PEM bundle that replaces the system's roots for this target. */
  readonly ca: string | null;
  readonly clientCertificate: { readonly cert: string; readonly key: string } | null;
  /** Name to verify instead of the one the client used. */
  readonly serverName: string | null;
  /** What becomes of a client that refuses our certificate time and again; left out: `deny`. */
  readonly pinned?: "deny" | "splice";
}

/** Where a secret comes from; resolved by the edge at connect, never kept in a record. */
export type SecretSource =
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "env"; readonly name: string }
  | { readonly from: "exec"; readonly command: readonly string[] }
  /** A field of a KV v2 secret: `GET {address}/v1/{mount}/data/{path}` with the token. */
  | {
      readonly from: "vault";
      readonly address: string;
      readonly mount: string;
      readonly path: string;
      readonly field: string;
      readonly token: SecretSource;
    };

export interface TargetCredential {
  readonly user: string;
  readonly password: SecretSource | null;
  /** What the client has to prove instead; null: the flow's process attribution is the proof. */
  readonly clientPassword: SecretSource | null;
}

/** What Weir puts on a request in place of the client's own credential. */
export type HttpTargetCredential = HttpCredentialOf<SecretSource>;

/** `Secret`: where each comes from, or what it is. */
export type HttpCredentialOf<Secret> =
  | { readonly kind: "bearer"; readonly token: Secret }
  | { readonly kind: "header"; readonly name: string; readonly value: Secret }
  | { readonly kind: "query"; readonly name: string; readonly value: Secret }
  | { readonly kind: "basic"; readonly user: string; readonly password: Secret }
  /** AWS Signature Version 4. */
  | {
      readonly kind: "sigv4";
      readonly accessKeyId: Secret;
      readonly secretAccessKey: Secret;
      readonly sessionToken: Secret | null;
      readonly region: string;
      readonly service: string;
    };

/** What says what the messages of a gRPC target are. */
export type GrpcDescriptors =
  /** Path of a FileDescriptorSet. */
  | { readonly from: "file"; readonly path: string }
  /** The server itself, by its reflection service. */
  | { readonly from: "reflection" };

export interface Target {
  readonly name: string;
  readonly protocol: TargetProtocol;
  readonly hosts: readonly HostPattern[];
  readonly ports: readonly number[];
  readonly tls: TargetTls;
  /** An HTTP proxy that is asked for a tunnel to the server; left out: the server is dialled itself. */
  readonly proxy?: { readonly host: string; readonly port: number };
  readonly credential: TargetCredential | null;
  /** For targets spoken to over HTTP. */
  readonly httpCredential?: HttpTargetCredential | null;
  /** For targets of the protocol grpc; left out: calls are known by their method only. */
  readonly grpc?: GrpcDescriptors;
}
