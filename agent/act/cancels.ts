/** Finds the session that a CancelRequest speaks of: by the server's key, and only at the same destination. */
import type { Flow } from "../core/flow.ts";

export class CancelRegistry {
  /** What is forgotten is taken out of its cell: a Map names what it held for longer (core/roster.ts). */
  readonly #sessions = new Map<string, { cancel: (() => boolean) | null }>();

  register(flow: Flow, key: Buffer, cancel: () => boolean): void {
    this.#sessions.set(nameOf(flow, key), { cancel });
  }

  forget(flow: Flow, key: Buffer): void {
    const name = nameOf(flow, key);
    const cell = this.#sessions.get(name);
    if (cell !== undefined) cell.cancel = null;
    this.#sessions.delete(name);
  }

  /** True when a session held something and has withdrawn it; the server then never hears of it. */
  deliver(flow: Flow, key: Buffer): boolean {
    return this.#sessions.get(nameOf(flow, key))?.cancel?.() ?? false;
  }
}

function nameOf(flow: Flow, key: Buffer): string {
  return `${flow.destination.address}:${flow.destination.port}/${key.toString("base64")}`;
}
