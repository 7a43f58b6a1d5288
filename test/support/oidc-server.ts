/**
 * npm's oidc-provider with its own login page, where every name is let in. In the test's own process, or as one of its
 * own (its argument: OidcOptions as JSON; it does what messages ask for, see oidc.ts).
 */

import { generateKeyPairSync } from "node:crypto";
import { createServer as createPlain } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { Provider } from "oidc-provider";
import { Browser, type Page } from "./browser.ts";

export interface OidcOptions {
  readonly host: string;
  readonly port: number;
  /** Without them: plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Clients beside those for `weir run` and `weir login`. */
  readonly clients?: readonly Readonly<Record<string, unknown>>[];
  readonly groups: Readonly<Record<string, readonly string[]>>;
}

export interface OidcQuestion {
  readonly login: string;
  /** Where a device wants him to agree; without one a token is wanted. */
  readonly address?: string;
}

export interface Oidc {
  readonly issuer: string;
  /** What a person gets who signs in: by code and PKCE, through the login page. */
  token(login: string): Promise<string>;
  /** What he does at the address that a device shows: signs in and agrees. */
  agree(address: string, login: string): Promise<string>;
  close(): Promise<void>;
}

/** Only this one's redirects are never followed. */
const nowhere = "https://client.invalid/callback";

export async function startOidcHere(options: OidcOptions): Promise<Oidc> {
  const { host, tls, groups } = options;
  let answer: ReturnType<Provider["callback"]> = (_request, response) => response.writeHead(503).end();
  const listener: typeof answer = (request, response) => answer(request, response);
  const server = tls === undefined ? createPlain(listener) : createServer(tls, listener);
  await new Promise<void>((ready) => server.listen(options.port, host, ready));
  const issuer = `${tls === undefined ? "http" : "https"}://${host}:${(server.address() as AddressInfo).port}`;
  const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "weir",
        token_endpoint_auth_method: "none",
        redirect_uris: [nowhere],
        response_types: ["code"],
        grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
      },
      ...(options.clients ?? []),
    ],
    jwks: { keys: [{ ...key, use: "sig", alg: "RS256", kid: "provider-1" }] },
    cookies: { keys: ["a secret of the test"] },
    claims: { openid: ["sub", "groups", "name"] },
    conformIdTokenClaims: false,
    features: {
      deviceFlow: { enabled: true },
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: true },
    },
    pkce: { required: () => true },
    // Its own refuses loopback, where the tests' pages are.
    fetch: (url: string, options: RequestInit & { dispatcher?: unknown }) => {
      const { dispatcher: _, ...rest } = options;
      return fetch(url, rest);
    },
    ttl: { IdToken: 3600, AccessToken: 3600, Session: 3600, Interaction: 600, Grant: 3600, DeviceCode: 600 },
    findAccount: (_context: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: groups[id] ?? [], name: `${id} of the test` }),
    }),
  });
  answer = provider.callback();
  return {
    issuer,
    token: (login) => tokenOf(issuer, login),
    async agree(address, login) {
      const browser = new Browser();
      const page = await throughForms(browser, await browser.go(address), login);
      return page.text.replace(/<[^>]*>|\s+/g, " ");
    },
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };
}

/** Fills in the login page and agrees, until something else than a form comes. */
export async function signIn(browser: Browser, start: string, login: string): Promise<Page> {
  return throughForms(browser, await browser.go(start), login);
}

async function throughForms(browser: Browser, first: Page, login: string): Promise<Page> {
  let page = first;
  for (let step = 0; step < 6 && /<form[^>]*\/(interaction\/|device")/.test(page.text); step += 1)
    page = await browser.submit(page, /name="login"/.test(page.text) ? { login, password: "any" } : {});
  return page;
}

async function tokenOf(issuer: string, login: string): Promise<string> {
  const verifier = "v".repeat(43);
  const digest = await crypto.subtle.digest("SHA-256", Buffer.from(verifier));
  const start = new URL(`${issuer}/auth`);
  for (const [name, value] of Object.entries({
    client_id: "weir",
    response_type: "code",
    scope: "openid",
    redirect_uri: nowhere,
    code_challenge: Buffer.from(digest).toString("base64url"),
    code_challenge_method: "S256",
  }))
    start.searchParams.set(name, value);
  const { url } = await signIn(new Browser({ stopAt: nowhere }), start.href, login);
  const code = new URL(url).searchParams.get("code");
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    body: new URLSearchParams({
      ...{ grant_type: "authorization_code", client_id: "weir", redirect_uri: nowhere },
      ...{ code: code ?? "", code_verifier: verifier },
    }),
  });
  const { id_token: token } = (await answer.json()) as { id_token?: string };
  if (token === undefined) throw new Error(`no id token for ${login}: ${answer.status} ${url}`);
  return token;
}

if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  const oidc = await startOidcHere(JSON.parse(process.argv[2] ?? "{}") as OidcOptions);
  process.on("message", ({ login, address }: OidcQuestion) => {
    (address === undefined ? oidc.token(login) : oidc.agree(address, login)).then(
      (answer) => process.send?.({ answer }),
      (error: unknown) => process.send?.({ error: String(error) }),
    );
  });
  process.on("disconnect", () => process.exit());
  process.send(oidc.issuer);
}
