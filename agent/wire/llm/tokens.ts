/**
 * How many tokens a prompt will be, before any model has counted: for rules and budgets, not for bills. Four characters
 * of Latin text, two of other alphabets, one of Chinese, Japanese or Korean are about one token in the vocabularies of
 * today's models; each text costs some more for its role. Off by a fifth for prose, more for code and numbers.
 */

const textTokens = 4;

export function estimateTokens(texts: readonly string[]): number {
  let quarters = 0;
  for (const text of texts) {
    quarters += textTokens * 4;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      quarters += code < 0x250 ? 1 : isIdeograph(code) ? 4 : 2;
    }
  }
  return Math.ceil(quarters / 4);
}

/** Kana, Hangul, ideographs; of a pair of surrogates each half counts as half a token. */
function isIdeograph(code: number): boolean {
  return (code >= 0x3040 && code <= 0x9fff) || (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff);
}
