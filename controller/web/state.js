// Agents and the policy in force; the record and its proof.
import { api } from "./api.js";
import { button, element, facts, span, withChildren } from "./dom.js";
import { code } from "./highlight.js";

export function agentsView(main) {
  const list = element("div");
  main.append(element("h2", "Agents"), list);
  async function show() {
    const agents = await api("/api/agents");
    list.replaceChildren(
      ...(agents.length === 0 ? [element("p", "No agent has reported.", "empty")] : agents.map(agentCard)),
    );
  }
  return { show, close() {} };
}

function agentCard(agent) {
  const card = element("section", undefined, "card");
  card.append(
    element("h3", agent.name),
    facts([
      ["version", agent.version],
      ["running", span(Date.now() - agent.sinceMs)],
      ["scope", agent.scope],
      ["when down", agent.onFailure],
      ["live sessions", agent.sessions],
      ["memory", `${(agent.memoryBytes / 1_000_000).toFixed(0)} MB`],
      ["policy", `${agent.policy.mode}, ${agent.policy.digest.slice(0, 16)}`],
    ]),
  );
  for (const { file, text } of agent.policy.files) {
    const details = withChildren(element("details"), element("summary", file));
    details.addEventListener("toggle", () => details.open && details.append(code(text, "yaml")), { once: true });
    card.append(details);
  }
  return card;
}

export function recordView(main) {
  const output = element("output");
  output.setAttribute("role", "status");
  main.append(
    element("h2", "Record"),
    element("p", "Every entry is chained to the one before, and signed heads say how many there are."),
    withChildren(element("p", undefined, "actions"), button("Verify the record", "", verify), output),
  );
  async function verify() {
    output.textContent = "checking …";
    try {
      const result = await api("/api/verify");
      const { audit } = result;
      const leaves = audit ? ` Audit log: ${audit.size} leaves, ${audit.receipts} receipts hold.` : "";
      output.textContent = result.ok
        ? `OK: ${result.entries} entries, ${result.sessions} sessions, ${result.heads} signed heads.${leaves}`
        : `BROKEN: ${result.firstBad.sentence}`;
      output.className = result.ok ? "allow-text" : "deny-text";
    } catch (error) {
      output.textContent = error.message;
    }
  }
  return { async show() {}, close() {} };
}
