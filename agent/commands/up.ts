/** `weir up`: agent and embedded controller in one process. */
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { parseWitness } from "../../controller/audit/witnesses.ts";
import { type Controller, createController, readNotifySettings, readSignInSettings } from "../../controller/main.ts";
import { openArchive } from "../archive/store.ts";
import { startRetention } from "../archive/thread.ts";
import { type AgentConfig, configHelp, readConfig } from "../config.ts";
import { startControl } from "../control/server.ts";
import { descriptorOf } from "../core/beneath.ts";
import { WeirError } from "../errors.ts";
import { agentMetrics } from "../health/agent-metrics.ts";
import { type HealthSource, startHealth } from "../health/server.ts";
import { endNow, peerCredentials } from "../kernel/native.ts";
import { type Agent, startAgent } from "../main.ts";
import type { OtlpThread } from "../otlp/thread.ts";
import { keepCompiled } from "./compile-cache.ts";
import { controlAnswers } from "./control-answers.ts";
import { holdIn } from "./hold-in.ts";
import { hostState } from "./host-state.ts";
import type { CommandIo } from "./io.ts";
import { joinKafka } from "./kafka-join.ts";
import { tellServiceManager } from "./service-manager.ts";
import { dropStartGarbage } from "./start-garbage.ts";

export const help = `weir up [options]

Runs the agent and an embedded controller. Prints "weir ready …" when interception is in force. Ctrl-C takes
everything away again: no rule, no cgroup, no process stays.

${configHelp}`;

const defaultPolicies = resolve(import.meta.dirname, "../../policies/defaults");

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  return serve(args, io, { page: true, help });
}

export async function serve(
  args: readonly string[],
  io: CommandIo,
  options: { page: boolean; help: string },
): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    io.stdout.write(options.help);
    return 0;
  }
  const config = readConfig(args, { policyDir: defaultPolicies, env: io.env });
  if (process.getuid?.() !== 0) {
    throw new WeirError(
      "WEIR_NOT_ROOT",
      "Weir loads BPF and sets firewall rules, which needs root: sudo weir up. `weir run` needs none.",
    );
  }
  const witnesses = config.witnesses.map(parseWitness);
  // A wrong bucket or missing credentials are told at the start, not when the first segment is old.
  const { retention } = config;
  if (retention?.archive) openArchive(retention.archive, io.env);
  const log = (level: "info" | "warn", message: string): void => void io.stderr.write(`weir ${level}: ${message}\n`);
  // From here on a signal ends in order: what was set up by then is taken away again.
  const stopped = new Promise<void>((stop) => {
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
  });
  // Before the store makes it for itself alone: others have to reach the certificates in it.
  mkdirSync(config.stateDir, { recursive: true, mode: 0o711 });
  let agent: Agent | null = null;
  const kafka = joinKafka(config, () => controller.approvals, log);
  const controller = await createController({
    stateDir: config.stateDir,
    listen: options.page ? config.ui : null,
    state: hostState(() => agent, config, {
      publish: () => kafka.publish(),
      waiting: () => controller.approvals.list().filter(({ status }) => status === "pending").length,
    }),
    witnesses,
    notify: config.notify === null ? null : readNotifySettings(config.notify, io.env),
    signIn: config.signIn === null ? null : readSignInSettings(config.signIn, io.env),
    changed: (approval) => kafka.changed(approval),
    log,
  });
  const started = await startAgent({ config, hold: kafka.hold(holdIn(controller.approvals)), log }).catch(
    async (error: unknown) => {
      await controller.close();
      throw error;
    },
  );
  agent = started;
  await kafka.start(started);
  const control = await startControl({
    path: config.controlSocket,
    peerOf: (socket) => peerCredentials(descriptorOf(socket)),
    answer: controlAnswers(started, controller, config),
  }).catch(async (error: unknown) => {
    await started.close();
    await controller.close();
    throw error;
  });
  const retaining =
    retention === null
      ? null
      : startRetention(
          { stateDir: config.stateDir, settings: retention, publishing: config.kafka !== null },
          (text) => started.note({ type: "notice", text: `retention: ${text}` }),
          log,
        );
  const source = healthOf(started, controller, config.stateDir);
  const otlp = await startOtlpOf(config, started.recorder.agentId, source, log);
  const health =
    config.metrics === null
      ? null
      : await startHealth(config.metrics, {
          ...source,
          metrics: () => [...source.metrics(), ...(otlp?.metrics() ?? [])],
        });
  io.stdout.write(readyLines(config, started.policy.current.digest, controller.url));
  const manager = tellServiceManager(io.env, log);
  setImmediate(() => {
    keepCompiled();
    dropStartGarbage();
  });
  await stopped;
  await health?.close();
  await retaining?.close();
  manager.stopping();
  await control.close();
  await kafka.leave();
  await started.close();
  // After the record is closed: its last entries are told, too.
  await otlp?.close();
  await kafka.close();
  await controller.close();
  // Where no resolver answers, Node would wait for its threads that ask, for as long as they try: 10 s and more for each.
  if (process.getActiveResourcesInfo().includes("GetAddrInfoReqWrap")) endNow(0);
  return 0;
}

/** Its code is loaded by who wants it alone. */
async function startOtlpOf(
  { otlp, stateDir }: AgentConfig,
  instance: string,
  source: HealthSource,
  log: (level: "info" | "warn", message: string) => void,
): Promise<OtlpThread | null> {
  if (otlp === null) return null;
  const { startOtlp } = await import("../otlp/thread.ts");
  return startOtlp({ otlp, service: "weir-agent", instance, stateDir, startedAtMs: Date.now() }, source.metrics, log);
}

function healthOf(agent: Agent, controller: Controller, stateDir: string): HealthSource {
  const problems = (...all: (string | null)[]): string[] => all.filter((one) => one !== null);
  return {
    metrics: () =>
      agentMetrics({
        stateDir,
        record: agent.recorder.status(),
        openSessions: agent.sessions.size,
        waitingApprovals: controller.approvals.list().filter(({ status }) => status === "pending").length,
        auditLeaves: controller.audit.log?.size ?? 0,
        auditProblem: controller.audit.problem !== null,
      }),
    failures: () => problems(agent.recorder.status().failed),
    // It ends by itself: a restart mends nothing.
    warnings: () => problems(agent.recorder.status().full, controller.audit.problem),
  };
}

function readyLines(config: AgentConfig, digest: string, url: string | null): string {
  const scope = config.scope.kind === "cgroup" ? `cgroup:${config.scope.path}` : config.scope.kind;
  const state = config.controlSocket === "/run/weir/control.sock" ? "" : ` --state ${config.stateDir}`;
  const page = url === null ? "" : `page: ${url}\n`;
  const example = "psql -h YOUR-DATABASE -c 'SELECT 1'";
  const hint = config.scope.kind === "run" ? `try: weir run${state} -- ${example}\n` : `try: ${example}\n`;
  return `weir ready scope=${scope} policy=${digest.slice(0, 12)} state=${config.stateDir}\n${page}${hint}`;
}
