/** What a refused client reads: SQLSTATE, the rule and its reason, the Weir code, and what to do next. */
import type { Verdict } from "../../core/verdict.ts";
import { type ErrorCode, errorTable, WeirError } from "../../errors.ts";
import { errorResponse, noticeResponse } from "./backend-messages.ts";

/** insufficient_privilege: the class that clients show as an error of the statement, and never retry. */
const insufficientPrivilege = "42501";

export function deniedResponse(verdict: Verdict, severity: "ERROR" | "FATAL", held: boolean, by = ""): Buffer {
  const code: ErrorCode = held ? (by === "timeout" ? "WEIR_HOLD_TIMEOUT" : "WEIR_HOLD_DENIED") : "WEIR_DENIED";
  return errorResponse({
    severity,
    code: insufficientPrivilege,
    message: `denied by rule "${verdict.rule}": ${verdict.reason}`,
    detail: `${code}: ${errorTable[code]}`,
    hint: held ? "Ask an approver, or run it again to ask anew." : "Ask whoever keeps the policy to change the rule.",
  });
}

export function deniedText(verdict: Verdict): { code: string; message: string } {
  return { code: insufficientPrivilege, message: `denied by rule "${verdict.rule}": ${verdict.reason}` };
}

export function withdrawnResponse(): Buffer {
  return errorResponse({
    severity: "ERROR",
    code: "57014",
    message: "canceling statement due to user request",
    detail: `WEIR_HOLD_WITHDRAWN: ${errorTable.WEIR_HOLD_WITHDRAWN}`,
  });
}

export function heldNotice(approvalId: string, verdict: Verdict): Buffer {
  return noticeResponse({
    severity: "NOTICE",
    code: "00000",
    message: `held for approval ${approvalId} by rule "${verdict.rule}": ${verdict.reason}`,
    hint: `weir approvals approve ${approvalId}`,
  });
}

export function tooLargeResponse(bytes: number, bytesMax: number): Buffer {
  return errorResponse({
    severity: "ERROR",
    code: "54000",
    message: `a statement of ${bytes} bytes is above the limit of ${bytesMax} bytes and cannot be decided`,
    detail: `WEIR_FRAME_TOO_LARGE: ${errorTable.WEIR_FRAME_TOO_LARGE}`,
    hint: "Send large values by COPY, or in several statements.",
  });
}

export function maskDeniedResponse(reason: string): Buffer {
  return maskImpossible(
    `the result cannot be masked: ${reason}`,
    "Select the masked column by its name, without an expression around it, or leave it out.",
  );
}

/** A statement that would copy a masked value inside the server. */
export function copyDeniedResponse(reason: string): Buffer {
  return maskImpossible(
    `the statement was not sent: ${reason}`,
    "Leave the masked column out, or ask whoever keeps the policy for `copied: allow` on the mask.",
  );
}

function maskImpossible(message: string, hint: string): Buffer {
  const detail = `WEIR_MASK_IMPOSSIBLE: ${errorTable.WEIR_MASK_IMPOSSIBLE}`;
  return errorResponse({ severity: "ERROR", code: insufficientPrivilege, message, detail, hint });
}

/** 57P05 and its like are told apart by drivers: a state of SQL for each of our codes. */
const states: Readonly<Partial<Record<string, string>>> = {
  WEIR_UPSTREAM_UNREACHABLE: "08001",
  WEIR_UPSTREAM_TLS: "08001",
  WEIR_UPSTREAM_TLS_REFUSED: "08001",
  WEIR_UPSTREAM_PIN_CHANGED: "08001",
  WEIR_UPSTREAM_AUTH: "28000",
  WEIR_CONFIG_INVALID: "F0000",
  WEIR_CLIENT_AUTH: "28P01",
  WEIR_FRAME_INVALID: "08P01",
  WEIR_FRAME_TOO_LARGE: "08P01",
  WEIR_STATE_INVALID: "08P01",
  WEIR_UNSUPPORTED: "0A000",
  WEIR_LIMIT_REACHED: "54000",
  WEIR_SPOOL_WRITE: "58030",
  WEIR_SPOOL_FULL: "53100",
  WEIR_DENIED: insufficientPrivilege,
};

export function fatalResponse(code: string, reason: string): Buffer {
  const known = code in errorTable ? errorTable[code as ErrorCode] : "";
  return errorResponse({
    severity: "FATAL",
    code: states[code] ?? "57P01",
    message: reason === "" ? known : reason,
    detail: `${code}: ${known}`,
  });
}

/** An error as it is told to a client; a defect of ours says nothing of its insides. */
export function fatalOf(error: unknown): { code: string; reason: string } {
  if (error instanceof WeirError) return { code: error.code, reason: error.message };
  return { code: "WEIR_INTERNAL", reason: errorTable.WEIR_INTERNAL };
}
