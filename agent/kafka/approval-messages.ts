/**
 * Approvals over Kafka: the agent asks, a controller decides, the agent says what became of it. A decision names the
 * request by its SHA-256, and with it session, statement and policy: it fits that one request and no other.
 */
import { hash, type KeyObject } from "node:crypto";
import { type SignedKind, signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export interface ApprovalRequest {
  readonly agent: string;
  readonly id: string;
  readonly session: string;
  /** Digest of the policy that holds it. */
  readonly policy: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly onTimeout: "deny" | "allow";
  /** What the approver reads; the controller's queue knows its fields. */
  readonly summary: Readonly<Record<string, unknown>>;
}

export interface ApprovalDecision {
  readonly agent: string;
  readonly id: string;
  /** SHA-256 of the request's text, hex. */
  readonly request: string;
  readonly decision: "approved" | "denied";
  readonly by: string;
  readonly reason: string;
  /** Approves the same again without asking, for so long. */
  readonly grantMs: number;
  readonly atMs: number;
}

export interface ApprovalOutcome {
  readonly agent: string;
  readonly id: string;
  readonly request: string;
  readonly status: "approved" | "denied" | "timeout" | "withdrawn";
  readonly by: string;
  readonly reason: string;
  readonly grantedUntilMs: number | null;
  readonly atMs: number;
}

export function approvalMessage(
  kind: Extract<SignedKind, `approval-${string}`>,
  body: ApprovalRequest | ApprovalDecision | ApprovalOutcome,
  key: KeyObject,
): OutMessage {
  return signedMessage({ topic: topics.approvals, key: `${body.agent}/${body.id}` }, kind, body, key);
}

export function requestDigest(text: string): string {
  return hash("sha256", text, "hex");
}

type Body = Readonly<Record<string, unknown>>;

export function asRequest(body: Body): ApprovalRequest | null {
  const good =
    texts(body, "agent", "id", "session", "policy") &&
    times(body, "createdAtMs", "expiresAtMs") &&
    (body["onTimeout"] === "deny" || body["onTimeout"] === "allow") &&
    typeof body["summary"] === "object" &&
    body["summary"] !== null;
  return good ? (body as unknown as ApprovalRequest) : null;
}

export function asDecision(body: Body): ApprovalDecision | null {
  const good =
    texts(body, "agent", "id", "request", "by", "reason") &&
    times(body, "grantMs", "atMs") &&
    (body["decision"] === "approved" || body["decision"] === "denied");
  return good ? (body as unknown as ApprovalDecision) : null;
}

export function asOutcome(body: Body): ApprovalOutcome | null {
  const good =
    texts(body, "agent", "id", "request", "by", "reason") &&
    times(body, "atMs") &&
    (body["grantedUntilMs"] === null || times(body, "grantedUntilMs")) &&
    ["approved", "denied", "timeout", "withdrawn"].includes(String(body["status"]));
  return good ? (body as unknown as ApprovalOutcome) : null;
}

function texts(body: Body, ...names: readonly string[]): boolean {
  return names.every((name) => typeof body[name] === "string");
}

function times(body: Body, ...names: readonly string[]): boolean {
  return names.every((name) => Number.isSafeInteger(body[name]) && Number(body[name]) >= 0);
}
