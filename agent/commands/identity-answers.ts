/** What the agent answers about identities on its control socket. Who asks is the kernel's word, never the asker's. */
import type { ControlReply, ControlRequest, IdentityView } from "../control/protocol.ts";
import type { Peer } from "../control/server.ts";
import { WeirError } from "../errors.ts";
import type { Proven } from "../identity/verify.ts";
import { processInfo } from "../kernel/attribution.ts";
import type { Agent } from "../main.ts";

type Op = "login" | "logout" | "login-issuers" | "identities" | "revoke" | "restore";
export type IdentityRequest = Extract<ControlRequest, { op: Op }>;

/** Whom a run is to stand for: what its token proves, else what the run around it has. Null: nobody is proven. */
export async function identityForRun(agent: Agent, token: string | undefined, peer: Peer): Promise<Proven | null> {
  return token === undefined ? agent.identities.inherited(processInfo(peer.pid)) : agent.identities.verify(token);
}

export async function identityAnswer(agent: Agent, request: IdentityRequest, peer: Peer): Promise<ControlReply> {
  const { identities, revoker } = agent;
  switch (request.op) {
    case "login": {
      if (peer.uid === 0)
        throw new WeirError("WEIR_CONTROL_REFUSED", "root is the host's own programs too; log in as yourself.");
      mustBeOutside(agent, peer);
      const proven = await identities.verify(request.token);
      identities.login(peer.uid, proven);
      agent.note({ type: "notice", text: `uid ${peer.uid} logged in as ${proven.identity.subject}` });
      return { ok: true, login: identityView(proven) };
    }
    case "logout": {
      mustBeOutside(agent, peer);
      const login = identities.logout(peer.uid);
      if (login !== null)
        agent.note({ type: "notice", text: `uid ${peer.uid} logged out, and was ${login.identity.subject}` });
      return { ok: true, login: login === null ? null : identityView(login) };
    }
    case "login-issuers":
      return {
        ok: true,
        loginIssuers: agent.policy.current.identity.issuers.flatMap(({ issuer, ca, login }) =>
          login === null ? [] : [{ issuer, ca, ...login }],
        ),
      };
    case "identities":
      mustBeRoot(peer);
      return { ok: true, identities: listed(agent) };
    case "revoke": {
      mustBeRoot(peer);
      return { ok: true, revoked: revoker.revoke({ ...request, by: `uid ${peer.uid}` }) };
    }
    case "restore":
      mustBeRoot(peer);
      mustBeOutside(agent, peer);
      revoker.restore({ ...request, by: `uid ${peer.uid}` });
      return { ok: true, revoked: { kind: "restored", ended: 0 } };
  }
}

export function identityView({ identity, untilMs }: Proven): IdentityView {
  return { ...identity, untilMs };
}

function listed({ identities }: Agent) {
  return {
    bound: [
      ...identities.bindings().map((binding) => ({ where: binding.cgroup, binding })),
      ...identities.logins().map((binding) => ({ where: `uid ${binding.uid}`, binding })),
    ].map(({ where, binding }) => ({ where, ...identityView(binding), refused: binding.refused })),
    revoked: [
      ...identities.revocations().map(({ subject, sid, issuer, reason, by, atMs }) => {
        return { what: subject ?? `session ${sid}`, issuer, reason, by, atMs };
      }),
      ...identities
        .blocks()
        .map(({ session, reason, by, atMs }) => ({ what: session, issuer: null, reason, by, atMs })),
    ],
  };
}

/** A run that stands for somebody does not change who its user is, nor lift what is against it. */
function mustBeOutside({ identities }: Agent, peer: Peer): void {
  if (identities.inherited(processInfo(peer.pid)) !== null)
    throw new WeirError("WEIR_CONTROL_REFUSED", "This shell is in a run that has an identity; do it outside of it.");
}

function mustBeRoot(peer: Peer): void {
  if (peer.uid !== 0) throw new WeirError("WEIR_CONTROL_REFUSED", "Only root sees and revokes identities.");
}
