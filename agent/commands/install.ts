/** `weir install`: the agent as a service of this host, behind a firewall that outlives it. */
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { readConfig, readPolicyFiles } from "../config.ts";
import { WeirError } from "../errors.ts";
import { loadPolicy } from "../policy/index.ts";
import { openAuthority } from "../tls/authority.ts";
import { readArguments } from "./arguments.ts";
import {
  changeOf,
  filesToPlace,
  manifestPath,
  place,
  policyDirectory,
  prefix,
  readManifest,
  settingsPath,
  units,
} from "./install/files.ts";
import { isActive, isBooted, systemctl } from "./install/systemd.ts";
import { type CommandIo, defaultStateDir } from "./io.ts";
import { run as trust } from "./trust.ts";

export const help = `weir install [options]

Makes Weir a service of this host. In this order:

  1. checks the policy
  2. places /etc/weir (settings, policy, closed rules) and two systemd units
  3. makes the certificate authority and puts it into the host's trust stores (see weir trust --help)
  4. closes the host's firewall (weir-firewall.service, before the network from now on at each boot)
  5. starts the agent (weir.service), which opens what the policy names

From then on everything that leaves the host is decided, whoever starts it. Connections that are open and went out are
ended; those that came in, such as your ssh, go on. A stopped or killed agent leaves the host closed.
Run it again after an upgrade: units are renewed and the agent is started anew; the host is closed in between.

  --policy FILE|DIR         policy, repeatable (default: /etc/weir/policy, filled from policies/defaults)
  --scope host|run|cgroup:PATH
                            who is governed (default host)
  --on-failure closed|open  what happens when the agent is down (default closed)
  --no-trust                leaves the trust stores alone
  --no-start                places the files only; the next boot starts the service
  --root DIR                another root directory than /, for images; implies --no-start
  --dry-run                 says what would be done, and does nothing
`;

const defaultPolicies = join(prefix, "policies/defaults");

interface Options {
  readonly root: string;
  readonly start: boolean;
  readonly trust: boolean;
  readonly dryRun: boolean;
}

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      policy: { type: "string", multiple: true },
      scope: { type: "string" },
      "on-failure": { type: "string" },
      "no-trust": { type: "boolean", default: false },
      "no-start": { type: "boolean", default: false },
      root: { type: "string", default: "/" },
      "dry-run": { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const { scope = "host", "on-failure": onFailure = "closed", policy = null } = values;
  if (!/^(host|run|cgroup:\/.*)$/.test(scope)) throw new WeirError("WEIR_USAGE", `--scope ${scope}: see --help.`);
  if (!/^(closed|open)$/.test(onFailure)) throw new WeirError("WEIR_USAGE", `--on-failure ${onFailure}: see --help.`);
  const isAgain = existsSync(join(values.root, settingsPath));
  if (isAgain && (values.scope !== undefined || values["on-failure"] !== undefined || policy !== null))
    throw new WeirError(
      "WEIR_USAGE",
      `${settingsPath} is there already; change it there, then: systemctl restart weir`,
    );
  if (!values["dry-run"] && process.getuid?.() !== 0)
    throw new WeirError("WEIR_NOT_ROOT", "weir install changes the host, which needs root: sudo weir install.");
  const options: Options = {
    root: values.root,
    start: !values["no-start"] && values.root === "/",
    trust: !values["no-trust"] && readManifest(values.root)?.trust !== false,
    dryRun: values["dry-run"],
  };
  const paths = policy?.map((path) => resolve(path)) ?? null;
  return install(options, { scope, onFailure, policy: paths }, io);
}

async function install(
  options: Options,
  settings: { scope: string; onFailure: string; policy: string[] | null },
  io: CommandIo,
): Promise<number> {
  const { root, start } = options;
  // Before anything is changed: a policy that cannot be used would leave a host that nothing may leave.
  const policies = settings.policy ?? policyInForce(root);
  // None: it comes over Kafka, and the agent starts with the one that it kept.
  const loaded = policies.length === 0 ? null : loadPolicy(readPolicyFiles(policies));
  if (loaded !== null && "errors" in loaded) {
    const [first] = loaded.errors;
    throw new WeirError(
      "WEIR_POLICY_INVALID",
      `The policy cannot be used: ${JSON.stringify(first)}. See weir policy check.`,
    );
  }
  if (start && !isBooted())
    throw new WeirError(
      "WEIR_KERNEL_UNSUPPORTED",
      "No systemd runs here. `weir install --no-start` places the files; `weir up --scope host` runs without systemd.",
    );
  const files = filesToPlace(root, settings);
  const stateDir = join(root, defaultStateDir);
  const steps: { readonly say: string; do(): unknown }[] = [];
  for (const file of files) {
    const change = changeOf(root, file);
    if (change !== null) steps.push({ say: `${change === "new" ? "place" : "renew"} ${file.path}`, do: () => {} });
  }
  steps.push({ say: `list them in ${manifestPath}`, do: () => place(root, files, options.trust) });
  if (options.trust) {
    steps.push({
      say: "put the certificate authority into the trust stores",
      do: async () => {
        mkdirSync(stateDir, { recursive: true, mode: 0o711 });
        await openAuthority(stateDir);
        await trust(["install", "--state", stateDir, "--root", root], io);
      },
    });
  }
  if (start) {
    steps.push(
      { say: "systemctl daemon-reload", do: () => systemctl("daemon-reload") },
      // Not stopped before it is started: the rules of a running agent stay until the next one has its own.
      { say: "close the host: systemctl start weir-firewall", do: () => systemctl("start", "weir-firewall") },
      {
        say: `start the agent: systemctl ${isActive("weir") ? "restart" : "start"} weir`,
        do: () => systemctl("restart", "weir"),
      },
    );
  }
  for (const step of steps) {
    if (!options.dryRun) await step.do();
    io.stdout.write(`${options.dryRun ? "would " : ""}${step.say}\n`);
  }
  if (!options.dryRun) io.stdout.write(start ? started : `${units.join(", ")} start at the next boot\n`);
  return 0;
}

/** What is there already counts: an upgrade must not start with a policy that the operator has broken meanwhile. */
function policyInForce(root: string): readonly string[] {
  // One that was put there before the first install counts.
  if (!existsSync(join(root, settingsPath)))
    return [existsSync(join(root, policyDirectory)) ? join(root, policyDirectory) : defaultPolicies];
  const config = readConfig(["--config", join(root, settingsPath)], { policyDir: defaultPolicies, env: {} });
  // Placed with the files, where it is missing.
  const isMissing = (path: string): boolean => path === policyDirectory && !existsSync(join(root, path));
  return config.policyPaths.map((path) => (isMissing(path) ? defaultPolicies : join(root, path)));
}

const started = `weir is installed\n  what happens     journalctl -u weir, weir sessions\n  the policy       /etc/weir/policy (read again when it changes)\n  take it away     weir uninstall\n`;
