// Everything that came over a wire goes in as text, never as markup.

export function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = visible(text);
  if (className) node.className = className;
  return node;
}

export function withChildren(node, ...children) {
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Characters that turn text around or hide it are shown as their code.
export function visible(text) {
  return String(text).replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

export function button(label, className, pressed) {
  const node = element("button", label, className);
  node.type = "button";
  node.addEventListener("click", pressed);
  return node;
}

// "3 min", "2 h", "now": how long ago, or how long still.
export function span(ms) {
  const seconds = Math.round(Math.abs(ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function facts(pairs) {
  const list = element("dl", undefined, "facts");
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(element("dt", name), element("dd", value));
  }
  return list;
}
