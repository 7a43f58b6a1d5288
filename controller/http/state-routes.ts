/** Agents and their health, the policy in force, live flows and their end. */
import type { FastifyInstance } from "fastify";

export interface AgentState {
  readonly name: string;
  readonly version: string;
  readonly pid: number;
  readonly scope: string;
  readonly onFailure: string;
  readonly sinceMs: number;
  readonly sessions: number;
  readonly memoryBytes: number;
  readonly policy: { readonly digest: string; readonly mode: string; readonly files: readonly PolicyFile[] };
}

export interface PolicyFile {
  readonly file: string;
  readonly text: string;
}

/** What the page asks of the agents; the embedded agent answers directly. */
export interface HostState {
  agents(): readonly AgentState[];
  /** Ids of the sessions that are open now. */
  live(): readonly string[];
  /** Ends a live session with an error of its protocol; false: it is not live. */
  end(session: string, reason: string): boolean;
}

const reasonCharactersMax = 500;

export function stateRoutes(app: FastifyInstance, state: HostState): void {
  app.get("/api/agents", async () => state.agents());
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
}

const endSchema = {
  type: ["object", "null"],
  additionalProperties: false,
  properties: { reason: { type: "string", maxLength: reasonCharactersMax } },
} as const;
