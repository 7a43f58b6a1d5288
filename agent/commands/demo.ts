/** `weir demo`: the whole story on a real PostgreSQL with TLS: allowed, masked, denied, held, replayed, verified. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { WeirError } from "../errors.ts";
import { type DemoServer, startDemoServer } from "./demo/server.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir demo

Starts a PostgreSQL with TLS in a network namespace of its own and an agent beside it, and runs an unmodified psql
through the whole story. Needs root. Takes everything away again.
`;

const weir = resolve(import.meta.dirname, "../../scripts/weir");
const approvalTriesMax = 100;

const policy = `apiVersion: weir/v1
targets:
  orders-db: { protocol: postgres, hosts: ["*"], ports: [5432], tls: { verify: first-use } }
rules:
  - name: no-destructive-sql
    match: { target: orders-db, verb: [drop, truncate] }
    verdict: deny
    reason: Destructive statements go through the DBA team.
  - name: salaries-need-a-second-pair-of-eyes
    match: { target: orders-db, verb: update, relation: employees }
    verdict: hold
    reason: Salaries change only when somebody has looked.
  - name: mask-pii
    match: { target: orders-db }
    mask: [{ column: "*.ssn", with: last4 }, { detector: credit-card, with: redact }]
    record: result
`;

const setup = `
CREATE TABLE employees (id int PRIMARY KEY, name text, ssn text, note text, salary int);
INSERT INTO employees VALUES (1, 'Ada', '536-90-4399', 'paid with 4111 1111 1111 1111', 5000), (2, 'Grace', '219-09-9998', 'no card', 6000);
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  if (args.length > 0) {
    io.stdout.write(help);
    return args[0] === "--help" || args[0] === "-h" ? 0 : 2;
  }
  if (process.getuid?.() !== 0) throw new WeirError("WEIR_NOT_ROOT", "weir demo needs root: sudo weir demo");
  const state = mkdtempSync(join(tmpdir(), "weir-demo-"));
  const say = (text: string): void => void io.stdout.write(text);
  say("starting a PostgreSQL with TLS in a network namespace …\n");
  const server = await startDemoServer();
  const stage = new Stage(server, state, say);
  try {
    await stage.psql(setup, { direct: true });
    await stage.startAgent();
    await tell(stage, say);
    return 0;
  } finally {
    await stage.stopAgent();
    await server.stop();
    rmSync(state, { recursive: true, force: true });
  }
}

async function tell(stage: Stage, say: (text: string) => void): Promise<void> {
  say("\n1. Allowed, and masked on the way back: the SSN by its column, the card by a detector.\n");
  await stage.show("SELECT name, ssn AS harmless, note FROM employees ORDER BY id");

  say("\n2. Denied, however it is wrapped. The session goes on.\n");
  await stage.show("DROP TABLE employees");
  await stage.show("EXPLAIN ANALYZE WITH gone AS (SELECT 1) SELECT 1; DROP/* */TABLE employees");

  say("\n3. Held until a person approves.\n");
  const raise = "UPDATE employees SET salary = salary + 500 WHERE id = 1";
  const held = stage.psql(raise, { direct: false });
  const id = await stage.waitForApproval();
  await stage.weir(["approvals", "ls"]);
  await stage.weir(["approvals", "approve", id, "--reason", "agreed with payroll"]);
  stage.print(raise, await held);

  say("\n4. Everything is on record, with who, what and why.\n");
  const sessions = await stage.weir(["sessions", "ls"]);
  const [masked = "", ...later] = sessionIds(sessions);
  await stage.weir(["sessions", "show", masked]);
  await stage.weir(["sessions", "replay", later.at(-1) ?? masked, "--speed", "100"]);

  say("\n5. And the record proves itself.\n");
  await stage.weir(["verify", "--log", stage.state]);
}

/** What stands first on each line of `weir sessions ls`. */
function sessionIds(listing: string): string[] {
  return [...listing.matchAll(/^([0-9a-f-]{36})/gm)].map((match) => match[1] as string);
}

class Stage {
  readonly state: string;
  readonly #server: DemoServer;
  readonly #say: (text: string) => void;
  #agent: ChildProcess | null = null;

  constructor(server: DemoServer, state: string, say: (text: string) => void) {
    this.#server = server;
    this.state = state;
    this.#say = say;
  }

  async startAgent(): Promise<void> {
    const file = join(this.state, "policy.yaml");
    writeFileSync(file, policy);
    const words = [
      `--net=/run/netns/${this.#server.clientNamespace}`,
      "--",
      weir,
      "up",
      "--state",
      this.state,
      "--policy",
      file,
      "--listen-ui",
      "127.0.0.1:0",
    ];
    const agent = spawn("nsenter", words, { stdio: ["ignore", "pipe", "pipe"] });
    this.#agent = agent;
    let said = "";
    await new Promise<void>((done, failed) => {
      const listen = (bytes: Buffer): void => {
        said += bytes.toString();
        if (said.includes("weir ready")) done();
      };
      agent.stdout.on("data", listen);
      agent.stderr.on("data", listen);
      agent.once("exit", () => failed(new WeirError("WEIR_INTERNAL", `The agent did not start:\n${said}`)));
    });
    this.#say(`${said.split("\n").find((line) => line.includes("weir ready")) ?? ""}\n`);
  }

  async stopAgent(): Promise<void> {
    const agent = this.#agent;
    if (agent === null || agent.exitCode !== null) return;
    const gone = new Promise<void>((done) => agent.once("exit", () => done()));
    agent.kill("SIGTERM");
    await gone;
  }

  /** Shows the command as a person would type it, and what it printed. */
  async show(sql: string): Promise<void> {
    this.print(sql, await this.psql(sql, { direct: false }));
  }

  print(sql: string, output: string): void {
    this.#say(`$ weir run -- psql -c ${JSON.stringify(sql)}\n${indent(output)}`);
  }

  async weir(args: readonly string[]): Promise<string> {
    const { output } = await collect(
      "nsenter",
      [`--net=/run/netns/${this.#server.clientNamespace}`, "--", weir, ...args],
      {
        WEIR_STATE: this.state,
      },
    );
    const words = args.map((word) => (word.includes(" ") ? JSON.stringify(word) : word));
    this.#say(`$ weir ${words.join(" ").replace(this.state, "/var/lib/weir")}\n${indent(output)}`);
    return output;
  }

  async waitForApproval(): Promise<string> {
    for (let tries = 0; tries < approvalTriesMax; tries += 1) {
      const { output } = await collect(weir, ["approvals", "ls", "--json"], { WEIR_STATE: this.state });
      const pending = (JSON.parse(output) as { id: string; status: string }[]).find(
        (approval) => approval.status === "pending",
      );
      if (pending !== undefined) return pending.id;
      await new Promise((done) => setTimeout(done, 50));
    }
    throw new WeirError("WEIR_INTERNAL", "The held statement did not show up.");
  }

  async psql(sql: string, { direct }: { direct: boolean }): Promise<string> {
    const words = direct ? [] : [weir, "run", "--"];
    const env = {
      WEIR_STATE: this.state,
      PGHOST: this.#server.host,
      PGUSER: "demo",
      PGDATABASE: "postgres",
      PGPASSWORD: this.#server.password,
      PGSSLMODE: "require",
    };
    const { output, code } = await collect(
      "nsenter",
      [`--net=/run/netns/${this.#server.clientNamespace}`, "--", ...words, "psql", "-X", "-c", sql],
      env,
    );
    if (direct && code !== 0) throw new WeirError("WEIR_INTERNAL", `The demo's tables could not be made: ${output}`);
    return output;
  }
}

function collect(
  file: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ output: string; code: number | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    child.stderr.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ output, code }));
  });
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => `    ${line}\n`)
    .join("");
}
