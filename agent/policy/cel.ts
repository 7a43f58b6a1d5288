/**
 * `when`: a CEL expression, parsed and type-checked once at load. What an operation does not have (the tokens of a SQL
 * statement) is no value: a condition that hangs on it is false, whatever it compares and under `!` too, see
 * cel-operation.ts. `matches` is refused: its engine goes back over the
 * text, and a client that chooses the text could stop the agent with one statement. `glob` is linear.
 */
import { type ASTNode, Environment } from "@marcbachmann/cel-js";
import { Absent, CelOperation, celFields } from "./cel-operation.ts";
import { compileGlob, type Glob, globLengthMax } from "./glob.ts";
import type { Condition, PolicyCase } from "./policy.ts";

const astNodesMax = 500;
const depthMax = 50;
/** Compiled patterns of `glob()` kept; patterns are mostly constants. */
const globsMax = 256;

export interface CompiledCondition {
  readonly evaluate: Condition;
  /** It looks at what differs between two runs of one text. */
  readonly variable: boolean;
}

class CelFlow {
  address = "";
  port = 0n;
  hostname = "";
  exe = "";
  command: readonly string[] = [];
  pid = 0n;
  uid = -1n;
  cgroup = "";
  container = "";
  job = "";
  repository = "";
}

class CelIdentity {
  subject = "";
  issuer = "";
  groups: readonly string[] = [];
}

const globs = new Map<string, Glob>();

const environment = new Environment({ limits: { maxAstNodes: astNodesMax, maxDepth: depthMax } })
  .registerType("Operation", {
    ctor: CelOperation,
    fields: celFields,
  })
  .registerType("Flow", {
    ctor: CelFlow,
    fields: {
      ...{ address: "string", port: "int", hostname: "string", exe: "string", command: "list<string>", pid: "int" },
      ...{ uid: "int", cgroup: "string", container: "string", job: "string", repository: "string" },
    },
  })
  .registerType("Identity", {
    ctor: CelIdentity,
    fields: { subject: "string", issuer: "string", groups: "list<string>" },
  })
  .registerVariable("op", "Operation")
  .registerVariable("flow", "Flow")
  .registerVariable("identity", "Identity")
  .registerVariable("target", "string")
  .registerFunction("glob(string, string): bool", (text: string, pattern: string) => globNamed(pattern)(text));

export function compileCondition(text: string): CompiledCondition | { error: string; offset: number } {
  try {
    const parsed = environment.parse(text);
    const checked = parsed.check();
    if (!checked.valid) return { error: shortOf(checked.error), offset: checked.error?.range?.start ?? 0 };
    if (checked.type !== "bool" && checked.type !== "dyn")
      return { error: `It gives ${checked.type}, and a condition gives bool`, offset: 0 };
    const regexp = findCall(parsed.ast, "matches");
    if (regexp !== null)
      return {
        error:
          "matches() is not to be had, as a regular expression can run for ever; use glob(text, pattern), contains, startsWith or endsWith",
        offset: regexp,
      };
    return { evaluate: (asked) => evaluate(parsed, asked), variable: looksAtRun(parsed.ast) };
  } catch (error) {
    const range = (error as { range?: { start?: number } }).range;
    return { error: shortOf(error), offset: range?.start ?? 0 };
  }
}

function evaluate(
  parsed: (context: Record<string, unknown>) => unknown,
  asked: PolicyCase,
): boolean | { error: string } {
  const context = contextOf(asked);
  try {
    return readBoolean(parsed(context));
  } catch (error) {
    if (!(error instanceof Absent)) return { error: shortOf(error) };
  }
  // CEL's `||` tells one error of two. Where the other is one of its own (a missing key), that has to count.
  try {
    (context.op as CelOperation).fillAbsent();
    parsed(context);
    return false;
  } catch (error) {
    return error instanceof Absent ? false : { error: shortOf(error) };
  }
}

function readBoolean(value: unknown): boolean | { error: string } {
  return typeof value === "boolean" ? value : { error: `it gave ${typeof value}, not bool` };
}

function contextOf({ flow, target, operation }: PolicyCase): Record<string, unknown> {
  const op = new CelOperation(operation);
  const from = new CelFlow();
  from.address = flow.destination.address;
  from.port = BigInt(flow.destination.port);
  from.hostname = flow.hostname ?? "";
  if (flow.process !== null) {
    from.exe = flow.process.exe;
    from.command = flow.process.commandLine;
    from.pid = BigInt(flow.process.pid);
    from.uid = BigInt(flow.process.uid);
    from.cgroup = flow.process.cgroup;
    from.container = flow.process.containerId ?? "";
    from.job = flow.process.job?.id ?? "";
    from.repository = flow.process.job?.repository ?? "";
  }
  const identity = new CelIdentity();
  if (flow.identity !== null) {
    identity.subject = flow.identity.subject;
    identity.issuer = flow.identity.issuer;
    identity.groups = flow.identity.groups;
  }
  return { op, flow: from, identity, target: target.name };
}

function globNamed(pattern: string): Glob {
  let glob = globs.get(pattern);
  if (glob === undefined) {
    if (globs.size >= globsMax) globs.clear();
    glob = compileGlob(pattern.slice(0, globLengthMax));
    globs.set(pattern, glob);
  }
  return glob;
}

/** Start of the first call of this name, or null. */
function findCall(node: unknown, name: string): number | null {
  let found: number | null = null;
  walk(node, (ast) => {
    if ((ast.op === "call" || ast.op === "rcall") && (ast.args as unknown[])[0] === name) found ??= ast.start ?? 0;
  });
  return found;
}

/** `op.parameters`, `op.bytes`, or `op` as a whole. */
function looksAtRun(node: unknown): boolean {
  let fields = 0;
  let steady = 0;
  walk(node, (ast) => {
    if (ast.op === "id" && (ast.args as unknown) === "op") fields += 1;
    if (ast.op !== ".") return;
    const [object, field] = ast.args as unknown as [ASTNode, string];
    if (object.op === "id" && (object.args as unknown) === "op" && field !== "parameters" && field !== "bytes")
      steady += 1;
  });
  return fields !== steady;
}

function walk(node: unknown, visit: (ast: ASTNode & { start?: number }) => void): void {
  if (Array.isArray(node)) for (const child of node) walk(child, visit);
  else if (node !== null && typeof node === "object" && "op" in node) {
    visit(node as ASTNode);
    walk((node as ASTNode).args, visit);
  }
}

/** Without the library's picture of the source: it would quote a part of the statement. */
function shortOf(error: unknown): string {
  const text = (error as { summary?: string }).summary ?? (error instanceof Error ? error.message : String(error));
  return text.split("\n")[0]!.slice(0, 200);
}
