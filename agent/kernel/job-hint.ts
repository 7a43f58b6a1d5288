/**
 * Which CI job a process belongs to, from the listed variables of its environment. A hint: a process can write what it
 * likes into its own memory. Pure.
 */
import type { JobHint } from "../core/flow.ts";

const hintValueCharsMax = 256;

interface System {
  readonly system: JobHint["system"];
  /** The variable whose presence tells the system. */
  readonly sign: string;
  readonly id: readonly string[];
  readonly repository: readonly string[];
  readonly workflow: readonly string[];
  readonly actor: readonly string[];
  readonly ref: readonly string[];
}

/** The first of the named variables that is set is taken. */
const systems: readonly System[] = [
  {
    system: "github",
    sign: "GITHUB_ACTIONS",
    id: ["GITHUB_RUN_ID"],
    repository: ["GITHUB_REPOSITORY"],
    workflow: ["GITHUB_WORKFLOW"],
    actor: ["GITHUB_ACTOR"],
    ref: ["GITHUB_REF"],
  },
  {
    system: "gitlab",
    sign: "GITLAB_CI",
    id: ["CI_JOB_ID"],
    repository: ["CI_PROJECT_PATH"],
    workflow: ["CI_JOB_NAME"],
    actor: ["GITLAB_USER_LOGIN"],
    ref: ["CI_COMMIT_REF_NAME"],
  },
  {
    system: "buildkite",
    sign: "BUILDKITE",
    id: ["BUILDKITE_JOB_ID", "BUILDKITE_BUILD_ID"],
    repository: ["BUILDKITE_REPO"],
    workflow: ["BUILDKITE_PIPELINE_SLUG"],
    actor: ["BUILDKITE_BUILD_CREATOR"],
    ref: ["BUILDKITE_BRANCH"],
  },
  {
    system: "circleci",
    sign: "CIRCLECI",
    id: ["CIRCLE_WORKFLOW_JOB_ID", "CIRCLE_BUILD_NUM"],
    repository: ["CIRCLE_PROJECT_REPONAME"],
    workflow: ["CIRCLE_JOB"],
    actor: ["CIRCLE_USERNAME"],
    ref: ["CIRCLE_BRANCH", "CIRCLE_TAG"],
  },
  {
    system: "azure",
    sign: "TF_BUILD",
    id: ["BUILD_BUILDID"],
    repository: ["BUILD_REPOSITORY_NAME"],
    workflow: ["BUILD_DEFINITIONNAME"],
    actor: ["BUILD_REQUESTEDFOR"],
    ref: ["BUILD_SOURCEBRANCH"],
  },
  {
    system: "jenkins",
    sign: "JENKINS_URL",
    id: ["BUILD_TAG", "BUILD_ID"],
    repository: ["GIT_URL"],
    workflow: ["JOB_NAME"],
    actor: ["BUILD_USER_ID"],
    ref: ["GIT_BRANCH", "BRANCH_NAME"],
  },
];

/** Every name that is ever read from an environment. */
export const jobVariables: ReadonlySet<string> = new Set([
  "CI",
  ...systems.flatMap((s) => [s.sign, ...s.id, ...s.repository, ...s.workflow, ...s.actor, ...s.ref]),
]);

export function jobHint(variables: ReadonlyMap<string, string>): JobHint | null {
  const found = systems.find((candidate) => variables.has(candidate.sign));
  if (found === undefined) return variables.has("CI") ? { system: "other", id: "" } : null;
  const first = (names: readonly string[]): string | undefined => {
    const name = names.find((candidate) => variables.has(candidate));
    return name === undefined ? undefined : withoutUserInfo(variables.get(name)!).slice(0, hintValueCharsMax);
  };
  const repository = first(found.repository);
  const workflow = first(found.workflow);
  const actor = first(found.actor);
  const ref = first(found.ref);
  return {
    system: found.system,
    id: first(found.id) ?? "",
    ...(repository === undefined ? {} : { repository }),
    ...(workflow === undefined ? {} : { workflow }),
    ...(actor === undefined ? {} : { actor }),
    ...(ref === undefined ? {} : { ref }),
  };
}

/** Clone URLs may carry a token: `https://x-token:SECRET@host/repo.git`. */
function withoutUserInfo(value: string): string {
  return value.replace(/:\/\/[^@/\s]*@/, "://");
}
