// The page: everything that came over a wire goes in as text, never as markup.
const token = location.hash.slice(1);
const headers = { Authorization: `Bearer ${token}` };
const approvals = document.querySelector("#approvals");
const sessions = document.querySelector("#sessions");
const state = document.querySelector("#state");

async function api(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = visible(text);
  if (className) node.className = className;
  return node;
}

// Characters that turn text around or hide it are shown as their code.
function visible(text) {
  return String(text).replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function approvalCard(approval) {
  const card = element("li", undefined, "card");
  card.tabIndex = 0;
  card.dataset.id = approval.id;
  card.append(element("p", `${approval.user}@${approval.database} on ${approval.target}, by ${approval.process}`));
  card.append(element("p", `rule ${approval.rule}: ${approval.reason}`, "meta"));
  card.append(element("pre", approval.text));
  card.append(element("p", `${approval.id} · until ${new Date(approval.expiresAtMs).toLocaleTimeString()}`, "meta"));
  const actions = element("div", undefined, "actions");
  const reason = element("input");
  reason.placeholder = "Reason";
  reason.setAttribute("aria-label", `Reason for ${approval.id}`);
  for (const [verb, label] of [
    ["approve", "Approve"],
    ["deny", "Deny"],
  ]) {
    const button = element("button", label, verb);
    button.type = "button";
    button.addEventListener("click", () => decide(approval.id, verb, reason.value));
    actions.append(button);
  }
  actions.append(reason);
  card.append(actions);
  return card;
}

async function decide(id, verb, reason) {
  try {
    await api(`/api/approvals/${id}/${verb}`, { method: "POST", body: JSON.stringify({ reason }) });
  } catch (error) {
    state.textContent = `${id}: ${error.message}`;
  }
  await showApprovals();
}

async function showApprovals() {
  const pending = (await api("/api/approvals")).filter((approval) => approval.status === "pending");
  const focused = document.activeElement?.closest?.(".card")?.dataset.id;
  const typing = document.activeElement?.matches?.("input") && pending.some((approval) => approval.id === focused);
  if (!typing) {
    approvals.replaceChildren(...pending.map(approvalCard));
    approvals.querySelector(`[data-id="${focused}"]`)?.focus();
  }
  document.querySelector("#no-approvals").hidden = pending.length > 0;
  document.title = pending.length > 0 ? `(${pending.length}) Weir` : "Weir";
}

function sessionCard(session) {
  const card = element("li", undefined, "card");
  const details = element("details");
  const who = session.user ? `${session.user}@${session.database}` : "no login";
  details.append(
    element(
      "summary",
      `${new Date(session.startedAtMs).toLocaleString()} · ${who} on ${session.target} · ${session.operations} operations, ${session.denied} denied`,
    ),
  );
  details.append(
    element(
      "p",
      `${session.process} → ${session.destination}${session.job ? ` · ${session.job}` : ""} · ${session.id}`,
      "meta",
    ),
  );
  details.addEventListener("toggle", () => details.open && showEntries(session.id, details), { once: true });
  card.append(details);
  return card;
}

async function showEntries(id, details) {
  for (const entry of await api(`/api/sessions/${id}`)) {
    const { fields } = entry;
    if (entry.type === "Operation" && fields.kind !== "connect") {
      details.append(
        element(
          "p",
          `${fields.action} · ${fields.rule}${fields.action === "allow" ? "" : `: ${fields.reason}`}`,
          fields.action === "allow" ? "allow-text" : "deny-text",
        ),
      );
      details.append(element("pre", fields.text));
    }
    if (entry.type === "Result")
      details.append(
        element(
          "p",
          fields.error
            ? `error ${fields.error.code}: ${fields.error.message}`
            : `${fields.tag} · ${fields.rows} rows · ${fields.masked} masked · ${fields.durationMs.toFixed(1)} ms`,
          "meta",
        ),
      );
    if (entry.type === "Rows")
      details.append(
        element(
          "pre",
          [
            fields.columns.join(" | "),
            ...fields.rows.map((row) => row.map((value) => value ?? "NULL").join(" | ")),
          ].join("\n"),
        ),
      );
  }
}

async function showSessions() {
  const list = await api("/api/sessions");
  if (sessions.querySelector("details[open]") === null) sessions.replaceChildren(...list.map(sessionCard));
  document.querySelector("#no-sessions").hidden = list.length > 0;
}

document.querySelector("#verify").addEventListener("click", async () => {
  const output = document.querySelector("#verified");
  output.textContent = "checking …";
  try {
    const result = await api("/api/verify");
    output.textContent = result.ok
      ? `OK: ${result.entries} entries, ${result.sessions} sessions, ${result.heads} signed heads.`
      : `BROKEN: ${result.firstBad.sentence}`;
  } catch (error) {
    output.textContent = error.message;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const cards = [...approvals.children];
  const at = cards.indexOf(document.activeElement?.closest?.("#approvals > .card"));
  if (event.key === "j") cards[Math.min(at + 1, cards.length - 1)]?.focus();
  if (event.key === "k") cards[Math.max(at - 1, 0)]?.focus();
  if (at >= 0 && (event.key === "a" || event.key === "d"))
    decide(cards[at].dataset.id, event.key === "a" ? "approve" : "deny", cards[at].querySelector("input").value);
});

// EventSource cannot send a header, and a token in a URL would stand in logs: so the stream is read by fetch.
async function follow() {
  for (;;) {
    try {
      const response = await fetch("/api/events", { headers });
      if (!response.ok) throw new Error((await response.json()).error);
      state.textContent = "live";
      const reader = response.body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) await showApprovals();
    } catch (error) {
      state.textContent = error.message;
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

showApprovals().catch((error) => (state.textContent = error.message));
showSessions().catch(() => {});
setInterval(() => showSessions().catch(() => {}), 5000);
follow();
