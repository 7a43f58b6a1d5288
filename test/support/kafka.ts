/** A real Apache Kafka (KRaft), one broker or three on loopback, started for one test and ended by its pids. */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { kafkajsClient } from "../../agent/kafka/kafkajs.ts";
import type { KafkaSettings } from "../../agent/kafka/transport.ts";
import { freePorts } from "./free-ports.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const libs = join(root, "build/kafka/libs/*");
const readyWithinMs = 180_000;

export interface KafkaOptions {
  readonly brokers?: 1 | 3;
  /** SCRAM-SHA-512 for the users of `users`. */
  readonly sasl?: boolean;
  /** TLS with a CA of its own; `mutual` asks clients for a certificate of it, too. */
  readonly tls?: boolean | "mutual";
  /** Access control: what no ACL allows is refused, but for `admin`. Needs `sasl`. */
  readonly acls?: boolean;
  /** Ports that the brokers name to clients in place of their own: those of a proxy. */
  readonly advertise?: readonly number[];
  readonly settings?: Readonly<Record<string, string>>;
  readonly heapMb?: number;
  /** Network namespace that the brokers live in; nobody outside of it reaches them. */
  readonly namespace?: string;
  /** Java's second compiler: starts slower, runs faster. For benchmarks. */
  readonly optimise?: boolean;
}

export interface TestKafka {
  /** host:port of each broker's client listener. */
  readonly brokers: readonly string[];
  readonly ports: readonly number[];
  readonly dir: string;
  /** For the user `admin`, over TLS when it is on. */
  readonly settings: KafkaSettings;
  settingsFor(user: string): KafkaSettings;
  log(broker?: number): string;
  pid(broker: number): number;
  /** kill -9. */
  kill(broker: number): Promise<void>;
  restart(broker: number): Promise<void>;
  stop(): Promise<void>;
}

export const users = {
  admin: "s3cret-of-admin",
  agent: "s3cret-of-agent",
  controller: "s3cret-of-controller",
} as const;

export async function startKafka(options: KafkaOptions = {}): Promise<TestKafka> {
  if (!existsSync(join(root, "build/kafka/version"))) await run(join(root, "scripts/kafka"));
  const count = options.brokers ?? 1;
  const dir = mkdtempSync(join(tmpdir(), "weir-kafka-"));
  const ports = await freePorts(count * 3);
  const clientPorts = ports.slice(0, count);
  if (options.tls) makeCertificates(dir);
  writeFileSync(join(dir, "log4j2.properties"), logging);
  const nodes = clientPorts.map((_, at) => new Node(dir, at, ports, count, options));
  await Promise.all(nodes.map((node) => node.format()));
  const kafka: TestKafka = {
    brokers: clientPorts.map((port, at) => `127.0.0.1:${options.advertise?.[at] ?? port}`),
    ports: clientPorts,
    dir,
    settings: settingsFor("admin"),
    settingsFor,
    log: (broker = 0) => nodes[broker]?.log() ?? "",
    pid: (broker) => (nodes[broker] as Node).pid,
    kill: (broker) => (nodes[broker] as Node).end("SIGKILL"),
    restart: (broker) => (nodes[broker] as Node).start(),
    async stop() {
      await Promise.all(nodes.map((node) => node.end("SIGKILL")));
      rmSync(dir, { recursive: true, force: true });
    },
  };
  function settingsFor(user: string): KafkaSettings {
    return {
      brokers: clientPorts.map((port, at) => `127.0.0.1:${options.advertise?.[at] ?? port}`),
      ...(options.tls
        ? { tls: { ca: readFileSync(join(dir, "ca.crt"), "utf8"), ...clientCertificate(dir, options) } }
        : {}),
      ...(options.sasl
        ? {
            sasl: {
              mechanism: "scram-sha-512",
              username: user,
              password: Object.hasOwn(users, user) ? users[user as keyof typeof users] : "wrong",
            },
          }
        : {}),
    };
  }
  try {
    await Promise.all(nodes.map((node) => node.start()));
  } catch (error) {
    await kafka.stop();
    throw error;
  }
  return kafka;
}

class Node {
  readonly #dir: string;
  readonly #id: number;
  readonly #options: KafkaOptions;
  readonly #config: string;
  readonly #logPath: string;
  #child: ChildProcess | null = null;

  constructor(clusterDir: string, at: number, ports: readonly number[], count: number, options: KafkaOptions) {
    this.#id = at + 1;
    this.#dir = join(clusterDir, `node-${this.#id}`);
    this.#options = options;
    this.#config = join(this.#dir, "server.properties");
    this.#logPath = join(this.#dir, "server.log");
    mkdirSync(this.#dir);
    const lines = Object.entries(serverSettings(clusterDir, this.#dir, at, ports, count, options));
    writeFileSync(this.#config, lines.map(([name, value]) => `${name}=${value}\n`).join(""));
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async format(): Promise<void> {
    const scram = this.#options.sasl
      ? Object.entries(users).flatMap(([name, password]) => [
          "--add-scram",
          `SCRAM-SHA-512=[name=${name},password=${password},iterations=4096]`,
        ])
      : [];
    const words = ["format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAQ", "--config", this.#config, ...scram];
    await run("java", [...this.#java(), "kafka.tools.StorageTool", ...words], { cwd: this.#dir });
  }

  async start(): Promise<void> {
    const from = this.log().length;
    const out = openSync(this.#logPath, "a");
    const { namespace } = this.#options;
    const inside = namespace === undefined ? [] : ["nsenter", `--net=/run/netns/${namespace}`, "--"];
    const words = [...inside, "java", ...this.#java(), "kafka.Kafka", this.#config];
    const child = spawn(words[0] as string, words.slice(1), {
      cwd: this.#dir,
      stdio: ["ignore", out, out],
    });
    closeSync(out);
    this.#child = child;
    for (const deadline = Date.now() + readyWithinMs; ; ) {
      if (this.log().slice(from).includes("Kafka Server started")) return;
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`Kafka did not start: ${this.log()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  log(): string {
    return existsSync(this.#logPath) ? readFileSync(this.#logPath, "utf8") : "";
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill(signal);
    await gone;
  }

  #java(): string[] {
    const heap = this.#options.heapMb ?? 128;
    const compiler = this.#options.optimise ? [] : ["-XX:TieredStopAtLevel=1"];
    return [
      ...compiler,
      "-XX:+UseSerialGC",
      `-Xmx${heap}m`,
      `-Dlog4j2.configurationFile=${join(this.#dir, "../log4j2.properties")}`,
      "-cp",
      libs,
    ];
  }
}

function serverSettings(
  clusterDir: string,
  dir: string,
  at: number,
  ports: readonly number[],
  count: number,
  options: KafkaOptions,
): Record<string, string> {
  const nodes = Array.from({ length: count }, (_, node) => node);
  const [client, internal, controller] = [ports[at], ports[count + at], ports[2 * count + at]];
  const protocol = options.sasl ? (options.tls ? "SASL_SSL" : "SASL_PLAINTEXT") : options.tls ? "SSL" : "PLAINTEXT";
  return {
    "process.roles": "broker,controller",
    "node.id": String(at + 1),
    "controller.quorum.voters": nodes.map((node) => `${node + 1}@127.0.0.1:${ports[2 * count + node]}`).join(","),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    listeners: `CLIENT://127.0.0.1:${client},INTERNAL://127.0.0.1:${internal},CONTROLLER://127.0.0.1:${controller}`,
    "advertised.listeners": `CLIENT://127.0.0.1:${options.advertise?.[at] ?? client},INTERNAL://127.0.0.1:${internal}`,
    "listener.security.protocol.map": `CLIENT:${protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT`,
    "log.dirs": join(dir, "data"),
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": String(count),
    "transaction.state.log.replication.factor": String(count),
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    // With a small heap the cleaner's default buffer ends the broker at its start.
    "log.cleaner.dedupe.buffer.size": "8388608",
    // Else a broker that comes back after kill -9 waits 9 s for its former self to time out.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    ...(options.sasl
      ? {
          "sasl.enabled.mechanisms": "SCRAM-SHA-512",
          "listener.name.client.scram-sha-512.sasl.jaas.config":
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        }
      : {}),
    ...(options.acls
      ? {
          "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
          // Brokers speak to one another without a name, on listeners of their own.
          "super.users": "User:admin;User:ANONYMOUS",
        }
      : {}),
    ...(options.tls
      ? {
          "ssl.keystore.type": "PEM",
          "ssl.keystore.location": join(clusterDir, "server.pem"),
          "ssl.truststore.type": "PEM",
          "ssl.truststore.location": join(clusterDir, "ca.crt"),
          // Named by the listener: with SASL the general setting counts for nothing.
          "listener.name.client.ssl.client.auth": options.tls === "mutual" ? "required" : "none",
        }
      : {}),
    ...options.settings,
  };
}

const logging = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
`;

/** A CA, a server's certificate for loopback and a client's, the latter two with their keys in one file as Kafka wants. */
function makeCertificates(dir: string): void {
  const openssl = (...words: string[]): void =>
    void execFileSync("openssl", words, { cwd: dir, stdio: ["ignore", "ignore", "pipe"] });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...curve, "-days", "3", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.crt");
  for (const [name, extensions] of [
    ["server", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
    ["client", "extendedKeyUsage=clientAuth"],
  ] as const) {
    openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    writeFileSync(join(dir, `${name}.ext`), `${extensions}\n`);
    const signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", `${name}.ext`];
    openssl("x509", "-req", "-days", "3", "-in", `${name}.csr`, ...signer, "-out", `${name}.crt`);
    const both = [`${name}.key`, `${name}.crt`].map((file) => readFileSync(join(dir, file), "utf8")).join("");
    writeFileSync(join(dir, `${name}.pem`), both);
  }
}

function clientCertificate(dir: string, options: KafkaOptions): { cert?: string; key?: string } {
  if (options.tls !== "mutual") return {};
  return { cert: readFileSync(join(dir, "client.crt"), "utf8"), key: readFileSync(join(dir, "client.key"), "utf8") };
}

/** How many messages a topic holds. */
export async function countOf(settings: KafkaSettings, topic: string): Promise<number> {
  const admin = kafkajsClient(settings).admin();
  try {
    await admin.connect();
    const offsets = await admin.fetchTopicOffsets(topic);
    return offsets.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0);
  } finally {
    await admin.disconnect();
  }
}
