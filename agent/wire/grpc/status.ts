/**
 * How a call ended: `grpc-message` in words, percent-encoded, and `grpc-status-details-bin`, a google.rpc.Status in
 * base64 whose details are messages of any type (PROTOCOL-HTTP2.md, "Responses").
 */
import { createBodyMasker } from "../../mask/body-masker.ts";
import type { MaskPlan } from "../../mask/plan.ts";
import type { Headers } from "../http/message.ts";

/** Masks both where they stand; how many values. */
export function maskStatus(fields: Headers, plan: MaskPlan): number {
  return (
    maskField(fields, "grpc-message", plan, percentDecoded, percentEncoded) +
    maskField(fields, "grpc-status-details-bin", plan, fromBase64, (bytes) =>
      bytes.toString("base64").replace(/=+$/, ""),
    )
  );
}

function maskField(
  fields: Headers,
  name: string,
  plan: MaskPlan,
  read: (text: string) => Buffer,
  write: (bytes: Buffer) => string,
): number {
  if (!fields.has(name)) return 0;
  // Of several fields a client reads the first, the last or all, joined by commas.
  const values = fields.all(name).map((text) => {
    const one = createBodyMasker(plan);
    const out = write(Buffer.concat([one.push(read(text)), one.end()]));
    return { masked: one.masked, out: one.masked === 0 ? text : out };
  });
  const masked = values.reduce((sum, value) => sum + value.masked, 0);
  if (masked > 0) fields.set(name, values.map(({ out }) => out).join(","));
  return masked;
}

/** A client takes what is no escape as it stands. */
function percentDecoded(text: string): Buffer {
  const bytes = text.replace(/%([0-9A-Fa-f]{2})/g, (_written, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, "latin1");
}

function fromBase64(text: string): Buffer {
  return Buffer.from(text, "base64");
}

/** Percent-encoding of `Status-Message`. */
export function percentEncoded(text: string | Buffer): string {
  return [...(typeof text === "string" ? Buffer.from(text, "utf8") : text)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
}
