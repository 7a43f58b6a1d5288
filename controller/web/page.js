// Which view is shown, and what is live.
import { api, follow, signedIn, signOut } from "./api.js";
import { approvalsView } from "./approvals.js";
import { button, element } from "./dom.js";
import { policiesView } from "./policies.js";
import { sessionView } from "./replay.js";
import { sessionsView } from "./sessions.js";
import { agentsView, recordView } from "./state.js";

const main = document.querySelector("#main");
const state = document.querySelector("#state");
const count = document.querySelector("#pending");
const views = {
  approvals: approvalsView,
  sessions: sessionsView,
  session: sessionView,
  agents: agentsView,
  policy: policiesView,
  record: recordView,
};
let view = null;
let name = "";

function say(text) {
  state.textContent = text;
}

function open() {
  const [wanted = "approvals", id] = location.hash.replace(/^#\/?/, "").split("/");
  if (location.hash === "#main") return;
  view?.close();
  name = Object.hasOwn(views, wanted) ? wanted : "approvals";
  main.replaceChildren();
  view = views[name](main, name === "session" ? id : say);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === name || (name === "session" && link.dataset.view === "sessions");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.show().catch((error) => say(error.message));
}

// One question for all that happened meanwhile.
let asked = false;
function heard() {
  if (asked) return;
  asked = true;
  setTimeout(() => {
    asked = false;
    showPending().catch((error) => say(error.message));
  }, 20);
}

async function showPending() {
  const list = await api("/api/approvals");
  const pending = list.filter(({ status }) => status === "pending").length;
  count.textContent = String(pending);
  count.hidden = pending === 0;
  document.title = pending > 0 ? `(${pending}) Weir` : "Weir";
  if (name === "approvals") view?.fill(list);
}

addEventListener("hashchange", () => {
  open();
  main.focus({ preventScroll: true });
});

function signInView(methods) {
  main.replaceChildren(element("h2", "Sign in"));
  const links = { oidc: ["/auth/login", "Sign in"], saml: ["/auth/saml/login", "Sign in by SAML"] };
  for (const method of methods) {
    const [path, label] = links[method];
    const link = element("a", label, "button");
    link.href = `${path}?to=${encodeURIComponent("/")}`;
    main.append(link, " ");
  }
  main.append(element("p", "Or open the address that Weir printed when it started.", "meta"));
  say("not signed in");
}

async function start() {
  const status = await signedIn();
  if (status.person === null && sessionStorage.getItem("token") === null) return signInView(status.methods);
  if (status.person !== null)
    document.querySelector("header").append(element("p", status.person.name), button("Sign out", "", signOut));
  open();
  follow(heard, say);
}

start().catch((error) => say(error.message));
