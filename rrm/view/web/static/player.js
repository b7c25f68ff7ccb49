// Plays clips together: each is a list of pictures, by the steps that they show. Time is the steps at which any of them
// changes; what is over stays at its last picture. No text ever becomes HTML here.
"use strict";

// draw(indexes, why): show picture indexes[i] of clip i; why is "load", "step" or "play".
function makePlayer(draw) {
  const at = (id) => document.getElementById(id);
  const slow = 400, quick = 40, whole = 8000; // ms: a picture, at most and at least, and all of them
  let clips = [[]];
  let times = [];
  let turn = 0;
  let timer = null;

  const here = (steps) => Math.max(0, steps.findLastIndex((step) => step <= (times[turn] ?? 0)));

  function show(why) {
    at("time").value = String(turn);
    const clock = times.length ? `step ${times[turn]} of ${times.at(-1)}` : "";
    at("time").setAttribute("aria-valuetext", clock);
    at("clock").textContent = clock;
    draw(clips.map(here), why);
  }

  function load(given, start, moments = []) {
    clips = given;
    times = [...new Set(clips.flat())].sort((a, b) => a - b);
    turn = Math.max(0, Math.min(times.length - 1, start));
    at("player").hidden = times.length < 2;
    at("time").max = String(Math.max(0, times.length - 1));
    if (times.length < 2) stop();
    mark(moments);
    show("load");
  }

  // moments: {side, step, by, holds, words}
  function mark(moments) {
    const last = times.at(-1) || 1;
    const ticks = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    ticks.setAttribute("viewBox", "0 0 1000 10");
    ticks.setAttribute("preserveAspectRatio", "none");
    ticks.setAttribute("aria-hidden", "true");
    const items = moments.map((moment) => {
      const state = moment.holds === null ? "" : moment.holds ? "yes" : "no";
      const tick = document.createElementNS(ticks.namespaceURI, "rect");
      tick.setAttribute("x", String((992 * Math.min(moment.step, last)) / last));
      tick.setAttribute("width", "8");
      tick.setAttribute("height", "10");
      tick.dataset.state = state;
      ticks.append(tick);
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.state = state;
      button.textContent = `${moment.side} step ${moment.step}, ${moment.by}: ${moment.words}`;
      button.addEventListener("click", () => to(moment.step));
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    at("ticks").replaceChildren(ticks);
    at("moments").replaceChildren(...items);
    at("moments").hidden = !items.length;
  }

  // to the picture that shows this step
  function to(step) {
    stop();
    turn = Math.max(0, times.findLastIndex((time) => time <= step));
    show("step");
  }

  function go(by) {
    stop();
    turn = Math.max(0, Math.min(times.length - 1, turn + by));
    show("step");
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    at("play").setAttribute("aria-pressed", "false");
  }

  function play() {
    if (timer !== null) { stop(); return; }
    if (times.length < 2) return;
    if (turn === times.length - 1) { turn = 0; show("play"); }
    at("play").setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      if (turn >= times.length - 1) { stop(); return; }
      turn += 1;
      show("play");
      if (turn === times.length - 1) stop();
    }, Math.max(quick, Math.min(slow, whole / times.length)));
  }

  at("back").addEventListener("click", () => go(-1));
  at("on").addEventListener("click", () => go(1));
  at("play").addEventListener("click", play);
  at("time").addEventListener("input", () => { stop(); turn = Number(at("time").value); show("step"); });
  document.addEventListener("visibilitychange", () => { if (document.visibilityState !== "visible") stop(); });
  return { load, to, stop, get turn() { return turn; }, get length() { return times.length; } };
}

// --- a comparison's page: the figures of each strip are its pictures -------------------------------------------

if (document.querySelector("[data-clip]")) {
  const strips = [...document.querySelectorAll("[data-clip]")];
  const pictures = strips.map((strip) => [...strip.querySelectorAll("figure[data-step]")]);
  const stages = strips.map((strip) => {
    const stage = document.createElement("div");
    stage.className = "stage";
    strip.before(stage);
    return stage;
  });
  const player = makePlayer((indexes, why) => {
    indexes.forEach((index, i) => {
      const shown = pictures[i][index].cloneNode(true);
      delete shown.dataset.step;
      stages[i].replaceChildren(shown);
      pictures[i].forEach((one, n) => one.classList.toggle("now", n === index));
    });
    if (why === "step") {
      document.getElementById("status").textContent = stages.map((stage) => stage.querySelector("figcaption").textContent).join("; ");
    }
  });
  const moments = [...document.querySelectorAll("[data-moment]")].map((one) => ({
    side: one.dataset.side, step: Number(one.dataset.moment), by: one.dataset.by, words: one.textContent,
    holds: one.dataset.state === "" ? null : one.dataset.state === "yes",
  }));
  player.load(pictures.map((row) => row.map((one) => Number(one.dataset.step))), 0, moments);
  pictures.flat().forEach((one) => one.addEventListener("click", () => player.to(Number(one.dataset.step))));
}
