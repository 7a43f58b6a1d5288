/** Whom the policy believes, and who stands for whom without a token: its section `identity`, compiled. */
import type { Identity, ProcessInfo } from "./flow.ts";

/** Asymmetric ones only: with HS256 whoever can verify can sign, and a public key would do as the secret. */
export type TokenAlgorithm = "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" | "ES256" | "ES384" | "EdDSA";

const dayMs = 86_400_000;
/** A proof counts for so long after the issuer made it, whatever it says itself: a logout of before need not be known for ever. */
export const provenMsMax = 30 * dayMs;
/** Logouts are remembered for so long: by then no proof of before counts, on no clock. */
export const logoutKeptMs = provenMsMax + dayMs;

/** `github` and `gitlab`: a CI system's job tokens, whose claims give groups and the job. */
export type IssuerKind = "oidc" | "github" | "gitlab";

export interface IdentityIssuer {
  readonly kind: IssuerKind;
  /** Equals the token's `iss` to the letter. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Where its keys are; null: its discovery document says it. */
  readonly jwks: { readonly url: string } | { readonly file: string } | null;
  /** PEM file of the authority that its keys' server is trusted by; null: the system's. */
  readonly ca: string | null;
  readonly subjectClaim: string;
  /** Not of CI systems: their groups are made of several claims. */
  readonly groupsClaim: string;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Other claims that have to hold: an issuer like GitHub's signs for everybody. */
  readonly claims: readonly { readonly name: string; readonly wanted: string; covers(value: string): boolean }[];
  /** How long a run stays bound after its token was verified; null: until the token expires. */
  readonly lifetimeMs: number | null;
  /** What `weir login` says to the issuer; null: nobody logs in with it. */
  readonly login: { readonly clientId: string; readonly scope: string } | null;
}

/** Processes that have an identity because of where they run. */
export interface IdentityMapping {
  readonly identity: Identity;
  covers(process: ProcessInfo): boolean;
}

export interface IdentitySettings {
  readonly issuers: readonly IdentityIssuer[];
  /** The first that covers a process counts. */
  readonly mappings: readonly IdentityMapping[];
}

/** The issuer of an identity that the policy itself gives. */
export const policyIssuer = "policy";

export const noIdentities: IdentitySettings = Object.freeze({ issuers: [], mappings: [] });
