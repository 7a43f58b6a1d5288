/** Finds the session that a CancelRequest speaks of: by the server's key, and only at the same destination. */
import type { Flow } from "../core/flow.ts";

export class CancelRegistry {
  readonly #sessions = new Map<string, () => boolean>();

  register(flow: Flow, key: Buffer, cancel: () => boolean): void {
    this.#sessions.set(nameOf(flow, key), cancel);
  }

  forget(flow: Flow, key: Buffer): void {
    this.#sessions.delete(nameOf(flow, key));
  }

  /** True when a session held something and has withdrawn it; the server then never hears of it. */
  deliver(flow: Flow, key: Buffer): boolean {
    return this.#sessions.get(nameOf(flow, key))?.() ?? false;
  }
}

function nameOf(flow: Flow, key: Buffer): string {
  return `${flow.destination.address}:${flow.destination.port}/${key.toString("base64")}`;
}
