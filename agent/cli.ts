/** The `weir` command: finds the subcommand, runs it, and translates errors to a sentence and an exit code. */
import { readFileSync } from "node:fs";
import { useCompileCache } from "./commands/compile-cache.ts";
import type { CommandIo } from "./commands/io.ts";
import { defaultStateDir } from "./commands/io.ts";
import { type ErrorCode, WeirError } from "./errors.ts";

interface Command {
  readonly summary: string;
  /** It has to take away what it set up: a reader that goes does not end it. */
  readonly cleansUp?: true;
  /** It stays, and root starts it again and again. */
  readonly serves?: true;
  load(): Promise<{ readonly help: string; run(args: readonly string[], io: CommandIo): Promise<number> }>;
}

const commands: Readonly<Record<string, Command>> = {
  up: {
    cleansUp: true,
    serves: true,
    summary: "agent and embedded controller in one process",
    load: () => import("./commands/up.ts"),
  },
  agent: {
    cleansUp: true,
    serves: true,
    summary: "the agent alone, without the web page",
    load: () => import("./commands/agent.ts"),
  },
  controller: {
    cleansUp: true,
    serves: true,
    summary: "the controller over Kafka: store, approvals, page",
    load: () => import("./commands/controller.ts"),
  },
  topics: { summary: "create and show Kafka's topics and access rules", load: () => import("./commands/topics.ts") },
  run: { summary: "run a command with all its descendants intercepted", load: () => import("./commands/run.ts") },
  sessions: { summary: "list, show and replay what is recorded", load: () => import("./commands/sessions.ts") },
  approvals: { summary: "the queue of held operations", load: () => import("./commands/approvals.ts") },
  tools: {
    summary: "MCP tools that changed, and taking them as they are now",
    load: () => import("./commands/tools.ts"),
  },
  login: { summary: "log in, so that what you run has your identity", load: () => import("./commands/login.ts") },
  revoke: { summary: "end a subject's or a session's flows now", load: () => import("./commands/revoke.ts") },
  policy: { summary: "check, test and explain a policy", load: () => import("./commands/policy.ts") },
  trust: { summary: "install or remove Weir's certificate authority", load: () => import("./commands/trust.ts") },
  verify: { summary: "check the record: chain, heads, gaps", load: () => import("./commands/verify.ts") },
  witness: { summary: "cosign the checkpoints of audit logs elsewhere", load: () => import("./commands/witness.ts") },
  export: { summary: "the record as OCSF, JSON lines, CEF or CSV", load: () => import("./commands/export.ts") },
  doctor: {
    summary: "what this kernel and host can do, and what is missing",
    load: () => import("./commands/doctor.ts"),
  },
  install: {
    summary: "make Weir a service of this host: units, firewall, trust",
    load: () => import("./commands/install.ts"),
  },
  uninstall: { summary: "take away what install made", load: () => import("./commands/uninstall.ts") },
  summary: { summary: "what was decided, as a page of Markdown", load: () => import("./commands/summary.ts") },
  completion: {
    summary: "what shells complete, and the manual page",
    async load() {
      const { help, run } = await import("./commands/completion.ts");
      return { help, run: (args, io) => run(args, io, commands) };
    },
  },
  demo: {
    cleansUp: true,
    summary: "the whole story on a real PostgreSQL that it starts itself",
    load: () => import("./commands/demo.ts"),
  },
};

/** 0 ok, 1 the answer is no, 2 wrong use, 3 cannot run here. */
const exitCodes: Partial<Record<ErrorCode, number>> = {
  WEIR_USAGE: 2,
  WEIR_CONFIG_INVALID: 2,
  WEIR_POLICY_INVALID: 2,
  WEIR_CONTROL_REFUSED: 1,
  WEIR_IDENTITY_INVALID: 1,
  WEIR_CHAIN_BROKEN: 1,
};

function usage(): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => `  weir ${name.padEnd(10)} ${summary}`);
  return `weir: every connection that leaves this host is decided, masked and recorded\n\n${lines.join("\n")}\n\nEach has --help; weir --version. Exit codes: 0 ok, 1 the answer is no, 2 wrong use, 3 cannot run here.\nWEIR_STATE in the environment names another state directory than ${defaultStateDir}, WEIR_CONTROLLER_STATE the controller's.\n`;
}

async function main(args: readonly string[]): Promise<number> {
  // `weir help up` is `weir up --help`.
  const words = args[0] === "help" && args.length === 2 ? [...args.slice(1), "--help"] : args;
  const [name, ...rest] = words;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(usage());
    return name === undefined ? 2 : 0;
  }
  if (name === "--version" || name === "-V" || name === "version") {
    const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    process.stdout.write(`weir ${version} (node ${process.versions.node}, ${process.arch})\n`);
    return 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) throw new WeirError("WEIR_USAGE", `There is no \`weir ${name}\`. See \`weir --help\`.`);
  const stateDir = process.env["WEIR_STATE"] ?? defaultStateDir;
  if (command.serves === true) useCompileCache(rest, process.env);
  const { run } = await command.load();
  return run(rest, commandIo(stateDir, command.cleansUp === true));
}

/** Wrong use is often answered with the command's help, which needs no code behind it. */
function sentenceOf({ message, code }: WeirError): string {
  if (!message.endsWith("\n")) return `weir: ${message} [${code}]`;
  return message.startsWith("weir ") ? message.trimEnd() : `weir: ${message.trimEnd()}`;
}

/**
 * Opened when they are first used, not before: Node makes a pipe non-blocking when it opens it, and a command that
 * `weir run` becomes would get EAGAIN from its own standard output.
 */
function commandIo(stateDir: string, cleansUp: boolean): CommandIo {
  return {
    get stdout() {
      return standardOutput(cleansUp);
    },
    get stderr() {
      return process.stderr;
    },
    env: process.env,
    stateDir,
  };
}

function standardOutput(cleansUp: boolean): NodeJS.WriteStream {
  // `weir sessions | head` ends quietly when the reader goes.
  if (process.stdout.listenerCount("error") === 0) {
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE" && !cleansUp) process.exit(0);
    });
  }
  return process.stdout;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof WeirError) {
    process.stderr.write(`${sentenceOf(error)}\n`);
    process.exitCode = exitCodes[error.code] ?? 3;
  } else if (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS")) {
    process.stderr.write(`weir: ${error.message} [WEIR_USAGE]\n`);
    process.exitCode = 2;
  } else if (process.getuid?.() !== 0 && error instanceof Error && "code" in error && error.code === "EACCES") {
    process.stderr.write(`weir: ${error.message}. This needs root: sudo weir ${process.argv[2]}. [WEIR_NOT_ROOT]\n`);
    process.exitCode = 3;
  } else {
    process.stderr.write(`weir: ${error instanceof Error ? error.stack : String(error)} [WEIR_INTERNAL]\n`);
    process.exitCode = 3;
  }
}
