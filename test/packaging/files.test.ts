/**
 * The files that others read, against what these others say of them: schemas of GitLab, GitHub, Compose and Kubernetes,
 * Ansible's and Vagrant's own checks, shellcheck. Each check is shown to refuse a broken copy, too.
 */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, describe, test } from "node:test";
import { parse, stringify } from "yaml";

const root = resolve(import.meta.dirname, "../..");
const packaging = join(root, "packaging");
const venv = join(root, "build/venv/bin");
const dir = mkdtempSync(join(tmpdir(), "weir-files-"));
after(() => rmSync(dir, { recursive: true, force: true }));

const pythonTool = (name: string): string | false =>
  existsSync(join(venv, name)) ? false : `${name} is not installed: run scripts/setup --dev`;
const command = (name: string): string | false =>
  spawnSync("sh", ["-c", `command -v ${name}`]).status === 0
    ? false
    : `${name} is not installed: run scripts/setup --dev`;

interface Check {
  readonly what: string;
  readonly skip: string | false;
  readonly file: string;
  readonly asRead?: (text: string) => string;
  readonly words: (file: string) => string[];
  /** What makes of the file one that is wrong. */
  readonly broken: readonly [from: string | RegExp, to: string];
}

const schema = (name: string) => (file: string) => [
  join(venv, "check-jsonschema"),
  "--builtin-schema",
  `vendor.${name}`,
  file,
];
const kubernetes = (file: string) => [join(venv, "kubernetes-validate"), "--strict", "--quiet", file];
const checks: Check[] = [
  {
    what: "GitLab's schema",
    skip: pythonTool("check-jsonschema"),
    file: "gitlab/weir.yml",
    // A name with a dot is a template, which nobody checks: the job that extends it is.
    asRead: (text) => {
      const { ".weir": template } = parse(text);
      return stringify({ test: { ...template, script: ["make test"] } });
    },
    words: schema("gitlab-ci"),
    broken: ["when: always", "when: sometimes"],
  },
  ...["github-action/action.yml", "github-action/finish/action.yml"].map(
    (file): Check => ({
      what: "GitHub's schema of actions",
      skip: pythonTool("check-jsonschema"),
      file,
      words: schema("github-actions"),
      broken: ["using: composite", "using: shell"],
    }),
  ),
  {
    what: "GitHub's schema of workflows, in what it shows",
    skip: pythonTool("check-jsonschema"),
    file: "github-action/README.md",
    asRead: (text) => `on: push\n${/```yaml\n(jobs:[\s\S]*?)```/.exec(text)?.[1]}`,
    words: schema("github-workflows"),
    broken: ["runs-on:", "runsOn:"],
  },
  {
    what: "the Compose specification",
    skip: pythonTool("check-jsonschema"),
    file: "compose/compose.yaml",
    words: schema("compose-spec"),
    broken: ["cap_add:", "capabilities:"],
  },
  ...["kubernetes/sidecar.yaml", "kubernetes/daemonset.yaml"].map(
    (file): Check => ({
      what: "the API of Kubernetes, strictly",
      skip: pythonTool("kubernetes-validate"),
      file,
      words: kubernetes,
      broken: ["volumeMounts:", "volumesMounted:"],
    }),
  ),
];

describe("packaging/", () => {
  for (const { what, skip, file, asRead, words, broken } of checks)
    test(`${file} keeps to ${what}`, { skip }, async () => {
      const text = readFileSync(join(packaging, file), "utf8");
      const copy = join(dir, `${file.replaceAll("/", "-")}.yaml`);
      const check = (content: string) => {
        writeFileSync(copy, asRead?.(content) ?? content);
        return run(words(copy));
      };
      const good = await check(text);
      assert.equal(good.code, 0, good.output);
      const wrong = text.replace(...broken);
      assert.notEqual(wrong, text);
      assert.notEqual((await check(wrong)).code, 0, "a broken one would have been seen");
    });

  test("ansible: the playbook and its role are read by ansible-playbook", {
    skip: pythonTool("ansible-playbook"),
  }, async () => {
    const copy = join(dir, "ansible");
    cpSync(join(packaging, "ansible"), copy, { recursive: true });
    const words = [join(venv, "ansible-playbook"), "--syntax-check", "-i", "localhost,", "site.yml"];
    const good = await run(words, copy);
    assert.equal(good.code, 0, good.output);
    assert.match(good.output, /playbook: site\.yml/);
    const tasks = join(copy, "roles/weir/tasks/main.yml");
    writeFileSync(tasks, readFileSync(tasks, "utf8").replace("ansible.builtin.apt:", "ansible.builtin.nothing:"));
    assert.notEqual((await run(words, copy)).code, 0);
  });

  test("shell scripts: shellcheck", { skip: command("shellcheck") }, async () => {
    const scripts = [
      ...["ci-start", "ci-finish", "firewall-closed", "ec2/user-data.sh", "debian/postinst", "debian/prerm"].map(
        (name) => join(packaging, name),
      ),
      ...["debian/postrm", "debian/copyright.sh"].map((name) => join(packaging, name)),
      ...readdirSync(join(root, "vagrant"))
        .filter((name) => !name.includes("."))
        .map((name) => join(root, "vagrant", name)),
    ];
    for (const script of scripts) assert.match(readFileSync(script, "utf8"), /^#!\/bin\/sh\n/, script);
    const ran = await run(["shellcheck", ...scripts]);
    assert.equal(ran.code, 0, ran.output);
  });

  // The steps of an action are shell in YAML, which nothing else looks at.
  test("shell in the actions and the GitLab include: shellcheck", { skip: command("shellcheck") }, async () => {
    for (const file of ["github-action/action.yml", "github-action/finish/action.yml", "gitlab/weir.yml"]) {
      const value = parse(readFileSync(join(packaging, file), "utf8"));
      const scripts: string[] = [
        ...(value.runs?.steps ?? []).map(({ run: script }: { run: string }) => script),
        ...[value[".weir"]]
          .filter(Boolean)
          .flatMap((job) => [job.before_script.join("\n"), job.after_script.join("\n")]),
      ];
      assert.ok(scripts.length > 0);
      for (const [at, script] of scripts.entries()) {
        const copy = join(dir, `step-${at}.sh`);
        writeFileSync(copy, script);
        // SC2154: variables of the runner.
        const ran = await run(["shellcheck", "--shell=bash", "--exclude=SC2154", copy]);
        assert.equal(ran.code, 0, `${file}: ${ran.output}`);
      }
    }
  });

  test("the Vagrantfile: vagrant validate", { skip: command("vagrant") }, async () => {
    const good = await run(["vagrant", "validate", "--ignore-provider"], root, { VAGRANT_HOME: join(dir, "vagrant") });
    assert.equal(good.code, 0, good.output);
    assert.match(good.output, /validated successfully/);
    for (const name of ["audit", "db", "mock", "runner"]) assert.match(good.output, new RegExp(`==> ${name}:`));
  });
});

function run(words: string[], cwd = root, env: NodeJS.ProcessEnv = {}): Promise<{ code: number; output: string }> {
  return new Promise((done) => {
    const [program = "", ...rest] = words;
    const { PATH } = process.env;
    // No look-ups elsewhere, and nothing below a home directory.
    const child = execFile(
      program,
      rest,
      { cwd, env: { PATH, HOME: dir, LC_ALL: "C.UTF-8", ANSIBLE_LOCALHOST_WARNING: "false", ...env } },
      (_, stdout, stderr) => done({ code: child.exitCode ?? 1, output: stdout + stderr }),
    );
  });
}
