// The search: words of sections, ranked by where they stand. `/` goes to it, arrows choose, Enter opens, Escape leaves.
const up = document.currentScript?.dataset.up ?? document.querySelector("script[data-up]").dataset.up;
const box = document.querySelector(".search");
const input = document.getElementById("search");
const list = document.getElementById("found");
const shownMax = 12;
let chosen = -1;
box.hidden = false;
if (matchMedia("(max-width: 50rem)").matches) document.querySelector(".menu").open = false;

/** @param {string} text */
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const found = [];
  for (const [href, page, title, body] of globalThis.weirSearch) {
    let rank = 0;
    for (const word of words) {
      const inTitle = title.toLowerCase().includes(word);
      const inPage = page.toLowerCase().includes(word);
      const inBody = body.toLowerCase().includes(word);
      if (!inTitle && !inPage && !inBody) rank = Number.NEGATIVE_INFINITY;
      rank += (inTitle ? 10 : 0) + (inPage ? 3 : 0) + (inBody ? 1 : 0);
    }
    if (rank > 0) found.push({ href, page, title, rank });
  }
  return found.sort((a, b) => b.rank - a.rank).slice(0, shownMax);
}

function show() {
  const found = find(input.value);
  chosen = -1;
  list.replaceChildren(
    ...found.map(({ href, page, title }, at) => {
      const item = document.createElement("li");
      item.role = "option";
      item.id = `found-${at}`;
      const link = document.createElement("a");
      link.href = `${up}/${href}`;
      link.tabIndex = -1;
      link.textContent = page === title ? title : `${page}: ${title}`;
      item.append(link);
      return item;
    }),
  );
  if (found.length === 0 && input.value.trim() !== "") {
    const none = document.createElement("li");
    none.role = "option";
    none.ariaDisabled = "true";
    none.textContent = "Nothing was found.";
    list.append(none);
  }
  list.hidden = list.children.length === 0;
  input.ariaExpanded = String(!list.hidden);
  input.removeAttribute("aria-activedescendant");
}

/** @param {number} at */
function choose(at) {
  const items = [...list.querySelectorAll("li:has(a)")];
  if (items.length === 0) return;
  items[chosen]?.setAttribute("aria-selected", "false");
  chosen = (at + items.length) % items.length;
  items[chosen].setAttribute("aria-selected", "true");
  items[chosen].scrollIntoView({ block: "nearest" });
  input.setAttribute("aria-activedescendant", items[chosen].id);
}

input.addEventListener("input", show);
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen < 0 ? -1 : chosen - 1);
  else if (event.key === "Enter") list.querySelectorAll("a")[Math.max(chosen, 0)]?.click();
  else if (event.key === "Escape") {
    input.value = "";
    show();
    input.blur();
  } else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target instanceof HTMLInputElement) return;
  event.preventDefault();
  input.focus();
});
document.addEventListener("click", (event) => {
  if (box.contains(event.target)) return;
  list.hidden = true;
  input.ariaExpanded = "false";
});
