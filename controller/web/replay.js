// One session: all of it, or played with its own timing.
import { api, post } from "./api.js";
import { button, element, facts, visible, withChildren } from "./dom.js";
import { code } from "./highlight.js";

const pageSize = 500;
// A pause of a night is not sat through.
const waitMsMax = 3000;
const languages = { postgres: "sql", mcp: "json", grpc: "json", llm: "json", http: "json" };

export function sessionView(main, id) {
  const title = element("h2", "Session");
  const head = element("div");
  const list = element("ol", undefined, "entries");
  const bar = element("div", undefined, "actions");
  main.append(title, head, bar, list);
  let entries = [];
  let playing = 0;
  let identity = null;

  async function all() {
    entries = [];
    for (;;) {
      const page = await api(`/api/sessions/${id}?limit=${pageSize}&after=${entries.at(-1)?.seq ?? -1}`);
      entries.push(...page);
      if (page.length < pageSize || entries.length >= 20 * pageSize) return;
    }
  }

  async function show() {
    await all();
    const start = entries.find(({ type }) => type === "SessionStart");
    if (start !== undefined) head.replaceChildren(headOf(start.fields, id));
    identity = start?.fields.flow.identity ?? null;
    list.replaceChildren(...entries.map(entryItem).filter((item) => item !== null));
    const live = (await api("/api/live")).includes(id);
    bar.replaceChildren(...controls(live));
  }

  function controls(live) {
    const speed = element("select");
    speed.setAttribute("aria-label", "Speed");
    for (const factor of [1, 2, 5, 20]) {
      const option = element("option", `${factor}×`);
      option.value = String(factor);
      speed.append(option);
    }
    const play = button("Replay", "", () => replay(Number(speed.value)));
    const end = live ? button("End this session", "deny", endIt) : null;
    const revoke = identity === null ? null : button("Revoke this identity", "deny", revokeIt);
    return [play, speed, button("Show all", "", () => show()), end, revoke].filter((node) => node !== null);
  }

  async function endIt() {
    await post(`/api/sessions/${id}/end`, {}).catch((error) => head.append(element("p", error.message, "deny-text")));
    setTimeout(() => show().catch(() => {}), 500);
  }

  // It ends whatever this person has open, anywhere: once is asked.
  async function revokeIt(event) {
    if (event.target.dataset.sure === undefined) {
      event.target.dataset.sure = "";
      event.target.textContent = `Sure? All flows of ${visible(identity.subject)} end`;
      return;
    }
    event.target.disabled = true;
    const { subject, issuer } = identity;
    const told = await post("/api/revocations", { subject, issuer }).then(
      () => element("p", `${subject} is revoked.`, "allow-text"),
      (error) => element("p", error.message, "deny-text"),
    );
    head.append(told);
  }

  async function replay(speed) {
    playing += 1;
    const mine = playing;
    list.replaceChildren();
    let before = entries[0]?.timeMs ?? 0;
    for (const entry of entries) {
      await new Promise((done) => setTimeout(done, Math.min(waitMsMax, (entry.timeMs - before) / speed)));
      before = entry.timeMs;
      if (mine !== playing) return;
      const item = entryItem(entry);
      if (item === null) continue;
      list.append(item);
      item.scrollIntoView({ block: "nearest" });
    }
  }

  return {
    show,
    close() {
      playing += 1;
    },
  };
}

function headOf({ flow, target, protocol }, id) {
  const { process } = flow;
  return facts([
    ["target", `${target} (${protocol})`],
    ["destination", `${flow.hostname ?? ""} ${flow.destination.address}:${flow.destination.port}`],
    ["process", process === null ? "unknown" : `${process.exe} (pid ${process.pid}, uid ${process.uid})`],
    ["command", process?.commandLine?.join(" ")],
    ["CI job", process?.job ? `${process.job.system}:${process.job.id} ${process.job.repository ?? ""}` : null],
    ["identity", flow.identity === null ? "not proven" : `${flow.identity.subject} (${flow.identity.issuer})`],
    ["session", id],
  ]);
}

function entryItem({ type, timeMs, fields }) {
  const content = contentOf(type, fields);
  if (content === null) return null;
  const time = element("time", new Date(timeMs).toLocaleTimeString(undefined, { hour12: false }));
  time.dateTime = new Date(timeMs).toISOString();
  return withChildren(element("li", undefined, "entry"), time, withChildren(element("div"), ...content));
}

function contentOf(type, fields) {
  switch (type) {
    case "Operation":
      return operation(fields);
    case "Result":
      return [result(fields)];
    case "Rows":
      return [rows(fields)];
    case "Approval":
      return [element("p", `${fields.decision} by ${fields.by}${fields.reason ? `: ${fields.reason}` : ""}`, "meta")];
    case "Login":
      return [element("p", `login ${fields.user}@${fields.database} ${fields.application}`, "meta")];
    case "SessionEnd":
      return [element("p", `end: ${fields.reason}`, "meta")];
    case "Notice":
      return [element("p", fields.text, "meta")];
    default:
      return null;
  }
}

function operation(fields) {
  if (fields.kind === "connect" && fields.action === "allow" && !fields.wouldBe) return null;
  const verdict = { allow: "allow-text", deny: "deny-text", hold: "hold-text" }[fields.action];
  const wouldBe = fields.action === "allow" && fields.wouldBe ? ` would ${fields.wouldBe}` : "";
  const why = fields.action === "allow" && wouldBe === "" ? "" : `${wouldBe}: ${fields.reason}`;
  const line = withChildren(element("p"), element("strong", fields.action, verdict), ` ${fields.rule}${why}`);
  const parameters = (fields.parameters ?? []).map((value, at) => `$${at + 1} = ${value ?? "NULL"}`);
  const text = [fields.text, ...parameters].join("\n");
  return text === "" ? [line] : [line, code(text, languages[fields.protocol] ?? "sql")];
}

function result(fields) {
  if (fields.error) return element("p", `error ${fields.error.code}: ${fields.error.message}`, "deny-text");
  const parts = [
    fields.tag,
    fields.rows > 0 ? `${fields.rows} rows` : "",
    fields.masked > 0 ? `${fields.masked} values masked` : "",
  ];
  const said = fields.details ? ` · ${fields.details}` : "";
  return element(
    "p",
    `${parts.filter((part) => part !== "").join(" · ")} · ${fields.durationMs.toFixed(1)} ms${said}`,
    "meta",
  );
}

// A masked value is shown as what the client got, marked as masked.
function rows({ columns, rows: values, truncated }) {
  const table = element("table");
  table.append(
    withChildren(element("thead"), withChildren(element("tr"), ...columns.map((name) => element("th", name)))),
  );
  const body = element("tbody");
  for (const row of values) body.append(withChildren(element("tr"), ...row.map(cell)));
  table.append(body);
  const wrapped = withChildren(
    element("div", undefined, "scroll"),
    table,
    truncated ? element("p", "… more rows", "meta") : null,
  );
  wrapped.tabIndex = 0;
  return wrapped;
}

function cell(value) {
  if (value === null) return element("td", "NULL", "null");
  return element("td", value, /\*{3,}/.test(value) ? "masked" : undefined);
}
