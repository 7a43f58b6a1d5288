/** The host's own certificate authority: made at first start, its key never leaves the state directory. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";
import { readFileOr } from "../errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import { toPem, writeCertificate } from "./certificate.ts";

const hourMs = 3_600_000;
const authorityLifeMs = 5 * 365 * 24 * hourMs;
/** At a start with less than this left a new authority is made, and has to be trusted anew. */
const authorityRenewMs = 7 * 24 * hourMs;
const leafLifeMs = 24 * hourMs;
/** A leaf is minted anew when less than this is left. */
const leafRenewMs = 6 * hourMs;
/** Clocks of clients may be behind ours. */
const backdateMs = hourMs;
/** A SecureContext is about 28 KB outside the heap. */
const leafsMax = 1_000;
const systemBundle = "/etc/ssl/certs/ca-certificates.crt";

export interface LeafNames {
  readonly commonName: string | null;
  readonly dns: readonly string[];
  readonly ip: readonly string[];
}

export interface Leaf {
  /** For node:tls; made when it is first asked for. */
  readonly context: SecureContext;
  readonly certificateDer: Buffer;
  readonly chainPem: string;
  readonly keyPem: string;
}

export interface Authority {
  readonly caPem: string;
  /** Our certificate alone. */
  readonly caPath: string;
  /** The system's roots and ours, for clients that take one file. */
  readonly bundlePath: string;
  leafFor(names: LeafNames): Leaf;
}

interface CachedLeaf extends Leaf {
  readonly notAfterMs: number;
}

export async function openAuthority(stateDir: string, now: () => number = Date.now): Promise<Authority> {
  const dir = join(stateDir, "ca");
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  const keyPath = join(dir, "ca-key.pem");
  const caPath = join(dir, "ca.pem");
  const anew = `Move ${dir} away: another authority is made, which has to be trusted anew.`;
  const isUsable = () => existsSync(keyPath) && existsSync(caPath) && isValid(caPath, now());
  if (!readFileOr("WEIR_STATE_DAMAGED", caPath, anew, isUsable)) createAuthority(keyPath, caPath, now());
  const caKey = readFileOr("WEIR_STATE_DAMAGED", keyPath, anew, () => createPrivateKey(readFileSync(keyPath)));
  const caPem = readFileSync(caPath, "utf8");
  const issuer = new X509Certificate(caPem).subject.replace(/^CN=/, "");
  const bundlePath = join(dir, "bundle.pem");
  replaceFile(bundlePath, `${systemRoots()}\n${caPem}`, 0o644);
  const leafKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const leafKeyPem = leafKey.export({ type: "pkcs8", format: "pem" }) as string;
  const leafs = new Map<string, CachedLeaf>();

  function mint(names: LeafNames, notAfterMs: number): CachedLeaf {
    const certificateDer = writeCertificate({
      subject: names.commonName ?? names.dns[0] ?? names.ip[0] ?? "weir",
      issuer,
      key: leafKey,
      issuerKey: caKey,
      notBeforeMs: now() - backdateMs,
      notAfterMs,
      authority: false,
      dns: names.dns,
      ip: names.ip,
    });
    const chainPem = toPem(certificateDer) + caPem;
    let context: SecureContext | null = null;
    return {
      certificateDer,
      chainPem,
      keyPem: leafKeyPem,
      notAfterMs,
      get context() {
        context ??= createSecureContext({ key: leafKeyPem, cert: chainPem, minVersion: "TLSv1.2" });
        return context;
      },
    };
  }

  return {
    caPem,
    caPath,
    bundlePath,
    leafFor(names) {
      const id = `${names.commonName}|${names.dns.join()}|${names.ip.join()}`;
      const cached = leafs.get(id);
      const leftMs = cached === undefined ? 0 : cached.notAfterMs - now();
      // More than its whole life is left when the clock was put back: it is not valid yet.
      if (cached !== undefined && leftMs > leafRenewMs && leftMs <= leafLifeMs + backdateMs) return cached;
      if (leafs.size >= leafsMax) leafs.delete(leafs.keys().next().value as string);
      const leaf = mint(names, now() + leafLifeMs);
      leafs.set(id, leaf);
      return leaf;
    },
  };
}

function createAuthority(keyPath: string, caPath: string, nowMs: number): void {
  const key: KeyObject = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const name = `Weir on ${hostname()}`;
  const der = writeCertificate({
    subject: name,
    issuer: name,
    key,
    issuerKey: key,
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: nowMs + authorityLifeMs,
    authority: true,
    dns: [],
    ip: [],
  });
  replaceFile(keyPath, key.export({ type: "pkcs8", format: "pem" }));
  replaceFile(caPath, toPem(der), 0o644);
}

/** False also when it was made by a clock that was ahead. */
function isValid(caPath: string, nowMs: number): boolean {
  const { validFrom, validTo } = new X509Certificate(readFileSync(caPath));
  return Date.parse(validFrom) <= nowMs && Date.parse(validTo) - nowMs >= authorityRenewMs;
}

function systemRoots(): string {
  try {
    return readFileSync(systemBundle, "utf8");
  } catch {
    return rootCertificates.join("\n");
  }
}
