/** The JSON Schema of a policy's section `identity`. */
import { duration, oneOrMore } from "./schema-parts.ts";

/** The words of core/identity.ts's TokenAlgorithm. */
export const tokenAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

const word = { type: "string", minLength: 1, maxLength: 512 };
const words = (description: string) => ({ description, type: ["string", "array"], maxItems: 64, ...oneOrMore(word) });

const issuer = {
  type: "object",
  additionalProperties: false,
  required: ["audience"],
  properties: {
    kind: {
      description:
        "github and gitlab: job tokens of a CI system. The groups are then repository:acme/shop, ref:refs/heads/main, environment:production and their like, and the job is proven. Default oidc.",
      enum: ["oidc", "github", "gitlab"],
    },
    issuer: {
      description:
        "Equals the token's iss to the letter: an https URL. Only github and gitlab have a default: the public service.",
      ...word,
    },
    audience: words("The token has to be for one of these (aud)."),
    jwks: {
      description: "Where the issuer's keys are: URL or path of a file. Default: its discovery document says it.",
      ...word,
    },
    ca: { description: "PEM file with the authority of the issuer's server; default: the system's.", ...word },
    groupsClaim: {
      description: "Claim with the groups, a text or a list; with dots a path (realm_access.roles). Default groups.",
      ...word,
    },
    subjectClaim: { description: "Claim with the subject. Default sub.", ...word },
    algorithms: {
      description: "Signatures that are accepted. Default RS256 and ES256.",
      type: "array",
      minItems: 1,
      maxItems: tokenAlgorithms.length,
      items: { enum: tokenAlgorithms },
    },
    claims: {
      description:
        "Other claims that have to hold, by name, each a glob or a list: GitHub's issuer signs for everybody, so name repository_owner.",
      type: "object",
      maxProperties: 32,
      additionalProperties: words("A glob, or a list of them."),
    },
    login: {
      description: "People log in with it by `weir login` (device flow): the client that is registered for that.",
      type: "object",
      additionalProperties: false,
      required: ["clientId"],
      properties: {
        clientId: { description: "Has to be one of the audiences.", ...word },
        scope: { description: "Default openid.", ...word },
      },
    },
    lifetime: duration("How long a run stays bound after its token was verified; default until the token expires."),
  },
};

const mapping = {
  description: "Processes that have an identity because of where they run. The first that fits counts.",
  type: "object",
  additionalProperties: false,
  required: ["identity"],
  properties: {
    uid: {
      description: "User id, or a list.",
      type: ["integer", "array"],
      minimum: 0,
      maximum: 4_294_967_294,
      minItems: 1,
      maxItems: 256,
      items: { type: "integer", minimum: 0, maximum: 4_294_967_294 },
    },
    cgroup: words("Glob over the process's cgroup, or one above it: /system.slice/nightly.service."),
    identity: { description: "The subject.", ...word },
    groups: { type: "array", maxItems: 256, items: word },
  },
};

export const identity = {
  description: "Who is believed: issuers of tokens, and processes that have an identity because of where they run.",
  type: "object",
  additionalProperties: false,
  properties: {
    issuers: { type: "array", maxItems: 32, items: issuer },
    mappings: { type: "array", maxItems: 1000, items: mapping },
  },
};
