/**
 * Text from a wire that goes into somebody's log: control characters, what turns the direction of text, and line
 * separators of Unicode are written as escapes, so that a line stays one line and shows what it is. Pure.
 */

/** Everything of Cc and Cf (U+202E, U+200B, U+FEFF, C1's CSI …), and U+2028, U+2029. */
const notInert = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** For a JSON text: the same value when it is read. JSON.stringify has escaped what is below U+0020. */
export function inertJson(json: string): string {
  return json.replace(notInert, (character) =>
    // JSON has no escape beyond U+FFFF: both halves.
    [...Array(character.length).keys()].map((at) => `\\u${hex(character.charCodeAt(at))}`).join(""),
  );
}

/** For text that people read: `\u202e` as six characters. Half of a surrogate pair becomes U+FFFD. */
export function inertText(text: string): string {
  return text.toWellFormed().replace(notInert, (character) => `\\u${hex(character.codePointAt(0) as number)}`);
}

function hex(code: number): string {
  return code.toString(16).padStart(4, "0");
}
