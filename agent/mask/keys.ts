/** Keys with a prefix of their own, and AWS secrets, which have none but stand behind a name. */
import { alphanumeric, assigns, base64, classAt, is, isEdge, isEscapeLetter, token } from "./chars.ts";
import type { Detector, Follow, Found } from "./detector.ts";
import { awsLetters, githubLetters, skLetters } from "./prefilter.ts";
import { firstHead } from "./search.ts";

export const openaiDetector = prefixed("openai-key", skLetters, /sk-/g, [
  { prefix: "sk-", but: "ant-", bits: token, least: 20 },
]);
export const anthropicDetector = prefixed("anthropic-key", skLetters, /sk-ant-/g, [
  { prefix: "sk-ant-", bits: token, least: 20 },
]);
export const githubDetector = prefixed("github-token", githubLetters, /g(?:h[pousr]|ithub_pat)_/g, [
  ...["ghp_", "gho_", "ghu_", "ghr_"].map((prefix) => ({ prefix, bits: alphanumeric, least: 30 })),
  // These may carry a JWT: underscores and dashes belong to them.
  { prefix: "ghs_", bits: token, least: 30 },
  { prefix: "github_pat_", bits: token, least: 30 },
]);

interface Shape {
  readonly prefix: string;
  /** What must not follow the prefix. */
  readonly but?: string;
  /** The class of the characters that follow, and how many of them make it certain. It ends where they do. */
  readonly bits: number;
  readonly least: number;
}

/** The value is as long as its characters go on: certain after the least of them. */
function prefixed(name: string, needs: number, locator: RegExp, shapes: readonly Shape[]): Detector {
  const classes = new Map([
    [alphanumeric, "[A-Za-z0-9]"],
    [token, "[A-Za-z0-9_-]"],
  ]);
  const heads = shapes.map(
    ({ prefix, but, bits, least }) => `${prefix}${but === undefined ? "" : `(?!${but})`}${classes.get(bits)}{${least}}`,
  );
  const reachMax = Math.max(...shapes.map(({ prefix, least }) => prefix.length + least));
  const follow: Follow = (text, at, phase, final) => {
    // Phase 1 is the end of the head; from there on the phase names the shape.
    const bits = phase === 1 ? bitsOf(text, at) : phase;
    let end = at;
    while ((classAt(text, end) & bits) !== 0) end += 1;
    return { at: end, phase: end < text.length || final ? 0 : bits };
  };
  /** Of the value whose head ends at a place. */
  function bitsOf(text: string, end: number): number {
    for (const { prefix, bits, least } of shapes) {
      if (
        text.startsWith(prefix, end - least - prefix.length) &&
        isEdge(text, end - least - prefix.length, alphanumeric)
      )
        return bits;
    }
    return token;
  }
  return {
    name,
    needs,
    follow,
    next: firstHead(locator, alphanumeric, new RegExp(heads.join("|"), "y")),
    tail(text, from) {
      let at = text.length;
      const reach = Math.max(from, at - reachMax);
      while (at > reach && is(text, at - 1, token)) at -= 1;
      for (; at < text.length; at += 1) {
        const code = text.charCodeAt(at);
        if ((code === 0x73 || code === 0x67) && isEdge(text, at, alphanumeric)) {
          const rest = text.length - at;
          for (const { prefix } of shapes) {
            const known = Math.min(rest, prefix.length);
            if (text.startsWith(prefix.slice(0, known), at)) return at;
          }
        }
      }
      return text.length;
    },
  };
}

const idCharacters = 20;
const secretCharacters = 40;
const idHeads = ["AKIA", "ASIA", "AGPA", "AIDA", "AROA"];
const named = "(?:aws|AWS|secret|SECRET|Secret)[A-Za-z_ ]{0,30}[\"' :=\\\\>\\t]{1,8}";
const behindName = new RegExp(`${named}$`);
/** The longest name before a secret. */
const namedCharactersMax = 44;
const secret = new RegExp(`${named}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])`, "y");
/** Both kinds in one pass: looked for one after the other, each would be searched for to the text's end again and again. */
const heads = new RegExp(`(${idHeads.join("|")})|aws|AWS|[sS]ecret|SECRET`, "g");
const id = /[A-Z0-9]{20}(?![A-Za-z0-9])/y;

function idAt(text: string, at: number): boolean {
  id.lastIndex = at;
  return isEdge(text, at, alphanumeric) && id.test(text);
}

/** A secret is found from the name before it on. */
function nextAws(text: string, from: number, open: number): Found | null {
  heads.lastIndex = Math.max(0, from - namedCharactersMax);
  for (let head = heads.exec(text); head !== null && head.index < open; head = heads.exec(text)) {
    const at = head.index;
    heads.lastIndex = at + 1;
    if (head[1] !== undefined) {
      if (at >= from && idAt(text, at)) return { start: at, end: at + idCharacters };
      continue;
    }
    secret.lastIndex = at;
    if (!secret.test(text)) continue;
    const end = secret.lastIndex;
    const start = end - secretCharacters;
    // What comes before it is looked at first.
    for (let before = Math.max(from, at); before < start; before += 1)
      if (text.charCodeAt(before) === 0x41 && isIdHead(text, before) && idAt(text, before))
        return before < open ? { start: before, end: before + idCharacters } : null;
    if (start >= open) continue;
    if (start >= from) return { start, end };
  }
  return null;
}

function isIdHead(text: string, at: number): boolean {
  return idHeads.includes(text.slice(at, at + 4));
}

export const awsDetector: Detector = {
  name: "aws-key",
  needs: awsLetters,
  follow: null,
  next: nextAws,
  tail(text, from) {
    let at = text.length;
    const reach = Math.max(from, at - secretCharacters);
    while (at > reach && is(text, at - 1, base64)) at -= 1;
    if (at < text.length && is(text, at - 1, assigns)) {
      if (behindName.test(text.slice(Math.max(0, at - namedCharactersMax), at))) return at;
    }
    // The letter of an escape belongs to what stands before the secret.
    if (at < text.length && isEscapeLetter(text, at)) at += 1;
    for (at = Math.max(at, text.length - idCharacters); at < text.length; at += 1) {
      if (text.charCodeAt(at) !== 0x41 || !isEdge(text, at, alphanumeric)) continue;
      const known = text.slice(at, at + 4);
      if (idHeads.some((prefix) => prefix.startsWith(known)) && /^[A-Z0-9]*$/.test(text.slice(at))) return at;
    }
    return text.length;
  },
};
