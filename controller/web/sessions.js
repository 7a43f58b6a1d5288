// Sessions: searched, paged, opened.
import { api } from "./api.js";
import { button, element, span, withChildren } from "./dom.js";

const pageSize = 50;

export function sessionsView(main) {
  const form = element("form");
  form.setAttribute("role", "search");
  const input = element("input");
  input.type = "search";
  input.placeholder = "user:ada verdict:deny drop table";
  input.setAttribute("aria-label", "Search sessions");
  form.append(input, withChildren(element("button", "Search")));
  const list = element("ul", undefined, "cards");
  const nothing = element("p", undefined, "empty");
  const more = button("Older", "", () => older());
  more.hidden = true;
  main.append(
    element("h2", "Sessions"),
    form,
    element(
      "p",
      "Words, or user: target: host: process: job: identity: protocol: database: verdict: anomaly:yes",
      "hint always",
    ),
    nothing,
    list,
    more,
  );
  let asked = "";
  let shown = [];

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    asked = input.value.trim();
    show();
  });

  function ask(before) {
    const query = new URLSearchParams({ q: asked, limit: String(pageSize) });
    if (before !== undefined) query.set("before", String(before));
    return api(`/api/sessions?${query}`);
  }

  async function show() {
    // Somebody who reads older ones is not thrown back to the top.
    if (shown.length > pageSize) return;
    const [found, live] = await Promise.all([ask(), api("/api/live")]);
    const focused = document.activeElement?.closest?.("[data-id]")?.dataset.id;
    shown = found;
    const open = new Set(live);
    list.replaceChildren(...found.map((session) => sessionCard(session, open)));
    list.querySelector(`[data-id="${focused}"] a`)?.focus();
    nothing.textContent = found.length > 0 ? "" : asked === "" ? "No sessions yet." : "No session fits.";
    more.hidden = found.length < pageSize;
  }

  async function older() {
    const found = await ask(shown.at(-1).startedAtMs);
    shown = [...shown, ...found];
    list.append(...found.map((session) => sessionCard(session, new Set())));
    more.hidden = found.length < pageSize;
  }

  const timer = setInterval(() => show().catch(() => {}), 5000);
  return { show, close: () => clearInterval(timer) };
}

function sessionCard(session, open) {
  const card = element("li", undefined, "card small");
  card.dataset.id = session.id;
  const who = session.identity ?? (session.user === "" ? session.process : `${session.user}@${session.database}`);
  const link = element("a", `${who} → ${session.target}`);
  link.href = `#/session/${session.id}`;
  const counts = [
    `${session.operations} operations`,
    session.denied > 0 ? `${session.denied} denied` : "",
    session.held > 0 ? `${session.held} held` : "",
    session.masked > 0 ? `${session.masked} masked` : "",
    session.rows > 0 ? `${session.rows} rows` : "",
  ].filter((count) => count !== "");
  const lasted =
    session.endedAtMs === null
      ? open.has(session.id)
        ? "live"
        : "open"
      : span(session.endedAtMs - session.startedAtMs);
  card.append(
    withChildren(
      element("p", undefined, "title"),
      link,
      " ",
      element("span", session.protocol, "tag"),
      open.has(session.id) ? element("span", "live", "tag live") : null,
      session.denied > 0 ? element("span", "denied", "tag bad") : null,
      session.anomaly === null ? null : element("span", `anomaly ${session.anomaly.score}`, "tag bad"),
    ),
    ...(session.anomaly === null ? [] : [element("p", session.anomaly.text, "deny-text")]),
    element("p", `${new Date(session.startedAtMs).toLocaleString()} · ${lasted} · ${counts.join(", ")}`, "meta"),
    element("p", `${session.process} → ${session.destination}${session.job ? ` · ${session.job}` : ""}`, "meta"),
  );
  return card;
}
