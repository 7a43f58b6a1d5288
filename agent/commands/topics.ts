/** `weir topics`: makes the topics that agents and controllers meet on. */
import { WeirError } from "../errors.ts";
import type { TopicOutcome } from "../kafka/admin.ts";
import { kafkaHelp, kafkaOptions, readKafkaSettings } from "../kafka/settings.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir topics create|ls|acls --kafka HOST:PORT,… [options]

create    makes the topics weir.*.v1 with their settings, and leaves those that are there as they are: where one
          differs it says so, and the exit code is 1
ls        says of each topic whether it is there as it should be; exit code 1 when not
acls      prints the access rules for --agent-user and --controller-user as kafka-acls.sh takes them, and sets nothing;
          "create" with these sets them. Needs no --kafka

  --partitions N            of topics with more than one (default 12). Choose it once: sessions would change partitions
  --replicas N              copies of each (default 3; of one broker 1). min.insync.replicas is one less, at most 2
  --agent-user NAME         allow agents of this user what they need, and no more
  --controller-user NAME    the same for controllers
  --json                    what was done, as JSON
${kafkaHelp}`;

const countMax = 1_000;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      ...kafkaOptions,
      partitions: { type: "string", default: "12" },
      replicas: { type: "string", default: "3" },
      "agent-user": { type: "string" },
      "controller-user": { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const [word, ...more] = positionals;
  if (more.length > 0 || (word !== "create" && word !== "ls" && word !== "acls"))
    throw new WeirError("WEIR_USAGE", help);
  const { aclsOf, applyAcls, commandsOf } = await import("../kafka/acls.ts");
  const acls = aclsOf({
    ...(values["agent-user"] === undefined ? {} : { agent: values["agent-user"] }),
    ...(values["controller-user"] === undefined ? {} : { controller: values["controller-user"] }),
  });
  if (word === "acls") {
    if (acls.length === 0) throw new WeirError("WEIR_USAGE", "--agent-user or --controller-user NAME is missing.");
    io.stdout.write(values.json ? `${JSON.stringify(acls, null, 2)}\n` : `${commandsOf(acls).join("\n")}\n`);
    return 0;
  }
  const settings = readKafkaSettings(values, io.env);
  if (settings === null) throw new WeirError("WEIR_USAGE", "--kafka HOST:PORT,… is missing.");
  const wish = {
    partitions: count("--partitions", values.partitions),
    replicas: count("--replicas", values.replicas),
  };
  // Loaded here: `weir topics --help` needs no Kafka library.
  const { createTopics, lookAtTopics } = await import("../kafka/admin.ts");
  const outcomes = await (word === "ls" ? lookAtTopics : createTopics)(settings, wish);
  if (word === "create" && acls.length > 0) await applyAcls(settings, acls);
  const set = word === "create" ? acls : [];
  io.stdout.write(
    values.json ? `${JSON.stringify({ topics: outcomes, acls: set }, null, 2)}\n` : table(outcomes, set.length),
  );
  return outcomes.some(({ outcome }) => outcome === "differs" || outcome === "missing") ? 1 : 0;
}

function count(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > countMax)
    throw new WeirError("WEIR_USAGE", `${flag} ${text}: expected a number from 1 to ${countMax}.`);
  return value;
}

function table(outcomes: readonly TopicOutcome[], acls: number): string {
  const lines = outcomes.flatMap(({ topic, outcome, differences }) => [
    `${topic.padEnd(24)} ${outcome}`,
    ...differences.map(({ name, is, wanted }) => `  ${name} is ${is || "not set"}, expected ${wanted}`),
  ]);
  if (acls > 0) lines.push(`${acls} access rules set`);
  return `${lines.join("\n")}\n`;
}
