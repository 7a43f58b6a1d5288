// SQL, JSON and differences in colour. Tokens are text nodes in spans: a statement can say what it wants.
import { element, visible } from "./dom.js";

const sqlWords = new Set(
  `select insert update delete merge from where and or not null is in like ilike between exists join left right full inner
outer cross on using group by order having limit offset fetch union all except intersect as distinct with recursive values
set into returning create alter drop truncate table view index schema database role user grant revoke copy to do call
execute prepare explain analyze begin commit rollback case when then else end cast true false default primary key references
program stdin stdout`.split(/\s+/),
);
const sqlToken =
  /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|[A-Za-z_][\w$]*|\d+(?:\.\d+)?|\$\d+|\s+|./g;
const jsonToken = /"(?:[^"\\]|\\.)*(?:"|$)|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\b(?:true|false|null)\b|\s+|./g;
// Longer texts are shown plain: colour is not worth a page that hangs.
const colouredCharactersMax = 50_000;

export function code(text, language, highlights = []) {
  const pre = element("pre");
  pre.tabIndex = 0;
  const marked = new Set(
    highlights.flatMap((word) => [word, word.split(".").at(-1)]).map((word) => word.toLowerCase()),
  );
  if (text.length > colouredCharactersMax) pre.textContent = visible(text);
  else if (language === "diff") pre.append(...text.split("\n").map(diffLine));
  else if (language === "sql") pre.append(...(text.match(sqlToken) ?? []).map((token) => sql(token, marked)));
  else pre.append(...(text.match(jsonToken) ?? []).map((token) => json(token, marked)));
  return pre;
}

function piece(text, className) {
  return className === null ? document.createTextNode(visible(text)) : element("span", text, className);
}

function sql(token, marked) {
  if (marked.has(token.replaceAll('"', "").toLowerCase())) return element("mark", token);
  if (/^(--|\/\*)/.test(token)) return piece(token, "comment");
  if (token.startsWith("'")) return piece(token, "string");
  if (/^[\d$]/.test(token)) return piece(token, "number");
  return piece(token, sqlWords.has(token.toLowerCase()) ? "word" : null);
}

function json(token, marked) {
  if (marked.has(token.replaceAll('"', "").toLowerCase())) return element("mark", token);
  if (token.startsWith('"')) return piece(token, "string");
  return piece(token, /^[-\dtfn]/.test(token) && token.length > 1 ? "number" : null);
}

function diffLine(line) {
  const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null;
  return piece(`${line}\n`, kind);
}
