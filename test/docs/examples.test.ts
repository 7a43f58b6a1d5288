/**
 * What docs/ shows is so: each YAML is a policy that `weir policy check` takes, or settings that their own reader takes; what
 * names a file of policies/ stands in it as shown, where its cases run; and commands print what stands below them.
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, describe, test } from "node:test";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import { loadPolicy } from "../../agent/policy/index.ts";
import { readSignInSettings } from "../../controller/identity/settings.ts";
import { readNotifySettings } from "../../controller/notify/settings.ts";

const root = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);
const dir = mkdtempSync(join(tmpdir(), "weir-docs-"));
after(() => rmSync(dir, { recursive: true, force: true }));

interface Block {
  readonly page: string;
  readonly heading: string;
  readonly language: string;
  readonly text: string;
}

const pages = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" }).filter((file) =>
  file.endsWith(".md"),
);
const blocks = pages.flatMap(blocksOf);

function blocksOf(page: string): Block[] {
  const found: Block[] = [];
  let heading = "";
  let open: { language: string; lines: string[] } | null = null;
  for (const line of readFileSync(join(root, "docs", page), "utf8").split("\n")) {
    if (open !== null && line.startsWith("```")) {
      found.push({ page, heading, language: open.language, text: `${open.lines.join("\n")}\n` });
      open = null;
    } else if (open !== null) open.lines.push(line);
    else if (line.startsWith("```")) open = { language: line.slice(3), lines: [] };
    else if (/^#+ /.test(line)) heading = line.replace(/^#+ /, "");
  }
  return found;
}

const yaml = blocks.filter(({ language }) => language === "yaml");
const policyKeys = ["apiVersion", "mode", "defaults", "record", "detectors", "identity", "targets", "rules"];
type Parts = Record<string, unknown>;

/** A list is rules; a map of other names is targets. */
function partsOf(text: string): Parts {
  const value: unknown = parse(text);
  if (Array.isArray(value)) return { rules: value };
  return Object.keys(value as Parts).every((key) => policyKeys.includes(key)) ? (value as Parts) : { targets: value };
}

describe("each YAML in docs/", () => {
  assert.ok(yaml.length > 20);
  for (const block of yaml) {
    const { page, heading, text } = block;
    const name = `${page}: ${heading}: ${text.split("\n")[0]}`;
    const file = /`(policies\/[\w/.-]+\.yaml)`/.exec(heading)?.[1];
    if (file !== undefined)
      test(`${name} stands in ${file}`, () => {
        const whole = parse(readFileSync(join(root, file), "utf8")) as Parts;
        for (const [key, value] of Object.entries(partsOf(text))) {
          if (!Array.isArray(value)) assert.deepEqual(pick(whole[key] as Parts, value as Parts), value);
          else
            for (const rule of value)
              assert.deepEqual(
                (whole[key] as Parts[]).find((one) => one["name"] === rule.name),
                rule,
              );
        }
      });
    else if (/^link:/m.test(text))
      test(name, () => assert.equal(readNotifySettings(...settings(text)).channels.length, 4));
    else if (/^origin:/m.test(text)) test(name, () => assert.ok(readSignInSettings(...settings(text)).origin));
    else
      test(`${name} is a policy`, () => {
        const loaded = loadPolicy([{ file: page, text: stringify({ apiVersion: "weir/v1", ...partsOf(text) }) }]);
        assert.ok("policy" in loaded, "errors" in loaded ? loaded.errors.join("\n") : "");
      });
  }
});

function pick(from: Parts, like: Parts): Parts {
  return Object.fromEntries(Object.keys(like).map((key) => [key, from[key]]));
}

/** Files that the settings name hold what such a file may hold. */
function settings(text: string): [string, NodeJS.ProcessEnv] {
  const [key, certificate] = [join(dir, "saml.key"), join(dir, "saml.pem")];
  if (text.includes("saml.key"))
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=weir", "-keyout", key, "-out", certificate],
      { stdio: "ignore" },
    );
  const secret = (name: string): string => {
    const path = join(dir, name);
    if (path === key || path === certificate) return path;
    writeFileSync(path, name === "smtp-url" ? "smtps://weir:x@mail.example.org" : "https://hooks.example.org/weir\n");
    return path;
  };
  const file = join(dir, "settings.yaml");
  writeFileSync(
    file,
    text.replaceAll(/\/(?:run\/secrets|etc\/weir)\/([\w.-]+)/g, (_, name: string) => secret(name)),
  );
  return [file, { TEAMS_HOOK: "https://teams.example.org/weir" }];
}

test("the templates pass the commands that their page names", async () => {
  const files = readdirSync(join(root, "policies/templates")).filter((file) => !file.includes(".cases."));
  assert.deepEqual(files, ["ai-agents.yaml", "gdpr.yaml", "pci.yaml", "secrets.yaml"]);
  const page = readFileSync(join(root, "docs/cookbook.md"), "utf8");
  for (const file of files)
    assert.ok(page.includes(`\`policies/templates/${file}\``), `docs/cookbook.md does not show ${file}`);
  // The cases of all four are run by test/policies/cases.test.ts; these are the commands themselves.
  assert.match((await weir(["policy", "check", "policies/templates/pci.yaml"], root)).stdout, /^ok: /);
  assert.match(
    (await weir(["policy", "test", "policies/templates/pci.yaml"], root)).stdout,
    /^(\d+) of \1 cases hold/m,
  );
});

test("commands of docs/ print what stands below them", async () => {
  let shown = 0;
  for (const block of blocks.filter(
    ({ language, text }) => language === "console" && text.startsWith("$ weir policy"),
  )) {
    const policy = blocks.find(
      ({ page, language, text }) => page === block.page && language === "yaml" && text.startsWith("apiVersion"),
    );
    writeFileSync(join(dir, "shop.yaml"), policy?.text ?? "");
    for (const part of block.text.split(/^\$ weir /m).slice(1)) {
      const [words = "", ...lines] = part.trimEnd().split("\n");
      const { stdout } = await weir(
        [...words.matchAll(/"([^"]*)"|(\S+)/g)].map(([, a, b]) => a ?? b ?? ""),
        dir,
      );
      const wanted = lines
        .join("\n")
        .split("…")
        .map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      assert.match(stdout.trimEnd(), new RegExp(`^${wanted.join(".*")}$`), `${block.page}: weir ${words}`);
      shown += 1;
    }
  }
  assert.ok(shown >= 2);
});

async function weir(words: string[], cwd: string): Promise<{ stdout: string }> {
  // What is not allowed is told by exit code 1, too.
  return run(join(root, "scripts/weir"), words, { cwd }).catch((error: { stdout: string }) => error);
}
