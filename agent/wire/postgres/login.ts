/**
 * The login on two legs (PostgreSQL docs §55.2.1). SCRAM with channel binding cannot be passed through two TLS legs,
 * so the agent logs in upstream itself: with the password that the client gives it inside its own leg, or with the
 * credential that the target holds, in which case the client proves itself by SCRAM against a local secret, or by
 * being the process that it is.
 */
import { createHash } from "node:crypto";
import { PeerError } from "../../errors.ts";
import type { ConversationContext } from "../protocol.ts";
import { backend, message } from "./backend-messages.ts";
import { headerBytes } from "./framer.ts";
import { frontend } from "./frontend-messages.ts";
import { type Intake, SessionOver, type Step } from "./intake.ts";
import { authenticationBytesMax, serverMessageBytesMax } from "./limits.ts";
import { type ChannelBinding, endPointBinding, ScramClient, ScramServer, scramPlain, scramPlus } from "./scram.ts";
import { type Startup, startupWithUser } from "./startup.ts";

/** Kinds of Authentication messages (docs §55.7). */
const authentication = {
  ok: 0,
  cleartext: 3,
  md5: 5,
  gss: 7,
  sspi: 9,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;
const otherMethods: Readonly<Record<number, string>> = {
  2: "Kerberos V5",
  6: "SCM",
  7: "GSSAPI",
  8: "GSSAPI",
  9: "SSPI",
};

export interface LoggedIn {
  /** The user that the server knows. */
  readonly user: string;
  readonly password: Buffer | null;
  /** AuthenticationOk as the server sent it. */
  readonly ok: Buffer;
}

export function* logIn(
  intake: Intake,
  context: ConversationContext,
  startup: Startup,
  sendServer: (bytes: Buffer) => void,
): Step<LoggedIn> {
  const { credential } = context;
  const clientUser = startup.parameters.get("user") as string;
  const user = credential?.user ?? clientUser;
  sendServer(credential === null ? startup.packet : startupWithUser(startup, credential.user));

  let proven = credential?.clientPassword == null;
  let password: Buffer | null = credential?.password == null ? null : Buffer.from(credential.password, "utf8");
  for (;;) {
    const asked = yield* serverAuthentication(intake);
    if (!proven && credential?.clientPassword != null) {
      yield* proveClient(intake, context, startup, credential.clientPassword, clientUser);
      proven = true;
    }
    if (asked.kind === authentication.ok) return { user, password, ok: asked.bytes };
    const method = otherMethods[asked.kind];
    if (method !== undefined)
      throw new PeerError("WEIR_UNSUPPORTED", `the server asks for ${method}, which ends at the agent; use a password`);
    if (password === null) {
      if (credential !== null)
        throw new PeerError(
          "WEIR_UPSTREAM_AUTH",
          "the server asks for a password and the target's credential has none",
        );
      password = yield* askPassword(intake);
    }
    yield* answer(intake, context, startup, asked, user, password, sendServer);
  }
}

interface Asked {
  readonly kind: number;
  readonly bytes: Buffer;
  readonly body: Buffer;
}

/** The server's next Authentication message; notices pass, an error passes and ends the session. */
function* serverAuthentication(intake: Intake): Step<Asked> {
  for (;;) {
    const { type, bytes } = yield* intake.serverMessage(serverMessageBytesMax);
    if (type === backend.authentication) {
      if (bytes.length < headerBytes + 4) throw new PeerError("WEIR_FRAME_INVALID", "an Authentication is cut short");
      return { kind: bytes.readInt32BE(headerBytes), bytes, body: bytes.subarray(headerBytes + 4) };
    }
    if (type === backend.error) {
      intake.sendClient(bytes);
      throw new SessionOver("WEIR_UPSTREAM_AUTH", "the server refused the login", false);
    }
    if (type !== backend.notice && type !== backend.negotiateVersion)
      throw new PeerError("WEIR_STATE_INVALID", "the server sent an unexpected message before the login");
    intake.sendClient(bytes);
  }
}

function* answer(
  intake: Intake,
  context: ConversationContext,
  startup: Startup,
  asked: Asked,
  user: string,
  password: Buffer,
  sendServer: (bytes: Buffer) => void,
): Step<void> {
  switch (asked.kind) {
    case authentication.cleartext:
      sendServer(message(frontend.password, Buffer.concat([password, Buffer.alloc(1)])));
      return;
    case authentication.md5: {
      const inner = createHash("md5").update(password).update(user, "utf8").digest("hex");
      const digest = createHash("md5").update(inner).update(asked.body.subarray(0, 4)).digest("hex");
      sendServer(message(frontend.password, Buffer.from(`md5${digest}\0`)));
      return;
    }
    case authentication.sasl: {
      const offered = asked.body.toString("latin1").split("\0").filter(Boolean);
      const scram = new ScramClient(password, bindingFor(startup, offered), context.random);
      const first = Buffer.from(scram.first, "latin1");
      const head = Buffer.from(`${scram.mechanism}\0\0\0\0\0`, "latin1");
      head.writeInt32BE(first.length, head.length - 4);
      sendServer(message(frontend.password, Buffer.concat([head, first])));
      const going = yield* expect(intake, authentication.saslContinue);
      sendServer(message(frontend.password, Buffer.from(scram.final(going.toString("latin1")), "latin1")));
      scram.verify((yield* expect(intake, authentication.saslFinal)).toString("latin1"));
      return;
    }
    default:
      throw new PeerError("WEIR_UNSUPPORTED", `the server asks for the authentication method ${asked.kind}`);
  }
}

function* expect(intake: Intake, kind: number): Step<Buffer> {
  const asked = yield* serverAuthentication(intake);
  // An Ok in the middle would skip the server's own proof.
  if (asked.kind !== kind) throw new PeerError("WEIR_UPSTREAM_AUTH", "the server broke off SCRAM");
  return asked.body;
}

function bindingFor(startup: Startup, offered: readonly string[]): ChannelBinding {
  const certificate = startup.upstreamTls?.certificate ?? null;
  const hash = certificate === null ? null : endPointBinding(certificate);
  if (offered.includes(scramPlus) && hash !== null) return { flag: "p", data: hash };
  if (!offered.includes(scramPlain))
    throw new PeerError("WEIR_UNSUPPORTED", `the server offers only ${offered.join(", ")}`);
  return { flag: hash !== null && !offered.includes(scramPlus) ? "y" : "n", data: null };
}

/** AuthenticationCleartextPassword inside the client's TLS leg, or on the leg that never leaves the host. */
function* askPassword(intake: Intake): Step<Buffer> {
  intake.sendClient(authenticationMessage(authentication.cleartext));
  const { type, bytes } = yield* intake.clientMessage(authenticationBytesMax);
  if (type !== frontend.password || bytes.at(-1) !== 0)
    throw new PeerError("WEIR_STATE_INVALID", "a password was expected");
  // By byte: a password is whatever the client's encoding made of it.
  return bytes.subarray(headerBytes, bytes.length - 1);
}

/** SCRAM towards the client against the secret that the target names. */
function* proveClient(
  intake: Intake,
  context: ConversationContext,
  startup: Startup,
  secret: string,
  user: string,
): Step<void> {
  const leaf = startup.clientTls?.certificate ?? null;
  const scram = new ScramServer({
    password: secret,
    binding: leaf === null ? null : endPointBinding(leaf),
    random: context.random,
  });
  const list = Buffer.from(`${scram.mechanisms.join("\0")}\0\0`, "latin1");
  intake.sendClient(authenticationMessage(authentication.sasl, list));
  try {
    const initial = yield* saslMessage(intake);
    const nameEnd = initial.indexOf(0);
    if (nameEnd < 0 || initial.length < nameEnd + 5)
      throw new PeerError("WEIR_CLIENT_AUTH", "the SASL message is malformed");
    const first = scram.first(initial.toString("latin1", 0, nameEnd), initial.toString("latin1", nameEnd + 5));
    intake.sendClient(authenticationMessage(authentication.saslContinue, Buffer.from(first, "latin1")));
    const last = scram.final((yield* saslMessage(intake)).toString("latin1"));
    intake.sendClient(authenticationMessage(authentication.saslFinal, Buffer.from(last, "latin1")));
  } catch (error) {
    if (!(error instanceof PeerError) || error.code !== "WEIR_CLIENT_AUTH") throw error;
    // The server's own words for it, so that every client shows them as it is used to.
    throw new PeerError("WEIR_CLIENT_AUTH", `password authentication failed for user "${user}"`, { cause: error });
  }
}

function* saslMessage(intake: Intake): Step<Buffer> {
  const { type, bytes } = yield* intake.clientMessage(authenticationBytesMax);
  if (type !== frontend.password) throw new PeerError("WEIR_STATE_INVALID", "a SASL message was expected");
  return bytes.subarray(headerBytes);
}

function authenticationMessage(kind: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(4);
  head.writeInt32BE(kind, 0);
  return message(backend.authentication, Buffer.concat([head, body]));
}
