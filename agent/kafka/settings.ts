/** The words of a command line that say how Kafka is reached; for `weir agent`, `weir controller` and `weir topics`. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { WeirError, whyUnread } from "../errors.ts";
import type { KafkaSettings, TransportName } from "./transport.ts";

/** For node:util's parseArgs. */
export const kafkaOptions = {
  kafka: { type: "string" },
  "kafka-tls": { type: "boolean" },
  "kafka-ca": { type: "string" },
  "kafka-cert": { type: "string" },
  "kafka-key": { type: "string" },
  "kafka-user": { type: "string" },
  "kafka-password-file": { type: "string" },
  "kafka-sasl": { type: "string" },
} as const;

export const kafkaHelp = `  --kafka HOST:PORT,…       Kafka's brokers
  --kafka-tls               TLS with the system's roots; --kafka-ca FILE (PEM) for others
  --kafka-cert FILE --kafka-key FILE
                            a client certificate (PEM), where brokers ask for one
  --kafka-user NAME --kafka-password-file FILE
                            SASL; without the file the password is in WEIR_KAFKA_PASSWORD
  --kafka-sasl MECHANISM    scram-sha-512 (default), scram-sha-256 or plain (only with TLS)
`;

export type KafkaWords = {
  readonly [name in keyof typeof kafkaOptions]?: (typeof kafkaOptions)[name]["type"] extends "boolean"
    ? boolean
    : string;
};

/** What an agent publishes with. */
export interface PublishConfig {
  readonly settings: KafkaSettings;
  readonly registry: string | null;
  readonly library: TransportName;
  /** Whose decisions and revocations count. */
  readonly controllerKeys: readonly KeyObject[];
  /** The policy that is followed, and whose signature counts there; null: the host's own files. */
  readonly policy: { readonly id: string; readonly keys: readonly KeyObject[] } | null;
}

type PublishWords = KafkaWords & {
  readonly "schema-registry"?: string;
  readonly "kafka-library"?: string;
  readonly "controller-key"?: readonly string[];
  readonly "policy-key"?: readonly string[];
};

/** `followed`: the id of the policy that is to come over Kafka. Null without `--kafka`. Throws WEIR_USAGE. */
export function readPublishConfig(
  words: PublishWords,
  followed: string | null,
  env: NodeJS.ProcessEnv,
): PublishConfig | null {
  const settings = readKafkaSettings(words, env);
  const { "schema-registry": registry, "kafka-library": library, "controller-key": keys = [] } = words;
  const { "policy-key": policyKeys = [] } = words;
  if (settings === null) {
    const given = { registry, library, keys: keys[0], policyKeys: policyKeys[0], followed: followed ?? undefined };
    for (const [name, one] of Object.entries(given))
      if (one !== undefined) throw new WeirError("WEIR_USAGE", `${flagOf[name]} says nothing without --kafka.`);
    return null;
  }
  if (library !== undefined && library !== "kafkajs" && library !== "platformatic")
    throw new WeirError("WEIR_USAGE", `--kafka-library ${library}: expected kafkajs or platformatic.`);
  const controllerKeys = keys.map((path) => readPublicKey("--controller-key", path));
  const ownKeys = policyKeys.map((path) => readPublicKey("--policy-key", path));
  if (followed === null && ownKeys.length > 0)
    throw new WeirError("WEIR_USAGE", "--policy-key says nothing without --policy kafka.");
  const trusted = ownKeys.length > 0 ? ownKeys : controllerKeys;
  if (followed !== null && trusted.length === 0)
    throw new WeirError("WEIR_USAGE", "--policy kafka needs --policy-key or --controller-key: whose policies count.");
  return {
    settings,
    registry: registry === undefined ? null : readRegistry(registry),
    library: library ?? "platformatic",
    controllerKeys,
    policy: followed === null ? null : { id: followed, keys: trusted },
  };
}

const flagOf: Readonly<Record<string, string>> = {
  registry: "--schema-registry",
  library: "--kafka-library",
  keys: "--controller-key",
  policyKeys: "--policy-key",
  followed: "--policy kafka",
};

export function readRegistry(text: string): string {
  if (!URL.canParse(text) || !/^https?:/.test(text))
    throw new WeirError("WEIR_USAGE", "--schema-registry: expected an address, https://…");
  return text;
}

export function readPublicKey(flag: string, path: string): KeyObject {
  const pem = readText(flag, path);
  try {
    // A private key would be taken, too; it has no business on this host.
    if (pem.includes("PRIVATE")) throw new Error("private");
    const key = createPublicKey(pem);
    if (key.asymmetricKeyType !== "ed25519") throw new Error("type");
    return key;
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `${flag} ${path}: expected a public Ed25519 key (PEM).`, { cause });
  }
}

const mechanisms = ["scram-sha-256", "scram-sha-512", "plain"] as const;

/** Null without `--kafka`. Throws WEIR_USAGE. */
export function readKafkaSettings(words: KafkaWords, env: NodeJS.ProcessEnv): KafkaSettings | null {
  if (words.kafka === undefined) {
    const other = Object.keys(kafkaOptions).find((name) => words[name as keyof KafkaWords] !== undefined);
    if (other !== undefined) throw new WeirError("WEIR_USAGE", `--${other} says nothing without --kafka.`);
    return null;
  }
  const tls = readTls(words);
  const sasl = readSasl(words, env);
  if (sasl?.mechanism === "plain" && tls === undefined)
    throw new WeirError("WEIR_USAGE", "--kafka-sasl plain would send the password as it is: it needs --kafka-tls.");
  return { brokers: readBrokers(words.kafka), ...(tls ? { tls } : {}), ...(sasl ? { sasl } : {}) };
}

function readBrokers(text: string): string[] {
  const brokers = text.split(",").map((broker) => broker.trim());
  for (const broker of brokers) {
    const port = Number(/^(?:\[[0-9a-f:]+\]|[^:\s]+):(\d{1,5})$/i.exec(broker)?.[1] ?? 0);
    if (port < 1 || port > 65_535) throw new WeirError("WEIR_USAGE", `--kafka ${text}: expected HOST:PORT,HOST:PORT.`);
  }
  return brokers;
}

function readTls(words: KafkaWords): KafkaSettings["tls"] | undefined {
  const { "kafka-ca": ca, "kafka-cert": cert, "kafka-key": key } = words;
  if ((cert === undefined) !== (key === undefined))
    throw new WeirError("WEIR_USAGE", "--kafka-cert and --kafka-key go together.");
  if (words["kafka-tls"] !== true && ca === undefined && cert === undefined) return undefined;
  return {
    ...(ca === undefined ? {} : { ca: readText("--kafka-ca", ca) }),
    ...(cert === undefined || key === undefined
      ? {}
      : { cert: readText("--kafka-cert", cert), key: readText("--kafka-key", key) }),
  };
}

function readSasl(words: KafkaWords, env: NodeJS.ProcessEnv): KafkaSettings["sasl"] | undefined {
  const username = words["kafka-user"];
  if (username === undefined) return undefined;
  const name = words["kafka-sasl"] ?? "scram-sha-512";
  const mechanism = mechanisms.find((one) => one === name);
  if (mechanism === undefined)
    throw new WeirError("WEIR_USAGE", `--kafka-sasl ${name}: expected ${mechanisms.join(", ")}.`);
  const file = words["kafka-password-file"];
  const password = file === undefined ? env["WEIR_KAFKA_PASSWORD"] : readText("--kafka-password-file", file).trimEnd();
  if (!password) throw new WeirError("WEIR_USAGE", "--kafka-user needs --kafka-password-file, or WEIR_KAFKA_PASSWORD.");
  return { mechanism, username, password };
}

function readText(flag: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `${flag} ${path}: cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}
