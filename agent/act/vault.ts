/** Reads one field of a secret from HashiCorp Vault's KV v2 engine ("KV secrets engine version 2 (API)", Read secret version). */
import { WeirError } from "../errors.ts";

const answerMs = 5_000;
const answerBytesMax = 1024 * 1024;

export interface VaultPlace {
  readonly address: string;
  readonly mount: string;
  readonly path: string;
  readonly field: string;
  readonly token: string;
}

/** Throws WEIR_CONFIG_INVALID with the place and the status, never with what the server said. */
export async function readVaultSecret({ address, mount, path, field, token }: VaultPlace): Promise<string> {
  const place = `${address}/v1/${mount}/data/${path}`;
  const fail = (why: string): WeirError =>
    new WeirError("WEIR_CONFIG_INVALID", `The secret ${field} cannot be read from Vault at ${place}: ${why}.`);
  let answer: Response;
  try {
    answer = await fetch(place, {
      headers: { "x-vault-token": token },
      redirect: "error",
      signal: AbortSignal.timeout(answerMs),
    });
  } catch (error) {
    const cause = error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : "";
    throw fail(cause);
  }
  if (!answer.ok) {
    await answer.body?.cancel();
    throw fail(`it answers ${answer.status}`);
  }
  const text = await answer.text();
  if (text.length > answerBytesMax) throw fail("its answer is too long");
  let value: unknown;
  try {
    value = (JSON.parse(text) as { data?: { data?: Record<string, unknown> } }).data?.data?.[field];
  } catch {
    throw fail("its answer is no JSON");
  }
  if (typeof value !== "string" || value === "") throw fail("there is no such field");
  return value;
}
