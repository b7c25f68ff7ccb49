// Judging pairs. A judgement is put into this browser's storage first, shown as done at once, and sent until the
// server has acknowledged it, always with the same key: a double click, a reload or a lost connection neither
// loses nor doubles one. No text ever becomes HTML here.
"use strict";

const root = document.getElementById("label");
const at = (id) => document.getElementById(id);
const place = `rrm-label/${root.dataset.place}/`;
const MARKED = { yes: "right", no: "wrong", "n/a": "cannot tell" }; // of an answer, which itself says yes, no or N/A
const TOO_SOON = 300; // ms: nobody judges a pair so fast; it is the second click of a double click
const store = {
  get: (name) => JSON.parse(localStorage.getItem(place + name) ?? "null"),
  put: (name, value) => localStorage.setItem(place + name, JSON.stringify(value)),
  drop: (name) => localStorage.removeItem(place + name),
  names: (start) => Object.keys(localStorage).filter((k) => k.startsWith(place + start)).map((k) => k.slice(place.length)).sort(),
};

let labeler = root.dataset.labeler || store.get("labeler") || "";
let csrf = document.querySelector("meta[name=csrf]").content;
let ready = []; // questions this person holds; the first is in view
let shown = null; // the question in view
let done = []; // judged in this page: {key, question}, latest last
let end = null; // what comes next, when nothing is left to judge; end.over: nothing ever will be
let guides = {}; // of each task, what its assistants were asked
let progress = null;
let marks = {};
let hidden = false; // the person hides assistance
let unranked = false; // the person hides how answers rank
let looked = false; // it was visible during this pair
let ahead = []; // images that the browser fetches before they are played
let spot = null; // the answer that y and x are about
let since = 0; // when the pair came into view
let watched = 0; // ms it was looked at before `since`

// --- talking to the server -----------------------------------------------------------------------------------

class Unreachable extends Error {}

async function post(path, message, again = true) {
  let response;
  try {
    response = await fetch(`/label/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify({ labeler, ...message }),
    });
  } catch {
    throw new Unreachable("The server cannot be reached.");
  }
  if (response.status === 403 && again && (await renew())) return post(path, message, false);
  if (response.status === 403) throw new Unreachable("The server was started anew: open the address that it printed.");
  if (response.status === 400) throw new Error((await response.json()).error);
  if (!response.ok) throw new Unreachable(`The server failed (${response.status}); its terminal says why.`);
  return response.json();
}

// the server was started anew, and its new address opened in another tab: this page may go on
async function renew() {
  try {
    const page = await fetch(location.pathname);
    const found = page.ok && /<meta name="csrf" content="([^"]+)">/.exec(await page.text());
    if (found) csrf = found[1];
    return Boolean(found);
  } catch {
    return false;
  }
}

function trouble(text) {
  const unsent = store.names("send/").length;
  at("trouble").textContent = text && unsent ? `${text} ${unsent} of your judgements wait in this browser; it goes on trying.` : text;
  at("trouble").hidden = !text;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- sending: what is in storage, in order, until acknowledged ------------------------------------------------

let count = 0;
function enqueue(kind, message) {
  // after all that waits, whatever the clock says: an undo must not overtake what it takes back
  const last = store.names("send/").at(-1);
  const now = Math.max(Date.now(), last ? Number(last.slice(5, 20)) + 1 : 0);
  const order = `${String(now).padStart(15, "0")}-${String(count++).padStart(6, "0")}`;
  store.put(`send/${order}-${message.key}`, { kind, labeler, message });
  flush();
}

let flushing = false;
async function flush() {
  if (flushing) return;
  flushing = true;
  let wait = 500;
  for (let name; (name = store.names("send/")[0]) !== undefined; ) {
    const { kind, labeler: by, message } = store.get(name);
    try {
      const receipt = await post(kind, { ...message, labeler: by });
      store.drop(name);
      wait = 500;
      trouble("");
      acknowledged(kind, receipt);
    } catch (error) {
      if (!(error instanceof Unreachable)) { store.drop(name); trouble(`Not kept: ${error.message}`); continue; }
      trouble(error.message);
      await pause(wait);
      wait = Math.min(wait * 2, 10000);
    }
  }
  flushing = false;
  fill();
}

function acknowledged(kind, receipt) {
  if (kind === "undo") {
    if (receipt.status === "nothing") say("There is nothing to undo.");
    else if (receipt.late) {
      say("Training has already used that judgement. That you took it back is recorded, and changes nothing that was trained.");
      ready = ready.filter((q) => q.id !== receipt.question);
      view();
    } else if (receipt.shown && !ready.some((q) => q.id === receipt.question) && !waiting(receipt.question)) {
      ready.unshift(receipt.shown);
      view();
    }
  } else if (receipt.status === "known") say("You had judged that pair already, in another window; the first judgement stands.");
  else if (receipt.late) say("Training had gone on without that judgement; it is kept, for agreement only.");
}

// whether a judgement of this question waits to be sent
const waiting = (question) => store.names("send/").some((name) => store.get(name).message.question === question);

// --- pairs ----------------------------------------------------------------------------------------------------

let filling = false;
async function fill() {
  if (filling || !labeler) return;
  filling = true;
  try {
    const answer = await post("next", {});
    progress = answer.progress;
    const known = new Set(ready.map((q) => q.id));
    const fresh = answer.questions.filter((q) => !known.has(q.id) && !waiting(q.id) && !done.some((d) => d.question.id === q.id));
    const held = new Set(answer.questions.map((q) => q.id));
    // what is no longer mine (withdrawn, or given to another while this page slept) goes, unless it is in view and open
    ready = ready.filter((q) => held.has(q.id) || q === shown).concat(fresh);
    if (!store.names("send/").length) trouble("");
    end = answer.end;
    Object.assign(guides, answer.guide);
    view();
  } catch (error) {
    trouble(error.message);
  }
  filling = false;
}

function view() {
  const next = ready[0] ?? null;
  if (next === null || shown === null || next.id !== shown.id) {
    shown = next;
    if (next !== null) show(next);
  }
  at("pair").hidden = next === null;
  at("controls").hidden = next === null && !progress?.mine;
  for (const button of document.querySelectorAll("[data-choice], #slightly, #back, #on, #play, #time, #note")) button.disabled = next === null;
  for (const one of document.querySelectorAll("[data-choice], #slightly, #helps")) one.hidden = next === null;
  if (next === null) for (const id of ["hide", "unrank", "confirm", "refute"]) offer(id, false);
  at("undo").disabled = !progress?.mine;
  at("idle").hidden = next !== null;
  if (next !== null) told = "";
  if (next === null) idle();
  else guide(next);
  tell();
}

// a button, and the key it stands for, only where they do something
function offer(id, on) {
  at(id).hidden = !on;
  at(id).disabled = !on;
}

function tellKeys(when) {
  when = { ...when, undo: Boolean(progress?.mine) };
  for (const row of document.querySelectorAll("[data-when]")) row.hidden = !when[row.dataset.when];
}

function guide(question) {
  const below = guides[question.task] ?? [];
  at("guide-asks").textContent = question.instruction;
  at("guide-below").hidden = !below.length;
  at("guide-list").replaceChildren(...below.map((one) => {
    const li = document.createElement("li");
    li.dataset.depth = Math.min(one.depth, 3);
    const name = document.createElement("b");
    name.textContent = one.name;
    li.append(name, `: ${one.asked || "not known"}`, one.looks ? ` (${one.looks})` : "");
    return li;
  }));
}
at("guide").open = store.get("guide") ?? false;
at("guide").addEventListener("toggle", () => {
  const open = at("guide").open;
  if (open === (store.get("guide") ?? false)) return;
  store.put("guide", open);
  say(open ? "Guidelines shown" : "Guidelines closed");
  if (open) at("guide").scrollIntoView({ block: "nearest" });
});

function show(question) {
  const draft = store.get(`draft/${question.id}`) ?? {};
  marks = draft.marks ?? {};
  watched = draft.watched ?? 0;
  since = performance.now();
  looked = false;
  spot = null;
  player.stop();
  ahead = question.sides.flatMap((side) => side.pictures.alone).filter((one) => one.image).map((one) => {
    const image = new Image();
    image.src = one.image;
    return image;
  });
  at("note").value = draft.note ?? "";
  press("slightly", draft.slightly ?? false);
  at("where").textContent = `${question.task}, round ${question.round}`;
  at("instruction").textContent = question.instruction;
  at("case").textContent = question.case;
  at("unassisted").hidden = question.assisted || !question.any;
  question.sides.forEach((side, i) => {
    at(`text-${i}`).replaceChildren(...(side.pieces.length ? side.pieces.map(stretch) : ["(empty)"]));
    at(`text-${i}`).scrollTop = 0;
    at(`answers-${i}`).replaceChildren(...side.answers.map(item));
  });
  remarks.show(question.sides, draft.remarks);
  uncover(question.opening);
  window.scrollTo(0, 0);
  say(`${question.task}: a new pair`);
}

function stretch(piece) {
  const span = document.createElement("span");
  span.textContent = piece.text;
  if (piece.differs) span.className = "differs";
  if (piece.facts.length) span.dataset.fact = piece.facts.join(" ");
  return span;
}

function item(answer) {
  const li = document.createElement("li");
  li.dataset.step = li.dataset.at = answer.at;
  li.dataset.depth = Math.min(answer.depth, 3);
  li.tabIndex = 0;
  if (answer.points.length) li.dataset.points = answer.points.join(" "); // app.js lights up what it points at
  const head = document.createElement("span");
  const name = document.createElement("b");
  name.textContent = answer.name;
  const verdict = document.createElement("span");
  verdict.className = "chip";
  verdict.dataset.state = verdict.textContent = answer.verdict;
  const accused = document.createElement("span");
  accused.className = "faults";
  accused.textContent = answer.accused;
  head.append(name, " ", verdict, accused);
  const rank = document.createElement("span");
  rank.className = "rank";
  rank.hidden = unranked;
  if (answer.confidence !== null) {
    rank.textContent = `, ranks at ${Math.round(100 * answer.confidence)}%`;
    rank.title = at("ranks").textContent;
  }
  const group = document.createElement("span");
  group.className = "marks";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", `Is the answer of ${answer.name} right?`);
  for (const [mine, words] of Object.entries(MARKED)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.verdict = mine;
    button.textContent = words;
    button.setAttribute("aria-pressed", String(marks[answer.at] === mine));
    button.addEventListener("click", () => mark(answer.at, mine));
    group.append(button);
  }
  li.append(head, rank, ...(answer.markable ? [group] : []));
  if (answer.why) {
    const why = document.createElement("p");
    why.className = "note";
    why.textContent = answer.why;
    li.append(why);
  }
  if (answer.text) {
    const text = document.createElement("pre");
    text.textContent = answer.text;
    li.append(text);
  }
  li.addEventListener("focusin", () => { spot = answer.at; });
  return li;
}

function mark(where, verdict) {
  if (where === null) { say("Move to an answer first, with j or k."); return; }
  if (!spoken().some((answer) => answer.at === where && answer.markable)) { say("That answer is N/A: nothing in it could be right or wrong."); return; }
  if (marks[where] === verdict) delete marks[where];
  else marks[where] = verdict;
  for (const button of document.querySelectorAll(`li[data-at="${where}"] [data-verdict]`)) {
    button.setAttribute("aria-pressed", String(marks[where] === button.dataset.verdict));
  }
  say(marks[where] ? `Marked: ${MARKED[marks[where]]}` : "Mark taken back");
  keep();
}

const spoken = () => (shown === null ? [] : shown.sides.flatMap((side) => side.answers));

const drawn = () => (shown === null ? [[], []] : shown.sides.map((side) => (hidden ? side.pictures.alone : side.pictures.shown)));

function pixels(picture, side) {
  const image = document.createElement("img");
  image.src = picture.image;
  image.alt = `${"AB"[side]} ${picture.caption}`;
  return image;
}

const remarks = makeRemarks((words) => { if (words) say(words); keep(); });

const player = makePlayer((indexes, why) => {
  const told = drawn().map((pictures, i) => {
    at(`drawn-${i}`).hidden = !pictures.length;
    if (!pictures.length) return "";
    const here = pictures[indexes[i]];
    at(`caption-${i}`).textContent = `${indexes[i] + 1} of ${pictures.length}: ${here.caption}`;
    at(`frame-${i}`).hidden = !here.image;
    at(`picture-${i}`).hidden = Boolean(here.image);
    at(`frame-${i}`).replaceChildren(...(here.image ? [pixels(here, i)] : []));
    at(`picture-${i}`).textContent = here.text;
    return ` ${"AB"[i]}: ${here.caption}.`;
  });
  if (why === "step") say(`Picture ${player.turn + 1} of ${player.length}.${told.join("")}`);
});

// the pictures as they may be seen now, and on the time line what of the assistance may be
function picture(start) {
  const moments = hidden || shown === null ? [] : shown.sides.flatMap((side, i) =>
    side.answers.flatMap((answer) => answer.moments.map((moment) => ({ ...moment, side: "AB"[i], by: answer.name }))));
  player.load(drawn().map((pictures) => pictures.map((one, n) => one.step ?? n)), start, moments);
  for (const i of [0, 1]) reel(i);
}

// all pictures of a side at once, where somebody asked for them
function reel(i) {
  const open = at(`reel-${i}`).open;
  at(`strip-${i}`).replaceChildren(...(open ? drawn()[i] : []).map((one, n) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = `${n + 1}. ${one.caption}`;
    const inside = one.image ? pixels(one, i) : document.createElement("pre");
    if (!one.image) inside.textContent = one.text;
    figure.className = "picture";
    figure.append(caption, inside);
    figure.addEventListener("click", () => player.to(one.step ?? n));
    return figure;
  }));
}
for (const i of [0, 1]) at(`reel-${i}`).addEventListener("toggle", () => reel(i));

function uncover(start = player.turn) {
  picture(start);
  for (const i of [0, 1]) at(`answers-${i}`).hidden = hidden;
  press("hide", hidden);
  const ranks = spoken().some((answer) => answer.confidence !== null);
  const marked = !hidden && spoken().some((answer) => answer.markable);
  for (const rank of document.querySelectorAll(".rank")) rank.hidden = unranked;
  at("ranks").hidden = hidden || unranked || !ranks;
  offer("hide", spoken().length > 0);
  offer("unrank", ranks && !hidden);
  offer("confirm", marked);
  offer("refute", marked);
  press("unrank", unranked);
  tellKeys({
    pair: true, help: spoken().length > 0, ranks: ranks && !hidden, marks: marked, several: !hidden && spoken().length > 1,
    pictures: player.length > 1, remarks: shown !== null && shown.sides.some((side) => Object.keys(side.asked).length > 0),
  });
  if (!hidden && shown?.assisted) looked = true;
}

const press = (id, on) => at(id).setAttribute("aria-pressed", String(on));
const pressed = (id) => at(id).getAttribute("aria-pressed") === "true";
const say = (text) => { at("status").textContent = text; at("said").textContent = text; };

// --- judging --------------------------------------------------------------------------------------------------

const looking = () => watched + (document.visibilityState === "visible" ? performance.now() - since : 0);

function judge(choice) {
  if (shown === null || performance.now() - since < TOO_SOON) return;
  const question = shown;
  const key = crypto.randomUUID();
  keep();
  enqueue("answer", {
    key, question: question.id, choice, strength: pressed("slightly") ? "slightly" : "clearly",
    seconds: looking() / 1000, note: at("note").value, marks, hidden: !looked,
    remarks: remarks.sent(),
  });
  done.push({ key, question, choice });
  ready = ready.filter((q) => q.id !== question.id);
  if (progress) { progress.left = Math.max(0, progress.left - 1); progress.mine += 1; progress.judged += choice !== "skip"; }
  if (document.activeElement?.matches("textarea, .remarks, .remarks *")) document.activeElement.blur();
  view();
}

function undo() {
  const last = done.pop();
  if (progress) {
    progress.mine = Math.max(0, progress.mine - 1);
    if (last && last.choice !== "skip") progress.judged -= 1; // of one before this page the server will tell
  }
  enqueue("undo", { key: crypto.randomUUID(), target: last ? last.key : null });
  if (last) {
    ready.unshift(last.question); // in view at once; the server hears of it in order
    view();
  }
}

// what is begun and not yet judged outlives a reload
function keep() {
  if (shown === null) return;
  store.put(`draft/${shown.id}`, { marks, remarks: remarks.draft(), note: at("note").value, slightly: pressed("slightly"), watched: looking(), when: Date.now() });
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") { since = performance.now(); fill(); }
  else { watched += performance.now() - since; keep(); }
});
window.addEventListener("pagehide", keep);
at("note").addEventListener("input", keep);
for (const name of store.names("draft/")) if (Date.now() - (store.get(name).when ?? 0) > 7 * 86400e3) store.drop(name);

for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => judge(button.dataset.choice));
at("undo").addEventListener("click", undo);
at("slightly").addEventListener("click", () => { press("slightly", !pressed("slightly")); keep(); });
at("hide").addEventListener("click", () => { hidden = !hidden; uncover(); });
at("unrank").addEventListener("click", () => { unranked = !unranked; uncover(); });
at("confirm").addEventListener("click", () => mark(spot, "yes"));
at("refute").addEventListener("click", () => mark(spot, "no"));
// a key that is held down is one judgement
document.addEventListener("keydown", (event) => {
  if (!event.repeat || !"1203suhcyxpg".includes(event.key) || event.target.closest("textarea, input:not([type=range])")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);

// --- progress and the end -------------------------------------------------------------------------------------

function tell() {
  at("who").textContent = labeler ? `judging as ${labeler}` : "";
  if (!progress) return;
  const parts = [];
  // a control is in none of these, which would tell it from the others
  if (!progress.mixed && progress.asked) {
    parts.push(`${progress.answered} of ${progress.asked} pairs of this round judged`, `${progress.left} left for you`);
    if (progress.pace !== null && progress.left) parts.push(`about ${duration(progress.pace * progress.left)}`);
  }
  parts.push(`${progress.judged} judged by you in all`);
  at("progress").textContent = parts.join(" · ");
}

function duration(seconds) {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

let reported = false;
let told = ""; // of the end, to a screen reader
let written = ""; // of the end, on the page
async function idle() {
  if (end === null) return;
  const now = JSON.stringify(end);
  if (written !== now) { // what stays the same stays, and can be selected and copied
    written = now;
    at("idle-title").textContent = end.title;
    at("idle-text").textContent = end.text;
    at("next-box").hidden = !end.steps.length;
    at("next").replaceChildren(...end.steps.map((step) => {
      const li = document.createElement("li");
      const code = document.createElement("code");
      code.textContent = step.command;
      li.append(code, ` ${step.what}`);
      return li;
    }));
  }
  tellKeys({ end: end.steps.length > 0 });
  if (told !== end.text) { at("status").textContent = end.text; at("said").textContent = ""; }
  told = end.text;
  if (!end.over || reported) return;
  reported = true;
  try {
    at("report").textContent = (await post("report", {})).lines.join("\n");
    at("report").hidden = false;
  } catch (error) {
    reported = false;
    trouble(error.message);
  }
}

// the claims are renewed, and new pairs noticed
setInterval(() => { if (document.visibilityState === "visible") fill(); }, 45000);
setInterval(() => { if (labeler && shown === null && !reported && document.visibilityState === "visible") fill(); }, 1500);

function begin() {
  at("name-form").hidden = labeler !== "";
  if (!labeler) { at("name").focus(); return; }
  store.put("labeler", labeler);
  flush();
}
at("name-form").addEventListener("submit", (event) => { event.preventDefault(); labeler = at("name").value.trim().replace(/\s+/g, " "); begin(); });
begin();
