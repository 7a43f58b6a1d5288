/**
 * Sign-in to the page: the routes below /auth, and who asks. A session is an opaque cookie; what changes something has
 * to bring the session's CSRF token in a header, which a page of another origin can neither read nor set.
 */
import { generateServiceProviderMetadata } from "@node-saml/node-saml";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { WeirError } from "../../agent/errors.ts";
import { type IssuerLogout, refused, type SignedIn } from "./claims.ts";
import type { SignInStore } from "./kept.ts";
import { sessionMsMax } from "./kept.ts";
import { type OidcSignIn, oidcSignIn } from "./oidc.ts";
import { randomText, sameText } from "./pending.ts";
import { type SamlSignIn, samlSignIn } from "./saml.ts";
import { type PageSession, PageSessions } from "./sessions.ts";
import type { SamlSettings, SignInSettings } from "./settings.ts";

const signInSeconds = 600;
const formBytesMax = 512 * 1024;
const pathCharactersMax = 512;
const csrfHeader = "x-weir-csrf";

export interface SignInOptions {
  readonly settings: SignInSettings;
  readonly store: SignInStore;
  now(): number;
  /** Why somebody who signed in then is not believed any more (revoked); asked with every request. */
  refusal(person: SignedIn, sinceMs: number): string | null;
  /** The issuer ended somebody's session: the agents end his flows. */
  loggedOut(logout: IssuerLogout): void | Promise<void>;
  /** Into the audit. */
  note(text: string): void;
}

/** Who sits in front of the page; `identity` is what approvers are matched with. */
interface SignedInPerson {
  /** As it stands in the record: nothing that he could choose himself. */
  readonly name: string;
  readonly identity: { readonly subject: string; readonly issuer: string; readonly groups: readonly string[] };
}

export interface SignIn {
  /** Adds the routes below /auth; they ask for no sign-in (`config.open`). */
  routes(app: FastifyInstance): Promise<void>;
  /** Null: not signed in. Rejects with an error with statusCode 403 when a request that changes something lacks its token. */
  personOf(request: FastifyRequest): Promise<SignedInPerson | null>;
}

export function createSignIn({ settings, store, now, refusal, loggedOut, note }: SignInOptions): SignIn {
  const { origin } = settings;
  const oidc = settings.oidc === null ? null : oidcSignIn(settings.oidc, `${origin}/auth/callback`, store, now);
  const saml =
    settings.saml === null
      ? null
      : samlSignIn(settings.saml, `${origin}/auth/saml/acs`, `${origin}/auth/saml/logout`, store, now);
  const sessions = new PageSessions(store, now);
  const cookies = cookieJar(origin.startsWith("https:"));

  async function sessionOf(request: FastifyRequest): Promise<PageSession | null> {
    const id = cookies.read(request, "session");
    const session = id === null ? null : await sessions.get(id);
    if (id === null || session === null || refusal(session.person, session.atMs) === null) return session;
    await sessions.close(id);
    return null;
  }

  /** The browser is through: what it had before counts no longer. */
  async function enter(request: FastifyRequest, reply: FastifyReply, person: SignedIn, returnTo: string) {
    const { groups } = settings;
    if (groups.length > 0 && !groups.some((group) => person.groups.includes(group)))
      throw refused(`${person.name} is in none of the groups ${groups.join(", ")}`);
    const against = refusal(person, now());
    if (against !== null) throw refused(against);
    const before = cookies.read(request, "session");
    if (before !== null) await sessions.close(before);
    cookies.set(reply, "session", await sessions.open(person), sessionMsMax / 1000);
    note(`${person.subject} of ${person.issuer} signed in to the page`);
    return reply.redirect(returnTo, 303);
  }

  /** One for all sign-ins of this browser that are under way. */
  function browserOf(request: FastifyRequest, reply: FastifyReply): string {
    const known = cookies.read(request, "signin");
    const browser = known ?? randomText();
    cookies.set(reply, "signin", browser, signInSeconds);
    return browser;
  }

  async function ended(logout: IssuerLogout): Promise<void> {
    await sessions.end(logout);
    note(`${logout.issuer} says that ${logout.sid ?? logout.subject} logged out`);
    await loggedOut(logout);
  }

  async function begin(method: OidcSignIn | SamlSignIn, request: FastifyRequest, reply: FastifyReply) {
    const { to } = request.query as { to?: unknown };
    return reply.redirect(await method.begin(browserOf(request, reply), ownPath(to)), 303);
  }

  return {
    async personOf(request) {
      const session = await sessionOf(request);
      if (session === null) return null;
      if (!["GET", "HEAD"].includes(request.method)) mustBeOurPage(request, session, origin);
      const { subject, issuer, groups } = session.person;
      return { name: `${subject} of ${issuer}`, identity: { subject, issuer, groups } };
    },
    async routes(app) {
      await app.register(async (auth) => {
        auth.addContentTypeParser(
          "application/x-www-form-urlencoded",
          { parseAs: "string", bodyLimit: formBytesMax },
          (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(String(body)))),
        );
        auth.setErrorHandler((error, _request, reply) => {
          const known = error instanceof WeirError;
          const status = known ? 403 : ((error as { statusCode?: number }).statusCode ?? 500);
          if (known) note(error.message);
          const sentence = status >= 500 ? "WEIR_INTERNAL" : (error as Error).message;
          return reply.code(status).type("text/plain; charset=utf-8").send(`${sentence}\n`);
        });
        const open = { config: { open: true }, bodyLimit: formBytesMax };
        auth.addHook("onSend", async (_request, reply) => void reply.header("cache-control", "no-store"));

        auth.get("/auth/status", open, async (request) => {
          const session = await sessionOf(request);
          const methods = [...(oidc === null ? [] : ["oidc"]), ...(saml === null ? [] : ["saml"])];
          if (session === null) return { methods, person: null, csrf: null };
          const { subject, issuer, groups, name } = session.person;
          return { methods, person: { subject, issuer, groups, name }, csrf: session.csrf };
        });
        auth.post("/auth/logout", open, async (request, reply) => {
          const session = await sessionOf(request);
          if (session !== null) mustBeOurPage(request, session, origin);
          const id = cookies.read(request, "session");
          const person = id === null ? null : await sessions.close(id);
          if (person !== null) note(`${person.subject} of ${person.issuer} signed out of the page`);
          cookies.clear(reply, "session");
          return reply.code(204).send();
        });
        if (oidc !== null) oidcRoutes(auth, oidc, open);
        if (saml !== null && settings.saml !== null) samlRoutes(auth, saml, settings.saml, open);
      });
    },
  };

  function oidcRoutes(auth: FastifyInstance, method: OidcSignIn, open: object): void {
    auth.get("/auth/login", open, (request, reply) => begin(method, request, reply));
    auth.get("/auth/callback", open, async (request, reply) => {
      const query = request.raw.url?.split("?")[1] ?? "";
      const { person, returnTo } = await method.finish(cookies.read(request, "signin") ?? "", query);
      return enter(request, reply, person, returnTo);
    });
    // Section 2.5 and 2.8: a form with the token, from the issuer's server; 400 says that it was not taken.
    auth.post("/auth/backchannel-logout", open, async (request, reply) => {
      const token = (request.body as { logout_token?: unknown } | null)?.logout_token;
      if (typeof token !== "string") return reply.code(400).send({ error: "invalid_request" });
      try {
        await ended(await method.logout(token));
        return { ok: true };
      } catch (error) {
        note(error instanceof Error ? error.message : String(error));
        return reply.code(400).send({ error: "invalid_request" });
      }
    });
  }

  function samlRoutes(auth: FastifyInstance, method: SamlSignIn, { entityId, decryption }: SamlSettings, open: object) {
    const callbackUrl = `${origin}/auth/saml/acs`;
    auth.get("/auth/saml/login", open, (request, reply) => begin(method, request, reply));
    auth.get("/auth/saml/metadata", open, async (_request, reply) =>
      reply.type("application/samlmetadata+xml").send(
        generateServiceProviderMetadata({
          ...{ issuer: entityId, callbackUrl, wantAssertionsSigned: true },
          logoutCallbackUrl: `${origin}/auth/saml/logout`,
          ...(decryption === null ? {} : { decryptionPvk: decryption.key, decryptionCert: decryption.certificate }),
        }),
      ),
    );
    auth.post("/auth/saml/acs", open, async (request, reply) => {
      const { SAMLResponse: response, RelayState: relay } = (request.body ?? {}) as Record<string, unknown>;
      if (typeof response !== "string" || typeof relay !== "string") throw refused("it is no SAML response");
      const ticket = await method.answered(response, relay);
      return reply.redirect(`/auth/saml/finish?ticket=${ticket}`, 303);
    });
    // From the provider's server, or from a form in the browser: whose session it is stands in the request, not in a cookie.
    auth.post("/auth/saml/logout", open, async (request, reply) => {
      const { SAMLRequest: message } = (request.body ?? {}) as Record<string, unknown>;
      if (typeof message !== "string") throw refused("it is no SAML logout request");
      await ended(await method.logout(message));
      return reply.type("text/plain; charset=utf-8").send("Logged out.\n");
    });
    auth.get("/auth/saml/finish", open, async (request, reply) => {
      const { ticket } = request.query as { ticket?: unknown };
      const browser = cookies.read(request, "signin") ?? "";
      const { person, returnTo } = await method.finish(browser, typeof ticket === "string" ? ticket : "");
      return enter(request, reply, person, returnTo);
    });
  }
}

function mustBeOurPage(request: FastifyRequest, { csrf }: PageSession, ours: string): void {
  const { origin, "sec-fetch-site": site, [csrfHeader]: token } = request.headers;
  const foreign = (origin !== undefined && origin !== ours) || (site !== undefined && site !== "same-origin");
  if (!foreign && typeof token === "string" && sameText(token, csrf)) return;
  throw Object.assign(new Error("This did not come from the page."), { statusCode: 403 });
}

/** A path of this page and nothing else: `//evil.test` and `/\evil.test` are addresses elsewhere. */
function ownPath(to: unknown): string {
  const good =
    typeof to === "string" && to.length <= pathCharactersMax && /^\/(?![/\\])[\x21-\x5b\x5d-\x7e]*$/.test(to);
  return good ? to : "/";
}

/** `__Host-`: of this host and no subdomain, only over TLS, for every path (RFC 6265bis, section 4.1.3.2). */
function cookieJar(secure: boolean) {
  const named = (name: string): string => (secure ? `__Host-weir-${name}` : `weir-${name}`);
  const write = (reply: FastifyReply, name: string, value: string, maxAge: number): void =>
    void reply.header(
      "set-cookie",
      // Lax: the issuer sends the browser back by a link, and the cookie has to come along.
      `${named(name)}=${value}; Max-Age=${maxAge}; Path=/; HttpOnly;${secure ? " Secure;" : ""} SameSite=Lax`,
    );
  return {
    /** Values are ours: 32 random bytes. Of two with the same name one was planted, and nobody knows which. */
    read(request: FastifyRequest, name: string): string | null {
      const found = (request.headers.cookie ?? "").split("; ").filter((pair) => pair.startsWith(`${named(name)}=`));
      const value = found.length === 1 ? (found[0] as string).slice(named(name).length + 1) : "";
      return /^[A-Za-z0-9_-]{43}$/.test(value) ? value : null;
    },
    set: write,
    clear: (reply: FastifyReply, name: string): void => write(reply, name, "", 0),
  };
}
