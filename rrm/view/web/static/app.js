// Keys, highlighting on hover or focus, and live values. No text ever becomes HTML here.
"use strict";

// --- keys: an element with data-key="x" is clicked (links, buttons) or focused (fields) by the key x ---------

const typing = (e) => e.target.closest("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if (event.key === "Escape" && typing(event)) { event.target.blur(); return; }
  if (typing(event) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") { legend(); event.preventDefault(); return; }
  if (event.key === "j" || event.key === "k") { if (step(event.key === "j" ? 1 : -1)) event.preventDefault(); return; }
  if (event.key === "x" && tick()) { event.preventDefault(); return; }
  const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]:not([disabled])`);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input, textarea, select")) { target.focus(); if (target.select) target.select(); }
  else { target.click(); if (target.matches("summary")) target.focus(); }
});

function legend() { document.getElementById("legend").showModal(); }
for (const button of document.querySelectorAll("[data-key-button='?']")) button.addEventListener("click", legend);

// j and k move the focus between the elements with data-step
function step(by) {
  const all = [...document.querySelectorAll("[data-step]")].filter((e) => e.checkVisibility());  // neither hidden nor folded
  if (!all.length) return false;
  const here = all.findIndex((e) => e === document.activeElement || e.contains(document.activeElement));
  const next = here < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, here + by));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
  return true;
}

// x ticks, or no longer, the box in the row that has the focus
function tick() {
  const box = document.activeElement.closest("tr")?.querySelector("input[type=checkbox][name=run]");
  if (box) box.checked = !box.checked;
  return Boolean(box);
}

// --- what an answer points at: data-points="a:step1" lights up data-fact="a:step1" ----------------------------

const sources = { hover: null, focus: null };

function light(kind, target) {
  sources[kind] = target && target.closest ? target.closest("[data-points]") : null;
  for (const spot of document.querySelectorAll(".lit")) spot.classList.remove("lit");
  for (const source of Object.values(sources)) {
    for (const name of source ? source.dataset.points.split(" ") : []) {
      for (const spot of document.querySelectorAll(`[data-fact~="${CSS.escape(name)}"]`)) spot.classList.add("lit");
    }
  }
}
document.addEventListener("mouseover", (event) => light("hover", event.target));
document.documentElement.addEventListener("mouseleave", () => light("hover", null));
document.addEventListener("focusin", (event) => light("focus", event.target));
document.addEventListener("focusout", () => light("focus", null));

// --- live values: the server sends {"key": "text"}; elements with data-live="key" show it ---------------------

const live = document.querySelector("[data-events]");
if (live && window.EventSource) {
  const source = new EventSource(live.dataset.events);
  source.onmessage = (message) => {
    const values = JSON.parse(message.data);
    for (const element of document.querySelectorAll("[data-live]")) {
      const value = values[element.dataset.live];
      if (value !== undefined && element.textContent !== value) {
        element.textContent = value;
        if (element.dataset.state !== undefined) element.dataset.state = value.split(" ")[0];
        const row = element.closest("[data-flash]");
        if (row) { row.classList.remove("changed"); void row.offsetWidth; row.classList.add("changed"); }
      }
    }
  };
  window.addEventListener("pagehide", () => source.close());
}

// --- filters submit themselves when a choice changes -----------------------------------------------------------

for (const form of document.querySelectorAll("form[data-auto]")) {
  form.addEventListener("change", (event) => { if (event.target.matches("select")) form.requestSubmit(); });
}
