/** How this agent is, for its own page and for controllers. */
import { hostname } from "node:os";
import type { AgentConfig } from "../config.ts";
import { type AgentHealth, fitting } from "../kafka/health-messages.ts";
import type { Agent } from "../main.ts";

const startedAtMs = Date.now();

export function agentHealth(
  agent: Agent,
  config: AgentConfig,
  rest: Pick<AgentHealth, "publish" | "waiting">,
): AgentHealth {
  const { digest, mode } = agent.policy.current;
  const { failed, full } = agent.recorder.status();
  const follows = config.kafka?.policy?.id ?? null;
  return {
    agent: agent.recorder.agentId,
    name: hostname(),
    version: "0.1.0",
    pid: process.pid,
    scope: config.scope.kind,
    onFailure: config.onFailure,
    sinceMs: startedAtMs,
    sessions: agent.sessions.size,
    memoryBytes: process.memoryUsage.rss(),
    policy: { digest, mode, follows, version: agent.policy.origin?.version ?? null },
    ...rest,
    firewallRestored: agent.firewallRestored,
    problems: fitting([
      failed === null ? null : `The record cannot be written, so nothing is let through: ${failed}`,
      full === null ? null : `Nothing is let through: ${full}`,
      agent.policyProblem === null ? null : `A policy was not taken: ${agent.policyProblem}`,
      config.onFailure === "open" ? "When it is down, the host is open." : null,
    ]),
  };
}
