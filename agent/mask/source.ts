/** Tells source code from prose, by what its lines look like. A heuristic: it is right about files, not about one line. */

/** So much of a text is looked at; more would not change the answer. */
const linesMax = 400;
const lineCharactersMax = 400;

const fence = /^[ \t]*(?:```|~~~)[ \t]*[A-Za-z+#-]+[ \t]*$/m;
const keyword =
  /^\s*(?:import|from|export|package|module|use|using|namespace|#include|#define|const|let|var|function|func|fn|def|class|struct|enum|interface|trait|impl|type|public|private|protected|static|final|abstract|async|await|return|if|else|elif|for|foreach|while|do|switch|case|match|try|catch|except|finally|throw|raise|with|yield|new|void|int|char|bool|float|double|string|unsigned|select|insert|update|create|alter|begin|end)\b/;
const ending = /[;{}),:[\]>]\s*$|^\s*[{}()[\]]+[;,]?\s*$/;
const operator =
  /[=!<>]==?|=>|->|::|&&|\|\||[+\-*/|&]=|\w\s=\s\S|\w\([^()]*\)|\w\[[^[\]]*\]|\$\{|^\s*@\w+|^\s*(?:\/\/|\/\*|#\s)/;
const indentation = /^(?: {2,}|\t+)\S/;
const sentence = /^[\s>*-]*[A-Z]?[a-z',]+(?: [A-Za-z',-]+){4,}[.?!:]?\s*$/;

/** From 0 to 1; `looksLikeSource` asks for half. */
export function sourceScore(text: string): number {
  let lines = 0;
  let code = 0;
  for (const line of linesOf(text)) {
    lines += 1;
    if (sentence.test(line)) continue;
    const signals =
      (keyword.test(line) ? 1 : 0) +
      (ending.test(line) ? 1 : 0) +
      (operator.test(line) ? 1 : 0) +
      (indentation.test(line) ? 0.5 : 0);
    if (signals >= 1.5 || /^\s*[{}()[\]]+[;,]?\s*$/.test(line)) code += 1;
  }
  // Two lines of anything say little.
  const share = code >= 3 ? code / lines : code / 8;
  return Math.min(1, share + (fence.test(text) ? 0.5 : 0));
}

export function looksLikeSource(text: string): boolean {
  // A prompt that asks about a piece of code is mostly prose around it: any stretch of lines will do.
  return sourceScore(text) >= 0.5 || densest(text) >= 0.6;
}

/** The best score of some twelve lines in a row. */
function densest(text: string): number {
  const lines = [...linesOf(text)];
  const stretch = 12;
  let best = 0;
  for (let at = 0; at + stretch <= lines.length; at += stretch / 2)
    best = Math.max(best, sourceScore(lines.slice(at, at + stretch).join("\n")));
  return best;
}

function* linesOf(text: string): Generator<string> {
  let count = 0;
  for (let at = 0; at < text.length && count < linesMax; ) {
    const end = text.indexOf("\n", at);
    const to = end < 0 ? text.length : end;
    const line = text.slice(at, Math.min(to, at + lineCharactersMax));
    at = to + 1;
    if (line.trim() === "") continue;
    count += 1;
    yield line;
  }
}
