/**
 * The web page and its JSON, for who has the token of the address printed at start: it stands in the URL's fragment,
 * which browsers do not send, and comes back in the Authorization header. A page of another origin can neither read it
 * nor make the browser send it, so there is nothing for CSRF to ride on. Others sign in (controller/identity), with a
 * cookie and a CSRF token.
 */
import { timingSafeEqual } from "node:crypto";
import rateLimit from "@fastify/rate-limit";
import { Ajv } from "ajv";
import fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from "fastify";
import { bracketed } from "../../agent/core/address.ts";
import { WeirError } from "../../agent/errors.ts";
import type { Approval, ApprovalStore } from "../approvals/store.ts";
import type { SignInStore } from "../identity/kept.ts";
import type { SignInSettings } from "../identity/settings.ts";
import { createSignIn, type SignInOptions } from "../identity/sign-in.ts";
import { approvalRoutes, shown } from "./approval-routes.ts";
import { assetRoutes } from "./assets.ts";
import { liveRoute } from "./live.ts";
import type { Person } from "./people.ts";
import { policyRoutes } from "./policy-routes.ts";
import { openRecordReader, type RecordReader } from "./record-reader.ts";
import { recordRoutes } from "./record-routes.ts";
import { type HostState, stateRoutes } from "./state-routes.ts";

const bodyBytesMax = 64 * 1024;
/** Of one address; an open page asks less than one a second. */
const requestsPerMinuteMax = 1_200;
const headersWithinMs = 10_000;

declare module "fastify" {
  interface FastifyRequest {
    person: Person;
  }
  interface FastifyContextConfig {
    /** No sign-in is asked for. */
    open?: boolean;
  }
}

export interface PageOptions {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly approvals: ApprovalStore;
  readonly stateDir: string;
  readonly state: HostState;
  /** Null: by the printed address alone. */
  readonly signIn: { readonly settings: SignInSettings; readonly store: SignInStore } | null;
  /** Default: the record of the agent in `stateDir`. The page closes it. */
  readonly record?: RecordReader;
}

export interface Page {
  readonly url: string;
  /** Tells open pages that an approval changed. */
  changed(approval: Approval): void;
  close(): Promise<void>;
}

export async function startPage(options: PageOptions): Promise<Page> {
  const record = options.record ?? openRecordReader(options.stateDir);
  const app = fastify({
    bodyLimit: bodyBytesMax,
    forceCloseConnections: true,
    // A path is never answered as another one.
    routerOptions: { ignoreTrailingSlash: false, maxParamLength: 64 },
  });
  app.server.headersTimeout = headersWithinMs;
  const signIn = options.signIn === null ? null : createSignIn({ ...signInOptions(options), ...options.signIn });
  const personOf = async (request: FastifyRequest): Promise<Person | null> =>
    isTold(request, options.token) ? root : ((await signIn?.personOf(request)) ?? null);
  await guard(app, personOf);
  // The page asks how one signs in before it knows whether one can.
  if (signIn === null)
    app.get("/auth/status", { config: { open: true } }, async () => ({ methods: [], person: null, csrf: null }));
  else await signIn.routes(app);
  assetRoutes(app);
  approvalRoutes(app, options.approvals);
  recordRoutes(app, record);
  policyRoutes(app, options.state);
  stateRoutes(app, options.state);
  const live = liveRoute(app, personOf);
  await listen(app, options);
  const address = app.server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  return {
    url: `http://${bracketed(options.host)}:${port}/#${options.token}`,
    changed: (approval) => live.send("approval", shown(approval)),
    async close() {
      live.close();
      await Promise.all([app.close(), record.close()]);
    },
  };
}

/** Headers of every answer, who may ask, how often, and errors that say nothing of the inside. */
async function guard(
  app: FastifyInstance,
  personOf: (request: FastifyRequest) => Promise<Person | null>,
): Promise<void> {
  app.removeAllContentTypeParsers();
  // Whatever a client calls it, a body is JSON; an empty one is none.
  app.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => {
    try {
      const value: unknown = body === "" ? {} : JSON.parse(String(body));
      if (value === null || typeof value !== "object" || Array.isArray(value)) throw new TypeError("no object");
      done(null, value);
    } catch {
      done(Object.assign(new Error("a JSON object is expected"), { statusCode: 400 }), undefined);
    }
  });
  // A query is text, so its numbers are read as such; in a body a number is no text.
  // The schemas are our own: checking them by a schema of schemas is a part of each start that finds nothing.
  const own = { validateSchema: false };
  const [ofBodies, ofQueries] = [
    new Ajv({ ...own, useDefaults: true }),
    new Ajv({ ...own, useDefaults: true, coerceTypes: true }),
  ];
  app.setValidatorCompiler<object>(({ schema, httpPart }) =>
    (httpPart === "body" ? ofBodies : ofQueries).compile(schema),
  );
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(securityHeaders);
    // RFC 9112 §3.2: only the origin form is ours; `*` would be taken for a wildcard.
    if (!request.raw.url?.startsWith("/")) return reply.code(400).send({ error: "bad request" });
  });
  // After the limit of rate: who asks is looked up in the store.
  app.addHook("preParsing", async (request, reply) => {
    if (request.routeOptions.config.open === true) return;
    const person = await personOf(request);
    if (person === null) return reply.code(401).send({ error: "Sign in, or open the address that Weir printed." });
    request.person = person;
  });
  await app.register(rateLimit, { max: requestsPerMinuteMax, timeWindow: "1 minute" });
  app.setNotFoundHandler((request, reply) =>
    request.method === "GET"
      ? reply.code(404).send({ error: "not found" })
      : reply.code(405).send({ error: "method not allowed" }),
  );
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const status = error.statusCode ?? 500;
    return reply.code(status).send({ error: status >= 500 ? "WEIR_INTERNAL" : error.message });
  });
}

const securityHeaders = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** Who has the address that was printed is root on this host, or has it from him. */
const root: Person = { name: "web page", identity: null };

function isTold(request: FastifyRequest, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? "");
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function signInOptions({ state }: PageOptions): Omit<SignInOptions, "settings" | "store"> {
  return {
    now: Date.now,
    note: (text) => state.note(`page: ${text}`),
    refusal: (person, sinceMs) => state.refusal(person, sinceMs),
    loggedOut: (logout) => state.loggedOut(logout),
  };
}

async function listen(app: FastifyInstance, { host, port }: PageOptions): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    throw new WeirError("WEIR_PORT_IN_USE", `${host}:${port} is in use. Take another with --listen-ui ADDR:PORT.`, {
      cause: error,
    });
  }
}
