/** `weir policy`: check, test and explain a policy, without an agent. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import { type Asking, askingOf, type Describe, readCases, runCase } from "../policy/cases.ts";
import { explain, trace } from "../policy/explain.ts";
import { loadPolicy } from "../policy/load.ts";
import type { Policy, PolicyProblem } from "../policy/policy.ts";
import { policySchema } from "../policy/schema.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir policy check|test|explain FILE|DIR… [--json]
weir policy schema

  check     reads the files as one policy and tells what is wrong, as file:line:column
  test      runs *.cases.yaml: of a file NAME.yaml its NAME.cases.yaml, of a directory all in it;
            exit 1 when one does not hold
  explain   tells rule by rule why a statement is decided as it is; exit 1 when it is not allowed
      --sql TEXT          the statement (required)
      --target NAME       default: the first target
      --user NAME --database NAME --groups A,B --identity SUBJECT --process EXE --uid N
      --kind statement|connect|prepare|call|cancel|replication
  schema    prints the JSON Schema (policies/schema.json), for editors

A directory stands for its *.yaml, without *.cases.yaml. Exit codes: 0 ok, 1 the answer is no, 2 wrong use or a
policy that cannot be used.
`;

const options = {
  help: { type: "boolean", short: "h", default: false },
  json: { type: "boolean", default: false },
  sql: { type: "string" },
  target: { type: "string" },
  user: { type: "string" },
  database: { type: "string" },
  groups: { type: "string" },
  identity: { type: "string" },
  process: { type: "string" },
  uid: { type: "string" },
  kind: { type: "string" },
} as const;

type Values = ReturnType<typeof parse>["values"];

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parse(args);
  const [verb, ...paths] = positionals;
  if (values.help || verb === undefined) {
    (values.help ? io.stdout : io.stderr).write(help);
    return values.help ? 0 : 2;
  }
  if (verb === "schema") {
    io.stdout.write(`${JSON.stringify(policySchema, null, 2)}\n`);
    return 0;
  }
  if (verb !== "check" && verb !== "test" && verb !== "explain")
    throw new WeirError("WEIR_USAGE", `There is no \`weir policy ${verb}\`. ${help}`);
  if (paths.length === 0) throw new WeirError("WEIR_USAGE", `Which policy? ${help}`);
  if (verb === "test") return await test(paths, values, io);
  const policy = load(policyFiles(paths), values, io);
  if (policy === null) return 2;
  return verb === "check" ? check(policy, values, io) : await explainOne(policy, values, io);
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options });
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function check(policy: Policy, values: Values, io: CommandIo): number {
  const counts = { targets: policy.targets.length, rules: policy.rules.length };
  if (values.json)
    io.stdout.write(`${JSON.stringify({ ok: true, mode: policy.mode, ...counts, digest: policy.digest })}\n`);
  else
    io.stdout.write(
      `ok: mode ${policy.mode}, ${count(counts.targets, "target")}, ${count(counts.rules, "rule")}, digest ${policy.digest.slice(0, 16)}\n`,
    );
  return 0;
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

async function test(paths: readonly string[], values: Values, io: CommandIo): Promise<number> {
  const describe = await describer();
  const results: { file: string; name: string; ok: boolean; wrong: string[] }[] = [];
  for (const { policy: files, cases: file } of caseFiles(paths)) {
    const policy = load(files, values, io);
    if (policy === null) return 2;
    const read = readCases(file, readText(file));
    if ("errors" in read) return complain(read.errors, values, io);
    for (const one of read.cases) {
      const wrong = runCase(policy, one, describe);
      results.push({ file, name: one.name, ok: wrong.length === 0, wrong });
    }
  }
  const failed = results.filter(({ ok }) => !ok);
  if (values.json) io.stdout.write(`${JSON.stringify({ ok: failed.length === 0, cases: results })}\n`);
  else {
    for (const { file, name, wrong } of failed) io.stdout.write(`not ok  ${file}: ${name}: ${wrong.join("; ")}\n`);
    io.stdout.write(`${results.length - failed.length} of ${results.length} cases hold\n`);
  }
  return failed.length === 0 && results.length > 0 ? 0 : 1;
}

async function explainOne(policy: Policy, values: Values, io: CommandIo): Promise<number> {
  if (values.sql === undefined) throw new WeirError("WEIR_USAGE", `Which statement? Give --sql TEXT. ${help}`);
  if (values.uid !== undefined && !/^\d{1,10}$/.test(values.uid))
    throw new WeirError("WEIR_USAGE", `--uid ${values.uid}: a number is expected.`);
  const kinds = ["connect", "statement", "prepare", "call", "cancel", "replication"] as const;
  const kind = kinds.find((known) => known === (values.kind ?? "statement"));
  if (kind === undefined) throw new WeirError("WEIR_USAGE", `--kind ${values.kind}: there are ${kinds.join(", ")}.`);
  const { target, user, database, sql, identity, process } = values;
  const words = Object.entries({ target, user, database, sql, identity, process }).filter(
    ([, value]) => value !== undefined,
  );
  const asking: Asking = {
    ...Object.fromEntries(words),
    kind,
    ...(values.groups === undefined ? {} : { groups: values.groups.split(",").filter((group) => group !== "") }),
    ...(values.uid === undefined ? {} : { uid: Number(values.uid) }),
  };
  const asked = askingOf(policy, asking, await describer());
  if ("error" in asked) throw new WeirError("WEIR_USAGE", asked.error);
  const explanation = trace(policy, asked);
  const { verdict } = explanation.decision;
  if (values.json)
    io.stdout.write(`${JSON.stringify({ verdict, trace: explanation.trace, operation: asked.operation })}\n`);
  else io.stdout.write(explain(policy, asked));
  return verdict.action === "allow" ? 0 : 1;
}

/** What PostgreSQL's own parser finds in a text. Loaded only where it is needed: it is a large WASM module. */
async function describer(): Promise<Describe> {
  const { describeStatement, prepareDescriber } = await import("../wire/postgres/describe/index.ts");
  await prepareDescriber();
  return (target, text) => {
    if (target.protocol !== "postgres") return {};
    const { verbs, relations, columns, functions, writes, traits } = describeStatement(text);
    return { verbs, relations, columns, functions, writes, traits };
  };
}

function load(files: readonly string[], values: Values, io: CommandIo): Policy | null {
  const result = loadPolicy(files.map((file) => ({ file, text: readText(file) })));
  if ("policy" in result) return result.policy;
  complain(result.errors, values, io);
  return null;
}

function complain(problems: readonly PolicyProblem[], values: Values, io: CommandIo): number {
  if (values.json) io.stdout.write(`${JSON.stringify({ ok: false, problems })}\n`);
  else for (const problem of problems) io.stderr.write(`${problem.toString()}\n`);
  return 2;
}

function policyFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => (isDirectory(path) ? yamlIn(path).filter((file) => !isCases(file)) : [path]));
}

/**
 * Which cases are about which policy: NAME.cases.yaml is about NAME.yaml beside it, and about all files given when
 * there is none of that name.
 */
function caseFiles(paths: readonly string[]): { policy: string[]; cases: string }[] {
  const found = paths.flatMap((path) =>
    isDirectory(path) ? yamlIn(path).filter(isCases) : [isCases(path) ? path : path.replace(/\.(ya?ml)$/, ".cases.$1")],
  );
  if (found.length === 0) throw new WeirError("WEIR_USAGE", `${paths.join(", ")}: no *.cases.yaml there.`);
  return [...new Set(found)].map((cases) => {
    const own = join(dirname(cases), basename(cases).replace(/\.cases\./, "."));
    return { cases, policy: exists(own) ? [own] : policyFiles(paths.filter((path) => !isCases(path))) };
  });
}

const isCases = (file: string): boolean => /\.cases\.ya?ml$/.test(file);

function yamlIn(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => join(dir, name));
}

function isDirectory(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat?.isDirectory() ?? false;
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_POLICY_INVALID", `${file}: cannot be read.`, { cause });
  }
}
