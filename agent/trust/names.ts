/** How our certificate is called in the stores of others: by the state directory and the certificate, so that each agent
 * takes away its own, also those of a former authority, and never another agent's. */
import { createHash, X509Certificate } from "node:crypto";
import { resolve } from "node:path";

export interface OwnNames {
  /** `weir-` and 16 hexadecimal digits. */
  readonly current: string;
  /** Whether a name in a store is of this state directory, whatever the authority was. */
  isOwn(name: string, certificatePem?: string): boolean;
}

const digits = 8;

/** `caPem` is null where the state directory has no authority (any more). */
export function namesFor(stateDir: string, caPem: string | null): OwnNames {
  const prefix = `weir-${createHash("sha256").update(resolve(stateDir)).digest("hex").slice(0, digits)}`;
  const print = caPem === null ? "0".repeat(2 * digits) : fingerprint(caPem);
  return {
    current: `${prefix}${print.slice(0, digits)}`,
    isOwn(name, certificatePem) {
      if (!/^weir-[0-9a-f]{16}$/.test(name)) return false;
      if (name.startsWith(prefix)) return true;
      // Before the state directory stood in the name, all digits were the certificate's.
      if (name === `weir-${print}`) return true;
      return certificatePem !== undefined && name === `weir-${fingerprint(certificatePem)}` && isPast(certificatePem);
    },
  };
}

/** The name in a file's name or an alias: `weir-….crt`, `debian:weir-….pem`. */
export function nameIn(text: string): string | null {
  return /\bweir-[0-9a-f]{16}\b/.exec(text)?.[0] ?? null;
}

function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256
    .replaceAll(":", "")
    .slice(0, 2 * digits)
    .toLowerCase();
}

function isPast(pem: string): boolean {
  return Date.parse(new X509Certificate(pem).validTo) < Date.now();
}
