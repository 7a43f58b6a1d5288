// The policies in force, with their text and who has them.
import { api } from "./api.js";
import { element, facts, span, withChildren } from "./dom.js";
import { code } from "./highlight.js";

export function policiesView(main) {
  const list = element("div", undefined, "cards");
  main.append(element("h2", "Policy"), list);
  return {
    async show() {
      const policies = await api("/api/policies");
      list.replaceChildren(
        ...(policies.length === 0 ? [element("p", "No agent has reported a policy.", "empty")] : policies.map(card)),
      );
    },
    close() {},
  };
}

function card({ follows, version, mode, digest, agents, published, files, problem }) {
  const node = element("section", undefined, "card policy");
  const name = follows === null ? "Own files" : `${follows}, ${version === null ? "no version" : `version ${version}`}`;
  node.append(element("h3", name));
  if (agents.length === 0) node.append(element("p", "Published; no agent has said that it is in force there.", "meta"));
  if (problem !== null) node.append(element("p", problem, "deny-text"));
  node.append(
    facts([
      ["in force on", agents.map(onAgent).join(", ")],
      ["mode", mode],
      ["digest", digest],
      ["published", published && `${span(Date.now() - published.atMs)} ago by ${published.by}`],
      ["signed by", published?.signer],
    ]),
  );
  for (const { file, text } of files) {
    const details = withChildren(element("details"), element("summary", file));
    // A text that nobody looks at is not coloured.
    details.addEventListener("toggle", () => details.open && details.append(code(text, "yaml")), { once: true });
    details.open = files.length === 1;
    node.append(details);
  }
  return node;
}

function onAgent({ name, health }) {
  return health === "alive" ? name : `${name} (${health})`;
}
