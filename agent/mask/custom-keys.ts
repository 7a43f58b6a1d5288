/**
 * Values of members of JSON objects, by the members' names. In a text it finds strings and numbers behind such a name,
 * also where the JSON stands within a string of JSON; who walks through JSON value by value asks `keys`.
 */
import type { Detector, Followed } from "./detector.ts";

/** Of a member's name, as it is written. */
const nameCharactersMax = 128;
/** Blanks before and behind the colon. */
const blanksMax = 32;
/** Quote, name, quote, colon; behind it a string begins or a number. */
const member = new RegExp(
  `"((?:[^"\\\\]|\\\\u[0-9a-fA-F]{4}){1,${nameCharactersMax}})\\\\?"[ \\t\\r\\n]{0,${blanksMax}}:[ \\t\\r\\n]{0,${blanksMax}}(\\\\?"|-?[0-9])`,
  "y",
);
const cutMember = new RegExp(
  `"((?:[^"\\\\]|\\\\u[0-9a-fA-F]{4}){0,${nameCharactersMax}})(?:(\\\\?"[ \\t\\r\\n]{0,${blanksMax}}(?::[ \\t\\r\\n]{0,${blanksMax}}(?:\\\\?"?|-?[0-9]?))?)|\\\\(?:u[0-9a-fA-F]{0,3})?)?$`,
  "y",
);
const memberCharactersMax = nameCharactersMax * 6 + blanksMax * 2 + 8;

const quote = 0x22;
const backslash = 0x5c;
/** Phases of a value, 1 being where it begins. */
const inString = 2;
const inEscapedString = 3;
const inNumber = 4;

export function keysDetector(name: string, patterns: readonly string[]): Detector {
  const wanted = patterns.map((pattern) => pattern.toLowerCase().split("*"));
  const named = (key: string): boolean => key.length <= nameCharactersMax && wanted.some((parts) => fits(parts, key));

  return {
    name,
    needs: 0,
    keys: named,
    follow,
    next(text, from, open) {
      for (let at = text.indexOf('"', from); at >= 0 && at < open; at = text.indexOf('"', at + 1)) {
        member.lastIndex = at;
        const found = member.exec(text);
        if (found === null || !named(plain(found[1] as string))) continue;
        const isString = (found[2] as string).endsWith('"');
        const start = at + found[0].length - (isString ? 0 : (found[2] as string).length);
        // Of an empty string there is nothing to hide.
        if (isString && text.startsWith(found[2] as string, start)) continue;
        if (start >= text.length) return null;
        return { start, end: isString ? start : start + 1 };
      }
      return null;
    },
    tail(text, from) {
      const reach = Math.max(from, text.length - memberCharactersMax);
      for (let at = text.indexOf('"', reach); at >= 0; at = text.indexOf('"', at + 1)) {
        cutMember.lastIndex = at;
        const found = cutMember.exec(text);
        if (found === null) continue;
        const key = plain(found[1] as string);
        if (found[2] === undefined ? wanted.some((parts) => mayFit(parts, key)) : named(key)) return at;
      }
      return text.length;
    },
  };
}

/** Letter case makes no difference. */
function fits(parts: readonly string[], key: string): boolean {
  const text = key.toLowerCase();
  const [head = ""] = parts;
  if (parts.length === 1) return text === head;
  const tail = parts.at(-1) as string;
  if (text.length < head.length + tail.length || !text.startsWith(head) || !text.endsWith(tail)) return false;
  let at = head.length;
  // The leftmost place for each part is the best one.
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0 || found + part.length > text.length - tail.length) return false;
    at = found + part.length;
  }
  return true;
}

/** `key` may be the beginning of such a name. */
function mayFit(parts: readonly string[], key: string): boolean {
  const text = key.toLowerCase();
  const [head = ""] = parts;
  if (parts.length === 1) return head.startsWith(text);
  return text.length <= head.length ? head.startsWith(text) : text.startsWith(head);
}

/** Escapes of letters are seen through. */
function plain(name: string): string {
  return name.includes("\\")
    ? name.replace(/\\u([0-9a-fA-F]{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
    : name;
}

function follow(text: string, at: number, phase: number, final: boolean): Followed {
  let kind = phase;
  if (phase === 1) {
    const before = text.charCodeAt(at - 1);
    if (before !== quote) kind = inNumber;
    else kind = text.charCodeAt(at - 2) === backslash ? inEscapedString : inString;
  }
  let end = at;
  if (kind === inNumber) {
    while (isNumeric(text.charCodeAt(end))) end += 1;
    return { at: end, phase: end < text.length || final ? 0 : kind };
  }
  while (end < text.length) {
    const code = text.charCodeAt(end);
    if (code === quote) return { at: end, phase: 0 };
    if (code !== backslash) {
      end += 1;
      continue;
    }
    let run = end;
    while (text.charCodeAt(run) === backslash) run += 1;
    if (run >= text.length && !final) return { at: end, phase: kind };
    const ends = text.charCodeAt(run) === quote;
    // One level down, one backslash and a quote are a quote; three are one within the string.
    if (ends && kind === inEscapedString && run - end === 1) return { at: end, phase: 0 };
    if (ends && kind === inString && (run - end) % 2 === 0) return { at: run, phase: 0 };
    end = ends ? run + 1 : run;
  }
  return { at: Math.min(end, text.length), phase: final ? 0 : kind };
}

function isNumeric(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || code === 0x2e || code === 0x2d || code === 0x2b || (code | 0x20) === 0x65;
}
