/** Runs the steps of a composite GitHub action as the runner does: bash -e with the GITHUB_ variables and files. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { Ran } from "./agent.ts";

export interface StepHost {
  run(words: readonly string[], input?: string): Promise<Ran>;
  must(...words: readonly string[]): Promise<string>;
}

export interface StepFacts {
  readonly inputs: Readonly<Record<string, string>>;
  /** Where the action lies on the host. */
  readonly actionPath: string;
  /** Directory on the host with env, output and summary, as files. */
  readonly files: string;
  readonly user: string;
}

interface Action {
  readonly inputs?: Readonly<Record<string, { default?: string }>>;
  readonly runs: {
    readonly using: string;
    readonly steps: readonly { shell: string; run: string; env?: Readonly<Record<string, string>> }[];
  };
}

/** The result of the first step that fails, or of the last. */
export async function runAction(path: string, host: StepHost, facts: StepFacts): Promise<Ran> {
  const action = parse(readFileSync(path, "utf8")) as Action;
  if (action.runs.using !== "composite") throw new Error(`${path} is no composite action`);
  const inputs: Record<string, string> = {};
  for (const [name, { default: value = "" }] of Object.entries(action.inputs ?? {})) inputs[name] = value;
  Object.assign(inputs, facts.inputs);
  let ran: Ran | null = null;
  for (const step of action.runs.steps) {
    const env = Object.entries(step.env ?? {}).map(([name, value]) => `${name}=${expression(value, inputs, facts)}`);
    ran = await runStep(host, facts, step.run, env);
    if (ran.code !== 0) return ran;
  }
  if (ran === null) throw new Error(`${path} has no steps`);
  return ran;
}

/** A step of the job itself; it gets what earlier steps wrote to GITHUB_ENV. */
export async function runStep(
  host: StepHost,
  { files, user }: StepFacts,
  script: string,
  env: readonly string[] = [],
): Promise<Ran> {
  const given = (await host.run(["cat", `${files}/env`])).stdout.split("\n").filter(Boolean);
  const github = [
    "CI=true",
    "GITHUB_ACTIONS=true",
    "GITHUB_RUN_ID=17",
    "GITHUB_REPOSITORY=example/shop",
    "GITHUB_WORKFLOW=build",
    "GITHUB_ACTOR=sam",
    `GITHUB_ENV=${files}/env`,
    `GITHUB_OUTPUT=${files}/output`,
    `GITHUB_STEP_SUMMARY=${files}/summary`,
    `RUNNER_TEMP=${files}`,
    `HOME=${files}`,
  ];
  const words = ["runuser", "-u", user, "--", "env", ...github, ...given, ...env];
  return host.run([...words, "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]);
}

function expression(value: string, inputs: Readonly<Record<string, string>>, facts: StepFacts): string {
  return value.replace(/\$\{\{\s*([\w.-]+)\s*\}\}/g, (_all, name: string) => {
    if (name === "github.action_path") return facts.actionPath;
    const input = inputs[name.replace(/^inputs\./, "")];
    if (!name.startsWith("inputs.") || input === undefined) throw new Error(`the runner knows no ${name}`);
    return input;
  });
}
