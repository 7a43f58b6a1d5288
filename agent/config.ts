/** The only reader of the agent's command line, environment and configuration file. Parsed once to a frozen value. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseDocument } from "yaml";
import { type RetentionSettings, readRetention, readSize } from "./archive/settings.ts";
import { controlSocketPath, defaultStateDir, instanceName } from "./commands/io.ts";
import { WeirError, whyUnread } from "./errors.ts";
import { policyIdDefault, policyIdShape } from "./kafka/policy-messages.ts";
import { type KafkaWords, kafkaHelp, kafkaOptions, type PublishConfig, readPublishConfig } from "./kafka/settings.ts";
import { readListenAddress } from "./listen-address.ts";
import { type OtlpSettings, otlpHelp, readOtlp } from "./otlp/settings.ts";

export type Scope =
  | { readonly kind: "run" }
  | { readonly kind: "host" }
  | { readonly kind: "cgroup"; readonly path: string };

export interface AgentConfig {
  /** Until the first policy has come, where one is followed over Kafka; none: nothing is let out until then. */
  readonly policyPaths: readonly string[];
  readonly scope: Scope;
  readonly stateDir: string;
  readonly onFailure: "closed" | "open";
  /** What an ordered end leaves behind: `closed` keeps the rules for the next start, as an installed service does. */
  readonly onStop: "closed" | "open";
  readonly ui: { readonly host: string; readonly port: number };
  /** Where `/metrics` and `/healthz` answer; null: nowhere. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  /** Where traces and metrics are sent; null: nowhere. */
  readonly otlp: OtlpSettings | null;
  /** Who ends TLS: the addon, where it loads, or node:tls alone. */
  readonly tls: "native" | "node";
  readonly controlSocket: string;
  /** When old parts of the record are taken out, and where they go; null: never. */
  readonly retention: RetentionSettings | null;
  /** Who cosigns the audit log's checkpoints: URL#VERIFIER-KEY. */
  readonly witnesses: readonly string[];
  /** File that says who is told of what waits; null: nobody. */
  readonly notify: string | null;
  /** File that says where people sign in to the page; null: the printed address alone lets in. */
  readonly signIn: string | null;
  /** Names this agent's chains, cgroups and pins. */
  readonly instance: string;
  /** Bytes of the record that Kafka may not have yet; without Kafka it says nothing. */
  readonly spoolBytesMax: number;
  /** Null: the record stays on this host. */
  readonly kafka: PublishConfig | null;
}

export const configHelp = `  --policy FILE|DIR         policy, repeatable (default: policies/defaults)
            kafka|kafka:ID  follow the policy ID (default "default") that controllers publish; files count until
                            the first one has come
  --scope run|host|cgroup:PATH
                            who is governed (default run: only what \`weir run\` starts)
  --state DIR               state directory (default ${defaultStateDir})
  --listen-ui ADDR:PORT     the web page (default 127.0.0.1:9347; port 0 takes a free one)
  --listen-metrics ADDR:PORT
                            /metrics for Prometheus and /healthz (default: none)
${otlpHelp}  --on-failure closed|open  what happens when the agent is down (default closed)
  --tls native|node         what ends TLS: the addon where it loads, or node:tls (default native; also WEIR_TLS)
  --witness URL#KEY         a \`weir witness\` that cosigns the audit log's checkpoints, repeatable
  --notify FILE             who is told of what waits: webhook, Slack, Teams, e-mail (docs/approvals.md)
  --sign-in FILE            where people sign in to the page: OpenID Connect, SAML (docs/identity.md)
  --retain-age 90d          take out parts of the record that are older (h, d, y); the proof stays
  --retain-size 50GiB       take out the oldest parts above this size (MiB, GiB, TiB)
  --archive DIR|s3://BUCKET/PREFIX
                            where such parts are kept (S3: credentials, AWS_REGION, AWS_ENDPOINT_URL from the environment)
  --on-stop open|closed     what an ordered end leaves: nothing (default), or the rules, closed, for the next start
${kafkaHelp}  --schema-registry URL     entries in the Confluent wire format, their schemas registered there
  --kafka-library NAME      platformatic (default) or kafkajs
  --spool-max 50GiB         what Kafka may not have yet (default 50GiB; MiB, GiB, TiB); from there on nothing is let through
  --controller-key FILE     public key of controllers (PEM) that may approve and revoke over Kafka, repeatable
  --policy-key FILE         public key (PEM) of who publishes policies, repeatable (default: the controllers')
  --config FILE             the same settings as YAML, in camel case: policy, listenUi, onFailure, kafkaCa, …
`;

const kafkaSettings = {
  ...kafkaOptions,
  "schema-registry": { type: "string" },
  "kafka-library": { type: "string" },
  "controller-key": { type: "string", multiple: true },
  "policy-key": { type: "string", multiple: true },
} as const;
const kafkaNames = Object.keys(kafkaSettings) as (keyof typeof kafkaSettings)[];
const options = {
  policy: { type: "string", multiple: true },
  scope: { type: "string" },
  state: { type: "string" },
  "listen-ui": { type: "string" },
  "listen-metrics": { type: "string" },
  otlp: { type: "string" },
  "on-failure": { type: "string" },
  "on-stop": { type: "string" },
  tls: { type: "string" },
  witness: { type: "string", multiple: true },
  notify: { type: "string" },
  "sign-in": { type: "string" },
  "retain-age": { type: "string" },
  "retain-size": { type: "string" },
  archive: { type: "string" },
  "spool-max": { type: "string" },
  ...kafkaSettings,
} as const;
const settings = Object.keys(options).map(camelCase);
const lists: readonly string[] = Object.entries(options)
  .filter(([, option]) => "multiple" in option)
  .map(([name]) => camelCase(name));
type Settings = Readonly<Record<string, string | readonly string[] | undefined>>;

/** Throws WEIR_USAGE for a bad word, WEIR_CONFIG_INVALID for a bad file. */
export function readConfig(
  args: readonly string[],
  defaults: { policyDir: string; env: NodeJS.ProcessEnv },
): AgentConfig {
  const { values } = parse(args);
  const file: Settings = values.config === undefined ? {} : readConfigFile(values.config);
  const stateDir = resolve(values.state ?? text(file["state"]) ?? defaults.env["WEIR_STATE"] ?? defaultStateDir);
  const policies = values.policy ?? (file["policy"] === undefined ? undefined : [file["policy"]].flat());
  const { paths, followed } = readPolicies(policies ?? [defaults.policyDir]);
  const kafka = readPublishConfig(kafkaWords(values, file), followed, defaults.env);
  const spoolMax = values["spool-max"] ?? text(file["spoolMax"]);
  if (kafka === null && spoolMax !== undefined)
    throw new WeirError("WEIR_USAGE", "--spool-max says nothing without --kafka.");
  const metrics = values["listen-metrics"] ?? text(file["listenMetrics"]);
  return Object.freeze({
    policyPaths: paths,
    scope: readScope(values.scope ?? text(file["scope"]) ?? "run"),
    stateDir,
    onFailure: readOpenOrClosed("--on-failure", values["on-failure"] ?? text(file["onFailure"]) ?? "closed"),
    onStop: readOpenOrClosed("--on-stop", values["on-stop"] ?? text(file["onStop"]) ?? "open"),
    metrics: metrics === undefined ? null : readListenAddress("--listen-metrics", metrics, 9350),
    otlp: readOtlp(values.otlp ?? text(file["otlp"]), defaults.env),
    ui: readListenAddress("--listen-ui", values["listen-ui"] ?? text(file["listenUi"]) ?? "127.0.0.1:9347", 9347),
    tls: readTls(values.tls ?? text(file["tls"]) ?? defaults.env["WEIR_TLS"] ?? "native"),
    controlSocket: controlSocketPath(stateDir),
    retention: readRetention({
      age: values["retain-age"] ?? text(file["retainAge"]),
      size: values["retain-size"] ?? text(file["retainSize"]),
      archive: values.archive ?? text(file["archive"]),
    }),
    witnesses: values.witness ?? [file["witness"] ?? []].flat(),
    notify: pathOf(values.notify ?? text(file["notify"])),
    signIn: pathOf(values["sign-in"] ?? text(file["signIn"])),
    instance: instanceName(stateDir),
    spoolBytesMax: readSize("--spool-max", spoolMax ?? "50GiB"),
    kafka,
  });
}

/** The command line counts before the file. */
function kafkaWords(values: KafkaWords & Readonly<Record<string, unknown>>, file: Settings) {
  const words: Record<string, unknown> = {};
  for (const name of kafkaNames) {
    const given = values[name] ?? file[camelCase(name)];
    if (given === undefined) continue;
    if (kafkaSettings[name].type === "boolean") words[name] = given === true || given === "true";
    else words[name] = "multiple" in kafkaSettings[name] ? [given].flat() : given;
  }
  return words as Parameters<typeof readPublishConfig>[0];
}

/** `kafka` and `kafka:ID` are no files; one of that name is `./kafka`. */
function readPolicies(words: readonly string[]): { paths: string[]; followed: string | null } {
  const [files, ids] = [[] as string[], [] as string[]];
  for (const word of words) {
    if (word === "kafka") ids.push(policyIdDefault);
    else if (word.startsWith("kafka:")) ids.push(word.slice("kafka:".length));
    else files.push(resolve(word));
  }
  const [followed = null, second] = ids;
  if (second !== undefined) throw new WeirError("WEIR_USAGE", `--policy kafka:${second}: one policy can be followed.`);
  if (followed !== null && !policyIdShape.test(followed))
    throw new WeirError("WEIR_USAGE", `--policy kafka:${followed}: expected a name of a-z, 0-9 and "-".`);
  return { paths: files, followed };
}

function camelCase(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: { config: { type: "string" }, ...options },
    });
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function readConfigFile(path: string): Settings {
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${path}: cannot be read: ${whyUnread(cause)}.`, { cause });
  }
  const document = parseDocument(source);
  const first = document.errors[0];
  if (first !== undefined) throw new WeirError("WEIR_CONFIG_INVALID", `${path}: ${first.message}`);
  const value: unknown = document.toJS();
  if (value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${path}: a map of settings is expected.`);
  }
  for (const [key, setting] of Object.entries(value)) {
    if (!settings.includes(key)) {
      throw new WeirError("WEIR_CONFIG_INVALID", `${path}: unknown setting ${key}; there are ${settings.join(", ")}.`);
    }
    const good =
      typeof setting === "string" ||
      (key === "kafkaTls" && setting === true) ||
      (lists.includes(key) && Array.isArray(setting) && setting.every((s) => typeof s === "string"));
    if (!good) throw new WeirError("WEIR_CONFIG_INVALID", `${path}: ${key} has to be a text.`);
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, one === true ? "true" : one])) as Settings;
}

function text(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function pathOf(value: string | undefined): string | null {
  return value === undefined ? null : resolve(value);
}

function readScope(value: string): Scope {
  if (value === "run" || value === "host") return { kind: value };
  if (value.startsWith("cgroup:/")) return { kind: "cgroup", path: value.slice("cgroup:".length) };
  throw new WeirError("WEIR_USAGE", `--scope ${value}: expected run, host or cgroup:/PATH.`);
}

function readOpenOrClosed(option: string, value: string): "closed" | "open" {
  if (value === "closed" || value === "open") return value;
  throw new WeirError("WEIR_USAGE", `${option} ${value}: expected closed or open.`);
}

function readTls(value: string): "native" | "node" {
  if (value === "native" || value === "node") return value;
  throw new WeirError("WEIR_USAGE", `--tls ${value}: expected native or node.`);
}

/** The policy files that these paths name; a directory stands for its *.yaml, without *.cases.yaml. */
export function readPolicyFiles(paths: readonly string[]): { file: string; text: string }[] {
  const files: string[] = [];
  for (const path of paths) {
    try {
      if (statSync(path).isDirectory()) {
        const names = readdirSync(path).filter((name) => /\.ya?ml$/.test(name) && !/\.cases\.ya?ml$/.test(name));
        files.push(...names.sort().map((name) => join(path, name)));
      } else files.push(path);
    } catch (cause) {
      throw new WeirError("WEIR_POLICY_INVALID", `${path}: cannot be read: ${whyUnread(cause)}.`, { cause });
    }
  }
  if (files.length === 0) throw new WeirError("WEIR_POLICY_INVALID", `${paths.join(", ")}: no policy file there.`);
  return files.map((file) => ({ file, text: readFileSync(file, "utf8") }));
}
