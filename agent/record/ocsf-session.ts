/**
 * A session's beginning and end as Network Activity (4001), its login as Authentication (3002), the agent's own start and
 * stop as Application Lifecycle (6002).
 */
import { actor, ends, type Json, wellFormed } from "./ocsf-parts.ts";
import type { Fields, ReadEntry } from "./read.ts";

const networkActivity = 4001;
const authentication = 3002;
const applicationLifecycle = 6002;

export interface SessionEvent {
  readonly classUid: number;
  readonly activityId: number;
  readonly activityName?: string;
  readonly fields: Json;
}

/** Null: the entry is none of these. `flow` is the session's, when it is known. */
export function sessionEvent(
  { type, fields, session }: ReadEntry,
  flow: Fields | null,
  target: string,
): SessionEvent | null {
  switch (type) {
    case "SessionStart":
      return {
        classUid: networkActivity,
        activityId: 1,
        fields: {
          ...ends(flow),
          actor: actor(flow, ""),
          app_name: fields["protocol"],
          unmapped: { target, protocol: fields["protocol"], ...origin(flow) },
        },
      };
    case "SessionEnd":
      return {
        classUid: networkActivity,
        activityId: 2,
        fields: {
          ...ends(flow),
          traffic: { bytes_out: fields["bytesUp"], bytes_in: fields["bytesDown"] },
          status_detail: wellFormed(fields["reason"]),
          unmapped: { target, operations: fields["operations"], denied: fields["denied"] },
        },
      };
    case "Login":
      return {
        classUid: authentication,
        activityId: 1,
        fields: {
          ...ends(flow),
          actor: actor(flow, ""),
          user: { name: wellFormed(fields["user"]) },
          service: { name: target === "" ? "unknown" : target },
          session: { uid: session },
          unmapped: {
            target,
            database: fields["database"],
            application: wellFormed(fields["application"]),
            client_tls: fields["clientTls"],
            upstream_tls: fields["upstreamTls"],
          },
        },
      };
    case "Agent": {
      const activityId = fields["event"] === "start" ? 3 : fields["event"] === "stop" ? 4 : 99;
      return {
        classUid: applicationLifecycle,
        activityId,
        ...(activityId === 99 ? { activityName: String(fields["event"]) } : {}),
        fields: {
          app: { name: "Weir", vendor_name: "Weir" },
          message: wellFormed(fields["detail"]),
          unmapped: { event: fields["event"] },
        },
      };
    }
    default:
      return null;
  }
}

/** How it came, and the CI job behind it. */
function origin(flow: Fields | null): Json {
  const process = (flow?.["process"] ?? null) as Fields | null;
  return { via: flow?.["via"] ?? null, cgroup: process?.["cgroup"] ?? null, job: process?.["job"] ?? null };
}
