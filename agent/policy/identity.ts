/** The section `identity`: issuers whose tokens are believed, and mappings. Files and keys are read by the edge. */
import type { ProcessInfo } from "../core/flow.ts";
import {
  type IdentityIssuer,
  type IdentityMapping,
  type IssuerKind,
  policyIssuer,
  type TokenAlgorithm,
} from "../core/identity.ts";
import { holdTimeout, type Place } from "./compile.ts";
import { compileGlob } from "./glob.ts";
import { nameOf } from "./shape.ts";
import type { Path } from "./source.ts";

export interface RawIssuer {
  kind?: IssuerKind;
  issuer?: string;
  audience: string | string[];
  jwks?: string;
  ca?: string;
  groupsClaim?: string;
  subjectClaim?: string;
  algorithms?: TokenAlgorithm[];
  claims?: Record<string, string | string[]>;
  lifetime?: string;
  login?: { clientId: string; scope?: string };
}

export interface RawMapping {
  uid?: number | number[];
  cgroup?: string | string[];
  identity: string;
  groups?: string[];
}

const standardAlgorithms: readonly TokenAlgorithm[] = ["RS256", "ES256"];

const publicIssuers: Readonly<Partial<Record<IssuerKind, string>>> = {
  github: "https://token.actions.githubusercontent.com",
  gitlab: "https://gitlab.com",
};

/** Claims of which one has to be named where an issuer signs for everybody in the world. */
const ownerClaims: Readonly<Record<IssuerKind, readonly string[]>> = {
  oidc: [],
  github: ["repository", "repository_id", "repository_owner", "repository_owner_id"],
  gitlab: ["project_path", "project_id", "namespace_path", "namespace_id"],
};

export function issuerName({ kind = "oidc", issuer }: RawIssuer): string {
  return issuer ?? publicIssuers[kind] ?? "";
}

export function compileIssuer(raw: RawIssuer, place: Place): IdentityIssuer {
  const complain = complainer(place);
  const { kind = "oidc", login } = raw;
  const issuer = issuerName(raw);
  const owners = ownerClaims[kind];
  if (issuer === publicIssuers[kind] && !owners.some((claim) => Object.hasOwn(raw.claims ?? {}, claim)))
    complain(
      ["claims"],
      `${issuer} signs for everybody: say whose jobs are meant by one of ${owners.join(", ")}, for example claims: { ${owners.at(-2)}: acme }.`,
    );
  if (login !== undefined && ![raw.audience].flat().includes(login.clientId))
    complain(["login", "clientId"], "its tokens are for the client itself, so the client has to be an audience too.");
  const wrong = urlProblem(issuer);
  if (wrong !== null) complain(["issuer"], wrong);
  let jwks: IdentityIssuer["jwks"] = null;
  if (raw.jwks?.includes("://") === true) {
    const problem = urlProblem(raw.jwks);
    if (problem !== null) complain(["jwks"], problem);
    jwks = { url: raw.jwks };
  } else if (raw.jwks !== undefined) {
    if (!raw.jwks.startsWith("/")) complain(["jwks"], "expected an https URL, or an absolute path of a file.");
    jwks = { file: raw.jwks };
  }
  return Object.freeze({
    kind,
    issuer,
    audiences: [raw.audience].flat(),
    jwks,
    ca: raw.ca ?? null,
    subjectClaim: raw.subjectClaim ?? "sub",
    groupsClaim: raw.groupsClaim ?? "groups",
    algorithms: raw.algorithms ?? standardAlgorithms,
    claims: Object.entries(raw.claims ?? {}).map(([name, wanted]) => {
      const globs = [wanted].flat().map((pattern) => compileGlob(pattern));
      const covers = (value: string): boolean => globs.some((glob) => glob(value));
      return { name, wanted: [wanted].flat().join(", "), covers };
    }),
    lifetimeMs:
      raw.lifetime === undefined ? null : holdTimeout(raw.lifetime, (message) => complain(["lifetime"], message)),
    login: login === undefined ? null : { clientId: login.clientId, scope: login.scope ?? "openid" },
  });
}

export function compileMapping(raw: RawMapping, place: Place): IdentityMapping {
  if (raw.uid === undefined && raw.cgroup === undefined)
    complainer(place)([], "a mapping names a `uid` or a `cgroup`, else it would be for everybody.");
  const uids = raw.uid === undefined ? null : new Set([raw.uid].flat());
  const globs = raw.cgroup === undefined ? null : [raw.cgroup].flat().map((pattern) => compileGlob(pattern));
  const identity = Object.freeze({ subject: raw.identity, issuer: policyIssuer, groups: raw.groups ?? [] });
  return Object.freeze({
    identity,
    covers: (process: ProcessInfo) =>
      (uids === null || uids.has(process.uid)) &&
      (globs === null || aboveAndSelf(process.cgroup).some((path) => globs.some((glob) => glob(path)))),
  });
}

/** `/a/b/c` → itself, `/a/b` and `/a`: a service's children are the service. */
function aboveAndSelf(cgroup: string): string[] {
  const paths: string[] = [];
  for (let end = cgroup.length; end > 0; end = cgroup.lastIndexOf("/", end - 1)) paths.push(cgroup.slice(0, end));
  return paths;
}

/** Keys that came in plain text may be anybody's; loopback is for trying. */
function urlProblem(text: string): string | null {
  if (!URL.canParse(text)) return "expected an https URL.";
  const { protocol, hostname, username, password } = new URL(text);
  if (username !== "" || password !== "") return "a URL without a name and a password is expected.";
  if (protocol === "https:") return null;
  const loopback = hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
  return protocol === "http:" && loopback ? null : "expected an https URL (http on loopback only).";
}

function complainer(place: Place): (path: Path, message: string) => void {
  return (path, message) => {
    const full = [...place.path, ...path];
    place.problems.push(place.source.problem(full, `${nameOf(full)}: ${message}`));
  };
}
