/** The queue: what waits, and the two buttons. */
import type { FastifyInstance } from "fastify";
import { type Approval, type ApprovalStore, grantMsMax } from "../approvals/store.ts";
import { refusalToDecide } from "./people.ts";

/** A reason that reaches the client. */
const reasonCharactersMax = 2_000;

interface Decision {
  readonly reason?: string;
  readonly forMinutes?: number;
}

export function approvalRoutes(app: FastifyInstance, approvals: ApprovalStore): void {
  app.get("/api/approvals", async () => approvals.list().map(shown));

  app.post<{ Params: { id: string; verb: "approve" | "deny" }; Body: Decision | undefined }>(
    "/api/approvals/:id(^[a-z2-7]{8}$)/:verb(^approve$|^deny$)",
    { schema: { body: decisionSchema } },
    async ({ params: { id, verb }, body, person }, reply) => {
      const { reason = "", forMinutes = 0 } = body ?? {};
      const approval = approvals.get(id);
      if (approval === null) return reply.code(404).send({ error: "no such approval" });
      const refusal = refusalToDecide(person, approval);
      if (refusal !== null) return reply.code(403).send({ error: refusal });
      const status = verb === "approve" ? "approved" : "denied";
      const decided = approvals.decide(id, status, person.name, reason, forMinutes * 60_000);
      if (decided === null) return reply.code(409).send({ error: `already ${decision(approvals.get(id))}` });
      return shown(decided);
    },
  );
}

/** Of who came first. */
function decision(approval: Approval | null): string {
  if (approval === null) return "gone";
  return `${approval.status}${approval.decidedBy === null ? "" : ` by ${approval.decidedBy}`}`;
}

const decisionSchema = {
  type: ["object", "null"],
  additionalProperties: false,
  properties: {
    reason: { type: "string", maxLength: reasonCharactersMax },
    forMinutes: { type: "integer", minimum: 0, maximum: grantMsMax / 60_000 },
  },
} as const;

/** What leaves for a page: a cgroup's path is nobody's business there. */
export function shown(approval: Approval): Omit<Approval, "cgroup"> {
  const { cgroup: _, ...rest } = approval;
  return rest;
}
