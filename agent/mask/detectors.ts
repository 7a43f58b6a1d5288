/**
 * Detectors: what a card number, a key or a token looks like. Repeats are bounded or the text is read forward once, so
 * that no text takes long; what has check digits is checked. Of a `latin1` text a place is a place in the bytes.
 */
import type { DetectorName } from "../core/verdict.ts";
import { cardDetector } from "./cards.ts";
import type { TextKind } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { emailDetector } from "./email.ts";
import { ibanDetector } from "./iban.ts";
import { jwtDetector } from "./jwt.ts";
import { anthropicDetector, awsDetector, githubDetector, openaiDetector } from "./keys.ts";
import { phoneDetector, ssnDetector } from "./numbers.ts";
import { privateKeyDetector } from "./private-key.ts";

const detectors: Readonly<Record<Exclude<DetectorName, "email">, Detector>> = {
  "credit-card": cardDetector,
  ssn: ssnDetector,
  phone: phoneDetector,
  iban: ibanDetector,
  "aws-key": awsDetector,
  "openai-key": openaiDetector,
  "anthropic-key": anthropicDetector,
  "github-token": githubDetector,
  jwt: jwtDetector,
  "private-key": privateKeyDetector,
};
const emails: Readonly<Record<TextKind, Detector>> = {
  latin1: emailDetector("latin1"),
  utf16: emailDetector("utf16"),
};

export function detectorNamed(name: DetectorName, kind: TextKind): Detector {
  return name === "email" ? emails[kind] : detectors[name];
}
