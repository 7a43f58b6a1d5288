/** Agents and their health, the policy in force, live flows and their end. */
import type { FastifyInstance } from "fastify";
import { WeirError } from "../../agent/errors.ts";
import type { AgentHealth } from "../../agent/kafka/health-messages.ts";
import type { PublishedPolicies } from "../consume/published-policies.ts";
import type { IssuerLogout, SignedIn } from "../identity/claims.ts";
import type { AgentRow } from "../store/store.ts";

/** What an agent said last of itself, and what its record shows. */
export interface AgentState extends Partial<Omit<AgentHealth, "agent" | "name" | "policy">> {
  readonly id: string;
  /** Of its host; its id when it never said. */
  readonly name: string;
  /** `silent`: several words in a row did not come. `unknown`: it publishes, and never said how it is. */
  readonly health: "alive" | "silent" | "stopped" | "unknown";
  readonly heardAtMs: number | null;
  readonly policy?: AgentHealth["policy"] & {
    /** None where they are not known here. */
    readonly files: readonly PolicyFile[];
  };
  /** Null: there is no entry of it here. */
  readonly record: Omit<AgentRow, "agent"> | null;
}

export interface PolicyFile {
  readonly file: string;
  readonly text: string;
}

/** What the page asks of the agents; the embedded agent answers directly. */
export interface HostState {
  agents(): readonly AgentState[] | Promise<readonly AgentState[]>;
  /** What was published for agents to follow. */
  readonly policies: Pick<PublishedPolicies, "latest" | "version">;
  /** Ids of the sessions that are open now. */
  live(): readonly string[];
  /** Ends a live session with an error of its protocol; false: it is not live. */
  end(session: string, reason: string): boolean;
  /** Ends the live flows of an identity and refuses its next ones. Rejects with a WeirError that says why not. */
  revoke(revocation: Revocation): Promise<void>;
  /** Why somebody who signed in to the page then is not believed any more; null: nothing against him. */
  refusal(person: SignedIn, sinceMs: number): string | null;
  /** The issuer says that somebody logged out there. Rejects when the agents cannot be told now. */
  loggedOut(logout: IssuerLogout): void | Promise<void>;
  /** Into the audit. */
  note(text: string): void;
}

export interface Revocation {
  readonly subject: string;
  /** Null: of every issuer. */
  readonly issuer: string | null;
  readonly reason: string;
  readonly by: string;
}

/** They are asked for by themselves (policy-routes.ts). */
function withoutTexts({ policy, ...agent }: AgentState): object {
  if (policy === undefined) return agent;
  const { files: _, ...rest } = policy;
  return { ...agent, policy: rest };
}

const reasonCharactersMax = 500;
const nameCharactersMax = 512;

export function stateRoutes(app: FastifyInstance, state: HostState): void {
  app.get("/api/agents", async () => (await state.agents()).map(withoutTexts));
  app.get("/api/live", async () => state.live());
  app.post<{ Params: { id: string }; Body: { reason?: string } | undefined }>(
    "/api/sessions/:id(^[0-9a-f-]{36}$)/end",
    { schema: { body: endSchema } },
    async ({ params: { id }, body, person }, reply) => {
      const reason = `ended by ${person.name}${body?.reason ? `: ${body.reason}` : ""}`;
      if (!state.end(id, reason)) return reply.code(409).send({ error: "this session is not live" });
      return { ended: id };
    },
  );
  app.post<{ Body: { subject: string; issuer?: string; reason?: string } }>(
    "/api/revocations",
    { schema: { body: revokeSchema } },
    async ({ body: { subject, issuer = null, reason = "" }, person }, reply) => {
      try {
        await state.revoke({ subject, issuer, reason, by: person.name });
      } catch (error) {
        if (!(error instanceof WeirError)) throw error;
        return reply.code(409).send({ error: error.message });
      }
      return { revoked: subject };
    },
  );
}

const revokeSchema = {
  type: "object",
  additionalProperties: false,
  required: ["subject"],
  properties: {
    subject: { type: "string", minLength: 1, maxLength: nameCharactersMax },
    issuer: { type: "string", minLength: 1, maxLength: nameCharactersMax },
    reason: { type: "string", maxLength: reasonCharactersMax },
  },
} as const;

const endSchema = {
  type: ["object", "null"],
  additionalProperties: false,
  properties: { reason: { type: "string", maxLength: reasonCharactersMax } },
} as const;
