// Agents; the record and its proof.
import { api } from "./api.js";
import { button, element, facts, span, withChildren } from "./dom.js";

const refreshMs = 5_000;

export function agentsView(main, say) {
  const list = element("div", undefined, "cards");
  main.append(element("h2", "Agents"), list);
  async function show() {
    const agents = await api("/api/agents");
    list.replaceChildren(
      ...(agents.length === 0 ? [element("p", "No agent has reported.", "empty")] : agents.map(agentCard)),
    );
  }
  // Who is at a link here is not disturbed.
  const timer = setInterval(() => {
    if (list.contains(document.activeElement)) return;
    show().catch((error) => say(error.message));
  }, refreshMs);
  return { show, close: () => clearInterval(timer) };
}

function agentCard(agent) {
  const card = element("section", undefined, "card");
  const { policy, publish, record } = agent;
  card.append(element("h3", agent.name), healthLine(agent));
  const problems = [...(agent.problems ?? []), record?.broken, missing(record)].filter(Boolean);
  if (problems.length > 0)
    card.append(
      withChildren(
        element("ul", undefined, "risks"),
        ...problems.map((problem) => element("li", problem, "deny-text")),
      ),
    );
  card.append(
    facts([
      ["agent", agent.id],
      ["version", agent.version],
      // Of one that is silent nobody knows it.
      ["running", agent.health === "alive" ? span(Date.now() - agent.sinceMs) : null],
      ["scope", agent.scope],
      ["when down", agent.onFailure],
      ["live sessions", agent.sessions],
      ["waiting approvals", agent.waiting],
      ["memory", agent.memoryBytes === undefined ? null : `${(agent.memoryBytes / 1_000_000).toFixed(0)} MB`],
      ["policy", policy === undefined ? null : policyLine(policy)],
      [
        "not yet in Kafka",
        publish ? `${publish.behind} entries${publish.problem ? `: ${publish.problem}` : ""}` : null,
      ],
      ["firewall", agent.firewallRestored > 0 ? `changed by somebody and put back: ${agent.firewallRestored}` : null],
      ["record", record === null ? null : `${record.size} entries here, ${record.signed} signed`],
      ["last entry", record === null ? null : `${span(Date.now() - record.lastAtMs)} ago`],
    ]),
  );
  if (policy !== undefined) {
    const link = element("a", "The policy's text");
    link.href = "#/policy";
    card.append(link);
  }
  return card;
}

function healthLine({ health, heardAtMs }) {
  const ago = heardAtMs === null ? "" : span(Date.now() - heardAtMs);
  const [text, look] = {
    alive: [`alive, heard ${ago} ago`, "allow-text"],
    silent: [
      `SILENT for ${ago}: it is down, cut off, or Kafka does not take its word. What follows is of then.`,
      "deny-text",
    ],
    stopped: [`stopped in order ${ago} ago`, "meta"],
    unknown: ["has never said how it is; only its record is here", "meta"],
  }[health];
  return element("p", text, look);
}

function missing(record) {
  return record !== null && record.missing !== null ? `Entry ${record.missing} is not here, and later ones are.` : null;
}

function policyLine({ mode, digest, follows, version }) {
  if (follows === null) return `${mode}, ${digest.slice(0, 16)}, of its own files`;
  const which = version === null ? `no version of ${follows} came yet` : `version ${version} of ${follows}`;
  return `${mode}, ${digest.slice(0, 16)}, ${which}`;
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
