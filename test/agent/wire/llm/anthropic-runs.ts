/** Runs of text that hide known secrets, holding back only what may still become one: enough to try any stream with. */
import type { StreamRewriter, TextRuns } from "../../../../agent/wire/llm/message-leaves.ts";

export const secrets = ["4111111111111111", "ada@example.com", "-----BEGIN KEY-----\nMII\n-----END KEY-----"] as const;

export class SecretRuns implements TextRuns {
  readonly #held = new Map<string, string>();

  push(run: string, piece: string): string {
    const text = hide((this.#held.get(run) ?? "") + piece);
    let keep = 0;
    for (const secret of secrets.flatMap((one) => [one, escaped(one)])) {
      for (let length = Math.min(secret.length - 1, text.length); length > keep; length -= 1) {
        if (text.endsWith(secret.slice(0, length))) keep = length;
      }
    }
    this.#held.set(run, text.slice(text.length - keep));
    return text.slice(0, text.length - keep);
  }

  close(run: string): string {
    const text = this.#held.get(run) ?? "";
    this.#held.delete(run);
    return text;
  }

  whole(text: string): string {
    return hide(text);
  }
}

/** How a secret stands in a JSON string. */
export function escaped(secret: string): string {
  return JSON.stringify(secret).slice(1, -1);
}

export function hide(text: string): string {
  let out = text;
  for (const secret of secrets) {
    out = out.replaceAll(secret, "*".repeat(secret.length)).replaceAll(escaped(secret), "*".repeat(secret.length));
  }
  return out;
}

/** All events through a rewriter, as they leave. */
export function run(stream: StreamRewriter, events: readonly object[], runs: TextRuns = new SecretRuns()): unknown[] {
  const out: unknown[] = [];
  for (const event of events) {
    const copy = structuredClone(event) as Record<string, unknown>;
    out.push(...(stream.event(copy, runs) ?? [event]));
  }
  return [...out, ...stream.end(runs)];
}
