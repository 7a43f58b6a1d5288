/** `weir policy`: check, test and explain a policy, without an agent. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { buildDetectors } from "../act/custom-detectors.ts";
import { makeDetectors } from "../act/detectors.ts";
import { parseAddress, unbracketed } from "../core/address.ts";
import { WeirError, whyUnread } from "../errors.ts";
import type { AskedRequest } from "../policy/case-facts.ts";
import { type Asking, askingOf, type Describe, readCases, runCase } from "../policy/cases.ts";
import { explain, trace } from "../policy/explain.ts";
import { findTarget } from "../policy/index.ts";
import { loadPolicy } from "../policy/load.ts";
import type { Policy, PolicyCase, PolicyProblem } from "../policy/policy.ts";
import { policySchema } from "../policy/schema.ts";
import { kinds } from "../policy/words.ts";
import { fingerprint } from "./fingerprint.ts";
import type { CommandIo } from "./io.ts";
import { policyStatus } from "./policy-status.ts";

export const help = `weir policy check|test|explain FILE|DIR… [--json]
weir policy fingerprint DIR… > FILE
weir policy publish FILE|DIR… --kafka HOST:PORT,… [--id NAME] [--key FILE]
weir policy published --kafka HOST:PORT,…
weir policy status [--state DIR] [--json]
weir policy schema

  check     reads the files as one policy, and the files of its detectors; tells what is wrong, as file:line:column
  test      runs *.cases.yaml: of a file NAME.yaml its NAME.cases.yaml, of a directory all in it;
            exit 1 when one does not hold
  explain   tells rule by rule why a statement or request is decided as it is; exit 1 when it is not allowed
      --sql TEXT          a statement,
      --http "METHOD URL" or a request (--bytes N|unknown, --content-type TYPE),
      --prompt TEXT       or a call of a language model (--model NAME --tokens N --offers TOOL,TOOL --stream),
      --tool NAME         or a call of an MCP tool (--arguments JSON)
      --target NAME       default: the one that the URL's host and port lead to, else the first that speaks the
                          protocol asked about
      --user NAME --database NAME --groups A,B --identity SUBJECT --process EXE --uid N
      --kind statement|connect|prepare|call|cancel|replication|request
  fingerprint   prints what a detector needs to recognise the code below DIR: { source: { fingerprints: FILE } }
  publish   signs them and gives them to the agents that follow a policy over Kafka; published lists what stands there
            (weir policy publish --help)
  status    tells which policy is in force on this host, and which version of which one it is over Kafka
  schema    prints the JSON Schema (policies/schema.json), for editors

A directory stands for its *.yaml, without *.cases.yaml. Exit codes: 0 ok, 1 the answer is no, 2 wrong use or a
policy that cannot be used.
`;

const options = {
  help: { type: "boolean", short: "h", default: false },
  json: { type: "boolean", default: false },
  sql: { type: "string" },
  http: { type: "string" },
  bytes: { type: "string" },
  "content-type": { type: "string" },
  prompt: { type: "string" },
  model: { type: "string" },
  tokens: { type: "string" },
  offers: { type: "string" },
  stream: { type: "boolean", default: false },
  tool: { type: "string" },
  arguments: { type: "string" },
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
  // Loaded where it is needed, with the libraries for Kafka.
  if (args[0] === "publish" || args[0] === "published")
    return (await import("./policy-publish.ts")).runPublish(args, io);
  if (args[0] === "status") return policyStatus(args.slice(1), io, help);
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
  if (verb === "fingerprint") return await fingerprint(paths, io);
  if (verb !== "check" && verb !== "test" && verb !== "explain")
    throw new WeirError("WEIR_USAGE", `There is no \`weir policy ${verb}\`.\n\n${help}`);
  if (paths.length === 0) throw new WeirError("WEIR_USAGE", `Which policy?\n\n${help}`);
  if (verb === "test") return await test(paths, values, io);
  const policy = load(policyFiles(paths), values, io);
  if (policy === null) return 2;
  return verb === "check" ? await check(policy, values, io) : await explainOne(policy, values, io);
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options });
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

async function check(policy: Policy, values: Values, io: CommandIo): Promise<number> {
  const { problems } = await buildDetectors(policy.detectors);
  if (problems.size > 0) return complain([...problems.values()], values, io);
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
    const finds = await finderOf(policy);
    for (const one of read.cases) {
      const wrong = runCase(policy, one, describe, finds);
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
  const request = requestAsked(values);
  if (values.sql === undefined && Object.keys(request).length === 0)
    throw new WeirError("WEIR_USAGE", `Which statement or request? Give --sql, --http, --prompt or --tool.\n\n${help}`);
  if (values.uid !== undefined && !/^\d{1,10}$/.test(values.uid))
    throw new WeirError("WEIR_USAGE", `--uid ${values.uid}: a number is expected.`);
  const usual = values.sql === undefined ? "request" : "statement";
  const kind = kinds.find((known) => known === (values.kind ?? usual));
  if (kind === undefined) throw new WeirError("WEIR_USAGE", `--kind ${values.kind}: there are ${kinds.join(", ")}.`);
  const { user, database, sql, identity, process } = values;
  const target = values.target ?? targetOf(policy, values.http);
  if (target === null) return sayUnnamed(policy, values, io);
  const words = Object.entries({ target, user, database, sql, identity, process }).filter(
    ([, value]) => value !== undefined,
  );
  const asking: Asking = {
    ...Object.fromEntries(words),
    ...request,
    kind,
    ...(values.groups === undefined ? {} : { groups: values.groups.split(",").filter((group) => group !== "") }),
    ...(values.uid === undefined ? {} : { uid: Number(values.uid) }),
  };
  const asked = askingOf(
    policy,
    asking,
    values.sql === undefined ? () => ({}) : await describer(),
    await finderOf(policy),
  );
  if ("error" in asked) throw new WeirError("WEIR_USAGE", asked.error);
  const explanation = trace(policy, asked);
  const { verdict } = explanation.decision;
  if (values.json)
    io.stdout.write(`${JSON.stringify({ verdict, trace: explanation.trace, operation: asked.operation })}\n`);
  else io.stdout.write(explain(policy, asked));
  return verdict.action === "allow" ? 0 : 1;
}

/** The target that a whole URL leads to, by its name; null: none. Undefined: no host is said. */
function targetOf(policy: Policy, http: string | undefined): string | null | undefined {
  const url = /^[A-Z]+ (https?:\/\/[^/?#\s]+)/.exec(http ?? "")?.[1];
  if (url === undefined || !URL.canParse(url)) return undefined;
  const { protocol, hostname, port } = new URL(url);
  const host = unbracketed(hostname);
  const isAddress = parseAddress(host) !== null;
  const to = { address: isAddress ? host : "", hostname: isAddress ? null : host };
  return findTarget(policy, { ...to, port: Number(port) || (protocol === "https:" ? 443 : 80) })?.name ?? null;
}

function sayUnnamed(policy: Policy, values: Values, io: CommandIo): number {
  const action = policy.defaults.egress;
  const reason = `No target names this host and port, and such a connection ${action === "deny" ? "is refused" : "leaves unread"}.`;
  const verdict = { action, rule: "defaults.egress", reason };
  if (values.json) io.stdout.write(`${JSON.stringify({ verdict, trace: [], operation: null })}\n`);
  else io.stdout.write(`target    none\nverdict   ${action} by ${verdict.rule}: ${reason}\n`);
  return action === "allow" ? 0 : 1;
}

/** The facts that the options give. */
function requestAsked(values: Values): AskedRequest {
  const { http, prompt, model, tool } = values;
  const asked: { -readonly [key in keyof AskedRequest]: AskedRequest[key] } = {};
  if (http !== undefined || values.bytes !== undefined)
    asked.http = { ...readRequestLine(http ?? "POST /"), ...bodyAsked(values) };
  if (prompt !== undefined || model !== undefined)
    asked.llm = {
      ...(prompt === undefined ? {} : { prompt }),
      ...(model === undefined ? {} : { model }),
      ...(values.tokens === undefined ? {} : { tokens: wholeNumber(values.tokens, "--tokens") }),
      ...(values.offers === undefined ? {} : { tools: values.offers.split(",") }),
      stream: values.stream,
    };
  if (tool !== undefined) asked.mcp = { name: tool, arguments: readJson(values.arguments ?? "null") };
  return asked;
}

function readRequestLine(line: string): NonNullable<AskedRequest["http"]> {
  const found = /^([A-Z]+) (?:(https?):\/\/([^/?#\s]+))?([/?]\S*)?$/.exec(line);
  if (found === null)
    throw new WeirError("WEIR_USAGE", `--http ${line}: something like "PUT https://host/path?query" is expected.`);
  const [, method = "", scheme, authority, rest = "/"] = found;
  const mark = rest.indexOf("?");
  return {
    method,
    path: mark < 0 ? rest : rest.slice(0, mark) || "/",
    query: mark < 0 ? "" : rest.slice(mark + 1),
    ...(scheme === "http" || scheme === "https" ? { scheme } : {}),
    ...(authority === undefined ? {} : { host: authority.replace(/:\d+$/, "").toLowerCase() }),
  };
}

function bodyAsked(values: Values): Pick<NonNullable<AskedRequest["http"]>, "bytes" | "contentType"> {
  const { bytes } = values;
  const contentType = values["content-type"];
  return {
    ...(bytes === undefined ? {} : { bytes: bytes === "unknown" ? bytes : wholeNumber(bytes, "--bytes") }),
    ...(contentType === undefined ? {} : { contentType }),
  };
}

function wholeNumber(text: string, option: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new WeirError("WEIR_USAGE", `${option} ${text}: a number is expected.`);
  return Number(text);
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `--arguments ${text}: JSON is expected.`, { cause });
  }
}

/** The built-in detectors and the policy's own. One that cannot be made is a problem for the cases that need it. */
async function finderOf(policy: Policy): Promise<NonNullable<PolicyCase["finds"]>> {
  const { custom, problems } = await buildDetectors(policy.detectors);
  const detectors = makeDetectors(custom);
  return (name, text) => {
    const problem = problems.get(name);
    if (problem !== undefined) throw new WeirError("WEIR_POLICY_INVALID", problem);
    return detectors.finds(name, text);
  };
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

function complain(problems: readonly (PolicyProblem | string)[], values: Values, io: CommandIo): number {
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
    throw new WeirError("WEIR_POLICY_INVALID", `${file}: cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}
