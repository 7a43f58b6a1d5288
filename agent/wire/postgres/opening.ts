/** From the first byte to AuthenticationOk: startup, the question whether this session may be, and the login. */
import type { Operation } from "../../core/operation.ts";
import type { Permit } from "../../core/verdict.ts";
import type { ConversationContext } from "../protocol.ts";
import type { Intake, Step } from "./intake.ts";
import { SessionOver } from "./intake.ts";
import { logIn } from "./login.ts";
import { plainOperation } from "./operation.ts";
import { readOpening, type Startup } from "./startup.ts";
import { SessionState } from "./state.ts";

export function* opening(intake: Intake, context: ConversationContext): Step<SessionState> {
  const opened = yield* readOpening(intake, context);
  if (opened.kind === "cancel") {
    yield* askPermit(intake, 1, plainOperation("cancel", { user: "", database: "" }));
    intake.out.push({ type: "cancel-request", key: opened.key });
    for (;;) yield* intake.event();
  }
  const { startup } = opened;
  if (context.noCredential !== undefined) {
    const { code, message } = context.noCredential;
    intake.out.push({ type: "record", body: { type: "refused", code, reason: message, flow: null } });
    throw new SessionOver(code, message, true);
  }
  const user = startup.parameters.get("user") as string;
  const speaker = { user, database: startup.parameters.get("database") || user };
  const replication = isReplication(startup);
  const permit = yield* askPermit(
    intake,
    1,
    plainOperation(replication ? "replication" : "connect", speaker, {
      traits: replication ? ["replication"] : [],
      writes: replication,
      bytes: startup.packet.length,
    }),
  );
  const login = yield* logIn(intake, context, startup, (bytes) => {
    intake.out.push({ type: "send-server", bytes, permit });
  });
  intake.out.push(
    {
      type: "login",
      user: login.user,
      database: speaker.database,
      password: login.password === null ? null : login.password.toString("utf8"),
    },
    {
      type: "record",
      body: {
        type: "login",
        user,
        database: speaker.database,
        application: startup.parameters.get("application_name") ?? "",
        clientTls: startup.clientTls !== null,
        upstreamTls: startup.upstreamTls !== null,
      },
    },
  );
  intake.sendClient(login.ok);
  return new SessionState(context, { speaker, replicates: replication, permit, nextAskId: 2 });
}

/** Asks about an operation that stands before the session; a denial ends it. */
function* askPermit(intake: Intake, askId: number, operation: Operation): Step<Permit> {
  intake.out.push({ type: "ask", askId, operation });
  let recorded = false;
  let held = false;
  try {
    for (;;) {
      const event = yield* intake.event();
      if (event.type !== "decision" || event.askId !== askId) continue;
      const { action, permit, verdict } = event.decision;
      if (!recorded)
        intake.out.push({
          type: "record",
          body: { type: "operation", operationId: askId, operation, verdict, approvalId: event.approvalId },
        });
      recorded = true;
      held = action === "hold";
      if (action === "allow") return permit;
      if (action === "deny")
        throw new SessionOver("WEIR_DENIED", `denied by rule "${verdict.rule}": ${verdict.reason}`, true);
    }
  } catch (error) {
    if (held) intake.out.push({ type: "withdraw", askId, reason: "the client left" });
    throw error;
  }
}

/** `replication` takes a Boolean in the server's words, or `database`; anything but a clear no counts as yes. */
function isReplication(startup: Startup): boolean {
  const value = startup.parameters.get("replication")?.toLowerCase();
  return value !== undefined && !["false", "off", "no", "0", "f", "n", ""].includes(value);
}
