/** Fetches what a target's credential names, at connect. A secret lives in memory only, for one login. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { HttpTargetCredential, SecretSource, TargetCredential } from "../core/target.ts";
import { WeirError, whyUnread } from "../errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { HttpCredential } from "../wire/http/credential.ts";
import type { LoginCredential } from "../wire/protocol.ts";
import { readVaultSecret } from "./vault.ts";

const secretBytesMax = 64 * 1024;
const execMs = 5_000;
const maskKeyBytes = 32;

/** Throws WEIR_CONFIG_INVALID with the place, never with the value. */
export async function readCredential(credential: TargetCredential | null): Promise<LoginCredential | null> {
  if (credential === null) return null;
  return {
    user: credential.user,
    password: credential.password === null ? null : await readSecret(credential.password),
    clientPassword: credential.clientPassword === null ? null : await readSecret(credential.clientPassword),
  };
}

/** The same for what goes over HTTP. */
export async function readHttpCredential(credential: HttpTargetCredential | null): Promise<HttpCredential | null> {
  if (credential === null) return null;
  switch (credential.kind) {
    case "bearer":
      return { kind: "bearer", token: await readSecret(credential.token) };
    case "header":
    case "query":
      return { ...credential, value: await readSecret(credential.value) };
    case "basic":
      return { ...credential, password: await readSecret(credential.password) };
    case "sigv4":
      return {
        ...credential,
        accessKeyId: await readSecret(credential.accessKeyId),
        secretAccessKey: await readSecret(credential.secretAccessKey),
        sessionToken: credential.sessionToken === null ? null : await readSecret(credential.sessionToken),
      };
  }
}

async function readSecret(source: SecretSource): Promise<string> {
  switch (source.from) {
    case "env": {
      const value = process.env[source.name];
      if (value === undefined)
        throw new WeirError(
          "WEIR_CONFIG_INVALID",
          `The environment variable ${source.name} of a credential is not set.`,
        );
      return value;
    }
    case "file":
      try {
        return lastLineEndCut(await readFile(source.path, "utf8"));
      } catch (cause) {
        throw new WeirError(
          "WEIR_CONFIG_INVALID",
          `The credential file ${source.path} cannot be read: ${whyUnread(cause)}.`,
          { cause },
        );
      }
    case "vault":
      return readVaultSecret({ ...source, token: await readSecret(source.token) });
    case "exec": {
      const [program, ...args] = source.command;
      try {
        const { stdout } = await promisify(execFile)(program as string, args, {
          timeout: execMs,
          maxBuffer: secretBytesMax,
        });
        return lastLineEndCut(stdout);
      } catch {
        // The cause may carry the command's output, and with it the secret.
        throw new WeirError("WEIR_CONFIG_INVALID", `The credential command ${program} failed.`);
      }
    }
  }
}

function lastLineEndCut(text: string): string {
  return text.replace(/\r?\n$/, "");
}

/** The key of masks of the style `hash`, made at first start: equal values stay equal over restarts. */
export function openMaskKey(stateDir: string): Buffer {
  const path = join(stateDir, "mask-key");
  // A file that a loss of power left short would make digests that anybody can compute.
  if (existsSync(path)) {
    const kept = readFileSync(path);
    if (kept.length === maskKeyBytes) return kept;
  }
  const key = randomBytes(maskKeyBytes);
  replaceFile(path, key);
  return key;
}
