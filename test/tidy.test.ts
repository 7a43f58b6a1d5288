/** The repository tests itself: import directions, orphans, sizes, and that what must stand beside code does. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "..");
const files = [...walk("agent"), ...walk("controller")].filter((file) => file.endsWith(".ts"));

function* walk(dir: string): Generator<string> {
  for (const entry of readdirSync(join(root, dir), { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else yield path;
  }
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(/^(?:import|export)\s[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm)].map(
    (m) => (m[1] ?? m[2]) as string,
  );
}

function local(file: string, specifier: string): string | null {
  return specifier.startsWith(".") ? relative(root, resolve(root, dirname(file), specifier)) : null;
}

/** `agent/wire/postgres/x.ts` → `wire`. */
function partOf(file: string): string {
  const [top, part] = file.split("/");
  return top === "controller" ? "controller" : part?.endsWith(".ts") ? "top" : (part ?? "top");
}

const pureFiles = (file: string): boolean =>
  ["core", "wire", "policy", "mask", "anomaly"].includes(partOf(file)) ||
  file.startsWith("agent/record/schemas") ||
  file === "agent/record/chain.ts";

/** Who may import whom; `core` and `errors.ts` are open to all. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: ["core"],
  wire: ["wire", "mask"],
  mask: ["mask"],
  anomaly: ["anomaly"],
  policy: ["policy"],
  record: ["record", "files"],
  kernel: ["kernel"],
  accept: ["accept"],
  tls: ["tls", "files"],
  files: ["files"],
  trust: ["trust"],
  control: ["control"],
  identity: ["identity", "files"],
  kafka: ["kafka", "record"],
  publish: ["publish", "kafka", "record", "files"],
  archive: ["archive", "record", "publish", "forward", "wire"],
  forward: ["forward", "record", "publish", "files"],
  health: ["health", "record"],
  otlp: ["otlp", "health", "record", "publish"],
  act: ["act", "wire", "mask", "policy", "anomaly", "files"],
};

test("imports follow the declared directions", () => {
  for (const file of files) {
    const from = partOf(file);
    const may = allowed[from];
    if (may === undefined) continue;
    for (const specifier of importsOf(file)) {
      const to = local(file, specifier);
      if (to === null || to === "agent/errors.ts") continue;
      const part = partOf(to);
      assert.ok(
        part === "core" || may.includes(part),
        `${file} imports ${to}: ${from} may import ${["core", ...may].join(", ")}`,
      );
    }
  }
});

/** What goes over HTTP stands on it, and streams of events on `sse`: the one stack that is declared. */
const stack: Readonly<Record<string, readonly string[]>> = {
  http1: ["http"],
  sse: [],
  websocket: ["http"],
  llm: ["http", "sse", "websocket"],
  mcp: ["http", "sse"],
  grpc: ["http"],
};

test("a protocol never imports another", () => {
  for (const file of files.filter((f) => /^agent\/wire\/[^/]+\//.test(f))) {
    const folder = file.split("/")[2] as string;
    for (const specifier of importsOf(file)) {
      const to = local(file, specifier);
      if (to === null || !/^agent\/wire\/[^/]+\//.test(to)) continue;
      const other = to.split("/")[2] as string;
      assert.ok(other === folder || stack[folder]?.includes(other), `${file} imports ${to}`);
    }
  }
});

test("pure parts touch no socket, file, clock or randomness", () => {
  const forbidden = /^node:(net|tls|fs|http|https|http2|dns|dgram|child_process|os|timers|worker_threads)/;
  const impure =
    /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bperformance\.now\(|\brandomBytes\(|\bsetTimeout\(|\bprocess\.(env|hrtime)/;
  for (const file of files.filter(pureFiles)) {
    for (const specifier of importsOf(file)) assert.doesNotMatch(specifier, forbidden, `${file} imports ${specifier}`);
    const found = impure.exec(stripComments(readFileSync(join(root, file), "utf8")));
    assert.equal(found, null, `${file} uses ${found?.[0]}`);
  }
});

test("the controller knows nothing of the agent but core, errors, the record and the way to Kafka", () => {
  for (const file of files.filter((f) => f.startsWith("controller/"))) {
    for (const specifier of importsOf(file)) {
      const to = local(file, specifier);
      if (to === null || to.startsWith("controller/")) continue;
      assert.match(to, /^agent\/(core\/|errors\.ts|record\/|kafka\/)/, `${file} imports ${to}`);
    }
  }
});

test("only policy/decide.ts makes a permit", () => {
  for (const file of files) {
    const text = readFileSync(join(root, file), "utf8");
    if (file !== "agent/policy/decide.ts")
      assert.doesNotMatch(text, /\bas (unknown as )?Permit\b/, `${file} casts to Permit`);
  }
});

test("functions of a connection or a message are named before they are kept: V8 makes them old otherwise", () => {
  // docs/decisions/0019-what-grows-old.md
  const literal = /(?<![=!<>])\.#?\w+ =\s+(?:async )?(?:function\b|\([^()]*\)(?:: [^=;]+)? =>|\w+ =>)/;
  const handling = files.filter((file) => ["accept", "act", "mask", "tls", "wire"].includes(partOf(file)));
  for (const file of [...handling, "agent/flows.ts"]) {
    const found = literal.exec(stripComments(readFileSync(join(root, file), "utf8")));
    assert.equal(found, null, `${file}: ${found?.[0]}`);
  }
});

test("each protocol has a README, vectors and the contract test", () => {
  const registry = readFileSync(join(root, "agent/wire/registry.ts"), "utf8");
  const contract = readFileSync(join(root, "test/agent/wire/contract.test.ts"), "utf8");
  assert.match(contract, /registry/);
  for (const entry of readdirSync(join(root, "agent/wire"), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    assert.ok(
      existsSync(join(root, "agent/wire", entry.name, "README.md")),
      `agent/wire/${entry.name} has no README.md`,
    );
    // A format that only others read, like SSE, is reached by them and not by name.
    const carried = Object.values(stack).some((below) => below.includes(entry.name));
    if (!carried)
      assert.match(registry, new RegExp(`\\./${entry.name}/`), `agent/wire/${entry.name} is not in the registry`);
    assert.ok(
      existsSync(join(root, "test/vectors", entry.name, "SOURCE.md")),
      `test/vectors/${entry.name} says no source`,
    );
  }
});

test("files hold one thing: none is longer than 700 lines", () => {
  const tracked = execFileSync("git", ["-C", root, "ls-files", "*.ts", "*.c"], { encoding: "utf8" })
    .split("\n")
    .filter(Boolean);
  for (const file of tracked) {
    if (!existsSync(join(root, file)) || statSync(join(root, file)).isDirectory()) continue;
    const lines = readFileSync(join(root, file), "utf8").split("\n").length;
    assert.ok(lines <= 700, `${file} has ${lines} lines`);
  }
});

test("nothing of a machine or a registry stands in a tracked file", () => {
  const lock = readFileSync(join(root, "package-lock.json"), "utf8");
  assert.doesNotMatch(lock, /"resolved"/);
  const tracked = execFileSync("git", ["-C", root, "ls-files"], { encoding: "utf8" }).split("\n").filter(Boolean);
  for (const file of tracked.filter(
    (f) => /\.(ts|md|c|h|json|yaml)$|^scripts\//.test(f) && f !== "test/tidy.test.ts",
  )) {
    if (!existsSync(join(root, file))) continue;
    const text = readFileSync(join(root, file), "utf8");
    assert.doesNotMatch(text, /(^|[^A-Za-z0-9_.])\/work\//m, `${file} names a path of one machine`);
    assert.doesNotMatch(text, /registry\.npmjs|repo1\.maven|deb\.debian\.org/, `${file} names a registry`);
  }
});

test("every error code is used, and every code used is in the table", () => {
  const table = [...readFileSync(join(root, "agent/errors.ts"), "utf8").matchAll(/^ {2}(WEIR_[A-Z0-9_]+):/gm)].map(
    (m) => m[1] as string,
  );
  const text = files
    .filter((f) => f !== "agent/errors.ts")
    .map((f) => readFileSync(join(root, f), "utf8"))
    .join("\n");
  for (const code of table) assert.ok(text.includes(`"${code}"`) || text.includes(code), `${code} is never used`);
});

function stripComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
}
