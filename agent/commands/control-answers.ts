/** What the agent answers on its control socket. */
import type { Approval, ApprovalStore, Controller } from "../../controller/main.ts";
import type { AgentConfig } from "../config.ts";
import {
  type ApprovalView,
  type ChangedTool,
  type ControlReply,
  type ControlRequest,
  controlLineBytesMax,
} from "../control/protocol.ts";
import type { Peer } from "../control/server.ts";
import { WeirError } from "../errors.ts";
import { processInfo } from "../kernel/attribution.ts";
import type { Agent } from "../main.ts";
import { trustEnvironment } from "../trust/environment.ts";
import { probeNames } from "../trust/probe-server.ts";
import { createProbeService } from "../trust/probe-service.ts";
import { hasSudoRights } from "../trust/sudo.ts";
import { identityAnswer, identityForRun, identityView } from "./identity-answers.ts";

export function controlAnswers(agent: Agent, controller: Controller, config: AgentConfig) {
  const probes = createProbeService(() => agent.authority.leafFor(probeNames).context);
  return async (request: ControlRequest, peer: Peer): Promise<ControlReply> => {
    switch (request.op) {
      case "status":
        return {
          ok: true,
          status: {
            version: "0.1.0",
            pid: process.pid,
            scope: config.scope.kind,
            policy: agent.policy.current.digest,
            mode: agent.policy.current.mode,
            follows: config.kafka?.policy?.id ?? null,
            origin: agent.policy.origin,
            sessions: agent.sessions.size,
            ui: controller.url?.split("#")[0] ?? null,
          },
        };
      case "run": {
        // Before anything is made: who brings a bad token gets no run at all.
        const proven = await identityForRun(agent, request.token, peer);
        const { cgroup } = await agent.interception.createRun({
          pid: peer.pid,
          uid: peer.uid,
          name: request.name ?? "",
        });
        if (proven !== null) agent.identities.bind(cgroup, proven);
        return {
          ok: true,
          cgroup,
          environment: trustEnvironment(agent.authority.bundlePath),
          identity: proven === null ? null : identityView(proven),
          trust: { caPath: agent.authority.caPath, sudo: await hasSudoRights(peer.uid) },
        };
      }
      case "login":
      case "logout":
      case "login-issuers":
      case "identities":
      case "revoke":
      case "restore":
        return identityAnswer(agent, request, peer);
      case "probe":
        return { ok: true, probe: await probes.ask(request.prefix) };
      case "approvals":
        mustBeRoot(peer);
        return { ok: true, approvals: controller.approvals.list().map(view) };
      case "tools":
        mustBeRoot(peer);
        return { ok: true, tools: fitting(agent.toolPins.changes()) };
      case "accept-tool": {
        mustBeRoot(peer);
        const accepted = agent.toolPins.accept(request.name);
        if (accepted)
          agent.note({ type: "notice", text: `tool ${request.name} accepted as it is now by uid ${peer.uid}` });
        return { ok: true, accepted };
      }
      case "decide":
        return { ok: true, approval: view(decide(controller.approvals, request, peer)) };
    }
  };
}

function decide(approvals: ApprovalStore, request: Extract<ControlRequest, { op: "decide" }>, peer: Peer): Approval {
  mustBeRoot(peer);
  const approval = approvals.get(request.id);
  if (approval === null) throw new WeirError("WEIR_CONTROL_REFUSED", `There is no approval ${request.id}.`);
  const own = processInfo(peer.pid)?.cgroup;
  if (own !== undefined && own !== "/" && isWithin(own, approval.cgroup)) {
    throw new WeirError("WEIR_CONTROL_REFUSED", "Nobody approves his own: this shell is in the job that asks.");
  }
  const decided = approvals.decide(
    request.id,
    request.decision === "approve" ? "approved" : "denied",
    `uid ${peer.uid}`,
    request.reason,
    request.forMs,
  );
  if (decided === null)
    throw new WeirError("WEIR_CONTROL_REFUSED", `${request.id} is already ${approvals.get(request.id)?.status}.`);
  return decided;
}

/** What one line of the control socket holds; the rest is shown when these are accepted. */
function fitting(changes: readonly ChangedTool[]): ChangedTool[] {
  let left = controlLineBytesMax / 2;
  return changes.filter((change) => {
    left -= JSON.stringify(change).length;
    return left > 0;
  });
}

/** The same cgroup, or one below it. */
function isWithin(cgroup: string, parent: string): boolean {
  return parent !== "" && (cgroup === parent || cgroup.startsWith(`${parent}/`));
}

function mustBeRoot(peer: Peer): void {
  if (peer.uid !== 0) throw new WeirError("WEIR_CONTROL_REFUSED", "Only root sees and decides approvals.");
}

function view(approval: Approval): ApprovalView {
  const { cgroup: _, ...rest } = approval;
  return rest;
}
