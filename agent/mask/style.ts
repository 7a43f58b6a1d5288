/**
 * How a masked value is written: in as many bytes as it had. So a row keeps its length, char(n) and varchar(n) hold the
 * mask, JSON and COPY stay well-formed, and a value of any size is masked as it streams by. `null` is the caller's.
 */
import { createHmac } from "node:crypto";
import type { MaskStyle } from "../core/verdict.ts";
import { isInside, type TextKind } from "./chars.ts";

const star = 0x2a;
const clearBytes = 4;

/** Overwrites `bytes[start, end)`. `key` is for `hash`. `filler` is what stands for a hidden byte. */
export function applyStyle(
  bytes: Buffer,
  start: number,
  end: number,
  style: MaskStyle,
  key: Buffer,
  filler = star,
): void {
  switch (style) {
    case "redact":
    case "null":
      bytes.fill(filler, start, end);
      return;
    case "last4": {
      // Of a short value nothing stays: four of five would be no mask.
      const keep = end - start >= clearBytes * 2 ? clearBytes : 0;
      hide(bytes, start, end - keep, filler, start, end);
      return;
    }
    case "partial": {
      const keep = end - start >= 6 ? 1 : 0;
      hide(bytes, start + keep, end - keep, filler, start, end);
      return;
    }
    case "email": {
      const sign = bytes.indexOf(0x40, start);
      if (sign < 0 || sign >= end) bytes.fill(filler, start, end);
      else hide(bytes, Math.min(start + 1, sign), sign, filler, start, end);
      return;
    }
    case "hash": {
      // Where a filler is asked for (a number of JSON) letters would be no value.
      if (filler !== star) {
        bytes.fill(filler, start, end);
        return;
      }
      const digest = createHmac("sha256", key).update(bytes.subarray(start, end)).digest("hex");
      for (let at = start; at < end; at += 1) bytes[at] = digest.charCodeAt((at - start) % digest.length);
      return;
    }
  }
}

/** A byte of a multi-byte character that is left alone would break the text: the clear part starts at a border. */
function hide(bytes: Buffer, start: number, end: number, filler: number, first: number, last: number): void {
  let from = start;
  let to = end;
  while (from > first && ((bytes[from] ?? 0) & 0xc0) === 0x80) from -= 1;
  while (to < last && ((bytes[to] ?? 0) & 0xc0) === 0x80) to += 1;
  bytes.fill(filler, from, to);
}

/** What of a value in a text is hidden: [from, to), by stars, or by `text`. */
export interface Hidden {
  readonly from: number;
  readonly to: number;
  readonly text: string | null;
}

/** Clear characters at the start and the end of a value of any length; null: the style needs the value whole. */
export function clearEnds(style: MaskStyle): { readonly head: number; readonly tail: number } | null {
  if (style === "hash") return null;
  return { head: style === "partial" ? 1 : 0, tail: style === "last4" ? clearBytes : style === "partial" ? 1 : 0 };
}

/** The same as `applyStyle` for a value that is part of a text. */
export function hiddenIn(
  text: string,
  start: number,
  end: number,
  style: MaskStyle,
  key: Buffer,
  kind: TextKind,
): Hidden {
  let from = start;
  let to = end;
  if (style === "hash") {
    const digest = createHmac("sha256", key)
      .update(text.slice(start, end), kind === "latin1" ? "latin1" : "utf8")
      .digest("hex");
    return { from, to, text: digest.repeat(Math.ceil((end - start) / digest.length)).slice(0, end - start) };
  }
  if (style === "last4") to = end - start >= clearBytes * 2 ? end - clearBytes : end;
  else if (style === "partial") {
    const keep = end - start >= 6 ? 1 : 0;
    from = start + keep;
    to = end - keep;
  } else if (style === "email") {
    const sign = text.indexOf("@", start);
    if (sign >= 0 && sign < end) {
      from = Math.min(start + 1, sign);
      to = sign;
    }
  }
  while (from > start && isInside(text, from, kind)) from -= 1;
  while (to < end && isInside(text, to, kind)) to += 1;
  return { from, to, text: null };
}
