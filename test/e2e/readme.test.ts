/** What README claims: its commands print what it shows. Names, times and ids of a run are taken out on both sides. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { loadPolicy } from "../../agent/policy/index.ts";
import { startTestAgent } from "../support/agent.ts";
import { sdkMissing, startAimock } from "../support/aimock.ts";
import { makeNamespacePair } from "../support/namespace.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const readme = readFileSync(resolve(root, "README.md"), "utf8");

function block(name: string): string {
  const found = new RegExp(`<!-- ${name} -->\n\`\`\`[a-z]+\n([\\s\\S]*?)\`\`\``).exec(readme)?.[1];
  assert.ok(found !== undefined, `README has no block ${name}`);
  return found;
}

/** Ids, addresses, times, pids and durations differ from run to run. */
function settled(line: string): string {
  return line
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "SESSION")
    .replace(/\b[a-z2-7]{8}\b(?= {2}pending| approved|$| by rule)/g, "APPROVAL")
    .replace(/(approve) [a-z2-7]{8}/g, "$1 APPROVAL")
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+/g, "TIME")
    .replace(/\d+\.\d+\.\d+\.\d+:\d+/g, "ADDRESS")
    .replace(/\[\d+\]|pid \d+/g, "PID")
    .replace(/[\d.]+ ms/g, "MS")
    .replace(/\/usr\/lib\/postgresql\/\d+/g, "POSTGRESQL")
    .replace(/ The last \d+ .*signed\.$/, "")
    .replace(/\d+ (entries|signed heads)/g, "N $1");
}

test("weir demo tells the story that README shows", {
  skip: process.getuid?.() === 0 ? false : "needs root",
}, async () => {
  const { stdout } = await run(resolve(root, "scripts/weir"), ["demo"], { maxBuffer: 1 << 24 });
  const printed = new Set(stdout.split("\n").map(settled));
  for (const line of block("demo")
    .split("\n")
    .filter((text) => text !== "")) {
    assert.ok(printed.has(settled(line)), `README shows, and the demo does not print:\n${settled(line)}\n\n${stdout}`);
  }
});

for (const name of ["explain", "explain-mcp"]) {
  test(`the explanation is what the command prints: ${name}`, async () => {
    const [command = "", ...wanted] = block(name).trimEnd().split("\n");
    const { stdout } = await run(resolve(root, "scripts/weir"), wordsOf(command.replace("$ weir ", "")), {
      cwd: root,
    }).catch((error: { stdout: string }) => error);
    assert.equal(stdout.trimEnd(), wanted.join("\n"));
  });
}

/** As a shell splits them. */
function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

test("a prompt is denied and redacted as README shows", {
  skip: process.getuid?.() === 0 ? (sdkMissing() ?? false) : "needs root",
}, async (t) => {
  const net = await makeNamespacePair("readme");
  t.after(() => net.remove());
  const mock = await startAimock(net.b);
  t.after(() => mock.stop());
  const policy = block("llm-policy").replace("hosts: [api.openai.com]", `$&, tls: { ca: ${mock.caFile} }`);
  assert.notEqual(policy, block("llm-policy"));
  const env = { OPENAI_KEY: "sk-of-weir" };
  const agent = await startTestAgent({ namespace: net.a, wrap: mock.withNames([]), policy, env });
  t.after(() => agent.remove());
  const [command = "", wanted] = block("llm").trimEnd().split("\n");
  const words = wordsOf(command.replace("$ weir run -- ", ""));
  assert.equal((await agent.run(words)).stdout, wanted);
  assert.deepEqual(await mock.requests(), [], "nothing of it was sent");
  const secret =
    '{"model":"gpt-4o","messages":[{"role":"user","content":"ada@example.org paid with 4111 1111 1111 1111"}]}';
  await agent.run([...words.slice(0, -1), secret]);
  const [seen] = await mock.requests();
  assert.equal(seen?.body, block("llm-upstream").trimEnd());
  assert.equal(seen?.headers["authorization"], "Bearer sk-of-weir");
});

test("the policy loads", () => {
  const loaded = loadPolicy([{ file: "README.md", text: block("policy") }]);
  assert.ok("policy" in loaded, JSON.stringify(loaded));
});

test("every command and file that README names is there", async () => {
  const { stdout } = await run(resolve(root, "scripts/weir"), ["--help"]);
  for (const [, name] of readme.matchAll(/^ {4}weir ([a-z]+)/gm))
    assert.match(stdout, new RegExp(`weir ${name} `), name);
  for (const [, path] of readme.matchAll(/\]\(([^)]+)\)/g)) readFileOrList(resolve(root, path as string));
});

function readFileOrList(path: string): void {
  assert.doesNotThrow(() => {
    try {
      readFileSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EISDIR") throw error;
    }
  }, path);
}
