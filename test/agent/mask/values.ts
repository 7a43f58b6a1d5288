/** Twelve kinds of value that detectors find, made for tests; none belongs to anyone. */
import type { DetectorName } from "../../../agent/core/verdict.ts";

export interface Sample {
  readonly name: string;
  readonly detector: DetectorName;
  readonly value: string;
  /** What has to stand before it. */
  readonly before?: string;
}

const jwtHead = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

export const samples: readonly Sample[] = [
  { name: "card, plain", detector: "credit-card", value: "4111111111111111" },
  { name: "card, spaced", detector: "credit-card", value: "4111 1111 1111 1111" },
  { name: "card, dashed", detector: "credit-card", value: "3782-822463-10005" },
  { name: "card, dotted", detector: "credit-card", value: "5555.5555.5555.4444" },
  { name: "card, no-break spaces", detector: "credit-card", value: "4111\u00a01111\u00a01111\u00a01111" },
  { name: "card, pairs of spaces", detector: "credit-card", value: "4111  1111  1111  1111" },
  { name: "card, a space and a no-break space", detector: "credit-card", value: "3782 \u00a0822463 \u00a010005" },
  { name: "ssn", detector: "ssn", value: "536-90-4399" },
  { name: "email", detector: "email", value: "Ada.L+x@mail.ex-ample.co.uk" },
  { name: "email, its plus escaped", detector: "email", value: "ada\\u002Bx@example.com" },
  { name: "phone", detector: "phone", value: "+1 (415) 555-2671" },
  { name: "phone, its plus escaped", detector: "phone", value: "\\u002B49 30 12345678" },
  { name: "iban, spaced", detector: "iban", value: "GB82 WEST 1234 5698 7654 32" },
  { name: "iban, small", detector: "iban", value: "de89 3704 0044 0532 0130 00" },
  { name: "aws-key", detector: "aws-key", value: "AKIAIOSFODNN7EXAMPLE" },
  {
    name: "aws secret",
    detector: "aws-key",
    value: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    before: "aws_secret_access_key = ",
  },
  { name: "openai-key", detector: "openai-key", value: `sk-proj-${"aB3_".repeat(40)}` },
  { name: "anthropic-key", detector: "anthropic-key", value: `sk-ant-api03-${"Zy9-".repeat(22)}` },
  { name: "github-token", detector: "github-token", value: "ghp_abcdefghijklmnopqrstuvwxyz0123456789" },
  { name: "jwt of 4 KiB", detector: "jwt", value: `${jwtHead}.eyJ${"c3ViIjoi".repeat(500)}.${"S1g-".repeat(20)}` },
  {
    name: "private key",
    detector: "private-key",
    value: `-----BEGIN RSA PRIVATE KEY-----\n${`${"MIIEpAIB".repeat(8)}\n`.repeat(25)}-----END RSA PRIVATE KEY-----`,
  },
];

export const detectorNames: readonly DetectorName[] = [...new Set(samples.map(({ detector }) => detector))];

/** A small generator with a seed (xorshift32), so that a failure can be run again. */
export function seeded(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
