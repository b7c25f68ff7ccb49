// The tree's folds: kept in this browser for each run, moved by keys, and the root in the middle of a wide tree.
"use strict";

const chart = document.querySelector(".chart");
const folds = [...document.querySelectorAll("details[data-fold]")];
const begun = new Map(folds.map((fold) => [fold, fold.open]));
const place = chart ? `rrm folds of ${chart.dataset.run}` : "";

function kept() {
  try { return JSON.parse(localStorage.getItem(place)) || {}; } catch { return {}; }  // no storage, or not ours
}
function keep() {
  const changed = folds.filter((fold) => fold.open !== begun.get(fold)).map((fold) => [fold.dataset.fold, fold.open]);
  try { localStorage.setItem(place, JSON.stringify(Object.fromEntries(changed))); } catch { /* then it is not kept */ }
}

const before = kept();
for (const fold of folds) {
  if (Object.hasOwn(before, fold.dataset.fold)) fold.open = Boolean(before[fold.dataset.fold]);
  fold.querySelector("summary").addEventListener("click", () => setTimeout(moved, 0, fold));  // after it has opened
}
if (chart) centered(document.querySelector(".org > li > .card"));

function moved(fold) {
  keep();
  centered(fold.parentElement.querySelector(".card"));
}

// Puts a card in the middle of the tree's box, which alone is moved.
function centered(card) {
  if (!card) return;
  const [box, here] = [chart.getBoundingClientRect(), card.getBoundingClientRect()];
  chart.scrollLeft += here.left + here.width / 2 - box.left - box.width / 2;
}

for (const button of document.querySelectorAll("[data-folds]")) {
  button.addEventListener("click", () => {
    for (const fold of folds) fold.open = button.dataset.folds === "open";
    moved(folds[0]);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "f" || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const fold = document.activeElement.closest(".org li")?.querySelector(":scope > details");
  if (!fold) return;
  fold.open = !fold.open;
  moved(fold);
});
