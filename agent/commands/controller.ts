/** `weir controller`: the controller alone, over Kafka and a store. */
import { randomUUID } from "node:crypto";
import { join, resolve } from "node:path";
import { parseWitness } from "../../controller/audit/witnesses.ts";
import { readSignInSettings } from "../../controller/identity/settings.ts";
import { type ControllerService, startService } from "../../controller/service.ts";
import { openSigningKey } from "../../controller/signing-key.ts";
import { openStore } from "../../controller/store/store.ts";
import { readRetention } from "../archive/settings.ts";
import { WeirError } from "../errors.ts";
import { type HealthSource, startHealth } from "../health/server.ts";
import { revocationMessage } from "../kafka/revocation-messages.ts";
import { kafkaHelp, kafkaOptions, readKafkaSettings, readPublicKey, readRegistry } from "../kafka/settings.ts";
import { type KafkaSettings, openTransport } from "../kafka/transport.ts";
import { readListenAddress } from "../listen-address.ts";
import { readOtlp } from "../otlp/settings.ts";
import { loadPolicy, type PolicyText } from "../policy/load.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";

const stateDirDefault = "/var/lib/weir-controller";

export const help = `weir controller --kafka HOST:PORT,… [options]
weir controller revoke|restore SUBJECT --kafka HOST:PORT,… [--issuer URL] [--reason TEXT]

Takes what agents publish into its store, shows what they hold, and sends back what people decide. Any number run side
by side. Prints "weir controller ready …" when it is up; Kafka may come later.

"revoke" ends every flow of an identity on every agent and refuses new ones; "restore" takes that back.

  --state DIR               its store and its key (default ${stateDirDefault}); agents get DIR/controller-key.pub.pem
                            as --controller-key. Controllers side by side need the same controller-key.pem
  --store postgres://…      PostgreSQL in place of SQLite below DIR: controllers side by side share one. Without a
                            password in it PGPASSWORD or PGPASSFILE counts
  --retain-age 90d          take entries out of the store that are older (h, d, y); where they ended stays
  --retain-size 50GiB       take out the oldest above this size (MiB, GiB, TiB), counted without their indices
  --group NAME              consumer group (default weir-controllers)
  --schema-registry URL     where schemas of entries in the Confluent wire format are
  --listen-ui ADDR:PORT     the web page (default 127.0.0.1:9349; port 0 takes a free one)
  --no-ui                   no page
  --sign-in FILE            where people sign in to the page: OpenID Connect, SAML (docs/identity.md)
  --listen-metrics ADDR:PORT
                            /metrics for Prometheus and /healthz (default: none)
  --otlp URL                metrics to an OpenTelemetry receiver by OTLP/HTTP; also OTEL_EXPORTER_OTLP_ENDPOINT
                            (docs/soc.md; default: none)
  --publish-ocsf            what is stored goes out as OCSF JSON to weir.ocsf.v1, too, for SIEM connectors
  --policy-key FILE         public key (PEM) of who publishes policies, repeatable (default: this controller's): the page
                            shows the text of those
  --witness URL#KEY         a \`weir witness\` that cosigns the audit log's checkpoints (DIR/audit), repeatable
${kafkaHelp}`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      ...kafkaOptions,
      state: { type: "string" },
      store: { type: "string" },
      "retain-age": { type: "string" },
      "retain-size": { type: "string" },
      group: { type: "string" },
      "schema-registry": { type: "string" },
      "listen-ui": { type: "string", default: "127.0.0.1:9349" },
      "no-ui": { type: "boolean", default: false },
      "sign-in": { type: "string" },
      "listen-metrics": { type: "string" },
      otlp: { type: "string" },
      "publish-ocsf": { type: "boolean", default: false },
      "policy-key": { type: "string", multiple: true, default: [] },
      witness: { type: "string", multiple: true, default: [] },
      issuer: { type: "string" },
      reason: { type: "string", default: "" },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const kafka = readKafkaSettings(values, io.env);
  if (kafka === null) throw new WeirError("WEIR_USAGE", "--kafka HOST:PORT,… is missing.");
  const stateDir = resolve(values.state ?? io.env["WEIR_CONTROLLER_STATE"] ?? stateDirDefault);
  const [word, subject, ...more] = positionals;
  if (word === undefined) return serve({ kafka, stateDir, values }, io);
  if ((word !== "revoke" && word !== "restore") || subject === undefined || more.length > 0)
    throw new WeirError("WEIR_USAGE", help);
  return revoke(
    word === "revoke",
    subject,
    { kafka, stateDir, issuer: values.issuer ?? null, reason: values.reason },
    io,
  );
}

interface ServeOptions {
  readonly kafka: KafkaSettings;
  readonly stateDir: string;
  readonly values: {
    readonly store?: string | undefined;
    readonly "retain-age"?: string | undefined;
    readonly "retain-size"?: string | undefined;
    readonly group?: string | undefined;
    readonly "schema-registry"?: string | undefined;
    readonly "listen-ui": string;
    readonly "no-ui": boolean;
    readonly "sign-in"?: string | undefined;
    readonly "listen-metrics"?: string | undefined;
    readonly otlp?: string | undefined;
    readonly "policy-key": readonly string[];
    readonly witness: readonly string[];
    readonly "publish-ocsf": boolean;
  };
}

async function serve({ kafka, stateDir, values }: ServeOptions, io: CommandIo): Promise<number> {
  const log = (level: "info" | "warn", message: string): void => void io.stderr.write(`weir ${level}: ${message}\n`);
  const listen = values["no-ui"] ? null : readListenAddress("--listen-ui", values["listen-ui"], 9349);
  const signIn = values["sign-in"] === undefined ? null : readSignInSettings(values["sign-in"], io.env);
  const atMetrics = values["listen-metrics"];
  const metrics = atMetrics === undefined ? null : readListenAddress("--listen-metrics", atMetrics, 9350);
  const otlp = readOtlp(values.otlp, io.env);
  const witnesses = values.witness.map(parseWitness);
  const registry = values["schema-registry"] === undefined ? null : readRegistry(values["schema-registry"]);
  const retain = readRetention({ age: values["retain-age"], size: values["retain-size"] });
  const stopped = new Promise<void>((stop) => {
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
  });
  const store = await openStore(values.store ?? join(stateDir, "store"));
  const service = await startService({
    ...{ kafka, store, stateDir, listen, registry, signIn, witnesses, retain, log },
    publishOcsf: values["publish-ocsf"],
    policyKeys: values["policy-key"].map((path) => readPublicKey("--policy-key", path)),
    policyDigest,
    ...(values.group === undefined ? {} : { groupId: values.group }),
  }).catch(async (error: unknown) => {
    await store.close().catch(() => {});
    throw error;
  });
  const source = healthOf(service);
  const health = metrics === null ? null : await startHealth(metrics, source);
  const telling =
    otlp === null
      ? null
      : (await import("../otlp/thread.ts")).startOtlp(
          { otlp, service: "weir-controller", instance: randomUUID(), stateDir: null, startedAtMs: Date.now() },
          source.metrics,
          log,
        );
  const page = service.url === null ? "" : `page: ${service.url}\n`;
  io.stdout.write(`weir controller ready state=${stateDir} key=${service.publicKeyPath}\n${page}`);
  await stopped;
  await health?.close();
  await telling?.close();
  await service.close();
  return 0;
}

/** The page tells whether the text that it shows is what the agents have. */
function policyDigest(files: readonly PolicyText[]): string | null {
  const result = loadPolicy(files);
  return "policy" in result ? result.policy.digest : null;
}

function healthOf(service: ControllerService): HealthSource {
  const problems = (...all: (string | null)[]): string[] => all.filter((one) => one !== null);
  return {
    metrics() {
      const { stored, repeated, deadLetters, state } = service.status();
      const waiting = service.approvals.list().filter(({ status }) => status === "pending").length;
      return [
        { name: "consumed_entries_total", help: "Entries stored since the start.", type: "counter", value: stored },
        { name: "repeated_entries_total", help: "Entries that came again.", type: "counter", value: repeated },
        { name: "dead_letters_total", help: "Messages put aside with a reason.", type: "counter", value: deadLetters },
        {
          name: "consuming",
          help: "1 while Kafka gives entries.",
          type: "gauge",
          value: state === "consuming" ? 1 : 0,
        },
        { name: "approvals_waiting", help: "Held operations that wait.", type: "gauge", value: waiting },
        {
          name: "agents",
          help: "Agents by how they are: silent ones missed several words.",
          type: "gauge",
          value: { label: "health", values: service.agents() },
        },
        { name: "audit_leaves", help: "Heads signed for.", type: "gauge", value: service.audit.log.size },
        {
          name: "audit_problem",
          help: "1 when the audit log or a witness says that something is wrong.",
          type: "gauge",
          value: service.audit.problem === null ? 0 : 1,
        },
      ];
    },
    // Kafka that is away is waited for: a restart mends nothing.
    failures: () => [],
    warnings: () => problems(service.status().problem, service.audit.problem),
  };
}

interface RevokeOptions {
  readonly kafka: KafkaSettings;
  readonly stateDir: string;
  readonly issuer: string | null;
  readonly reason: string;
}

/** Straight to Kafka: the controller that runs beside it hears of it there, as the agents do. */
async function revoke(revoked: boolean, subject: string, options: RevokeOptions, io: CommandIo): Promise<number> {
  const { kafka, stateDir, issuer, reason } = options;
  const { privateKey } = openSigningKey(stateDir);
  const transport = await openTransport(kafka);
  const by = `uid ${process.getuid?.() ?? "?"} on the controller`;
  try {
    await transport.send([
      revocationMessage({ subject, issuer, revoked, reason, by, version: Date.now() }, privateKey),
    ]);
  } finally {
    await transport.close();
  }
  io.stdout.write(`${subject} ${revoked ? "is revoked" : "holds again"}${issuer === null ? "" : ` (${issuer})`}\n`);
  return 0;
}
