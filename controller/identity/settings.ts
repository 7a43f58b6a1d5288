/** Where people sign in to the page: the YAML of `--sign-in FILE`. Secrets come from files or the environment. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { Ajv, type ErrorObject } from "ajv";
import { parseDocument } from "yaml";
import { WeirError, whyUnread } from "../../agent/errors.ts";

export interface OidcSettings {
  readonly issuer: string;
  readonly clientId: string;
  /** Null: a public client, by PKCE alone. */
  readonly clientSecret: string | null;
  readonly scope: string;
  /** The same as in the policy's `identity.issuers`: nobody approves his own, and by this he is known. */
  readonly subjectClaim: string;
  readonly groupsClaim: string;
  /** Clients of `weir run` and `weir login`: the issuer tells us of their logouts too. */
  readonly logoutClients: readonly string[];
  /** PEM text of the authority that the issuer's server is trusted by; null: the system's. */
  readonly ca: string | null;
}

export interface SamlSettings {
  /** Where people are sent to. */
  readonly entryPoint: string;
  /** Entity id of the identity provider. */
  readonly idpIssuer: string;
  /** PEM text of the certificates that it signs with. */
  readonly idpCertificates: readonly string[];
  /** Our entity id; the assertion's audience. */
  readonly entityId: string;
  readonly groupsAttribute: string;
  /** PEM texts of what assertions are encrypted for; null: they come unencrypted. */
  readonly decryption: { readonly key: string; readonly certificate: string } | null;
}

export interface SignInSettings {
  /** The page's origin as people reach it: `https://weir.corp`. */
  readonly origin: string;
  readonly oidc: OidcSettings | null;
  readonly saml: SamlSettings | null;
  /** Who is in none of these does not get in; empty: everybody whom the issuer lets. */
  readonly groups: readonly string[];
}

type Secret = string | { readonly file: string } | { readonly env: string };

interface Source {
  readonly origin: string;
  readonly groups?: readonly string[];
  readonly oidc?: {
    issuer: string;
    clientId: string;
    clientSecret?: Secret;
    scope?: string;
    subjectClaim?: string;
    groupsClaim?: string;
    logoutClients?: readonly string[];
    ca?: string;
  };
  readonly saml?: {
    entryPoint: string;
    idpIssuer: string;
    idpCertificates: string | readonly string[];
    entityId?: string;
    groupsAttribute?: string;
    decryption?: { key: string; certificate: string };
  };
}

/** Throws WEIR_CONFIG_INVALID with what is wrong and where. */
export function readSignInSettings(path: string, env: NodeJS.ProcessEnv): SignInSettings {
  const complain = (what: string, cause?: unknown): WeirError =>
    new WeirError("WEIR_CONFIG_INVALID", `${path}: ${what}`, { cause });
  const contents = (file: string): string => {
    try {
      return readFileSync(file, "utf8").trim();
    } catch (cause) {
      throw complain(`${file} cannot be read: ${whyUnread(cause)}.`, cause);
    }
  };
  const secretOf = (secret: Secret): string => {
    if (typeof secret === "string") return secret;
    const value = "file" in secret ? contents(secret.file) : env[secret.env];
    if (value === undefined || value === "") throw complain(`${JSON.stringify(secret)} holds no secret.`);
    return value;
  };
  const safe = (text: string): string => {
    if (isSafe(text)) return text;
    throw complain(`${text}: an https address is expected (http on loopback only).`);
  };
  /** A pair that does not fit would be found out by the first who signs in. */
  const decryptionOf = (files: { key: string; certificate: string }): { key: string; certificate: string } => {
    const [key, certificate] = [contents(files.key), contents(files.certificate)];
    try {
      const own = createPrivateKey(key);
      if (own.asymmetricKeyType === "rsa" && new X509Certificate(certificate).checkPrivateKey(own))
        return { key, certificate };
    } catch (cause) {
      throw complain(`${files.key} and ${files.certificate}: a private key and its certificate are expected.`, cause);
    }
    throw complain(`${files.key} and ${files.certificate} are no RSA key and its certificate.`);
  };
  const document = parseDocument(contents(path));
  if (document.errors[0] !== undefined) throw complain(document.errors[0].message);
  const source: unknown = document.toJS();
  if (!isSource(source)) {
    const problem = (isSource.errors as ErrorObject[])[0];
    throw complain(`${problem?.instancePath || "/"} ${problem?.message ?? "is wrong"}.`);
  }
  const { oidc, saml, groups = [] } = source;
  if (oidc === undefined && saml === undefined) throw complain("neither oidc nor saml is there.");
  const origin = new URL(safe(source.origin)).origin;
  return {
    origin,
    groups,
    oidc:
      oidc === undefined
        ? null
        : {
            issuer: safe(oidc.issuer),
            clientId: oidc.clientId,
            clientSecret: oidc.clientSecret === undefined ? null : secretOf(oidc.clientSecret),
            scope: oidc.scope ?? "openid profile",
            subjectClaim: oidc.subjectClaim ?? "sub",
            groupsClaim: oidc.groupsClaim ?? "groups",
            logoutClients: oidc.logoutClients ?? [],
            ca: oidc.ca === undefined ? null : contents(oidc.ca),
          },
    saml:
      saml === undefined
        ? null
        : {
            entryPoint: safe(saml.entryPoint),
            idpIssuer: saml.idpIssuer,
            idpCertificates: [saml.idpCertificates].flat().map(contents),
            entityId: saml.entityId ?? `${origin}/auth/saml`,
            groupsAttribute: saml.groupsAttribute ?? "groups",
            decryption: saml.decryption === undefined ? null : decryptionOf(saml.decryption),
          },
  };
}

/** What goes in plain text may come from anybody; loopback is for trying. */
function isSafe(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  if (protocol === "https:") return true;
  return protocol === "http:" && (["localhost", "[::1]"].includes(hostname) || /^127\.\d+\.\d+\.\d+$/.test(hostname));
}

const text = { type: "string", minLength: 1, maxLength: 2_000 };
const texts = { type: "array", maxItems: 100, items: text };
const section = (required: readonly string[], properties: object): object => ({
  ...{ type: "object", additionalProperties: false, required, properties },
});
const secret = { anyOf: [text, section(["file"], { file: text }), section(["env"], { env: text })] };
const isSource = new Ajv({ allowUnionTypes: true, validateSchema: false }).compile<Source>(
  section(["origin"], {
    origin: text,
    groups: texts,
    oidc: section(["issuer", "clientId"], {
      ...{ issuer: text, clientId: text, clientSecret: secret, scope: text, ca: text },
      ...{ subjectClaim: text, groupsClaim: text, logoutClients: texts },
    }),
    saml: section(["entryPoint", "idpIssuer", "idpCertificates"], {
      ...{ entryPoint: text, idpIssuer: text, entityId: text, groupsAttribute: text },
      decryption: section(["key", "certificate"], { key: text, certificate: text }),
      idpCertificates: { anyOf: [text, { ...texts, minItems: 1 }] },
    }),
  }),
);
