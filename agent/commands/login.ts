/**
 * `weir login`: a person proves who he is in any browser (RFC 8628, device flow), and what runs under his user id has
 * his identity until the token expires. The issuer's answer goes to the agent, which verifies it as any other token.
 */
import { readFileSync } from "node:fs";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import {
  allowInsecureRequests,
  discovery,
  initiateDeviceAuthorization,
  None,
  pollDeviceAuthorizationGrant,
} from "openid-client";
import { askAgent } from "../control/client.ts";
import type { IdentityView, LoginIssuer } from "../control/protocol.ts";
import { WeirError } from "../errors.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { printable } from "./printable.ts";

export const help = `weir login [--issuer URL] [--state DIR]
weir login --forget [--state DIR]

Logs you in at the issuer that the policy names for it (identity.issuers, login): open the address that is shown in any
browser. Everything under your user id then has your identity until the token expires; after that it is refused until
you log in again, or --forget it. Not for root, who is the host's own programs, too.

  --issuer URL   which one, where the policy names several
  --state DIR    state directory of the agent (default /var/lib/weir)
`;

const waitMs = 10 * 60_000;
const answerSeconds = 10;
const textCharactersMax = 600;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      issuer: { type: "string" },
      forget: { type: "boolean", default: false },
      state: { type: "string" },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const path = controlSocketPath(values.state ?? io.stateDir);
  if (values.forget) {
    const reply = await askAgent(path, { op: "logout" });
    const was = "login" in reply ? reply.login : null;
    io.stdout.write(was === null ? "you were not logged in\n" : `${shown(was)} is forgotten\n`);
    return 0;
  }
  // The agent would say so too, but only after all the trouble.
  if (process.getuid?.() === 0)
    throw new WeirError("WEIR_CONTROL_REFUSED", "root is the host's own programs too; log in as yourself.");
  const reply = await askAgent(path, { op: "login-issuers" });
  const issuer = chosen("loginIssuers" in reply ? reply.loginIssuers : [], values.issuer);
  const token = await deviceToken(issuer, (text) => void io.stdout.write(text));
  const answer = await askAgent(path, { op: "login", token });
  if (!("login" in answer) || answer.login === null) throw new WeirError("WEIR_CONTROL_REFUSED", "No login came back.");
  const { login } = answer;
  io.stdout.write(`you are ${shown(login)} until ${new Date(login.untilMs).toISOString()}\n`);
  return 0;
}

function chosen(issuers: readonly LoginIssuer[], wanted: string | undefined): LoginIssuer {
  const fit = issuers.filter(({ issuer }) => wanted === undefined || issuer === wanted);
  if (fit.length === 1) return fit[0] as LoginIssuer;
  throw new WeirError(
    "WEIR_USAGE",
    fit.length === 0
      ? "The policy names no such issuer to log in at (identity.issuers, login)."
      : `Which one? --issuer ${fit.map(({ issuer }) => issuer).join(" or --issuer ")}`,
  );
}

async function deviceToken({ issuer, clientId, scope, ca }: LoginIssuer, say: (text: string) => void): Promise<string> {
  try {
    if (ca !== null) setDefaultCACertificates([...getCACertificates(), readFileSync(ca, "utf8")]);
    const url = new URL(issuer);
    // The policy lets plain text through on loopback only.
    const execute = url.protocol === "http:" ? [allowInsecureRequests] : [];
    const config = await discovery(url, clientId, undefined, None(), { execute, timeout: answerSeconds });
    const asked = await initiateDeviceAuthorization(config, { scope });
    const { user_code: code, verification_uri: place, verification_uri_complete: whole } = asked;
    say(`open ${printable(whole ?? place, textCharactersMax)}\nthe code is ${printable(code, textCharactersMax)}\n`);
    const answer = await pollDeviceAuthorizationGrant(config, asked, undefined, {
      signal: AbortSignal.timeout(waitMs),
    });
    if (answer.id_token === undefined) throw new Error("it gave no id_token; its scope needs openid");
    return answer.id_token;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError(
      "WEIR_IDENTITY_INVALID",
      `The login at ${issuer} failed: ${printable(why, textCharactersMax)}`,
      {
        cause,
      },
    );
  }
}

function shown({ subject, groups }: IdentityView): string {
  return printable(`${subject} [${groups.join(", ")}]`, textCharactersMax);
}
