/**
 * Job tokens of CI systems: what their claims say about the job, as groups and as the job itself. Each group has the
 * claim's meaning in front (`ref:…`), so that the name of a branch cannot be taken for an environment.
 *
 * GitHub: docs.github.com, "OpenID Connect reference". GitLab: docs.gitlab.com, "ID token payload".
 */
import type { JWTPayload } from "jose";
import type { JobHint } from "../core/flow.ts";
import type { IssuerKind } from "../core/identity.ts";
import { isPlain } from "./claims.ts";

/** Claim → what stands before its value. */
const groupClaims: Readonly<Record<"github" | "gitlab", Readonly<Record<string, string>>>> = {
  github: {
    repository: "repository",
    repository_owner: "owner",
    ref: "ref",
    environment: "environment",
    workflow_ref: "workflow",
    job_workflow_ref: "job-workflow",
    event_name: "event",
    actor: "actor",
    runner_environment: "runner",
  },
  gitlab: {
    project_path: "project",
    namespace_path: "namespace",
    ref: "ref",
    environment: "environment",
    pipeline_source: "source",
    user_login: "user",
    runner_environment: "runner",
  },
};

export function ciGroups(
  kind: "github" | "gitlab",
  payload: JWTPayload,
  invalid: (why: string) => Error,
): readonly string[] {
  const groups: string[] = [];
  for (const [claim, prefix] of Object.entries(groupClaims[kind])) {
    const value = textOf(payload, claim);
    if (value !== undefined) groups.push(`${prefix}:${value}`);
    // A group that is left out might be the one that denies.
    else if (Object.hasOwn(payload, claim) && payload[claim] !== "" && payload[claim] !== null)
      throw invalid(`its claim ${claim} is no short text`);
  }
  if (kind === "gitlab" && textOf(payload, "ref_protected") === "true") groups.push("ref-protected");
  return Object.freeze(groups);
}

/** Null for people's tokens. What is not said is left out. */
export function ciJob(kind: IssuerKind, payload: JWTPayload): JobHint | null {
  if (kind === "oidc") return null;
  const names =
    kind === "github"
      ? { id: "run_id", repository: "repository", workflow: "workflow", actor: "actor", ref: "ref" }
      : { id: "job_id", repository: "project_path", workflow: "ci_config_ref_uri", actor: "user_login", ref: "ref" };
  const { id, ...others } = names;
  const said = Object.entries(others).flatMap(([key, claim]) => {
    const value = textOf(payload, claim);
    return value === undefined ? [] : [[key, value]];
  });
  return Object.freeze({ system: kind, id: textOf(payload, id) ?? "", ...Object.fromEntries(said) });
}

function textOf(payload: JWTPayload, claim: string): string | undefined {
  const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  const text = typeof value === "number" || typeof value === "boolean" ? String(value) : value;
  return typeof text === "string" && text !== "" && isPlain(text) ? text : undefined;
}
