/** Who is told that something waits: the YAML of `--notify FILE`. Secrets come from files or the environment. */
import { readFileSync } from "node:fs";
import { Ajv, type ErrorObject } from "ajv";
import { parseDocument } from "yaml";
import { WeirError, whyUnread } from "../../agent/errors.ts";

export type Channel =
  | { readonly kind: "webhook"; readonly url: string; readonly secret: string }
  | { readonly kind: "slack"; readonly url: string }
  | { readonly kind: "teams"; readonly url: string }
  | { readonly kind: "email"; readonly smtp: string; readonly from: string; readonly to: readonly string[] };

export interface NotifySettings {
  /** Address of the page as people reach it, without the sign-in token; null: where it listens. */
  readonly link: string | null;
  readonly channels: readonly Channel[];
}

type Secret = string | { readonly file: string } | { readonly env: string };

interface Source {
  readonly link?: string;
  readonly notify: readonly Partial<{
    webhook: { url: Secret; secret: Secret };
    slack: { url: Secret };
    teams: { url: Secret };
    email: { smtp: Secret; from: string; to: readonly string[] };
  }>[];
}

const channelsMax = 16;

/** Throws WEIR_CONFIG_INVALID with what is wrong and where. */
export function readNotifySettings(path: string, env: NodeJS.ProcessEnv): NotifySettings {
  const source = parse(path);
  return {
    link: source.link?.replace(/\/+$/, "") ?? null,
    channels: source.notify.map((channel) => {
      const read = (secret: Secret): string => readSecret(path, secret, env);
      const { webhook, slack, teams, email } = channel;
      if (webhook !== undefined)
        return { kind: "webhook", url: address(path, read(webhook.url), "https"), secret: read(webhook.secret) };
      if (slack !== undefined) return { kind: "slack", url: address(path, read(slack.url), "https") };
      if (teams !== undefined) return { kind: "teams", url: address(path, read(teams.url), "https") };
      const { smtp, from, to } = email as NonNullable<typeof email>;
      return { kind: "email", smtp: address(path, read(smtp), "smtp"), from, to };
    }),
  };
}

function parse(path: string): Source {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${path}: cannot be read: ${whyUnread(cause)}.`, { cause });
  }
  const document = parseDocument(text);
  const first = document.errors[0];
  if (first !== undefined) throw new WeirError("WEIR_CONFIG_INVALID", `${path}: ${first.message}`);
  const value: unknown = document.toJS();
  if (!isSource(value)) {
    const problem = (isSource.errors as ErrorObject[])[0];
    throw new WeirError(
      "WEIR_CONFIG_INVALID",
      `${path}: ${problem?.instancePath || "/"} ${problem?.message ?? "is wrong"}. Channels: webhook, slack, teams, email.`,
    );
  }
  return value;
}

function readSecret(path: string, secret: Secret, env: NodeJS.ProcessEnv): string {
  if (typeof secret === "string") return secret;
  if ("env" in secret) {
    const value = env[secret.env];
    if (value === undefined) throw new WeirError("WEIR_CONFIG_INVALID", `${path}: ${secret.env} is not set.`);
    return value;
  }
  try {
    return readFileSync(secret.file, "utf8").trim();
  } catch (cause) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${path}: ${secret.file} cannot be read: ${whyUnread(cause)}.`, {
      cause,
    });
  }
}

/** Plain http and smtp only on this host: what waits is nobody else's business. */
function address(path: string, text: string, scheme: "https" | "smtp"): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const local = url !== null && ["127.0.0.1", "[::1]", "localhost"].includes(url.hostname);
  const safe = scheme === "https" ? ["https:"] : ["smtps:", "smtp+starttls:"];
  const plain = scheme === "https" ? "http:" : "smtp:";
  if (url !== null && (safe.includes(url.protocol) || (local && url.protocol === plain))) return text;
  throw new WeirError(
    "WEIR_CONFIG_INVALID",
    `${path}: an address that begins with ${safe.map((name) => `${name}//`).join(" or ")} is expected.`,
  );
}

const secret = {
  anyOf: [
    { type: "string", minLength: 1 },
    { type: "object", additionalProperties: false, required: ["file"], properties: { file: { type: "string" } } },
    { type: "object", additionalProperties: false, required: ["env"], properties: { env: { type: "string" } } },
  ],
};
const map = (properties: Readonly<Record<string, object>>): object => ({
  ...{ type: "object", additionalProperties: false, required: Object.keys(properties), properties },
});
const mailAddress = { type: "string", pattern: "^[^\\s<>]+@[^\\s<>]+$|^[^<>\\r\\n]*<[^\\s<>]+@[^\\s<>]+>$" };
const isSource = new Ajv({ allowUnionTypes: true, validateSchema: false }).compile<Source>({
  type: "object",
  additionalProperties: false,
  required: ["notify"],
  properties: {
    link: { type: "string", pattern: "^https?://[^#]+$" },
    notify: {
      type: "array",
      maxItems: channelsMax,
      items: {
        type: "object",
        additionalProperties: false,
        minProperties: 1,
        maxProperties: 1,
        properties: {
          webhook: map({ url: secret, secret }),
          slack: map({ url: secret }),
          teams: map({ url: secret }),
          email: map({
            smtp: secret,
            from: mailAddress,
            to: { type: "array", minItems: 1, maxItems: 50, items: mailAddress },
          }),
        },
      },
    },
  },
});
