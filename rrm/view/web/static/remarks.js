// What a person says of one outcome alone: exactly the kinds that are asked for. No text ever becomes HTML here.
"use strict";

// said: of each side {rating, approval, unacceptable, correction, note}, what is not said left out. `changed` is called
// after each change with a line for the status.
function makeRemarks(changed) {
  const boxes = [0, 1].map((i) => document.getElementById(`remarks-${i}`));
  let said = [{}, {}];
  let asked = [{}, {}];
  let owns = ["", ""];

  const make = (name, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...inside);
    return element;
  };

  // a button that says it, and takes it back if it was said
  function button(i, kind, value, text, label) {
    const one = make("button", { type: "button", textContent: text });
    one.dataset.kind = kind;
    one.dataset.value = value;
    if (label) one.setAttribute("aria-label", label);
    one.addEventListener("click", () => choose(i, kind, value));
    return one;
  }

  function choose(i, kind, value) {
    if (said[i][kind] === value) delete said[i][kind];
    else said[i][kind] = value;
    press(i);
    const name = "AB"[i];
    const now = said[i][kind];
    const words = { rating: `rated ${now} of ${asked[i].rating}`, approval: now ? "approved" : "not approved", unacceptable: "unacceptable" };
    changed(now === undefined ? `${name}: taken back` : `${name}: ${words[kind]}`);
  }

  function press(i) {
    for (const one of boxes[i].querySelectorAll("button[data-kind]")) {
      one.setAttribute("aria-pressed", String(said[i][one.dataset.kind] === Number(one.dataset.value)));
    }
    const box = boxes[i].querySelector("input[type=checkbox]");
    if (box) box.checked = said[i].unacceptable === 1;
  }

  function field(i, kind, rows, most, start) {
    const area = make("textarea", { rows, maxLength: most, value: said[i][kind] ?? start, id: `${kind}-${i}` });
    area.addEventListener("input", () => {
      // as it was, or empty: nothing is said
      if ([untouched, ""].includes(area.value.trim())) delete said[i][kind];
      else said[i][kind] = area.value;
      changed("");
    });
    const before = area.value;
    area.value = start;
    const untouched = area.value.trim(); // as the browser writes its line ends
    area.value = before;
    return area;
  }

  const key = (name) => make("kbd", { textContent: name });

  function build(i) {
    const name = "AB"[i];
    const rows = [make("h4", {}, `Of ${name} alone `, key("ab"[i]))];
    const group = (title, ...inside) => {
      const one = make("div", { className: "remark" }, make("span", { textContent: title }), ...inside);
      one.setAttribute("role", "group");
      one.setAttribute("aria-label", `${name}: ${title}`);
      return one;
    };
    if ("rating" in asked[i]) {
      const most = asked[i].rating;
      const levels = Array.from({ length: most }, (_, n) => button(i, "rating", n + 1, String(n + 1), `${n + 1} of ${most}`));
      rows.push(group(`Rating, 1 the worst, ${most} the best`, ...levels, key(`1–${most}`)));
    }
    if ("approval" in asked[i]) {
      rows.push(group("Good enough?", button(i, "approval", 1, "Approve"), key("+"), button(i, "approval", 0, "Do not approve"), key("-")));
    }
    if ("unacceptable" in asked[i]) {
      const box = make("input", { type: "checkbox", id: `unacceptable-${i}` });
      box.addEventListener("change", () => choose(i, "unacceptable", 1));
      const label = make("label", { htmlFor: box.id }, "Unacceptable, whatever else is good about it ", key("!"));
      rows.push(make("div", { className: "remark" }, box, label));
    }
    if ("correction" in asked[i]) {
      const area = field(i, "correction", 4, 200000, owns[i]);
      const label = make("label", { htmlFor: area.id }, "It should be … ", key("e"));
      rows.push(make("div", { className: "remark wide" }, label, area));
    }
    if ("note" in asked[i]) {
      const area = field(i, "note", 1, 20000, "");
      rows.push(make("div", { className: "remark wide" }, make("label", { htmlFor: area.id }, "Note ", key("w")), area));
    }
    boxes[i].replaceChildren(...(rows.length > 1 ? rows : []));
    boxes[i].hidden = rows.length === 1;
    press(i);
  }

  // the keys of a side, while the focus is in it
  document.addEventListener("keydown", (event) => {
    const i = boxes.findIndex((box) => box.contains(event.target));
    if (i < 0 || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const stop = () => { event.preventDefault(); event.stopImmediatePropagation(); };
    if (event.target.matches("textarea")) {
      if (event.key === "Escape") { stop(); boxes[i].focus(); }
      return;
    }
    if (event.key === "Escape") { stop(); event.target.blur(); return; }
    // a digit here is a rating or nothing: never which is better
    if (/^[0-9]$/.test(event.key)) {
      stop();
      const level = Number(event.key);
      if (!event.repeat && level >= 1 && level <= (asked[i].rating ?? 0)) choose(i, "rating", level);
      return;
    }
    const keys = { "+": ["approval", 1], "-": ["approval", 0], "!": ["unacceptable", 1] }[event.key];
    if (keys && keys[0] in asked[i]) { stop(); if (!event.repeat) choose(i, ...keys); return; }
    const area = { e: "correction", w: "note" }[event.key];
    if (area && area in asked[i]) { stop(); document.getElementById(`${area}-${i}`).focus(); }
  }, true);

  // a side is no button: its key leads to it
  boxes.forEach((box) => box.addEventListener("click", (event) => { if (event.target === box) box.focus(); }));

  return {
    show(sides, before) {
      said = before ?? [{}, {}];
      asked = sides.map((side) => side.asked);
      owns = sides.map((side) => side.own);
      [0, 1].forEach(build);
      const marked = asked.some((one) => "unacceptable" in one);
      const any = asked.some((one) => Object.keys(one).length);
      const told = document.getElementById("alone");
      told.hidden = !any;
      told.textContent = !any ? "" : "Below each outcome you can say more of it alone. What you leave empty is not said"
        + (marked ? "; but if you judge the pair and leave \u201cunacceptable\u201d unchecked, that says that you looked and it is not." : ".");
    },
    draft: () => said,
    sent: () => said.map((one) => Object.entries(one).map(([kind, what]) =>
      (typeof what === "number" ? { kind, value: what } : { kind, text: what }))),
  };
}
