/** Authorities and server certificates for tests, written by our own writer. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { toPem, writeCertificate } from "../../../agent/tls/certificate.ts";

const dayMs = 24 * 3_600_000;

export interface TestCa {
  readonly pem: string;
  issue(options?: {
    name?: string;
    dns?: readonly string[];
    ip?: readonly string[];
    fromMs?: number;
    untilMs?: number;
  }): { readonly cert: string; readonly key: string };
}

const newKey = (): KeyObject => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

export function testCa(name: string): TestCa {
  const key = newKey();
  const pem = toPem(
    writeCertificate({
      subject: name,
      issuer: name,
      key,
      issuerKey: key,
      notBeforeMs: Date.now() - 10 * dayMs,
      notAfterMs: Date.now() + dayMs,
      authority: true,
      dns: [],
      ip: [],
    }),
  );
  return {
    pem,
    issue(options = {}) {
      const own = newKey();
      const der = writeCertificate({
        subject: options.name ?? "server",
        issuer: name,
        key: own,
        issuerKey: key,
        notBeforeMs: options.fromMs ?? Date.now() - dayMs,
        notAfterMs: options.untilMs ?? Date.now() + dayMs,
        authority: false,
        dns: options.dns ?? [],
        ip: options.ip ?? [],
      });
      return { cert: toPem(der), key: own.export({ type: "pkcs8", format: "pem" }) as string };
    },
  };
}

export function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "weir-test-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
