/** Every error code of Weir, in one table: code → what it means and what to do next. */
export const errorTable = {
  // setup and configuration
  WEIR_USAGE: "The command line is wrong.",
  WEIR_CONFIG_INVALID: "The configuration file cannot be used.",
  WEIR_POLICY_INVALID: "The policy cannot be used.",
  WEIR_NOT_ROOT: "This needs root. Run it with sudo.",
  WEIR_PORT_IN_USE: "The port is in use.",
  WEIR_STATE_LOCKED: "Another agent uses this state directory.",
  WEIR_STATE_DAMAGED: "A file of the state directory cannot be read.",
  WEIR_AGENT_UNREACHABLE: "No agent answers on the control socket. Start one with `weir up`.",
  WEIR_CONTROL_REFUSED: "The agent refused the request.",
  // kernel
  WEIR_KERNEL_UNSUPPORTED: "The kernel cannot do this; `weir doctor` tells what is missing.",
  WEIR_BPF_LOAD: "The BPF object could not be loaded.",
  WEIR_FIREWALL: "A firewall rule could not be set.",
  WEIR_ADDON_MISSING: "The native addon is not built; run scripts/setup.",
  // upstream and TLS
  WEIR_UPSTREAM_UNREACHABLE: "The server could not be reached.",
  WEIR_UPSTREAM_TLS: "The server's certificate was not accepted.",
  WEIR_UPSTREAM_TLS_REFUSED: "The client asked for TLS and the server does not offer it.",
  WEIR_UPSTREAM_PIN_CHANGED: "The server's certificate is not the one seen first.",
  WEIR_UPSTREAM_AUTH: "The server refused the login.",
  WEIR_CLIENT_TLS: "The TLS handshake with the client failed.",
  WEIR_CLIENT_PINNED: "The client takes no certificate but its server's own.",
  WEIR_CLIENT_AUTH: "The client's secret is wrong.",
  // protocol
  WEIR_PROTOCOL_UNKNOWN: "The protocol was not recognised.",
  WEIR_FRAME_INVALID: "A frame breaks the protocol.",
  WEIR_FRAME_TOO_LARGE: "A frame is longer than its limit.",
  WEIR_LIMIT_REACHED: "A named limit was reached.",
  WEIR_STATE_INVALID: "A message came where the protocol does not allow it.",
  WEIR_UNSUPPORTED: "This part of the protocol is not let through.",
  // decision
  WEIR_DENIED: "The policy denies this operation.",
  WEIR_HOLD_TIMEOUT: "Nobody approved the operation in time.",
  WEIR_HOLD_DENIED: "The operation was denied by an approver.",
  WEIR_HOLD_WITHDRAWN: "The held operation was withdrawn.",
  WEIR_MASK_IMPOSSIBLE: "The result cannot be masked safely.",
  // identity
  WEIR_IDENTITY_INVALID: "The identity token was not accepted.",
  WEIR_IDENTITY_REVOKED: "The identity behind the connection holds no longer.",
  WEIR_SESSION_ENDED: "Somebody ended the session.",
  // record
  WEIR_SPOOL_WRITE: "The record could not be written, so the operation was refused.",
  WEIR_SPOOL_FULL: "The record is at its limit, so the operation was refused.",
  WEIR_SPOOL_CORRUPT: "A spool segment is damaged.",
  WEIR_CHAIN_BROKEN: "The chain of records is broken.",
  WEIR_ARCHIVE: "The archive did not take an old part of the record.",
  WEIR_FORWARD: "A receiver of the record did not take it.",
  // publish
  WEIR_KAFKA_UNREACHABLE: "Kafka did not take or give what it was asked for.",
  WEIR_SHUTDOWN: "The agent is stopping.",
  WEIR_INTERNAL: "A defect in Weir.",
} as const;

export type ErrorCode = keyof typeof errorTable;

/** An error with a code of `errorTable`; `peer` says that the other side, not Weir, is at fault. */
export class WeirError extends Error {
  readonly code: ErrorCode;
  readonly peer: boolean;
  constructor(code: ErrorCode, message?: string, options: { cause?: unknown; peer?: boolean } = {}) {
    super(message ?? errorTable[code], options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "WeirError";
    this.code = code;
    this.peer = options.peer ?? false;
  }
}

/** What `read` throws, with the file's path and what to do. */
export function readFileOr<T>(code: ErrorCode, path: string, nextStep: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError(code, `${path} cannot be read (${why}). ${nextStep}`, { cause });
  }
}

/** A fault of the peer: it sent what the protocol or a limit does not allow. */
export class PeerError extends WeirError {
  constructor(code: ErrorCode, message?: string, options: { cause?: unknown } = {}) {
    super(code, message, { ...options, peer: true });
    this.name = "PeerError";
  }
}

const fileProblems: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "its permissions do not allow it",
  EPERM: "its permissions do not allow it",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is no directory",
};

/** The end of a sentence that says that a file cannot be read. */
export function whyUnread(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return fileProblems[code] ?? (cause instanceof Error ? cause.message : String(cause));
}
