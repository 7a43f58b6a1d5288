// The queue: who, from where, what, why it waits; two buttons.
import { api, post } from "./api.js";
import { button, element, facts, span, withChildren } from "./dom.js";
import { code } from "./highlight.js";

const grants = [
  ["0", "this once"],
  ["10", "the same for 10 min"],
  ["60", "the same for 1 h"],
];

export function approvalsView(main, say) {
  const waiting = element("ul", undefined, "cards");
  waiting.id = "approvals";
  const nothing = element("p", "Nothing waits.", "empty");
  const decided = element("ul", undefined, "cards");
  main.append(
    element("h2", "Held for approval"),
    withChildren(
      element("p", undefined, "hint"),
      "Keys: ",
      key("j"),
      " ",
      key("k"),
      " move, ",
      key("a"),
      " approve, ",
      key("d"),
      " deny.",
    ),
    nothing,
    waiting,
    element("h2", "Decided"),
    decided,
  );

  async function decide(card, verb) {
    const { id } = card.dataset;
    const reason = card.querySelector("input").value;
    const forMinutes = Number(card.querySelector("select")?.value ?? 0);
    for (const control of card.querySelectorAll("button")) control.disabled = true;
    try {
      await post(`/api/approvals/${id}/${verb}`, { reason, ...(verb === "approve" ? { forMinutes } : {}) });
      say(`${id} ${verb === "approve" ? "approved" : "denied"}`);
    } catch (error) {
      say(`${id}: ${error.message}`);
    }
    await show();
  }

  // Cards that are there stay: nobody loses a half-written reason or the focus because something else happened.
  function fill(list) {
    const pending = list.filter(({ status }) => status === "pending");
    const ids = new Set(pending.map(({ id }) => id));
    for (const card of [...waiting.children]) {
      if (ids.has(card.dataset.id)) continue;
      const next = card.contains(document.activeElement)
        ? (card.nextElementSibling ?? card.previousElementSibling)
        : null;
      card.remove();
      next?.focus();
    }
    const shown = new Set([...waiting.children].map((card) => card.dataset.id));
    waiting.append(...pending.filter(({ id }) => !shown.has(id)).map((approval) => pendingCard(approval, decide)));
    nothing.hidden = pending.length > 0;
    decided.replaceChildren(
      ...list
        .filter(({ status }) => status !== "pending")
        .slice(0, 20)
        .map(decidedCard),
    );
    tick();
  }

  async function show() {
    fill(await api("/api/approvals"));
  }

  function tick() {
    for (const node of waiting.querySelectorAll("time")) {
      const left = Number(node.dataset.until) - Date.now();
      node.textContent = left > 0 ? `${span(left)} left` : "time is up";
    }
  }

  function pressed(event) {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const cards = [...waiting.children];
    const at = cards.indexOf(document.activeElement?.closest?.("#approvals > .card"));
    if (event.key === "j") cards[Math.min(at + 1, cards.length - 1)]?.focus();
    if (event.key === "k") cards[Math.max(at - 1, 0)]?.focus();
    if (at >= 0 && (event.key === "a" || event.key === "d")) decide(cards[at], event.key === "a" ? "approve" : "deny");
  }

  document.addEventListener("keydown", pressed);
  const timer = setInterval(tick, 1000);
  return {
    show,
    fill,
    close() {
      document.removeEventListener("keydown", pressed);
      clearInterval(timer);
    },
  };
}

function pendingCard(approval, decide) {
  const card = element("li", undefined, "card pending");
  card.tabIndex = 0;
  card.dataset.id = approval.id;
  const until = element("time");
  until.dataset.until = approval.expiresAtMs;
  const who = approval.identity?.subject ?? (approval.user === "" ? approval.process : approval.user);
  card.append(
    withChildren(element("p", undefined, "title"), element("strong", `${who} → ${approval.target}`), " ", until),
    withChildren(element("p"), `rule ${approval.rule}: ${approval.reason}`),
  );
  if (approval.risks.length > 0)
    card.append(withChildren(element("ul", undefined, "risks"), ...approval.risks.map((risk) => element("li", risk))));
  card.append(code(approval.text, approval.language, approval.highlights));
  card.append(
    facts([
      ["process", approval.process],
      ["host", approval.host],
      ["CI job", approval.job],
      [
        "identity",
        approval.identity === null ? "not proven" : `${approval.identity.subject} (${approval.identity.issuer})`,
      ],
      ["database", approval.database],
      ["approvers", approval.approvers.join(", ")],
      ["id", approval.id],
    ]),
    actionsOf(approval, card, decide),
  );
  return card;
}

function actionsOf(approval, card, decide) {
  const reason = element("input");
  reason.placeholder = "Reason (reaches the client)";
  reason.maxLength = 2000;
  reason.setAttribute("aria-label", `Reason for ${approval.id}`);
  const actions = withChildren(
    element("div", undefined, "actions"),
    button("Approve", "approve", () => decide(card, "approve")),
    button("Deny", "deny", () => decide(card, "deny")),
    reason,
  );
  if (approval.digest !== null) {
    const select = element("select");
    select.setAttribute("aria-label", `How long ${approval.id} is approved`);
    for (const [minutes, label] of grants) {
      const option = element("option", label);
      option.value = minutes;
      select.append(option);
    }
    actions.append(select);
  }
  return actions;
}

function decidedCard(approval) {
  const card = element("li", undefined, "card small");
  const words = { approved: "allow-text", denied: "deny-text" };
  card.append(
    withChildren(
      element("p"),
      element("strong", approval.status, words[approval.status] ?? "meta"),
      ` ${approval.decidedBy ?? ""} · ${approval.identity?.subject ?? approval.user} → ${approval.target} · ${approval.id}`,
    ),
  );
  if (approval.decidedReason) card.append(element("p", approval.decidedReason, "meta"));
  card.append(element("p", approval.text.slice(0, 300), "meta mono"));
  return card;
}

function key(name) {
  return element("kbd", name);
}
