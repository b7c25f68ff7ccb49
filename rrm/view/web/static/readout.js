// What a plot's lines are worth where the pointer is, or by the arrow keys: read from the plot's own table of numbers.
// Without this script the table is there, and dots say their values. No text ever becomes HTML here.
"use strict";

const WIDE = 420; // of the picture, in its own units: rrm/view/web/plots.py

for (const plot of document.querySelectorAll("figure.plot")) {
  const svg = plot.querySelector(".canvas > svg"), table = plot.querySelector("details.data table");
  if (svg && table) readable(svg, table);
}

// Where something is drawn, from the left: {u, x: "12", items: [[color, name, value]]}
function spotsOf(table) {
  const heads = [...table.querySelectorAll("thead th")].slice(1), found = new Map();
  for (const row of table.querySelectorAll("tbody tr")) {
    const { u, s } = row.dataset, [x, ...cells] = [...row.cells].map((td) => td.textContent);
    if (!found.has(u)) found.set(u, { u: Number(u), x, items: [] });
    if (s !== undefined) found.get(u).items.push([s, ...cells]); // a single value
    else cells.forEach((value, i) => { if (value) found.get(u).items.push([heads[i].dataset.s, heads[i].textContent, value]); });
  }
  return [...found.values()].sort((a, b) => a.u - b.u);
}

function readable(svg, table) {
  const spots = spotsOf(table), canvas = svg.parentElement, cross = svg.querySelector(".cross");
  const unit = table.querySelector("thead th").textContent;
  const box = document.createElement("div");
  box.className = "readout";
  box.hidden = true;
  box.setAttribute("aria-hidden", "true"); // the slider's value says the same
  canvas.append(box);
  let at = spots.length - 1;

  // to a screen reader a plot that is read by keys is a slider
  const set = (values) => { for (const [name, value] of Object.entries(values)) svg.setAttribute(name, value); };
  const said = (spot) => `${unit} ${spot.x}: ${spot.items.map(([, name, value]) => `${name} ${value}`).join(", ")}`;
  set({ tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": spots.length - 1 });
  set({ "aria-valuenow": at, "aria-valuetext": said(spots[at]) });
  for (const title of svg.querySelectorAll("circle > title")) title.remove(); // the box says it, at once

  function show(i) {
    at = Math.min(spots.length - 1, Math.max(0, i));
    const spot = spots[at];
    const head = document.createElement("b");
    head.textContent = `${unit} ${spot.x}`;
    const lines = spot.items.map(([s, name, value]) => {
      const line = document.createElement("div"), color = document.createElement("i"), number = document.createElement("span");
      color.className = `swatch s${s}`;
      number.textContent = value;
      line.append(color, ` ${name} `, number);
      return line;
    });
    box.replaceChildren(head, ...lines);
    box.hidden = false;
    cross.setAttribute("x1", spot.u);
    cross.setAttribute("x2", spot.u);
    canvas.classList.add("read");
    set({ "aria-valuenow": at, "aria-valuetext": said(spot) });
  }

  function hide() {
    box.hidden = true;
    canvas.classList.remove("read");
  }

  function under(event) {
    const frame = svg.getBoundingClientRect(), u = (event.clientX - frame.left) * WIDE / frame.width;
    let nearest = 0;
    spots.forEach((spot, i) => { if (Math.abs(spot.u - u) < Math.abs(spots[nearest].u - u)) nearest = i; });
    show(nearest);
  }

  svg.addEventListener("pointermove", under);
  svg.addEventListener("pointerdown", under);
  svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) hide(); });
  svg.addEventListener("focus", () => show(at));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = Math.max(1, Math.round(spots.length / 10));
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0,
      End: spots.length - 1, PageDown: at - far, PageUp: at + far }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}
