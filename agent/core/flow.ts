/** A flow: one outgoing connection taken from the host. Fixed at accept, never changed afterwards. */

/** An IP address and a port. `address` is in canonical text form (RFC 5952 for IPv6), without brackets. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** What the CI system says about the job, read from the environment of the process: a hint, not a proof. */
export interface JobHint {
  readonly system: "github" | "gitlab" | "jenkins" | "buildkite" | "circleci" | "azure" | "other";
  readonly id: string;
  readonly repository?: string;
  readonly workflow?: string;
  readonly actor?: string;
  readonly ref?: string;
}

/** The process that opened the flow, as read from the kernel at connect and from /proc at accept. */
export interface ProcessInfo {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly gid: number;
  readonly comm: string;
  readonly exe: string;
  readonly commandLine: readonly string[];
  /** Clock ticks since boot (proc(5) field 22); with the pid it names a process uniquely. */
  readonly startTicks: number;
  /** Path relative to the cgroup2 root, with a leading slash. */
  readonly cgroup: string;
  readonly containerId?: string;
  readonly job?: JobHint;
}

/** Who stands behind the flow, when it was proven (OIDC, SAML); `subject` is unique within `issuer`. */
export interface Identity {
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
}

export interface Flow {
  /** Unique over all agents and time; sortable by time (UUIDv7). */
  readonly id: string;
  /** Where the client wanted to go. */
  readonly destination: Endpoint;
  readonly source: Endpoint;
  /** The name the host asked the DNS for before it connected, when it is known. */
  readonly hostname: string | null;
  readonly process: ProcessInfo | null;
  readonly identity: Identity | null;
  /** Milliseconds since the Unix epoch. */
  readonly openedAtMs: number;
  /** Which mechanism took the flow. */
  readonly via: "bpf" | "redirect";
}
