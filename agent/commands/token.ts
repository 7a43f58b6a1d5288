/** Where `weir run` gets an identity token from: a file, a variable, or GitHub's runner. */
import { closeSync, openSync, readSync } from "node:fs";
import { WeirError } from "../errors.ts";

export interface TokenSource {
  readonly from: "file" | "env" | "github";
  readonly what: string;
}

export const tokenOptions: Readonly<Record<string, TokenSource["from"]>> = {
  "--identity-token-file": "file",
  "--identity-token-env": "env",
  "--github-audience": "github",
};

/** The agent takes no longer one. */
const tokenBytesMax = 16 * 1024;
const answerMs = 10_000;

export async function readToken({ from, what }: TokenSource, env: NodeJS.ProcessEnv): Promise<string> {
  const token = (
    from === "github" ? await githubToken(what, env) : from === "env" ? env[what] : fileText(what)
  )?.trim();
  if (token === undefined || token === "") throw new WeirError("WEIR_IDENTITY_INVALID", `${what} holds no token.`);
  return token;
}

function fileText(path: string): string {
  const bytes = Buffer.alloc(tokenBytesMax + 1);
  let fd: number | null = null;
  try {
    fd = openSync(path, "r");
    const length = readSync(fd, bytes);
    if (length > tokenBytesMax) throw new Error(`longer than ${tokenBytesMax} bytes`);
    return bytes.toString("utf8", 0, length);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_USAGE", `The identity token cannot be read: ${path}: ${why}`, { cause });
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** docs.github.com, "OpenID Connect reference": the runner gives an address and a token to ask it with. */
async function githubToken(audience: string, env: NodeJS.ProcessEnv): Promise<string> {
  const address = env["ACTIONS_ID_TOKEN_REQUEST_URL"];
  const secret = env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
  if (address === undefined || secret === undefined || !URL.canParse(address))
    throw new WeirError(
      "WEIR_USAGE",
      "GitHub gives this job no identity token: it needs `permissions: { id-token: write }`.",
    );
  const url = new URL(address);
  url.searchParams.set("audience", audience);
  try {
    const answer = await fetch(url, {
      headers: { authorization: `Bearer ${secret}`, accept: "application/json" },
      redirect: "error",
      signal: AbortSignal.timeout(answerMs),
    });
    const { value } = (await answer.json()) as { value?: unknown };
    if (!answer.ok || typeof value !== "string") throw new Error(`it answers ${answer.status}`);
    return value;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_IDENTITY_INVALID", `GitHub's identity token could not be had: ${why}`, { cause });
  }
}
