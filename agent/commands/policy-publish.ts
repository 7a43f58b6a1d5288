/** `weir policy publish` and `published`: a policy for the agents that follow it over Kafka. */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { basename, join, resolve } from "node:path";
import { buildDetectors } from "../act/custom-detectors.ts";
import { readPolicyFiles } from "../config.ts";
import { WeirError } from "../errors.ts";
import { groupPrefixes } from "../kafka/acls.ts";
import {
  judgePolicy,
  type PolicyBundle,
  policyIdDefault,
  policyIdShape,
  policyMessage,
} from "../kafka/policy-messages.ts";
import { kafkaHelp, kafkaOptions, readKafkaSettings } from "../kafka/settings.ts";
import { keyName, policyBytesMax } from "../kafka/signed.ts";
import { topics } from "../kafka/topics.ts";
import { type KafkaSettings, openTransport } from "../kafka/transport.ts";
import { readWholeTopic } from "../kafka/whole-topic.ts";
import { loadPolicy } from "../policy/load.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";
import { printable } from "./printable.ts";

const stateDirDefault = "/var/lib/weir-controller";
const nameCharactersMax = 512;
/** Others that publish at the same moment, each of them once in front. */
const publishTriesMax = 5;

export const help = `weir policy publish FILE|DIR… --kafka HOST:PORT,… [options]
weir policy published --kafka HOST:PORT,… [options]

publish     checks the files as one policy, signs them, gives them the next version and writes them on weir.policies.v1,
            for the agents with --policy kafka. Files that they name (lists, certificates, secrets) do not travel: they are
            read on each agent's host, so they are named with their whole path
published   tells which policies stand there, and whether the key signed them; exit code 1 when one is not signed by it

  --id NAME         which policy (default "${policyIdDefault}"); agents with --policy kafka:NAME follow it
  --key FILE        private Ed25519 key (PEM) to sign with (default: the controller's, DIR/controller-key.pem)
  --state DIR       the controller's state directory (default ${stateDirDefault})
  --version N       in place of the next one: needed once with a new key, or on a topic that was emptied
  --json
${kafkaHelp}`;

export async function runPublish(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      ...kafkaOptions,
      id: { type: "string", default: policyIdDefault },
      key: { type: "string" },
      state: { type: "string" },
      version: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const [verb, ...paths] = positionals;
  const kafka = readKafkaSettings(values, io.env);
  if (kafka === null) throw new WeirError("WEIR_USAGE", "--kafka HOST:PORT,… is missing.");
  if (!policyIdShape.test(values.id))
    throw new WeirError("WEIR_USAGE", `--id ${values.id}: expected a name of a-z, 0-9 and "-".`);
  const state = resolve(values.state ?? io.env["WEIR_CONTROLLER_STATE"] ?? stateDirDefault);
  const key = readKey(values.key ?? join(state, "controller-key.pem"));
  if (verb === "published") {
    if (paths.length > 0) throw new WeirError("WEIR_USAGE", help);
    return list(kafka, key, values.json, io);
  }
  if (paths.length === 0) throw new WeirError("WEIR_USAGE", `Which policy?\n\n${help}`);
  const version = values.version === undefined ? null : readVersion(values.version);
  return publish({ kafka, key, id: values.id, version, paths, json: values.json }, io);
}

interface Publishing {
  readonly kafka: KafkaSettings;
  readonly key: KeyObject;
  readonly id: string;
  /** Null: the next one. */
  readonly version: number | null;
  readonly paths: readonly string[];
  readonly json: boolean;
}

async function publish({ kafka, key, id, version: wanted, paths, json }: Publishing, io: CommandIo): Promise<number> {
  const files = readPolicyFiles(paths).map(({ file, text }) => ({ file: basename(file), text }));
  const result = loadPolicy(files);
  if ("errors" in result) {
    for (const problem of result.errors) io.stderr.write(`${problem}\n`);
    return 2;
  }
  const { policy } = result;
  const twice = files.find(({ file }, at) => files.findIndex((other) => other.file === file) < at);
  if (twice !== undefined) throw new WeirError("WEIR_USAGE", `There are two files of the name ${twice.file}.`);
  // The lists may be on the agents' hosts alone.
  for (const problem of (await buildDetectors(policy.detectors)).problems.values())
    io.stderr.write(`weir warn: on this host: ${problem}\n`);

  const version = await sendInTurn({ kafka, key, id, wanted, files });
  const { mode, digest } = policy;
  if (json) io.stdout.write(`${JSON.stringify({ id, version, signer: keyName(key), mode, digest })}\n`);
  else
    io.stdout.write(
      `${id} version ${version} is published: mode ${mode}, digest ${digest.slice(0, 16)}, signed by ${keyName(key)}\n`,
    );
  return 0;
}

interface Sending {
  readonly kafka: KafkaSettings;
  readonly key: KeyObject;
  readonly id: string;
  readonly wanted: number | null;
  readonly files: PolicyBundle["files"];
}

/**
 * Who publishes at the same moment may give the same version. Agents keep the one that came first, and new ones would
 * find the last one alone, so whose was not the first takes the next version: both are in force, one after the other.
 */
async function sendInTurn({ kafka, key, id, wanted, files }: Sending): Promise<number> {
  const by = printable(`${userInfo().username} on ${hostname()}`, nameCharactersMax);
  let last = (await versions(kafka, id, key)).at(-1)?.top ?? 0;
  const transport = await openTransport(kafka);
  try {
    for (let tries = 1; ; tries += 1) {
      const version = wanted ?? last + 1;
      if (version <= last)
        throw new WeirError("WEIR_USAGE", `--version ${version}: version ${last} of ${id} is published already.`);
      const message = policyMessage({ id, version, files, by, atMs: Date.now() }, key);
      if (judgePolicy(id, message.value, knowing(id, key)).what !== "newer")
        throw new WeirError(
          "WEIR_USAGE",
          `This is no policy that agents take: up to ${policyBytesMax} bytes, NAME.yaml.`,
        );
      await transport.send([message]);
      const there = await versions(kafka, id, key);
      const own = there.find(({ text }) => text === message.value?.toString("utf8"));
      if (own !== undefined && own.before < version) return version;
      if (own === undefined || wanted !== null || tries >= publishTriesMax)
        throw new WeirError(
          "WEIR_CONTROL_REFUSED",
          `Version ${version} of ${id}, or a later one, was published by somebody else at the same time. Publish again.`,
        );
      last = there.at(-1)?.top ?? 0;
    }
  } finally {
    await transport.close();
  }
}

interface Published {
  /** As it was sent. */
  readonly text: string;
  /** The highest version in front of it, and with it. */
  readonly before: number;
  readonly top: number;
}

/** What this key signed, in the order that agents read it. */
async function versions(kafka: KafkaSettings, id: string, key: KeyObject): Promise<Published[]> {
  const found: Published[] = [];
  for (const { key: name, value } of await readWholeTopic(kafka, topics.policies, groupPrefixes.controllers)) {
    const judged = name === id ? judgePolicy(name, value, knowing(id, key)) : null;
    if (judged?.what !== "newer") continue;
    const before = found.at(-1)?.top ?? 0;
    found.push({ text: String(value), before, top: Math.max(before, judged.bundle.version) });
  }
  return found;
}

function knowing(id: string, key: KeyObject) {
  return { id, version: 0, text: "", trusted: [createPublicKey(key)] };
}

async function list(kafka: KafkaSettings, key: KeyObject, json: boolean, io: CommandIo): Promise<number> {
  const last = new Map<string, Buffer>();
  for (const { key: id, value } of await readWholeTopic(kafka, topics.policies, groupPrefixes.controllers)) {
    if (value === null) last.delete(id);
    else last.set(id, value);
  }
  const rows = [...last].map(([id, value]) => {
    const judged = judgePolicy(id, value, knowing(id, key));
    if (judged.what !== "newer") return { id, problem: judged.what === "refused" ? judged.reason : "it is no policy" };
    const { version, by, atMs, files } = judged.bundle;
    const result = loadPolicy(files);
    return {
      id,
      version,
      by,
      at: new Date(atMs).toISOString(),
      digest: "policy" in result ? result.policy.digest : null,
    };
  });
  if (json) io.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else if (rows.length === 0) io.stdout.write("no policy is published\n");
  else
    for (const row of rows) {
      const what =
        "problem" in row
          ? `NOT USABLE: ${row.problem}`
          : `version ${row.version}  ${row.at}  digest ${row.digest?.slice(0, 16) ?? "-"}  ${row.by}`;
      io.stdout.write(`${printable(row.id, nameCharactersMax)}  ${printable(what, nameCharactersMax)}\n`);
    }
  return rows.some((row) => "problem" in row) ? 1 : 0;
}

function readKey(path: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(path));
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `--key ${path}: expected a private Ed25519 key (PEM).`, { cause });
  }
  if (key.asymmetricKeyType !== "ed25519") throw new WeirError("WEIR_USAGE", `--key ${path}: it is no Ed25519 key.`);
  return key;
}

function readVersion(text: string): number {
  const version = Number(text);
  if (!/^[1-9]\d*$/.test(text) || !Number.isSafeInteger(version))
    throw new WeirError("WEIR_USAGE", `--version ${text}: expected a number from 1 on.`);
  return version;
}
