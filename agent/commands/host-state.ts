/** What the page tells about this agent, and the end of a session that it asks for. */
import { type HostState, noPolicies } from "../../controller/main.ts";
import type { AgentConfig } from "../config.ts";
import { WeirError } from "../errors.ts";
import type { AgentHealth } from "../kafka/health-messages.ts";
import type { Agent } from "../main.ts";
import { agentHealth } from "./agent-health.ts";

export interface HostStateRest {
  publish(): AgentHealth["publish"];
  /** Operations that wait. */
  waiting(): number;
}

export function hostState(agent: () => Agent | null, config: AgentConfig, rest: HostStateRest): HostState {
  return {
    agents() {
      const running = agent();
      if (running === null) return [];
      const {
        agent: id,
        policy,
        ...health
      } = agentHealth(running, config, {
        publish: rest.publish(),
        waiting: rest.waiting(),
      });
      const { files } = running.policy;
      return [{ ...health, id, health: "alive", heardAtMs: Date.now(), record: null, policy: { ...policy, files } }];
    },
    policies: noPolicies,
    live: () => [...(agent()?.sessions ?? [])].map(({ flow }) => flow.id),
    end(session, reason) {
      for (const live of agent()?.sessions ?? []) {
        if (live.flow.id !== session) continue;
        live.terminate("WEIR_SESSION_ENDED", reason);
        return true;
      }
      return false;
    },
    async revoke({ subject, issuer, reason, by }) {
      const running = agent();
      if (running === null) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent is not ready yet; try again.");
      running.revoker.revoke({ what: subject, issuer, reason, by });
    },
    refusal: (person, sinceMs) =>
      agent()?.identities.against({ identity: person, sid: person.sid, issuedAtMs: sinceMs }) ?? null,
    loggedOut: (logout) => void agent()?.revoker.loggedOut({ ...logout, by: "the issuer" }),
    note: (text) => agent()?.note({ type: "notice", text }),
  };
}
